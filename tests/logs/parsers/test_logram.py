"""Logram by hand, against counts by brute force, quirk by quirk, and on the published rows."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parsers.test_published_rows import SYSTEMS_2K, assert_row

from nonet.common.errors import InputError
from nonet.logs.parsers.base import Mode
from nonet.logs.parsers.logram import Logram

W = "<*>"


def templates(lines: list[str], double: int, tri: int, mode: Mode, masks: tuple[str, ...] = ()) -> list[str]:
    parsed = Logram(double_threshold=double, tri_threshold=tri, mode=mode, masks=masks).parse(lines)
    return [parsed.templates[label] for label in parsed.labels.tolist()]


def occurrences(lines: list[str], gram: tuple[str, ...], *, wrap: bool) -> int:
    """How often the words stand side by side, by trying every place of every line."""
    count = 0
    for line in lines:
        tok = line.split()
        for start in range(len(tok)):
            places = [start + offset for offset in range(len(gram))]
            if wrap:
                places = [place % len(tok) for place in places]
            count += places[-1] < len(tok) and tuple(tok[place] for place in places) == gram
    return count


def naive(lines: list[str], double: int, tri: int, mode: Mode) -> list[str]:
    result = []
    for line in lines:
        tok = line.split()
        out = list(tok)
        for i in range(len(tok)):
            starts = [s for s in (i - 2, i - 1, i) if s >= 0 and s + 2 < len(tok)]
            if all(occurrences(lines, tuple(tok[s : s + 3]), wrap=False) >= tri for s in starts):
                continue
            wrap = mode == "compat"
            left = occurrences(lines, (tok[i - 1], tok[i]), wrap=wrap) if i else None
            follower = tok[(i + 1) % len(tok)] if wrap or i + 1 < len(tok) else None
            right = occurrences(lines, (tok[i], follower), wrap=wrap) if follower is not None else None
            if wrap and i == 0:
                constant = right > double
            else:
                constant = any(count is not None and count >= double for count in (left, right))
            if not constant:
                out[i] = W
        text = " ".join(out)
        result.append(text.replace(",", "") if mode == "compat" else text)
    return result


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(["a", "b", "c,", "d"]), max_size=6).map(" ".join), max_size=12),
    st.integers(0, 6),
    st.integers(0, 6),
    st.sampled_from(["compat", "fixed"]),
)
def test_equals_brute_force(lines: list[str], double: int, tri: int, mode: Mode) -> None:
    assert templates(lines, double, tri, mode) == naive(lines, double, tri, mode)


def test_by_hand() -> None:
    # "a b X" is rare for every X, so all three words are suspects; the pair (a, b) occurs 4 times, (b, X) once.
    lines = ["a b 1", "a b 2", "a b 3", "a b 4"]
    assert templates(lines, 4, 2, "fixed") == [f"a b {W}"] * 4
    assert templates(lines, 5, 2, "fixed") == [f"{W} {W} {W}"] * 4
    assert templates(lines, 5, 1, "fixed") == lines  # no triple is rare: nobody is suspect


def test_position_0_is_strict_in_compat_only() -> None:
    lines = ["a b 1", "a b 2"]
    assert templates(lines, 2, 2, "compat") == [f"{W} b {W}"] * 2
    assert templates(lines, 2, 2, "fixed") == [f"a b {W}"] * 2


def test_wrap_around_pair_keeps_the_last_word_in_compat_only() -> None:
    # (9, a) is the only pair of 9 that occurs often, and only around the end of the line.
    lines = ["a x1 y1 9", "a x2 y2 9", "a x3 y3 9"]
    assert [t.split()[-1] for t in templates(lines, 3, 2, "compat")] == ["9"] * 3
    assert [t.split()[-1] for t in templates(lines, 3, 2, "fixed")] == [W] * 3


def test_only_the_last_mask_acts_in_compat_and_sees_a_leading_blank() -> None:
    masks = (r"\d+", r"(?<=[^a-z])[a-z]9")
    line = ["b9 7 z"]
    assert templates(line, 0, 0, "compat", masks) == [f"{W} 7 z"]
    assert templates(line, 0, 0, "fixed", masks) == [f"b{W} {W} z"]


def test_commas_go_in_compat_only() -> None:
    assert templates(["a, b,c"], 0, 0, "compat") == ["a bc"]
    assert templates(["a, b,c"], 0, 0, "fixed") == ["a, b,c"]


def test_short_lines_stay() -> None:
    for mode in ("compat", "fixed"):
        assert templates(["once only", "x", ""], 99, 99, mode) == ["once only", "x", ""]


def test_bad_thresholds() -> None:
    with pytest.raises(InputError, match="tri_threshold is -1"):
        Logram(tri_threshold=-1)
    with pytest.raises(InputError, match="double_threshold is -2"):
        Logram(double_threshold=-2)


@pytest.mark.parametrize("system", ["Linux", "Proxifier"])
def test_published_row_of_2_0(mirror: Path, system: str) -> None:
    assert_row(mirror / "logs", "Logram", system, full=True)


@pytest.mark.parametrize("system", SYSTEMS_2K)
def test_published_row_of_2k(mirror: Path, system: str) -> None:
    assert_row(mirror / "logs", "Logram", system, full=False)
