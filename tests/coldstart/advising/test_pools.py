"""Pools of an OpenWhisk log, tried by a plain pool of ready times."""

from __future__ import annotations

import json
import random

import pytest

from nonet.coldstart.advising.configs import openwhisk_stem_cells
from nonet.coldstart.advising.costs import load_prices
from nonet.coldstart.advising.pools import size_pools
from nonet.coldstart.advising.pools_view import print_pools
from nonet.coldstart.importing.base import ingest
from nonet.coldstart.trace.store import Trace
from nonet.common.errors import InputError

HORIZON_S = 24 * 3600
WAIT_S, INIT_S, IDLE_S = 4.0, 1.0, 600.0


def activations() -> tuple[list[dict], list[float]]:
    """Thirty rare actions of one kind, and the moments of their cold starts (idle containers stay ten minutes)."""
    source, records, cold = random.Random(5), [], []
    for action in range(30):
        t, warm_until = source.uniform(0, 2000), -1.0
        while t < HORIZON_S:
            is_cold = t > warm_until
            start = t + (WAIT_S if is_cold else 0.002)
            end = start + (INIT_S if is_cold else 0) + 0.2
            notes = {"kind": "nodejs:20", "waitTime": round((start - t) * 1000), "limits": {"memory": 256}}
            notes |= {"path": f"guest/a{action}"} | ({"initTime": round(INIT_S * 1000)} if is_cold else {})
            records.append(
                {
                    "activationId": f"{action:08x}{len(records):024x}",
                    "name": f"a{action}",
                    "namespace": "guest",
                    "version": "0.0.1",
                    "start": 1_760_000_000_000 + round(start * 1000),
                    "end": 1_760_000_000_000 + round(end * 1000),
                    "annotations": [{"key": key, "value": value} for key, value in notes.items()],
                }
            )
            if is_cold:
                cold.append(t)
            warm_until = end + IDLE_S
            t = end + source.expovariate(1 / 900)
    return records, sorted(cold)


@pytest.fixture(scope="module")
def openwhisk(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trace, list[float]]:
    folder = tmp_path_factory.mktemp("openwhisk")
    records, cold = activations()
    (folder / "activations.json").write_text(json.dumps(records))
    trace = Trace.open(ingest([("openwhisk", [folder / "activations.json"])], folder / "t").path)
    return trace, cold


def served_by_pool(cold: list[float], size: int, create_s: float) -> list[bool]:
    """A pool of `size` pods; each taken one is replaced after `create_s`."""
    ready = [0.0] * size
    served = []
    for t in cold:
        free = [k for k, moment in enumerate(ready) if moment <= t]
        served.append(bool(free))
        if free:
            ready[free[0]] = t + create_s
    return served


def test_saving_is_what_a_plain_pool_saves(openwhisk: tuple[Trace, list[float]]) -> None:
    trace, cold = openwhisk
    (pool,) = size_pools(trace)
    assert (pool.kind, pool.memory_mb, pool.num_functions) == ("nodejs:20", 256, 30)
    late = [t for t in cold if t >= HORIZON_S / 2]
    served = served_by_pool(late, pool.size, WAIT_S)
    truth = sum(served) * WAIT_S / (len(late) * (WAIT_S + INIT_S))
    assert pool.wait_saving == pytest.approx(truth, abs=0.03)
    assert pool.low <= pool.wait_saving <= pool.high
    assert pool.num_served / pool.num_cold == pytest.approx(sum(served) / len(late), abs=0.03)
    assert sum(served) >= 0.9 * len(late)
    assert sum(served_by_pool(late, pool.size - 1, WAIT_S)) < sum(served)


def test_pool_that_does_not_pay(openwhisk: tuple[Trace, list[float]]) -> None:
    prices = load_prices("cluster")
    assert size_pools(openwhisk[0], prices=type(prices)(**{**vars(prices), "wait_usd_per_s": 1e-9})) == []
    with pytest.raises(InputError, match="level"):
        size_pools(openwhisk[0], level=1.0)


def test_stem_cells_and_view(openwhisk: tuple[Trace, list[float]], capsys: pytest.CaptureFixture[str]) -> None:
    pools = size_pools(openwhisk[0])
    cell = json.loads(openwhisk_stem_cells(pool.stem_cells() for pool in pools))["runtimes"]["nodejs"][0]["stemCells"][
        0
    ]
    assert cell["memory"] == "256 MB"
    assert cell["initialCount"] == pools[0].size
    assert cell["reactive"]["minCount"] <= cell["initialCount"] <= cell["reactive"]["maxCount"]
    print_pools(pools)
    print_pools([])
    printed = capsys.readouterr().out
    assert "nodejs:20, 256 MB" in printed
    assert "no pool pays" in printed
