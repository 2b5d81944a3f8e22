"""A shard is killed: what is lost in each mode."""

from __future__ import annotations

import pytest

from nonet.common.errors import InputError
from nonet.recsys.sharding.failure import failure_trial

SMALL = {"num_rows": 6000, "snapshot_rows": 1024}


@pytest.mark.parametrize("backend", ["thread", pytest.param("process", marks=pytest.mark.slow)])
def test_replay_ends_as_a_run_without_failure(backend: str) -> None:
    trial = failure_trial("replay", backend, **SMALL)
    assert trial.is_equal
    assert trial.auc_drop == 0.0
    assert 0 < trial.rows_again <= 1024


@pytest.mark.parametrize("backend", ["thread", pytest.param("process", marks=pytest.mark.slow)])
def test_snapshot_mode_loses_one_interval_of_one_shard(backend: str) -> None:
    trial = failure_trial("snapshot", backend, **SMALL)
    assert not trial.is_equal
    assert trial.changed_elsewhere == 0
    assert 0 < trial.lost_share <= 0.35
    assert abs(trial.auc_drop) < 0.02
    assert trial.rows_again == 0


def test_bad_trials_are_refused() -> None:
    with pytest.raises(InputError, match="mode"):
        failure_trial("hope")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="rows"):
        failure_trial("replay", num_rows=10)
