"""The counter-based random numbers against arithmetic in Python integers and SciPy's distributions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from nonet.coldstart import _random_kernels as random

MASK = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15
words = st.integers(0, MASK)


def finalise(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def mix(a: int, b: int, c: int) -> int:
    h = finalise(a & MASK)
    h = finalise(h ^ finalise((b + GOLDEN) & MASK))
    return finalise(h ^ finalise((c + 2 * GOLDEN) & MASK))


@given(words, words, words)
@settings(max_examples=200, deadline=None)
def test_mix64_is_the_formula(a: int, b: int, c: int) -> None:
    assert random.mix64(np.uint64(a), np.uint64(b), np.uint64(c)) == mix(a, b, c)


def test_mix64_takes_negative_integers() -> None:
    assert random.mix64(-1, 5, -7) == mix(-1, 5, -7)


def test_bits_are_the_published_splitmix64_sequence() -> None:
    # First outputs of SplitMix64 seeded with 1234567 (the reference implementation's test vector).
    assert [random.bits(np.uint64(1234567), i) for i in range(3)] == [
        6457827717110365317, 3203168211198807973, 9817491932198370423]  # fmt: skip


def test_uniforms_do_not_depend_on_where_one_begins() -> None:
    key = np.uint64(random.mix64(1, 2, 3))
    whole = random.uniforms(key, 0, 1000)
    assert np.array_equal(whole[700:], random.uniforms(key, 700, 300))
    assert whole.min() > 0 and whole.max() < 1


@pytest.mark.parametrize("label", [0, 1, 2])
def test_laws(label: int) -> None:
    key, num = np.uint64(random.mix64(9, label, 0)), 20_000
    uniform = random.uniforms(key, 0, num)
    assert stats.kstest(uniform, "uniform").pvalue > 1e-3
    assert abs(stats.spearmanr(uniform[1:], uniform[:-1]).statistic) < 0.03
    assert stats.kstest([random.normal(key, i) for i in range(num)], "norm").pvalue > 1e-3
    assert stats.kstest([random.exponential(key, i) for i in range(num)], "expon").pvalue > 1e-3


@pytest.mark.parametrize("shape", [0.2, 1.0, 7.5])
def test_gamma(shape: float) -> None:
    key = np.uint64(random.mix64(9, 9, 9))
    assert stats.kstest([random.gamma(key, i, shape) for i in range(20_000)], "gamma", args=(shape,)).pvalue > 1e-3


@given(st.floats(1e-12, 1 - 1e-12))
@settings(max_examples=200, deadline=None)
def test_normal_quantile(p: float) -> None:
    assert random.normal_quantile(p) == pytest.approx(stats.norm.ppf(p), abs=1e-9)


def test_neighbouring_keys_are_unrelated() -> None:
    first = random.uniforms(np.uint64(random.mix64(1, 1, 1)), 0, 5000)
    for other in ((1, 1, 2), (1, 2, 1), (2, 1, 1)):
        assert abs(np.corrcoef(first, random.uniforms(np.uint64(random.mix64(*other)), 0, 5000))[0, 1]) < 0.05
