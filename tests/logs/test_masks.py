"""User masks against Python's `re` line by line; refusals; the table of general classes against the scanner."""

from __future__ import annotations

import re
import time

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nonet.common.errors import InputError
from nonet.logs.mining import masks
from nonet.logs.mining.masks import MASK_CLASSES, UNNAMED_KINDS, UserMask, find_owned_spans, find_spans
from nonet.logs.mining.shape import SOFT, Kind
from nonet.logs.mining.shape_table import ShapeTable, Spans

# Patterns on which RE2 and `re` (ASCII, over bytes) agree: no nullable ones, no trailing-newline `$`.
PATTERNS = [
    r"(\d+\.){3}\d+",
    r"[a-c]+",
    r"^ab",
    r"ab$",
    r"^[a-z]+$",
    r"\bab?\b",
    r"a|ab|abc",
    r"[^a-z ]+",
    r"\s\d",
    r"(?i)AB+",
    r"a.*b|a",
    r"(?P<x>a)(b|1)",
    r"((?<=[^A-Za-z0-9])|^)([\-\+]?\d+)((?=[^A-Za-z0-9])|$)",
    r"((?<=[^A-Za-z0-9])|^)(\d{1,3}\.\d{1,3})((?=[^A-Za-z0-9])|$)",
    r"(?:^|(?<=\.))[-.]+(?:$|(?=[a1]))",
    r"(?<=a)[ab1]",
    r"(?<!a)b+",
    r"(?<![^ab])[.b]",
    r"\d(?!\d)",
    r"[a-z]+(?=-|$)",
    r"(?<=\.)\.(?=\.)",
    r"(?i)(?<=A)b",
    r"(?i)(?<=[^a])b",
    r"(?i)(?<![^a])b",
    # Lookarounds over several characters: consumed, or checked where a match begins.
    r"(?<=ab)[ab1c]",
    r"(?<=ab)[ab]+?",
    r"(?<=b )\w+",
    r"(?<=a.)b*[a-c]",
    r"((?<=ab|1c)[abc])",
    r"(?<=a[bc]{2})(?:a|ab)",
    r"(?:^|(?<=ab))[.b1]+",
    r"((?<=ab)|^)([a-c]+)((?=c1)|$)",
    r"[ab]+(?=b1)",
    r"\w+?(?=ab)",
    r"a.*b(?=1.)",
    r"[a-c]+(?=[.:]\s?|$)",
    r"(?<=ab)[ab]+(?=ba)",
    r"(?i)(?<=AB)[a-c]+(?=B)",
    r"[ab1]+(?!b1)",
    r"\d+(?![.:]\d)",
    r"\b(?!ab)[a-c]+\b",
    r"(?!ab|b1)[abc1]+",
    r"(?!a)[ab]+",
    r"(?!a{3})(?<!b)[ab]+(?=ab)",
    r"^(?!\d{2})\w+",
    r"(?<!ab)[abc1]",
    r"(?<!ab)(?<!1)[abc1]+",
    r"\b(?<=b )(?!1)\w+(?=c)",
    r"(?<=ab)(?!ba)[ab]{1,2}",
    r"(?i)(?!AB)[a-c]+",
]
UNICODE_PATTERNS = [
    r"(?<=é)[^ ]",
    r"(?<=aé)[^ ]+?",
    r"(?<=..)[aé]",
    r"(?:^|(?<=é.))[^a]",
    r"[^ ]+?(?=é.)",
    r".(?!é€)",
    r"(?!é)[^ ]+",
    r"(?<!é€)[aé€]",
    r"(?<=é)(?!€a)[a€]+",
]
LINES = st.lists(st.text("ab1c.-+ :,AB\t\n_", max_size=30), min_size=1, max_size=4)


def as_block(lines: list[bytes], gap: bytes = b"#1ab") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lines with foreign text between them, which no match may use."""
    buffer = gap + gap.join(lines) + gap
    starts, at = [], len(gap)
    for line in lines:
        starts.append(at)
        at += len(line) + len(gap)
    ends = [s + len(line) for s, line in zip(starts, lines, strict=True)]
    return np.frombuffer(bytearray(buffer), np.uint8), np.array(starts, np.int64), np.array(ends, np.int64)


def expected(patterns: list[str], line: bytes) -> list[tuple[int, int, int]]:
    taken: list[tuple[int, int, int]] = []
    for owner, pattern in enumerate(patterns):
        spans = [m.span() for m in re.finditer(pattern.encode(), line) if m.end() > m.start()]
        taken += [(s, e, owner) for s, e in spans if all(e <= low or s >= high for low, high, o in taken if o < owner)]
    return sorted(taken)


def no_trailing_newline(line: str) -> bytes:
    return line.rstrip("\n").encode()


@pytest.mark.parametrize("few_lines", [0, 10**6], ids=["all lines at once", "line by line"])
@settings(max_examples=150, deadline=None)
@given(patterns=st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=3), lines=LINES)
@example(patterns=[PATTERNS[12]], lines=["1 2 3,-4", "5", "a6 7"])
@example(patterns=["a.*b|a"], lines=["aaaab aaa"])
def test_spans_equal_re_line_by_line(few_lines: int, patterns: list[str], lines: list[str]) -> None:
    contents = [no_trailing_newline(line) for line in lines]
    buffer, starts, ends = as_block(contents)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(masks, "_FEW_LINES", few_lines)
        user = [UserMask(p) for p in patterns]
        span_starts, span_ends, owners = find_owned_spans(user, buffer, starts, ends)
        again = find_spans(user, buffer, starts, ends)
    want = [
        (int(s) + low, int(s) + high, owner)
        for s, line in zip(starts, contents, strict=True)
        for low, high, owner in expected(patterns, line)
    ]
    assert list(zip(span_starts.tolist(), span_ends.tolist(), owners.tolist(), strict=True)) == want
    assert again[0].tolist() == span_starts.tolist() and again[1].tolist() == span_ends.tolist()
    at = again[2].tolist()
    assert at[0] == 0 and at[-1] == len(want) and len(at) == len(contents) + 1
    for i in range(len(contents)):
        assert all(starts[i] <= s and e <= ends[i] for s, e, _ in want[at[i] : at[i + 1]])


@pytest.mark.parametrize("few_lines", [0, 10**6], ids=["all lines at once", "line by line"])
@settings(max_examples=150, deadline=None)
@given(pattern=st.sampled_from(UNICODE_PATTERNS), lines=st.lists(st.text("aé€ ", max_size=12), min_size=1, max_size=4))
def test_spans_equal_re_over_characters(few_lines: int, pattern: str, lines: list[str]) -> None:
    buffer, starts, ends = as_block([line.encode() for line in lines])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(masks, "_FEW_LINES", few_lines)
        found = find_owned_spans([UserMask(pattern)], buffer, starts, ends)
    want = [
        (int(start) + len(line[: m.start()].encode()), int(start) + len(line[: m.end()].encode()))
        for start, line in zip(starts, lines, strict=True)
        for m in re.finditer(pattern, line, re.ASCII)
    ]
    assert list(zip(found[0].tolist(), found[1].tolist(), strict=True)) == want


@pytest.mark.parametrize("num_lines", [1, 200])
@pytest.mark.parametrize("pattern", [r"\b\d*", r"a*", r"x?\d*"])
def test_empty_matches_count_for_nothing(num_lines: int, pattern: str) -> None:
    lines = [b"b 12 aa 7x"] * num_lines
    buffer, starts, ends = as_block(lines)
    found, stops, at = find_spans([UserMask(pattern)], buffer, starts, ends)
    want = [m.span() for m in re.finditer(pattern.encode(), lines[0]) if m.end() > m.start()]
    assert list(zip((found - starts[0]).tolist(), (stops - starts[0]).tolist(), strict=True))[: at[1]] == want
    assert np.diff(at).tolist() == [len(want)] * num_lines


@pytest.mark.parametrize("num_lines", [1, 200])
def test_utf8_and_invalid_bytes(num_lines: int) -> None:
    lines = ["größe=über, größe=µ".encode() + b"\xff\xfe 12"] * num_lines
    buffer, starts, ends = as_block(lines)
    found, stops, at = find_spans([UserMask("(?<=[=ö])[^ ,]+"), UserMask(r"\d+$")], buffer, starts, ends)
    first = [lines[0][s - starts[0] : e - starts[0]] for s, e in zip(found[: at[1]], stops, strict=False)]
    assert first == ["ße=über".encode(), "ße=µ".encode(), b"12"]
    assert np.diff(at).tolist() == [3] * num_lines


@pytest.mark.parametrize("num_lines", [1, 200])
@pytest.mark.parametrize("pattern", [r"\C", r"(?<=b)\C", r"(?!b)\C"])
def test_no_byte_is_found_twice(num_lines: int, pattern: str) -> None:
    lines = [b"ab\x80\x80\x80\x80 ab\xffab"] * num_lines
    buffer, starts, ends = as_block(lines)
    found, stops, at = find_spans([UserMask(pattern)], buffer, starts, ends)
    want = [m.start() for m in re.finditer(pattern.replace(r"\C", ".").encode(), lines[0], re.DOTALL)]
    assert (found[: at[1]] - starts[0]).tolist() == want and (stops - found == 1).all()
    assert np.diff(at).tolist() == [len(want)] * num_lines


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        (r"(a)\1", "back-references"),
        (r"(?P<q>['\"]).*(?P=q)", "back-references"),
        (r"x(?<=a)b", "at the start of a mask"),
        (r"\w+(?<!ed)", "at the start of a mask"),
        (r"x(?:(?=ab)a|c)", "lookahead at the end"),
        (r"(?<=a(?=b))b", "inside another"),
        (r"(?<=a+)b", "fixed width"),
        (r"(?<=a|bc)b", "fixed width"),
        (r"(?<=\bab)c", "may hold no"),
        (r"(?<=[[:alpha:]]:)c", "RE2 only"),
        (r"(?<=ab", "missing"),
        (r"a(?=.*b)", "bounded"),
        (r"(?=ab)a", "lookahead at the end"),
        (r"a(?!b|cd)", "sequence"),
        (r"(?!a+b)\w+", "characters and ASCII classes"),
        (r"(?![^a])\w+", "characters and ASCII classes"),
        (r"(?!\W)\w+", "characters and ASCII classes"),
        (r"(?!ab)a|c", "group"),
        (r"(?<=ab)\C", "beside a lookbehind"),
        (r"(?<=a)b|c", "group"),
        (r"(?m)(^|(?<=a))b", "one line"),
        (r"((a{10}){3}", "missing"),
        (r"((a{1,30}){30}){30}", "size|large"),
        (r"[b-a]", "range"),
        (r"*a", "repetition"),
        (r"a\Z", "escape"),
        ("", "empty"),
        ("(?=a)", "empty"),
    ],
)
def test_refused_with_one_line(pattern: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as error:
        UserMask(pattern)
    assert "\n" not in str(error.value) and repr(pattern) in str(error.value)


@pytest.mark.parametrize("name", ["", "1a", "a b", "<x>"])
def test_bad_names(name: str) -> None:
    with pytest.raises(InputError, match="mask name"):
        UserMask("a", name)


@pytest.mark.parametrize(
    "pattern",
    [
        r"(a+)+$",
        r"(a|aa)+$",
        r"(.*a){20}x",
        r"(?:a?){300}a{300}b",
        r"a.*b|a",
        r"(?<=a)(a+)+b",
        r"(?<=a{50})(a+)+b",
        r"(?<=aa)(a|a+b)(?=a{50})",
        r"(?!a{50})a+b?",
        r"(?<!aa)a+b",
    ],
)
def test_bombs_are_harmless(pattern: str) -> None:
    lines = [b"a" * 5000 + b"!"] * 3 + [b"a" * 30 + b"!"] * 100
    buffer, starts, ends = as_block(lines)
    begin = time.perf_counter()
    find_spans([UserMask(pattern)], buffer, starts, ends)
    assert time.perf_counter() - begin < 5


@pytest.mark.parametrize("num_lines", [2, 60])
@pytest.mark.parametrize("pattern", [r"(?!ab)a.*c", r"(?<!b)a.*c", r"(?<=ab)a.*c(?=bc)"])
def test_long_candidates_turned_down_are_harmless(num_lines: int, pattern: str) -> None:
    lines = ["é".encode() + b"ab" * 30_000 + b"c"] * num_lines  # not ASCII: the automaton leaves these lines to RE2
    buffer, starts, ends = as_block(lines)
    begin = time.perf_counter()
    find_spans([UserMask(pattern)], buffer, starts, ends)
    assert time.perf_counter() - begin < num_lines / 4 + 2


@pytest.mark.parametrize("copies", [1, 100])
def test_a_long_line_is_searched_in_front(copies: int) -> None:
    lines = [b"x" * 300_000 + b" 12", b"9" * 300_000, b"1 " * 10_000] + [b"12"] * copies
    buffer, starts, ends = as_block(lines)
    _, _, at = find_spans([UserMask(r"\d+$|\d+ ")], buffer, starts, ends)
    assert np.diff(at)[:4].tolist() == [0, 0, masks.MAX_MATCHES, 1]


def test_equal_masks_are_equal() -> None:
    assert UserMask("a", "x") == UserMask("a", "x") != UserMask("a", "y")
    assert len({UserMask("a"), UserMask("a")}) == 1


def test_every_kind_is_a_class_or_says_why_not() -> None:
    listed = [c.kind for c in MASK_CLASSES]
    assert len(set(listed)) == len(listed)
    assert set(listed) | UNNAMED_KINDS == set(Kind) and not set(listed) & UNNAMED_KINDS
    assert {c.kind for c in MASK_CLASSES if c.is_soft} == SOFT


@pytest.mark.parametrize("mask_class", MASK_CLASSES, ids=lambda c: c.name)
def test_examples_are_of_their_class(mask_class: masks.MaskClass) -> None:
    for text in mask_class.examples:
        content = b"see " + text.encode() + b" here"
        lines = Spans.without_user_masks(
            np.frombuffer(bytearray(content), np.uint8), np.zeros(1, np.int64), np.array([len(content)], np.int64)
        )
        table = ShapeTable()
        table.learn(lines)
        assert table.masked_text(0) == b"see " + bytes([mask_class.kind]) + b" here", text
