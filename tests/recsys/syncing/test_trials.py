"""What the bench measures, small."""

from __future__ import annotations

import pytest

from nonet.common.errors import InputError
from nonet.recsys.syncing.trials import FaultyLink, sync_trial, torn_reads_trial


def test_the_sync_holds_its_promises() -> None:
    trial = sync_trial(num_keys=3000, touched=500, rounds=6)
    assert trial.bitwise == 1.0
    assert 1.0 <= trial.payload_ratio <= 1.15
    assert trial.idle_bytes == 0
    assert trial.intervals_to_converge <= 2
    assert trial.missed_keys == 1.0
    assert trial.faults > 0


def test_no_row_is_torn() -> None:
    trial = torn_reads_trial(reads=40_000, num_keys=500)
    assert trial.torn == 0
    assert trial.versions >= 20


def test_bad_trials_are_refused() -> None:
    with pytest.raises(InputError, match="rounds"):
        sync_trial(rounds=2)
    with pytest.raises(InputError, match="rate"):
        FaultyLink(None, rate=0.5)  # type: ignore[arg-type]
