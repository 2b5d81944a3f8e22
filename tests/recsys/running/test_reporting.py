"""What a simulation says in a sentence."""

from __future__ import annotations

import pytest

from nonet.recsys.freshness.simulate import Run, Simulation
from nonet.recsys.running.reporting import COLUMNS, freshness_rows, verdict


def simulation(*runs: tuple[int, int, float, float]) -> Simulation:
    """Of (syncs, seed, AUC online, AUC frozen) each."""
    made = [Run(n, seed, 36_000 / n, on, off, on, off, 10.0, 1e6, 100) for n, seed, on, off in runs]
    return Simulation(100, 40, tuple(made), ())


def test_a_gain_above_its_spread_pays_and_fresher_syncs_say_what_they_cost() -> None:
    said = verdict(simulation((1, 0, 0.70, 0.68), (1, 1, 0.72, 0.70), (10, 0, 0.74, 0.68), (10, 1, 0.76, 0.70)))
    assert said == (
        "Online training pays: +0.0600 AUC over all rows with a sync each 1 h. Fresher syncs pay: +0.0400 from one "
        "each 10 h to one each 1 h, for 21.6 MB a day and replica more."
    )


def test_a_gain_within_its_spread_does_not_pay() -> None:
    said = verdict(simulation((10, 0, 0.73, 0.70), (10, 1, 0.70, 0.70)))
    assert said.startswith("Online training does not pay on this log") and "+0.0150 AUC" in said
    assert "spread 0.0150" in said


@pytest.mark.parametrize("gain", [0.05, 0.0])
def test_one_seed_has_no_spread_and_says_so(gain: float) -> None:
    done = simulation((10, 0, 0.70 + gain, 0.70))
    [row] = freshness_rows(done)
    assert dict(zip(COLUMNS, row, strict=True))["+-"] is None
    said = verdict(done)
    assert ("Online training pays" in said) == (gain > 0)
    assert "One seed says nothing of chance" in said if gain else "one seed, spread unknown" in said
