"""Negatives for all-positive streams: where they come from, how often, and what their rate says."""

from __future__ import annotations

from collections import Counter

import pytest

from nonet.common.errors import InputError
from nonet.recsys.example import Example
from nonet.recsys.joining import Generating, NegativeGenerator


def positive(n: int, num_items: int = 20, channels: int = 2) -> Example:
    item = n % num_items
    ids = {"item": [item], "channel": [item % channels], "user": [n]}
    return Example(request_id=b"r%d" % n, item_id=b"i%d" % item, ts_ms=n, ids=ids, dense=[float(n)], label=1.0)


def settings(**more: object) -> Generating:
    return Generating(("item", "channel"), "channel", **{"num_negatives": 4, "min_pool": 5, **more})  # type: ignore[arg-type]


def test_negatives_are_other_items_half_of_them_from_the_channel() -> None:
    generator = NegativeGenerator(settings())
    rows = list(generator.stream(positive(n) for n in range(4000)))
    negatives, drawn, last = Counter(), Counter(), rows[0]
    for row in rows:
        if row.label:
            last = row
            continue
        assert row.item_id != last.item_id
        assert (row.request_id, row.ids["user"], row.dense) == (last.request_id, last.ids["user"], last.dense)
        assert row.ids["item"] == [int(row.item_id[1:])]
        if row.ts_ms >= 20:  # the pools hold all 20 items
            is_hard = row.ids["channel"] == last.ids["channel"]
            assert row.sample_rate == pytest.approx(2 / 9 if is_hard else 2 / 10)
            negatives[row.request_id, is_hard] += 1
            drawn[row.item_id] += 1
    assert set(negatives.values()) == {2}
    assert len(negatives) == 2 * 3980
    expected = 3980 * 4 / 20
    assert sum((num - expected) ** 2 / expected for num in drawn.values()) < 43.8  # chi square, 19 degrees, p = .001
    assert generator.num_without == sum(1 for n in range(20) if n < 9)  # a pool has five items from the ninth row on


def test_the_rate_is_written_once_and_draws_repeat() -> None:
    rows = [positive(n, channels=1) for n in range(60)]
    by_rate, by_weight, none = (
        [row for row in NegativeGenerator(settings(correction=how)).stream(rows) if not row.label]
        for how in ("sample_rate", "weight", "none")
    )
    assert [row.item_id for row in by_rate] == [row.item_id for row in by_weight]
    assert all(row.weight == 1 for row in by_rate)
    assert all(row.sample_rate == 1 for row in by_weight + none)
    assert [1 / row.weight for row in by_weight] == pytest.approx([row.sample_rate for row in by_rate])
    assert by_rate[-1].sample_rate == pytest.approx(4 / 19)


def test_a_full_pool_forgets_its_oldest_item() -> None:
    generator = NegativeGenerator(settings(max_pool=6, hard_share=1.0))
    rows = list(generator.stream(positive(n, num_items=1000, channels=1) for n in range(100)))
    for row in rows:
        if not row.label:
            assert row.ts_ms - 6 < row.ids["item"][0] < row.ts_ms


@pytest.mark.parametrize(
    "more", [{"correction": "both"}, {"hard_share": 1.5}, {"num_negatives": 0}, {"min_pool": 4}, {"max_pool": 3}]
)
def test_settings_that_make_no_sense(more: dict) -> None:
    with pytest.raises(InputError):
        settings(**more)
    with pytest.raises(InputError):
        Generating(("item",), "channel")
