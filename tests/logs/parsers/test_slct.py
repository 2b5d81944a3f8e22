"""SLCT: frequent pairs, candidates and joining against brute force, refinement and matching by hand."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nonet.common.errors import InputError
from nonet.logs.parsers.slct import (
    SLCT,
    Lines,
    TemplateMatcher,
    containing,
    find_candidates,
    frequent_pairs,
    refine_column,
)

WORDS = st.lists(st.sampled_from("abc"), max_size=4)
TEMPLATE = st.lists(st.sampled_from(["a", "b", " ", "<*>", "aa"]), max_size=5).map("".join)


def templates(lines: list[str], **settings: object) -> list[str]:
    parsed = SLCT(**settings).parse(lines)
    return [parsed.templates[label] for label in parsed.labels]


@given(st.lists(WORDS, max_size=10), st.integers(1, 4))
def test_frequent_pairs_are_those_counted_one_by_one(words: list[list[str]], support: int) -> None:
    found = frequent_pairs(Lines(words, [1] * len(words)), support)
    for position in range(4):
        for word in "abc":
            lines_with = sum(len(line) > position and line[position] == word for line in words)
            assert ((position, word) in found) == (lines_with >= support)


@given(st.lists(WORDS, max_size=10), st.integers(1, 4))
def test_joined_support_counts_every_line_that_has_all_pairs(words: list[list[str]], support: int) -> None:
    frequent = frequent_pairs(Lines(words, [1] * len(words)), support)
    lines_of = find_candidates(Lines(words, [1] * len(words)), frequent)
    candidates = list(lines_of)
    for candidate, joined in zip(candidates, containing(candidates), strict=True):
        members = sorted(line for index in joined for line in lines_of[candidates[index]])
        having = [n for n, line in enumerate(words) if all(p < len(line) and line[p] == w for p, w in candidate)]
        assert members == having


@given(st.lists(st.text("ab1", min_size=1, max_size=4), min_size=1, max_size=4))
def test_a_refined_column_fits_its_words_and_leaves_the_wildcard_something(words: list[str]) -> None:
    column = refine_column(words)
    if "<*>" in column:
        head, tail = column.split("<*>")
        assert all(re.fullmatch(f"{head}.+{tail}", word) for word in words)
    else:
        assert set(words) == {column}


@given(st.lists(TEMPLATE, max_size=5), st.text("ab ", max_size=6))
def test_matching_is_that_of_a_regular_expression(patterns: list[str], text: str) -> None:
    expressions = [".*".join(map(re.escape, pattern.split("<*>"))) for pattern in patterns]
    first = next((n for n, expression in enumerate(expressions) if re.fullmatch(expression, text)), None)
    assert TemplateMatcher(patterns).first(text) == first


def test_worked_example() -> None:
    lines = [f"Interface eth{n} is down" for n in range(3)] + ["Interface eth9 is up"] + ["Accepted root", "bye"]
    down = "Interface eth<*> is down"
    # (3, up) is rare, so the fourth line's candidate is (Interface, *, is), which with joining counts 4 lines.
    assert templates(lines, support=3)[:3] == [down] * 3
    assert templates(lines, support=3)[3:] == ["Interface eth9 is up", "Accepted root", "bye"]
    compat = templates(lines, support=3, mode="compat")
    assert compat == [down, down, down, "Interface eth<*> is <*>", "<*>", "<*>"]


def test_compat_takes_the_longest_description_that_matches() -> None:
    lines = ["a x 1", "a x 2", "a x 3333", "a x 3333", "a x 3333"]
    assert templates(lines, support=3, mode="compat") == ["a x <*>", "a x <*>", *["a x 3333"] * 3]
    # A constant shorter than the bare wildcard loses to it.
    short = [line.replace("3333", "3") for line in lines]
    assert templates(short, support=3, mode="compat") == ["a x <*>"] * 5
    assert (
        templates(short, support=3) == ["a x 1", "a x 2", *["a x 3"] * 3] or len(set(templates(short, support=3))) == 2
    )


def test_compat_blank_runs_match_nothing() -> None:
    lines = ["will  retry", "will  retry", "will  retry"]
    assert templates(lines, support=2, mode="compat") == ["<*>"] * 3
    assert templates(lines, support=2) == ["will retry"] * 3


def test_longer_lines_of_a_cluster_end_in_a_wildcard() -> None:
    assert templates(["a b", "a b c", "a b d e"], support=3) == ["a b", "a b <*>", "a b <*>"]


def test_support_counts_repeats() -> None:
    assert Counter(templates(["x 1"] * 3 + ["x 2"], support=4)) == {"x <*>": 4}


def test_bad_support_is_an_input_error() -> None:
    with pytest.raises(InputError, match="SLCT: support"):
        SLCT(support=0)
