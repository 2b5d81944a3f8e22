"""Slot-composed ids against the formulas, over the whole range of int64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nonet.common.errors import InputError
from nonet.recsys.features.fid import (
    bucket_of,
    bucket_owners,
    fid_v1,
    fid_v2,
    mix64,
    signature_v1,
    signature_v2,
    slot_v1,
    slot_v2,
    v1_to_v2,
)

INT64 = st.integers(-(2**63), 2**63 - 1)


def unsigned(value: int) -> int:
    return value % 2**64


@given(st.integers(0, 1023), INT64)
def test_v1_has_ten_bits_of_slot(slot: int, signature: int) -> None:
    fid = int(fid_v1(slot, [signature])[0])
    assert unsigned(fid) == slot * 2**54 + signature % 2**54
    assert slot_v1([fid])[0] == slot
    assert signature_v1([fid])[0] == signature % 2**54


@given(st.integers(0, 32767), INT64)
def test_v2_has_fifteen_bits_of_slot_and_is_never_negative(slot: int, signature: int) -> None:
    fid = int(fid_v2(slot, [signature])[0])
    assert fid == slot * 2**48 + signature % 2**48
    assert slot_v2([fid])[0] == slot
    assert signature_v2([fid])[0] == signature % 2**48


@given(st.lists(INT64, min_size=1, max_size=50))
def test_v1_to_v2_is_the_formula_and_its_report_counts_merges(fids: list[int]) -> None:
    report = v1_to_v2(fids)
    want = [((unsigned(fid) >> 54) << 48) | (unsigned(fid) & (2**48 - 1)) for fid in fids]
    assert report.fids.tolist() == want
    assert (report.num_before, report.num_after) == (len(set(fids)), len(set(want)))
    owners: dict[int, set[int]] = {}
    for old, new in zip(fids, want, strict=True):
        owners.setdefault(new, set()).add(old)
    assert report.merged.tolist() == sorted(new for new, old in owners.items() if len(old) > 1)


def test_ids_that_differ_in_a_lost_bit_merge() -> None:
    old = fid_v1(5, [1, 1 | 1 << 48, 1 | 1 << 53, 2])
    report = v1_to_v2(old)
    assert report.num_lost == 2
    assert report.merged.tolist() == fid_v2(5, [1]).tolist()


@pytest.mark.parametrize("slot", [-1, 32768, 2**40])
def test_v2_refuses_slots_out_of_range(slot: int) -> None:
    with pytest.raises(InputError, match=rf"slot {slot} .*0\.\.32767"):
        fid_v2(slot, [1])


def test_one_bad_slot_of_many_is_named() -> None:
    with pytest.raises(InputError, match=r"slot 1024 .*0\.\.1023"):
        fid_v1(np.array([3, 1024]), [1, 2])


def test_floating_point_ids_are_refused_not_rounded() -> None:
    with pytest.raises(InputError, match="float64"):
        fid_v2(1, np.array([1.5]))
    with pytest.raises(InputError, match="float64"):
        bucket_of([2.0**60])


@given(st.lists(INT64, min_size=1))
def test_buckets_are_splitmix64_modulo_1024(keys: list[int]) -> None:
    def splitmix64(key: int) -> int:
        z = (key + 0x9E3779B97F4A7C15) % 2**64
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return z ^ (z >> 31)

    assert mix64(keys).tolist() == [splitmix64(key) for key in keys]
    assert bucket_of(keys).tolist() == [splitmix64(key) % 1024 for key in keys]


def test_sequential_keys_spread_evenly_over_buckets() -> None:
    counts = np.bincount(bucket_of(np.arange(1_024_000)), minlength=1024)
    chi_square = ((counts - 1000) ** 2 / 1000).sum()
    assert chi_square < 1024 + 5 * (2 * 1024) ** 0.5


@pytest.mark.parametrize("shards", [1, 3, 4, 5, 1000, 1024])
def test_owners_are_runs_of_equal_length(shards: int) -> None:
    owners = bucket_owners(shards)
    sizes = np.bincount(owners, minlength=shards)
    assert (np.diff(owners) >= 0).all()
    assert len(sizes) == shards
    assert sizes.max() - sizes.min() <= 1


@pytest.mark.parametrize("shards", [0, -1, 1025])
def test_a_wrong_number_of_shards_is_refused(shards: int) -> None:
    with pytest.raises(InputError, match="number of shards"):
        bucket_owners(shards)


def test_empty_input_gives_empty_output() -> None:
    assert len(fid_v2(1, [])) == len(bucket_of([])) == len(v1_to_v2([]).fids) == 0
