"""LenMa by hand, against a plain one with exact arithmetic, quirk by quirk, and on the published rows."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parsers.test_published_rows import SYSTEMS_2K, assert_row

from nonet.common.errors import InputError
from nonet.logs.parsers.base import Mode
from nonet.logs.parsers.lenma import LenMa, _fused, rounded_cosine
from nonet.logs.testing import template_matches

W = "<*>"


def templates(lines: list[str], threshold: float, mode: Mode, masks: tuple[str, ...] = ()) -> list[str]:
    parsed = LenMa(threshold=threshold, mode=mode, masks=masks).parse(lines)
    return [parsed.templates[label] for label in parsed.labels.tolist()]


def fused_by_fractions(a: float, b: float, c: float) -> float:
    return float(Fraction(a) * Fraction(b) + Fraction(c))


def compat_cosine(ours: list[int], theirs: list[int]) -> float:
    norms = math.sqrt(sum(x * x for x in ours)), math.sqrt(sum(x * x for x in theirs))
    total = 0.0
    for x, y in zip(ours, theirs, strict=True):
        total = fused_by_fractions(x / norms[0], y / norms[1], total)
    return total


def exact_cosine(ours: list[int], theirs: list[int]) -> float:
    dot, squares = (
        sum(x * y for x, y in zip(ours, theirs, strict=True)),
        [sum(x * x for x in v) for v in (ours, theirs)],
    )
    return 1.0 if dot * dot == squares[0] * squares[1] else dot / math.sqrt(squares[0] * squares[1])


def naive(lines: list[str], threshold: float, mode: Mode) -> list[str]:
    variable = W if mode == "fixed" else ""
    clusters: list[tuple[list[str], list[int]]] = []
    of_line = []
    for line in lines:
        words, lengths = line.split(), [len(word) for word in line.split()]
        best, best_score = None, -1.0
        for number, (template, its_lengths) in enumerate(clusters):
            if len(template) != len(words) or template[:1] != words[:1]:
                continue
            if all(a in (b, variable) for a, b in zip(template, words, strict=True)):
                score = math.inf if mode == "fixed" else 1.0
            elif sum(map(str.__eq__, template, words)) < 3:
                score = 0.0
            else:
                score = (exact_cosine if mode == "fixed" else compat_cosine)(its_lengths, lengths)
            if score > best_score:
                best, best_score = number, score
        if best is None or best_score < threshold:
            best = len(clusters)
            clusters.append((words, lengths))
        merged = [a if a == b else variable for a, b in zip(clusters[best][0], words, strict=True)]
        clusters[best] = merged, lengths
        of_line.append(best)
    return [" ".join(clusters[number][0]) for number in of_line]


word = st.sampled_from(["a", "a", "b", "to", "at", "user", "root", "0xffffffff"])


@settings(max_examples=120, deadline=None)
@given(
    st.lists(st.lists(word, max_size=7).map(" ".join), max_size=25),
    st.sampled_from([0.3, 0.7, 0.9, 0.97, 1.0]),
    st.sampled_from(["compat", "fixed"]),
)
def test_equals_a_plain_one(lines: list[str], threshold: float, mode: Mode) -> None:
    assert templates(lines, threshold, mode) == naive(lines, threshold, mode)


@given(*[st.floats(-1, 1).filter(lambda x: x == 0 or abs(x) > 1e-100)] * 3)
def test_fused_is_rounded_once(a: float, b: float, c: float) -> None:
    assert _fused(a, b, c) == fused_by_fractions(a, b, c)


def test_by_hand() -> None:
    lines = ["a b c xxxx", "a b c yyyy", "a b c y", "a z c xx"]
    # 2 has the lengths of 1; 3 has (1,1,1,1) against (1,1,1,4): 7 / (2 * sqrt(19)) = .80; 4 has two equal words.
    assert templates(lines, 0.9, "fixed") == [f"a b c {W}", f"a b c {W}", f"a b c {W}", "a z c xx"]
    # In 3 the template already fits; without a cluster of two it would not have:
    assert templates([lines[0], lines[2]], 0.9, "fixed") == ["a b c xxxx", "a b c y"]
    assert templates([lines[0], lines[2]], 0.8, "fixed") == [f"a b c {W}"] * 2


def test_first_word_and_length_must_agree() -> None:
    assert templates(["a b c d", "x b c d", "a b c d e"], 0.1, "fixed") == ["a b c d", "x b c d", "a b c d e"]


def test_lengths_are_those_of_the_newest_message() -> None:
    lines = ["a b c d e xx", "a b c d e yyy", "a b c d f zzzzz"]
    # Last words of 2, 3 and 5: neighbours have a cosine of .98, the first and the last of 15 / sqrt(9 * 30) = .91.
    assert len(set(templates(lines, 0.95, "fixed"))) == 1
    assert len(set(templates([lines[0], lines[2]], 0.95, "fixed"))) == 2


def test_variable_words_are_empty_in_compat() -> None:
    lines = ["a b c 111", "a b c 222", "a b c 333"]
    assert templates(lines, 0.9, "compat") == ["a b c "] * 3
    assert templates(lines, 0.9, "fixed") == [f"a b c {W}"] * 3


def test_a_masked_word_is_variable_in_fixed_only() -> None:
    lines = ["a 17 c", "a x9 c"]
    assert templates(lines, 0.9, "compat", (r"\b\d+\b",)) == [f"a {W} c", "a x9 c"]
    assert templates(lines, 0.9, "fixed", (r"\b\d+\b",)) == [f"a {W} c", f"a {W} c"]


def test_rounding_decides_at_threshold_1_in_compat_only() -> None:
    ours = ["a", "b", "c", "xx", "yyy"]
    below = next(
        [1, 1, 1, x, y]
        for x in range(1, 9)
        for y in range(1, 9)
        if rounded_cosine([1, 1, 1, x, y], [1, 1, 1, x, y]) < 1
    )
    lines = [" ".join([*ours[:3], letter * below[3], letter * below[4]]) for letter in "pq"]
    assert len(set(templates(lines, 1, "compat"))) == 2
    assert len(set(templates(lines, 1, "fixed"))) == 1


def test_many_clusters_in_one_bucket() -> None:
    lines = [f"a {'x' * (n % 40 + 1)} {'y' * (n // 40 + 1)} z" for n in range(400)]
    parsed = LenMa(threshold=1).parse(lines * 2)
    assert parsed.templates == lines
    assert all(
        template_matches(parsed.templates[label], line) for label, line in zip(parsed.labels, lines * 2, strict=True)
    )


@pytest.mark.parametrize("threshold", [0, 1.1, -1])
def test_bad_threshold(threshold: float) -> None:
    with pytest.raises(InputError, match="threshold"):
        LenMa(threshold=threshold)


@pytest.mark.parametrize("system", ["Linux", "Proxifier"])
def test_published_row_of_2_0(mirror: Path, system: str) -> None:
    assert_row(mirror / "logs", "LenMa", system, full=True)


@pytest.mark.parametrize("system", SYSTEMS_2K)
def test_published_row_of_2k(mirror: Path, system: str) -> None:
    assert_row(mirror / "logs", "LenMa", system, full=False)
