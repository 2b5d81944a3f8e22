"""The bounds between causes, on traces of a few calls each."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from nonet.coldstart.advising.explain import main_causes
from nonet.coldstart.trace.store import Trace, TraceWriter

KEEP_ALIVE_S = 60


def causes(folder: Path, cold_s: list[float], warm: dict[float, str], revisions: list[str] | None = None) -> list[str]:
    """Main causes of calls of a second each to one function, cold ones and warm ones on the pods of others."""
    calls = sorted([(t, True) for t in cold_s] + [(t, False) for t in warm])
    pods = {t: f"pod-{k}" for k, t in enumerate(cold_s)}
    with TraceWriter(folder / "t", "crafted") as writer:
        rows = {
            "arrive_us": [round(t * 1e6) for t, _ in calls],
            "start_us": [round((t + 0.5 * cold) * 1e6) for t, cold in calls],
            "end_us": [round((t + 1) * 1e6) for t, _ in calls],
            "cold": [cold for _, cold in calls],
            "function": ["f"] * len(calls),
            "pod": [pods[t] if cold else warm[t] for t, cold in calls],
        }
        writer.append("request", "default", pa.table(rows))
        starts = {
            "at_us": [round(t * 1e6) for t in cold_s],
            "function": ["f"] * len(cold_s),
            "pod": list(pods.values()) if len(pods) == len(cold_s) else [None] * len(cold_s),
            "total_us": [500_000] * len(cold_s),
        }
        if revisions is not None:
            starts["detail"] = [json.dumps({"revision": name}) for name in revisions]
        writer.append("coldstart", "default", pa.table(starts))
    found = main_causes(Trace.open(folder / "t"), "default", keep_alive_us=KEEP_ALIVE_S * 1_000_000)
    return found.sort("at_us")["cause"].to_list()


@pytest.mark.parametrize(("at_once", "cause"), [(1, "scale-from-zero"), (2, "scale-from-zero"), (3, "burst")])
def test_three_starts_together_are_a_burst(tmp_path: Path, at_once: int, cause: str) -> None:
    """Two may be chance; no request is under way at the moment that all of them arrive."""
    assert causes(tmp_path, [1000.0] * at_once, {}) == [cause] * at_once


@pytest.mark.parametrize(("idle_s", "cause"), [(30, "lost-pod"), (50, "lost-pod"), (57, "scale-from-zero")])
def test_a_pod_that_went_well_before_its_keep_alive_is_lost(tmp_path: Path, idle_s: float, cause: str) -> None:
    assert causes(tmp_path, [1000.0, 1001.0 + idle_s], {}) == ["scale-from-zero", cause]


def test_a_roll_out_lasts_ten_minutes(tmp_path: Path) -> None:
    """Three pods of the old revision are there; of those of the new one, the third comes after a quarter of an hour."""
    old, new = [100.0, 200.0, 300.0], [1000.0, 1300.0, 2000.0]
    warm = {980.0 + 5 * k: f"pod-{k}" for k in range(3)}
    found = causes(tmp_path, old + new, warm, ["a"] * 3 + ["b"] * 3)
    assert found[3:] == ["roll-out", "roll-out", "scale-from-zero"]
