"""What is forgotten, when, and what comes back of the memory."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from nonet.common.errors import InputError
from nonet.recsys.table import (
    EXPIRIES,
    SGD,
    Adagrad,
    EmbeddingTable,
    Expiry,
    LeastFrequent,
    LeastRecent,
    Several,
    SmallestNorm,
    TimeToLive,
    Zeros,
)


def table_with(expiry: Expiry, dim: int = 2) -> EmbeddingTable:
    return EmbeddingTable(dim, optimizer=SGD(lr=1.0), initializer=Zeros(), expiry=expiry)


def train(table: EmbeddingTable, keys: list[int], now_s: int = 0) -> int:
    return table.apply_gradients(keys, np.ones((len(keys), table.dim), np.float32), now_s=now_s).expired


def slot(number: int, signature: int) -> int:
    return (number << 48) | signature


def test_ttl_is_by_slot_in_seconds_of_the_tables_own_clock() -> None:
    table = table_with(TimeToLive(default_s=100, by_slot_s={1: 10, 32767: 1000}))
    old = [slot(0, 1), slot(1, 1), slot(32767, 1), slot(32767, 1) - (1 << 63)]  # bit 63 belongs to no slot
    train(table, old, now_s=1_000)
    assert table.expire(now_s=4_000_000_000).tolist() == []  # the wall clock empties nothing
    train(table, [slot(2, 2)], now_s=1_009)
    assert table.expire().tolist() == []
    train(table, [slot(2, 2)], now_s=1_010)
    assert table.expire().tolist() == [slot(1, 1)]  # exactly at ttl
    train(table, [slot(2, 2)], now_s=1_100)
    assert table.expire().tolist() == [slot(0, 1)]
    train(table, [slot(2, 2)], now_s=2_000)
    assert sorted(table.expire().tolist()) == sorted(old[2:])
    assert table.keys().tolist() == [slot(2, 2)]
    assert set(table.take_touched().erased.tolist()) == set(old)
    table.check_integrity()


def test_an_event_from_the_future_does_not_empty_the_table() -> None:
    table = table_with(TimeToLive(default_s=100))
    train(table, [1], now_s=1_000)
    train(table, [2], now_s=4_294_967_295)
    assert table.expire(now_s=1_050).tolist() == []
    assert table.expire(now_s=1_100).tolist() == [1]
    assert table.expire(now_s=1_200).tolist() == []  # the key from the future is young


def test_without_a_default_other_slots_live_for_ever() -> None:
    table = table_with(TimeToLive(by_slot_s={3: 1}))
    train(table, [slot(0, 1), slot(3, 1)], now_s=0)
    train(table, [slot(1, 1)], now_s=4_294_967_295)
    assert table.expire().tolist() == [slot(3, 1)]


def test_least_recent_go_first() -> None:
    table = table_with(LeastRecent(max_keys=10))
    for key in range(10):
        assert train(table, [key], now_s=key) == 0
    train(table, [0], now_s=20)
    assert train(table, [100], now_s=21) == 2  # 11 keys to nine tenths of ten
    assert sorted(table.keys().tolist()) == [0, 3, 4, 5, 6, 7, 8, 9, 100]


def test_least_frequent_go_first_and_counts_die_with_the_key() -> None:
    table = table_with(LeastFrequent(max_keys=10))
    for key in range(10):
        train(table, [key] * (20 - key))
    assert table.export().counts.tolist() == [20 - key for key in range(10)]
    assert train(table, [100] * 15) == 2
    assert sorted(table.keys().tolist()) == [0, 1, 2, 3, 4, 5, 6, 7, 100]
    train(table, [9])
    assert dict(zip(table.keys().tolist(), table.export().counts.tolist(), strict=True))[9] == 1


def test_smallest_norms_go_first_or_below_a_threshold() -> None:
    table = table_with(SmallestNorm(max_keys=10))
    table.upsert(np.arange(1, 12), np.arange(1, 12)[:, None] * np.array([[3.0, 4.0]]))
    assert sorted(table.keys().tolist()) == list(range(3, 12))
    table = table_with(SmallestNorm(min_norm=5.0))
    table.upsert([1, 2, 3], [[0, 0], [3, 4], [2, 4]])
    assert table.expire().tolist() == [1, 3]


def test_a_budget_of_bytes_is_kept_by_every_batch() -> None:
    budget = 400_000
    table = EmbeddingTable(8, optimizer=Adagrad(), expiry=LeastRecent(max_bytes=budget), track_touched=False)
    rng = np.random.default_rng(0)
    for now_s in range(60):
        keys = rng.integers(-(1 << 60), 1 << 60, 500)
        table.apply_gradients(keys, np.ones((500, 8), np.float32), now_s=now_s)
        assert table.num_bytes <= budget * 1.1
        assert table.contains(keys).all()  # the newest stay
    assert table.num_bytes > 0.6 * budget
    table.check_integrity()


def test_several_policies_together() -> None:
    table = table_with(Several((TimeToLive(default_s=10), LeastRecent(max_keys=10))))
    for key in range(30):
        train(table, [key], now_s=key * 3)
    assert len(table) <= 10  # by the ceiling, batch by batch
    assert table.export().ts.min() < 29 * 3 - 10
    table.expire()
    assert table.keys().tolist() == [26, 27, 28, 29]  # and by age


@pytest.mark.parametrize(
    "make",
    [
        lambda: TimeToLive(default_s=0),
        lambda: TimeToLive(by_slot_s={32768: 5}),
        lambda: TimeToLive(by_slot_s={-1: 5}),
        lambda: TimeToLive(by_slot_s={1: 1 << 32}),
        LeastRecent,
        lambda: LeastFrequent(max_keys=0),
        SmallestNorm,
        lambda: SmallestNorm(min_norm=float("nan")),
        Several,
    ],
)
def test_impossible_policies_are_refused(make) -> None:
    with pytest.raises(InputError):
        make()


def test_all_policies_are_registered() -> None:
    assert set(EXPIRIES) >= {"ttl", "lru", "lfu", "l2", "several"}


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def resident_after_rounds(num_keys: int, rounds: int) -> list[int]:
    """Resident bytes after each round of expiring nine tenths and refilling, and at last after expiring alone."""
    table = EmbeddingTable(16, expiry=TimeToLive(default_s=10), track_touched=False)
    rows = np.ones((10_000, 16), np.float32)
    resident = []

    def put(first: int, last: int, now_s: int) -> None:
        for at in range(first, last, len(rows)):
            table.upsert(np.arange(at, at + len(rows)) * 0x9E3779B97F4A7C1, rows, now_s=now_s)

    put(0, num_keys, 0)
    for turn in range(1, rounds + 2):
        last = num_keys + (turn - 1) * (num_keys * 9 // 10)
        put(last - num_keys // 10, last, turn * 10)
        assert len(table.expire()) == num_keys * 9 // 10
        if turn <= rounds:
            put(last, last + num_keys * 9 // 10, turn * 10)
        resident.append(resident_bytes())
    table.check_integrity()
    return resident


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_memory_is_used_again_over_rounds_of_expiry_and_given_back() -> None:
    resident_after_rounds(100_000, 1)  # loads what it calls
    base = resident_bytes()
    *after, emptied = (resident - base for resident in resident_after_rounds(300_000, 5))
    assert max(after[1:]) < 1.1 * after[0]
    assert emptied < 0.4 * after[0]  # nine tenths of the keys are gone, and so are their pages


@pytest.mark.parametrize("num_keys", [3_000, 20_000, 40_000, 70_000, 100_000, 150_000, 210_000, 300_000])
@pytest.mark.parametrize(("dim", "optimizer"), [(16, Adagrad()), (16, SGD()), (8, SGD()), (4, Adagrad())], ids=str)
def test_bytes_a_key_stay_low_at_every_size(num_keys: int, dim: int, optimizer: Adagrad | SGD) -> None:
    table = EmbeddingTable(dim, optimizer=optimizer, track_touched=False)
    for part in np.array_split(np.arange(num_keys), 7):
        table.upsert(part, np.zeros((len(part), dim), np.float32))
    assert table.num_bytes <= 1.35 * (12 + 4 * (dim + table.state_dim)) * num_keys
