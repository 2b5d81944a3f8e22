"""LogSig by hand, against plain ones with exact arithmetic, quirk by quirk, and on the published rows."""

from __future__ import annotations

import random
from collections import Counter
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parsers.test_published_rows import SYSTEMS_2K, assert_row

from nonet.common.errors import InputError
from nonet.logs.parsers.base import Mode
from nonet.logs.parsers.logsig import LogSig, regroup
from nonet.logs.parsers.logsig_pairs import count_pairs

W = "<*>"
some_lines = st.lists(
    st.lists(st.sampled_from(["a", "b", "c", "d", "e", "f"]), max_size=5).map(" ".join), min_size=1, max_size=14
)


def templates(lines: list[str], group_num: int, mode: Mode, masks: tuple[str, ...] = (), seed: int = 0) -> list[str]:
    parsed = LogSig(group_num=group_num, mode=mode, masks=masks, seed=seed).parse(lines)
    return [parsed.templates[label] for label in parsed.labels.tolist()]


def start(num_lines: int, group_num: int, seed: int = 0) -> list[int]:
    random.seed(seed)
    return [random.randint(0, group_num - 1) for _ in range(num_lines)]


def naive_compat_groups(lines: list[str], group_num: int) -> list[int]:
    """Every gain from scratch, in fractions; a pair counts as often as a line has it."""
    pairs = [list(combinations(line.split(), 2)) for line in lines]
    group = start(len(lines), group_num)
    seen = set()
    while tuple(group) not in seen:
        seen.add(tuple(group))
        for at, mine in enumerate(pairs):
            having = [
                Counter(r for g, those in zip(group, pairs, strict=True) if g == j for r in those)
                for j in range(group_num)
            ]
            size = [group.count(j) for j in range(group_num)]
            i, best = group[at], Fraction(0)
            for j in range(group_num):
                gain = sum(
                    (Fraction(having[j][r] + 1, size[j] + 1) ** 2 - Fraction(having[i][r], size[i]) ** 2 for r in mine),
                    Fraction(0),
                )
                if gain > best:
                    best, group[at] = gain, j
    return group


def naive_compat(lines: list[str], group_num: int) -> list[str]:
    group = naive_compat_groups(lines, group_num)
    result = []
    for mine in group:
        members = [line.split() for line, other in zip(lines, group, strict=True) if other == mine]
        count = Counter(word for words in members for word in words)
        kept = [tuple(word for word in words if count[word] >= len(members) / 2) for words in members]
        result.append(" ".join(max(kept, key=kept.count)))
    return result


def potential(lines: list[str], group: list[int]) -> Fraction:
    """The paper's: over groups and pairs, the number of lines with the pair times the square of its share."""
    total = Fraction(0)
    for mine in set(group):
        members = [
            set(combinations(line.split(), 2)) for line, other in zip(lines, group, strict=True) if other == mine
        ]
        count = Counter(pair for pairs in members for pair in pairs)
        total += sum(n * Fraction(n, len(members)) ** 2 for n in count.values())
    return total


@settings(max_examples=50, deadline=None)
@given(some_lines, st.integers(1, 4))
def test_compat_equals_a_plain_one(lines: list[str], group_num: int) -> None:
    assert templates(lines, group_num, "compat") == naive_compat(lines, group_num)


@settings(max_examples=50, deadline=None)
@given(some_lines, st.integers(1, 4))
def test_fixed_ends_where_no_move_raises_the_potential(lines: list[str], group_num: int) -> None:
    texts = list(dict.fromkeys(lines))
    text_of_line = np.array([texts.index(line) for line in lines])
    group = np.array(start(len(lines), group_num))
    before = potential(lines, group.tolist())
    pairs = count_pairs(texts, np.bincount(text_of_line), repeated=False)
    regroup(text_of_line, pairs, group, group_num, by_potential=True)
    after = potential(lines, group.tolist())
    assert after >= before
    for at in range(len(lines)):
        for other in range(group_num):
            moved = group.tolist()
            moved[at] = other
            assert potential(lines, moved) <= after + Fraction(1, 10**8)


@settings(max_examples=50, deadline=None)
@given(some_lines, st.booleans())
def test_bundles_hold_every_pair_once(lines: list[str], repeated: bool) -> None:
    lines_of = Counter(lines)
    texts = list(lines_of)
    pairs = count_pairs(texts, np.array(list(lines_of.values())), repeated=repeated)
    for text, line in enumerate(texts):
        entries = slice(pairs.text_starts[text], pairs.text_starts[text + 1])
        here = list(combinations(line.split(), 2))
        assert pairs.weights[entries].sum() + pairs.alone[text, 0] == len(here if repeated else set(here))
        assert len(set(pairs.bundles[entries])) == entries.stop - entries.start
    lines_of_pair = Counter(pair for line in lines for pair in set(combinations(line.split(), 2)))
    assert len(set(pairs.bundles.tolist())) == pairs.num_bundles <= sum(n > 1 for n in lines_of_pair.values())


def test_by_hand() -> None:
    lines = ["open file a now", "open file b now", "open file c now", "bye from x", "bye from y", "bye from z"]
    for seed in range(5):
        found = set(templates(lines * 3, 2, "fixed", seed=seed))
        assert found == {f"open file {W} now", f"bye from {W}"}
    assert set(templates(lines * 3, 2, "compat")) == {"open file now", "bye from"}


def test_one_group_takes_the_words_of_half_the_lines() -> None:
    lines = ["a b", "a b", "a c", "d"]
    assert templates(lines, 1, "compat") == ["a b"] * 4  # a: 3, b: 2 of 4; (a, b) is the most frequent sequence
    assert templates(lines, 1, "fixed") == ["a b"] * 4


def test_repeats_count_in_compat_only() -> None:
    lines = ["x x a", "b", "c", "d"]  # x stands twice in 4 lines, in one of them
    assert templates(lines, 1, "compat") == [""] * 4  # three of the four lines have none of the common words
    assert templates(["x x", "b"], 1, "compat") == ["x x"] * 2
    assert templates(["x x", "b", "b"], 1, "compat") == ["b"] * 3
    assert templates(["x x", "b", "c"], 1, "fixed") == [f"{W}"] * 3


def test_masks_vanish_in_compat() -> None:
    lines = ["got 5 of 10", "got 7 of 10"]
    assert templates(lines, 1, "compat", (r"\d+",)) == ["got of"] * 2
    assert templates(lines, 1, "fixed", (r"\d+",)) == [f"got {W} of {W}"] * 2


def test_gap_of_one_size_keeps_its_wildcards() -> None:
    assert templates(["a 1 2 b", "a 3 4 b", "a 5 6 b"], 1, "fixed") == [f"a {W} {W} b"] * 3
    assert templates(["a 1 2 b", "a b", "a 5 b"], 1, "fixed") == [f"a {W} b"] * 3


def test_the_seed_is_the_start() -> None:
    lines = [f"w{n % 3} x{n % 5} y{n % 7}" for n in range(60)]
    assert templates(lines, 6, "compat", seed=1) == templates(lines, 6, "compat", seed=1)
    assert templates(lines, 6, "compat", seed=1) != templates(lines, 6, "compat", seed=2)


def test_a_line_of_many_words() -> None:
    lines = [" ".join(f"w{n}" for n in range(4000)), "short line"]
    assert len(templates(lines, 2, "fixed")) == 2


def test_bad_group_num() -> None:
    with pytest.raises(InputError, match="group_num is 0"):
        LogSig(group_num=0)


@pytest.mark.parametrize("system", ["Linux", "Proxifier"])
def test_published_row_of_2_0(mirror: Path, system: str) -> None:
    assert_row(mirror / "logs", "LogSig", system, full=True)


@pytest.mark.parametrize("system", SYSTEMS_2K)
def test_published_row_of_2k(mirror: Path, system: str) -> None:
    assert_row(mirror / "logs", "LogSig", system, full=False)
