"""Formulas against dense recomputations with loops, scipy, and cases by hand."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau

from nonet.ragcache.engine.forward import Slice, forward
from nonet.ragcache.engine.observing import Observer
from nonet.ragcache.engine.paging import BlockPool
from nonet.ragcache.engine.sequence import Sequence
from nonet.ragcache.reuse.metrics import (
    attention_means,
    cache_context_impact,
    order_penalty,
    overlap_of,
    prefix_overlap,
)
from nonet.ragcache.reuse.variants import Observed, describe
from nonet.ragcache.store.variant import KVLayout
from tests.ragcache.engine.dense import dense
from tests.ragcache.reuse.parts import make_meta, make_prompt


def test_order_penalty_is_kendalls_distance():
    draws = np.random.default_rng(0)
    for _ in range(1000):
        size = int(draws.integers(2, 9))
        old, new = draws.permutation(size), draws.permutation(size)
        places = [list(new).index(key) for key in old]
        expected = (1 - kendalltau(range(size), places).statistic) / 2
        assert order_penalty([str(k) for k in old], [str(k) for k in new]) == pytest.approx(expected, abs=1e-12)


def test_order_penalty_counts_common_chunks_only():
    assert order_penalty("AXB", "BYA") == 1.0
    assert order_penalty("ABX", "YAB") == 0.0
    assert order_penalty("A", "A") == order_penalty("", "AB") == order_penalty("AB", "CD") == 0.0


def fit(old, new, inter=None, *, system="sys", alpha=1.0, rule="published", cci=0.6):
    meta = make_meta("C", old, inter=inter, cci=cci)
    return overlap_of(meta, system, dict(new), alpha=alpha, rule=rule)


def test_reversed_neighbours_do_not_fit_at_all():
    found = fit("ABC", [("C", 1), ("B", 1), ("A", 1)])
    assert (found.beta, found.gamma, found.beta_prime) == (1.0, 1.0, 0.0)
    assert found.cfo == pytest.approx(0.6)


def test_new_neighbours_are_invisible_to_the_published_rule_only():
    new = [("A", 10), ("B", 20), ("C", 10)]
    published, symmetric = fit("A", new), fit("A", new, rule="symmetric")
    assert (published.beta_prime, published.cfo) == (1.0, 0.0)
    assert published.symmetric == symmetric.symmetric == symmetric.beta_prime == 0.25
    assert symmetric.cfo == pytest.approx(0.6 * 0.75)


def test_attention_weighs_the_overlap():
    found = fit("AB", [("B", 5), ("X", 5)], inter=[3.0, 1.0], alpha=0.5)
    assert found.beta == 0.25
    assert found.cfo == pytest.approx(0.5 * 0.6 * 0.75)


@pytest.mark.parametrize(("new", "expected"), [([], 1.0), ([("A", 3)], 0.0)])
def test_computed_with_nothing_before_it(new, expected):
    found = fit("", new)
    assert (found.beta_prime, found.symmetric, found.known) == (expected, expected, False)


def test_first_now_but_not_then():
    assert fit("AB", []).beta_prime == 0.0


def test_chunks_that_lie_outside_the_window_count_by_number():
    found = fit("AB", [("A", 1)], inter=[0.0, 0.0])
    assert (found.beta, found.known) == (0.5, False)


def test_another_system_segment_does_not_fit():
    found = fit("A", [("A", 1)], system="other")
    assert (found.beta, found.beta_prime, found.symmetric) == (1.0, 0.0, 0.0)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 5.0])
def test_overhead_stays_within_its_bounds(alpha):
    assert fit("A", [("B", 1)], alpha=alpha).cfo == pytest.approx(min(1.0, alpha * 0.6))


def test_context_impact_has_its_range():
    values = [cache_context_impact(a, 0.1) for a in (0.0, 0.01, 0.1, 1.0, 1e6)]
    assert values == sorted(values)
    assert values[0] == 0.5
    assert values[-1] < 1.0
    assert values[2] == pytest.approx(1 / (1 + math.exp(-1)))
    assert cache_context_impact(0.3, 0.0) == 0.5


def test_means_of_nothing():
    assert attention_means(np.zeros((3, 0)), np.ones(3), [], 2) == (0.0, 0.25)
    assert attention_means(np.zeros((3, 0)), np.zeros(3), [], 0) == (0.0, 0.0)
    assert prefix_overlap([], [], {"A": 1}) == 0.0


@pytest.mark.parametrize("name", ["tiny_model", "tiny_gemma"])
def test_observed_measures_equal_a_dense_recomputation(name, request):
    decoder = request.getfixturevalue(name)
    config = decoder.config
    prompt = make_prompt(("A", 9), ("E", 0), ("B", 7), ("C", 11), system=5, question=4)
    ids = torch.from_numpy(prompt.ids * 7 % config.vocab_size)
    pool = BlockPool(config, 8)
    sequence = Sequence(pool, ids)
    rows = torch.arange(len(ids))
    sequence.reserve(rows)
    observer = Observer(torch.from_numpy(prompt.segment_of_row()), len(prompt.segments), config.num_layers)
    forward(decoder, pool, [Slice(sequence, rows, observer=observer)])
    observed = Observed(observer.sums.numpy(), observer.onto.numpy(), observer.received.numpy())
    layout = KVLayout("float32", config.num_layers, config.num_kv_heads, config.head_dim)
    maps = dense(decoder, ids)[3].mean(1).numpy()  # [L, n, n]
    for number, earlier in [(1, []), (3, [1]), (4, [1, 3])]:
        mine = prompt.segments[number]
        meta = describe(prompt, number, observed, model="m", layout=layout, exact=True)
        block = maps[:, mine.start : mine.stop]
        inter, a_mean, tau = [], 0.0, np.zeros(mine.num_tokens)
        for other in (prompt.segments[n] for n in earlier):
            onto = block[:, :, other.start : other.stop]
            inter.append(onto.sum())
            a_mean += onto.sum() / (mine.num_tokens * other.num_tokens) / config.num_layers
            tau += onto.sum((0, 2)) / config.num_layers
        b_mean = block[:, :, mine.start : mine.stop].sum() / mine.num_tokens**2 / config.num_layers
        assert meta.inter_sums == pytest.approx(inter, abs=1e-4)
        assert (meta.inter_mean, meta.intra_mean) == pytest.approx((a_mean, b_mean), abs=1e-4)
        assert meta.cci == pytest.approx(1 / (1 + math.exp(-a_mean / b_mean)), abs=1e-4)
        assert meta.tau.astype(float) == pytest.approx(tau, abs=1e-3)
        assert meta.prefix_keys == tuple(prompt.segments[n].key for n in earlier)
    system = describe(prompt, 0, observed, model="m", layout=layout, exact=True)
    assert (system.system_key, system.prefix_keys, system.cci) == ("", (), 0.5)
