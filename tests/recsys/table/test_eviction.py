"""Expiry by count and score against a dict that fades."""

from __future__ import annotations

import numpy as np
import pytest

from nonet.common.errors import InputError
from nonet.recsys.features.fid import fid_v2
from nonet.recsys.table import BelowCount, EmbeddingTable, LowestScore, OnlyAbove, Several, TimeToLive


def come(table: EmbeddingTable, keys: np.ndarray, times: list[int], now_s: int = 1) -> None:
    table.apply_gradients(keys, np.ones((len(keys), 1), np.float32), counts=times, now_s=now_s)


def test_counts_fade_at_every_expiry_and_rare_keys_go() -> None:
    table = EmbeddingTable(1, expiry=BelowCount(min_count=10, decay=0.5))
    keys = np.array([7, -1, 3])
    model = {7: 100, -1: 20, 3: 19}
    come(table, keys, [100, 20, 19])
    for _ in range(5):
        model = {key: count // 2 for key, count in model.items()}
        gone = sorted(key for key, count in model.items() if count < 10)
        assert table.expire().tolist() == gone
        model = {key: count for key, count in model.items() if key not in gone}
        assert table.export().counts.tolist() == [model[key] for key in sorted(model)]
    assert model == {}


def test_the_highest_scores_stay_by_the_worth_of_their_slot() -> None:
    table = EmbeddingTable(1, expiry=LowestScore(keep=2, decay=1.0, slot_scores={5: 10.0}))
    cheap, dear = fid_v2(4, [1, 2, 3]), fid_v2(5, [1])
    come(table, np.concatenate([cheap, dear]), [3, 30, 31, 4])
    assert table.expire().tolist() == sorted([cheap[0], cheap[1]])
    assert table.contains(np.concatenate([cheap[2:], dear])).all()


def test_a_policy_with_a_trigger_waits_for_it() -> None:
    table = EmbeddingTable(1, expiry=OnlyAbove(TimeToLive(10), num_keys=3))
    come(table, np.arange(3), [1, 1, 1], now_s=100)
    come(table, np.array([0]), [1], now_s=200)
    assert len(table.expire()) == 0
    come(table, np.array([9]), [1], now_s=200)
    assert table.expire().tolist() == [1, 2]


def test_several_policies_fade_once() -> None:
    policy = Several((BelowCount(1, 0.5), BelowCount(1, 0.9), TimeToLive(5)))
    table = EmbeddingTable(1, expiry=policy)
    come(table, np.array([1]), [100])
    table.expire()
    assert table.export().counts.tolist() == [50]


@pytest.mark.parametrize(
    "make",
    [
        lambda: BelowCount(-1),
        lambda: BelowCount(1, 0.0),
        lambda: BelowCount(1, 1.5),
        lambda: LowestScore(0),
        lambda: LowestScore(1, slot_scores={1 << 15: 1.0}),
        lambda: LowestScore(1, default_score=float("nan")),
        lambda: OnlyAbove(TimeToLive(1), 0),
    ],
)
def test_wrong_options_are_refused(make: object) -> None:
    with pytest.raises(InputError):
        make()  # type: ignore[operator]
