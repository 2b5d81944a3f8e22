"""What is written: a trace that opens, with the cold starts of a simulation, and the two export formats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from nonet.coldstart.generating.exports import write
from nonet.coldstart.generating.presets import generate
from nonet.coldstart.simulating.engine import simulate
from nonet.coldstart.trace.store import Trace
from nonet.common.errors import InputError


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workload = generate("huawei2025:R2", days=2, scale=0.01, seed=4)
    done: list[float] = []
    path = write(workload, tmp_path_factory.mktemp("out") / "t", ("invitro", "azure2021"), progress=done.append)
    assert done[-1] == 1.0 and done == sorted(done)
    return path


def test_the_trace_holds_what_a_simulation_gives(written: Path) -> None:
    trace = Trace.open(written)
    workload = generate("huawei2025:R2", days=2, scale=0.01, seed=4)
    result = simulate(workload, "ka:60", record="pods")
    requests = trace.scan("request").collect()
    cold = trace.scan("coldstart").collect()
    assert requests.height == sum(len(calls) for calls in workload.blocks())
    assert cold.height == result.num_starts == requests["cold"].sum()
    parts = pl.sum_horizontal("allocation_us", "code_us", "dependency_us", "scheduling_us")
    assert (cold["total_us"] == cold.select(parts).to_series()).all()
    assert trace.scan("pod").collect().height == result.num_starts
    assert trace.functions("R2").num_rows == len(workload.functions)
    # A cold request waits for its pod, any other begins at once.
    wait = requests["start_us"] - requests["arrive_us"]
    assert (wait.filter(~requests["cold"]) == 0).all()
    assert sorted(wait.filter(requests["cold"]).to_list()) == sorted(cold["total_us"].to_list())


def test_simulating_the_trace_again_sees_the_same_calls(written: Path) -> None:
    from nonet.coldstart.simulating.calls import Workload

    again = Workload.from_trace(Trace.open(written), "R2")
    workload = generate("huawei2025:R2", days=2, scale=0.01, seed=4)
    ours = np.sort(np.concatenate([c.arrive_us * 1000 + c.run_us % 1000 for c in workload.blocks()]))
    theirs = np.sort(np.concatenate([c.arrive_us * 1000 + c.run_us % 1000 for c in again.blocks()]))
    assert np.array_equal(ours, theirs)


def test_invitro_files(written: Path) -> None:
    requests = Trace.open(written).scan("request").collect()
    for day in range(2):
        folder = written / "invitro" / f"day{day:02d}"
        calls = pl.read_csv(folder / "invocations.csv")
        assert calls.columns[:4] == ["HashOwner", "HashApp", "HashFunction", "Trigger"]
        assert calls.columns[4:] == [str(minute) for minute in range(1, 1441)]
        own = requests.filter(requests["arrive_us"] // 86_400_000_000 == day)
        minute = calls.select(pl.exclude("HashOwner", "HashApp", "HashFunction", "Trigger")).to_numpy().sum(axis=0)
        expected = np.bincount(own["arrive_us"].to_numpy() % 86_400_000_000 // 60_000_000, minlength=1440)
        assert np.array_equal(minute, expected)
        durations = pl.read_csv(folder / "durations.csv")
        busiest = durations.sort("Count")[-1]
        name, run = busiest["HashFunction"][0], (own["end_us"] - own["start_us"]) / 1000
        values = run.filter(own["function"] == name).to_numpy()
        assert busiest["Count"][0] == len(values) > 1000
        assert busiest["Average"][0] == pytest.approx(values.mean(), rel=1e-3, abs=2e-3)
        for percent in (25, 50, 75):
            ours = busiest[f"percentile_Average_{percent}"][0]
            assert np.quantile(values, max(percent / 100 - 0.02, 0)) * 0.97 <= ours + 1e-3
            assert ours <= np.quantile(values, min(percent / 100 + 0.02, 1)) * 1.03 + 1e-3
        memory = pl.read_csv(folder / "memory.csv")
        assert memory["AverageAllocatedMb"].min() >= 128


def test_azure_2021_file(written: Path) -> None:
    rows = pl.read_csv(written / "azure2021.csv")
    assert rows.columns == ["app", "func", "end_timestamp", "duration"]
    requests = Trace.open(written).scan("request").collect()
    assert rows.height == requests.height
    ours = np.sort(rows["end_timestamp"].to_numpy())
    assert np.abs(ours - np.sort(requests["end_us"].to_numpy() / 1e6)).max() < 1e-5


def test_cold_events_as_a_trace(tmp_path: Path) -> None:
    workload = generate("huawei2025:R3", days=2, seed=1, events="cold")
    trace = Trace.open(write(workload, tmp_path / "t"))
    assert trace.counts["request"] == 0
    cold = trace.scan("coldstart").collect()
    assert cold.height == trace.counts["coldstart"] > 10_000
    assert cold["day"].unique().sort().to_list() == [0, 1]


def test_refusals(tmp_path: Path) -> None:
    workload = generate("huawei2025:R3", days=1, events="cold")
    with pytest.raises(InputError, match="requests"):
        write(workload, tmp_path / "t", ("invitro",))
    with pytest.raises(InputError, match="unknown format"):
        write(workload, tmp_path / "t", ("opendc",))
    write(workload, tmp_path / "t")
    with pytest.raises(InputError):
        write(workload, tmp_path / "t")
