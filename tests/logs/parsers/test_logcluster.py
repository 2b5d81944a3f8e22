"""LogCluster by hand, against a plain one, quirk by quirk, and on the published rows."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parsers.test_published_rows import SYSTEMS_2K, assert_row

from nonet.common.errors import InputError
from nonet.logs.parsers.base import Mode
from nonet.logs.parsers.logcluster import LogCluster

W = "<*>"


def templates(lines: list[str], rsupport: float, mode: Mode, masks: tuple[str, ...] = ()) -> list[str]:
    parsed = LogCluster(rsupport=rsupport, mode=mode, masks=masks).parse(lines)
    return [parsed.templates[label] for label in parsed.labels.tolist()]


def naive(lines: list[str], rsupport: float, mode: Mode) -> list[str]:
    """Every line looks at all lines: which words are frequent, who has the same ones, which gaps they have."""
    share = len(lines) * rsupport / 100
    support = math.floor(share) if mode == "compat" else math.ceil(share)

    def is_frequent(word: str) -> bool:
        return sum(word in line.split() for line in lines) >= support

    def mark(line: str) -> str:
        return "".join("K" if is_frequent(word) else "." for word in line.split())

    def constants(line: str) -> list[str]:
        return [word for word in line.split() if is_frequent(word)]

    result = []
    for line in lines:
        peers = [other for other in lines if constants(other) == constants(line)]
        if not constants(line) or len(peers) < support:
            result.append(line if mode == "compat" else " ".join(line.split()))
            continue
        gaps = [[len(gap) for gap in mark(peer).split("K")] for peer in peers]
        pieces = []
        for place, sizes in enumerate(zip(*gaps, strict=True)):
            if max(sizes):
                pieces.append(f"*{{{min(sizes)},{max(sizes)}}}" if mode == "compat" else W)
            pieces += constants(line)[place : place + 1]
        result.append(" ".join(pieces))
    return result


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), max_size=6).map(" ".join), max_size=12),
    st.sampled_from([1, 10, 25, 34, 50, 70, 100]),
    st.sampled_from(["compat", "fixed"]),
)
def test_equals_a_plain_one(lines: list[str], rsupport: float, mode: Mode) -> None:
    assert templates(lines, rsupport, mode) == naive(lines, rsupport, mode)


def test_by_hand() -> None:
    lines = ["user ann in", "user bob x in", "user in now", "user", "bye bye"]
    # user is in 4 of 5 lines, in in 3; the candidate (user, in) has 3 lines, (user) has 1.
    assert templates(lines, 60, "compat") == ["user *{0,2} in *{0,1}"] * 3 + ["user", "bye bye"]
    assert templates(lines, 60, "fixed") == [f"user {W} in {W}"] * 3 + ["user", "bye bye"]


def test_a_word_repeated_in_one_line_has_one_line() -> None:
    assert templates(["a a a", "b c"], 100, "fixed") == ["a a a", "b c"]
    assert templates(["a a", "a a"], 100, "fixed") == ["a a", "a a"]


def test_support_rounds_down_in_compat_up_in_fixed() -> None:
    lines = ["x 1", "x 2", "y 3"]  # 40 % of 3 lines is 1.2
    assert templates(lines, 40, "compat") == lines  # support 1: every word is frequent
    assert templates(lines, 40, "fixed") == [f"x {W}", f"x {W}", "y 3"]  # support 2


def test_masks_vanish_in_compat_and_lines_of_no_cluster_keep_their_content() -> None:
    lines = ["a 1 b", "a 22 b", "  odd  7 one "]
    assert templates(lines, 67, "compat", (r"\d+",)) == ["a b", "a b", "  odd  7 one "]
    assert templates(lines, 66, "fixed", (r"\d+",)) == [f"a {W} b"] * 2 + [f"odd {W} one"]


@pytest.mark.parametrize("rsupport", [0, -1, 100.5])
def test_bad_support(rsupport: float) -> None:
    with pytest.raises(InputError, match="percent"):
        LogCluster(rsupport=rsupport)


@pytest.mark.parametrize("system", ["Linux", "Proxifier"])
def test_published_row_of_2_0(mirror: Path, system: str) -> None:
    assert_row(mirror / "logs", "LogCluster", system, full=True)


@pytest.mark.parametrize("system", SYSTEMS_2K)
def test_published_row_of_2k(mirror: Path, system: str) -> None:
    assert_row(mirror / "logs", "LogCluster", system, full=False)
