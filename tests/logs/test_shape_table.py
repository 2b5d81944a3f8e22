"""The shape table against a dictionary, and its algebra."""

from __future__ import annotations

import random

import pytest
import reference_masks
from hypothesis import given, settings
from hypothesis import strategies as st
from lines import any_lines, spans_of

from nonet.logs.mining.shape import SOFT
from nonet.logs.mining.shape_table import ShapeTable

Content = dict[bytes, tuple[int, tuple[bytes | None, ...]]]


def counted(contents: list[bytes]) -> Content:
    """Masked text to (count, constants), counted plainly."""
    seen: Content = {}
    for content in contents:
        masked, holes = reference_masks.scan(content)
        values = tuple(content[a:b] if kind in SOFT and b - a <= 256 else None for kind, a, b in holes)
        count, constants = seen.get(masked, (0, values))
        seen[masked] = (count + 1, tuple(c if c == v else None for c, v in zip(constants, values, strict=True)))
    return seen


def content_of(table: ShapeTable) -> Content:
    return {s.masked: (s.count, s.constants) for s in table.shapes()}


def learned(contents: list[bytes], **options: int) -> ShapeTable:
    table = ShapeTable(**options)
    table.learn(spans_of(contents))
    return table


@given(any_lines)
@settings(max_examples=150, deadline=None)
def test_table_counts_like_a_dictionary(contents: list[bytes]) -> None:
    table = learned(contents)
    table.check_integrity()
    assert content_of(table) == counted(contents)


@given(any_lines, st.integers(1, 5), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_shards_merge_in_any_order_to_the_same_content(
    contents: list[bytes], num_shards: int, rng: random.Random
) -> None:
    shards = [learned(contents[i::num_shards]) for i in range(num_shards) if contents[i::num_shards]]
    while len(shards) > 1:  # a random tree of merges
        rng.shuffle(shards)
        left, right = shards.pop(), shards.pop()
        before = content_of(right)
        left.merge(right)
        assert content_of(right) == before
        shards.append(left)
    shards[0].check_integrity()
    assert content_of(shards[0]) == counted(contents)
    assert shards[0].num_lines == len(contents)


def test_table_grows_far_beyond_its_first_arrays() -> None:
    contents = [
        f"word{'abcdefghij'[i % 10]} of /p/{i} kind {chr(97 + i % 26) * (i % 40 + 1)}".encode() for i in range(3000)
    ]
    table = learned(contents)
    table.check_integrity()
    assert content_of(table) == counted(contents)


def test_eviction_bounds_the_table_and_keeps_the_frequent() -> None:
    rng = random.Random(1)
    words = ["".join(rng.choices("abcdefghij", k=8)) for _ in range(4000)]
    contents = [b"heartbeat ok" if i % 2 else words[i].encode() for i in range(4000)]
    table = learned(contents, max_shapes=100)
    table.check_integrity()
    assert len(table) <= 100
    assert table.num_lines == 4000
    assert table.num_evicted_lines > 1800
    assert content_of(table)[b"heartbeat ok"][0] == 2000


def test_a_shape_of_the_past_decays_before_a_recent_one() -> None:
    table = ShapeTable(max_shapes=32, half_life_lines=64)
    table.learn(spans_of([b"old glory"] * 200))
    table.learn(spans_of([b"daily bread"] * 3 + [b"new " + bytes([97 + i % 26]) * (2 + i // 26) for i in range(600)]))
    texts = set(content_of(table))
    assert b"old glory" not in texts
    assert len(table) <= 32


def test_label_knows_shapes_and_constants() -> None:
    table = learned([b"up on eth0 now", b"up on eth0 now", b"port 80"])
    seen = table.label(spans_of([b"up on eth0 now", b"up on eth1 now", b"port 9", b"never seen"]))
    assert (seen.entries >= 0).tolist() == [True, False, True, False]
    assert seen.hole_at.tolist() == [0, 1, 2, 3, 3]


def test_label_grows_its_hole_arrays() -> None:
    contents = [b"1 " * 1500 for _ in range(40)]
    table = learned(contents)
    seen = table.label(spans_of(contents))
    assert (seen.entries == 0).all()
    assert len(seen.kinds) == seen.hole_at[-1] > 40 * 1024


@pytest.mark.parametrize("num_rows", [0, 3])
def test_rows_carry_the_whole_table(num_rows: int) -> None:
    table = learned([b"a 1 eth0", b"a 2 eth1", b"b /x  c"][:num_rows]) if num_rows else ShapeTable()
    rows = table.to_rows()
    back = ShapeTable.from_rows(
        [dict(zip(rows, values, strict=True)) for values in zip(*rows.values(), strict=True)],
        [table.num_lines, 0, 0],
        1000,
        1 << 20,
    )
    back.check_integrity()
    assert content_of(back) == content_of(table)
    back.merge(table)
    assert back.num_lines == 2 * table.num_lines
