"""Lines one by one against the same lines as a block."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lines import any_lines, spans_of

from nonet.logs.mining.masks import UserMask, find_in_line, find_spans
from nonet.logs.mining.one_line import OneLine
from nonet.logs.mining.shape_table import ShapeTable, Spans

MASKS = (UserMask(r"[a-c]+\d"), UserMask(r"\d\.\d"))


def block_of(contents: list[bytes], masks: tuple[UserMask, ...]) -> Spans:
    plain = spans_of(contents)
    return Spans(plain.buffer, plain.starts, plain.ends, *find_spans(masks, plain.buffer, plain.starts, plain.ends))


def users_of(content: bytes, masks: tuple[UserMask, ...]) -> list[tuple[int, int, int]]:
    return find_in_line(masks, content)


@given(any_lines, st.sampled_from([(), MASKS]))
@settings(max_examples=150, deadline=None)
def test_a_table_learns_the_same_from_lines_and_from_blocks(contents: list[bytes], masks: tuple[UserMask, ...]) -> None:
    block, single = ShapeTable(), ShapeTable()
    labelled = block.learn_and_label(block_of(contents, masks))
    way = OneLine(single)
    for i, content in enumerate(contents):
        entry, hole_ends, count, num_open = way.learn(content, i, users_of(content, masks))
        assert entry == labelled.entries[i]
        assert hole_ends == labelled.ends[labelled.hole_at[i] : labelled.hole_at[i + 1]].tolist()
        assert (count, num_open) == (single.count(entry), single.num_constants(entry))
    single.check_integrity()
    assert single.to_rows() == block.to_rows()


@given(any_lines, any_lines, st.sampled_from([(), MASKS]))
@settings(max_examples=100, deadline=None)
def test_a_line_is_found_as_in_a_block(known: list[bytes], asked: list[bytes], masks: tuple[UserMask, ...]) -> None:
    table = ShapeTable()
    table.learn(block_of(known, masks))
    before = table.to_rows()
    labelled = table.label(block_of(asked, masks))
    way = OneLine(table)
    for i, content in enumerate(asked):
        entry, hole_ends, num_bytes = way.find(content, users_of(content, masks))
        assert entry == labelled.entries[i]
        assert hole_ends == labelled.ends[labelled.hole_at[i] : labelled.hole_at[i + 1]].tolist()
        alone = ShapeTable()
        alone.learn(block_of([content], masks))
        assert way.shape(content, len(hole_ends), num_bytes) == alone.shape(0)
    assert table.to_rows() == before


def test_evictions_and_growth_keep_the_books() -> None:
    table = ShapeTable(max_shapes=64)
    way = OneLine(table)
    for i in range(3_000):
        content = b"event " + bytes([97 + i % 7, 97 + i // 7 % 26, 97 + i // 182 % 26]) + b" of " + b"x" * (i % 300)
        entry, _, count, _ = way.learn(content, i)
        assert table.count(entry) == count
        assert table.sample(entry) == content[:512]
    assert len(table) <= 64
    table.check_integrity()


@pytest.mark.parametrize("num_bytes", [0, 1, 4_095, 4_096, 4_097, 1 << 20])
def test_lines_of_any_length(num_bytes: int) -> None:
    table = ShapeTable()
    way = OneLine(table)
    way.learn(b"short 1", 0)
    long = (b"word " * (num_bytes // 5 + 1))[:num_bytes]
    block = ShapeTable()
    block.learn(spans_of([long]))
    entry, _, _, _ = way.learn(long, 1)
    assert table.shape(entry) == block.shape(0)
    assert way.find(b"short 1")[0] == 0


def test_a_merge_in_between_is_noticed() -> None:
    table, other = ShapeTable(), ShapeTable()
    way = OneLine(table)
    way.learn(b"first 1", 0)
    other.learn(spans_of([b"second thing", b"first 2"]))
    table.merge(other)
    assert way.learn(b"second thing", 3)[2] == 2
    assert way.learn(b"first 3", 4)[2] == 3
