"""SHISO by hand, against a plain tree, its formats against brute force, quirk by quirk, and on the published rows."""

from __future__ import annotations

import math
from itertools import combinations, pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parsers.test_published_rows import SYSTEMS_2K, assert_row

from nonet.common.errors import InputError
from nonet.logs.parsers.base import Mode
from nonet.logs.parsers.shiso import SHISO, word_vector
from nonet.logs.parsers.shiso_formats import FormatTable, common_words, super_format

W = "<*>"


def templates(lines: list[str], mode: Mode, masks: tuple[str, ...] = (), **parameters: float) -> list[str]:
    parsed = SHISO(mode=mode, masks=masks, **parameters).parse(lines)
    return [parsed.templates[label] for label in parsed.labels.tolist()]


def kinds(word: str) -> list[float]:
    counts = [0, 0, 0, 0]
    for c in word:
        counts[0 if c.islower() else 1 if c.isupper() else 2 if c.isdigit() else 3] += 1
    return [count / math.sqrt(sum(n * n for n in counts)) for count in counts]


def naive_compat(lines: list[str], max_child_num: int, merge_threshold: float) -> list[str]:
    """A tree of dicts, all distances from scratch."""

    def distance(message: list[str], words: list[str]) -> float:
        long, short = max(len(message), len(words)), min(len(message), len(words))
        total = 0.0
        for a, b in zip(message, words, strict=False):
            if "*" not in (a, b):
                total += math.sqrt(sum((x - y) ** 2 for x, y in zip(kinds(a), kinds(b), strict=True)))
        if len(words) <= short or words[short] != "*":
            total += long - short
        return total / (2 * long) if long else 0.0

    root: dict = {"children": []}
    of_line = []
    for line in lines:
        message, node = line.split(), root
        while True:
            apart = [distance(message, child["words"]) for child in node["children"]]
            near = [
                (d, at)
                for at, d in enumerate(apart)
                if d <= merge_threshold and len(node["children"][at]["words"]) == len(message)
            ]
            if near:
                node = node["children"][min(near)[1]]
                node["words"] = [a if a == b else "*" for a, b in zip(node["words"], message, strict=True)]
                break
            if len(node["children"]) < max_child_num:
                node["children"].append({"children": [], "words": message})
                node = node["children"][-1]
                break
            node = node["children"][apart.index(min(apart))]
        of_line.append(node)
    return [" ".join(node["words"]) for node in of_line]


word = st.sampled_from(["a", "b", "ab", "A", "aB", "7", "42", "a1", "x=1", "*", "--"])


@settings(max_examples=120, deadline=None)
@given(
    st.lists(st.lists(word, max_size=5).map(" ".join), max_size=30),
    st.integers(1, 4),
    st.sampled_from([0.0, 0.002, 0.05, 0.1, 0.3, 1.0]),
)
def test_compat_equals_a_plain_tree(lines: list[str], max_child_num: int, merge_threshold: float) -> None:
    ours = templates(lines, "compat", max_child_num=max_child_num, merge_threshold=merge_threshold)
    assert ours == naive_compat(lines, max_child_num, merge_threshold)


def test_the_tree_grows() -> None:
    lines = [f"{'a' * (n % 30 + 1)}{'7' * (n // 30 + 1)} {'B' * (n % 7 + 1)}{'=' * (n % 11 + 1)}" for n in range(900)]
    assert templates(lines, "compat") == naive_compat(lines, 4, 0.002)


def test_word_vector() -> None:
    assert word_vector("abC1-") == pytest.approx([2 / math.sqrt(7), *[1 / math.sqrt(7)] * 3])


def test_by_hand() -> None:
    # ab and cd are of one kind: distance 0. ab against 12 is sqrt(2), over 2 * 2 words: .354.
    assert templates(["on ab", "on cd", "on 12"], "compat", merge_threshold=0.3) == ["on *", "on *", "on *"]
    assert templates(["on ab", "on 12"], "compat", merge_threshold=0.3) == ["on ab", "on 12"]
    assert templates(["on ab", "on 12"], "compat", merge_threshold=0.36) == ["on *", "on *"]


def test_full_nodes_send_messages_to_the_nearest_child() -> None:
    lines = ["a", "1", "A1", "a2", "b2"]
    # Room for one child: a chain a - 1 - A1 - a2, in which b2 (made like a2) finds its own kind.
    assert templates(lines, "compat", max_child_num=1) == ["a", "1", "A1", "*", "*"]


def test_a_wildcard_frees_the_tail_in_compat_only() -> None:
    # "c1" goes below "a1 b": (0 + 1 missing) / 4 = .25 against (.765 + 2 missing) / 6 = .46 for "a 1 1".
    # When "a 1 1" has become "a * *", "d5" is only .765 / 6 = .13 from it if the tail is free: there it misses "c1".
    lines = ["a 1 1", "a1 b", "c1", "a 2 2", "d5"]
    assert templates(lines, "compat", max_child_num=2) == ["a * *", "a1 b", "c1", "a * *", "d5"]
    assert templates(lines, "fixed", max_child_num=2) == [f"a {W} {W}", "a1 b", W, f"a {W} {W}", W]


def test_masked_words_are_variable_in_fixed_only() -> None:
    lines = ["x 10.0.0.1 y", "x host y"]
    masks = (r"(\d+\.){3}\d+",)
    assert templates(lines, "compat", masks) == [f"x {W} y", "x host y"]
    assert templates(lines, "fixed", masks) == [f"x {W} y"] * 2


RELATIVES = ["aa bb cc dd ee ff gg 11 zz", "aa bb cc dd ee ff gg XX zz", "aa bb cc dd ee ff gg 22 zz"]


def test_adjust_joins_relatives_in_fixed_only() -> None:
    # 11 and XX are too far apart to merge; when 22 turns 11 into a wildcard the two formats share 8 of 9 words
    # and 5 of the 7 word 3-grams that each has.
    assert templates(RELATIVES, "compat") == [
        "aa bb cc dd ee ff gg * zz",
        "aa bb cc dd ee ff gg XX zz",
        "aa bb cc dd ee ff gg * zz",
    ]
    assert templates(RELATIVES, "fixed") == [f"aa bb cc dd ee ff gg {W} zz"] * 3


def test_adjust_keeps_to_its_thresholds() -> None:
    separate = [f"aa bb cc dd ee ff gg {W} zz", RELATIVES[1], f"aa bb cc dd ee ff gg {W} zz"]
    assert templates(RELATIVES, "fixed", format_lookup_threshold=0.72) == separate  # Dice is 5 / 7 = .714
    assert templates(RELATIVES, "fixed", format_lookup_threshold=0.71) != separate
    assert templates(RELATIVES, "fixed", super_format_threshold=0.89) == separate  # 8 / 9 = .889
    assert templates(RELATIVES, "fixed", super_format_threshold=0.88) != separate


numbers = st.lists(st.integers(0, 3), max_size=7)


def longest_by_trying_all(ours: list[int], theirs: list[int]) -> int:
    subsequences = {kept for n in range(len(theirs) + 1) for kept in combinations(theirs, n)}
    return max(n for n in range(len(ours) + 1) for kept in combinations(ours, n) if kept in subsequences)


@settings(max_examples=100, deadline=None)
@given(numbers, numbers)
def test_common_words_are_longest(ours: list[int], theirs: list[int]) -> None:
    positions = common_words(ours, theirs)
    assert len(positions) == longest_by_trying_all(ours, theirs)
    assert all(ours[i] == theirs[j] for i, j in positions)
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(positions))
    merged = [number for number in super_format(ours, theirs) if number]
    assert merged == [ours[i] for i, _ in positions if ours[i]]


@settings(max_examples=100, deadline=None)
@given(st.lists(numbers, min_size=1, max_size=6), st.data())
def test_lookup_equals_brute_force(formats: list[list[int]], data: st.DataObject) -> None:
    table = FormatTable(0.3, 0.85)
    for node, words in enumerate(formats, 1):
        table.put(node, formats[node - 2])  # replaced at once: its 3-grams must not be found again
        table.put(node, words)

    def grams(words: list[int]) -> set[tuple[int, ...]]:
        return {tuple(words[at : at + 3]) for at in range(len(words) - 2)}

    node = data.draw(st.integers(1, len(formats)))
    mine = grams(formats[node - 1])
    dice = {
        other: 2 * len(mine & grams(words)) / (len(mine) + len(grams(words)))
        for other, words in enumerate(formats, 1)
        if other != node and mine & grams(words)
    }
    best = max(dice, key=lambda other: (dice[other], -other)) if dice else None
    assert table.most_alike(node) == (best, dice.get(best, 0.0))


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_child_num", 0), ("merge_threshold", -0.1), ("format_lookup_threshold", 1.5), ("super_format_threshold", 2)],
)
def test_bad_parameters(name: str, value: float) -> None:
    with pytest.raises(InputError, match=name):
        SHISO(**{name: value})


@pytest.mark.parametrize("system", ["Linux", "Proxifier"])
def test_published_row_of_2_0(mirror: Path, system: str) -> None:
    assert_row(mirror / "logs", "SHISO", system, full=True)


@pytest.mark.parametrize("system", SYSTEMS_2K)
def test_published_row_of_2k(mirror: Path, system: str) -> None:
    assert_row(mirror / "logs", "SHISO", system, full=False)
