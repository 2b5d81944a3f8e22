"""A small trace by hand: rows as plain dictionaries, written by pyarrow into the folders of the schema."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from nonet.coldstart.trace.schema import COLDSTART, FUNCTION, POD, REQUEST

TABLES = {"request": REQUEST, "coldstart": COLDSTART, "pod": POD, "function": FUNCTION}
DAY_US = 86_400_000_000
Row = dict[str, Any]

FUNCTIONS = [
    ("timer", "u1", "Python3", "TIMER-A", 300, 128),
    ("web", "u1", "Java", "APIG-S", 1000, 1024),
    ("queue", "u2", "Python3", "KAFKA-A", 400, 256),
    ("flow", "u3", "Go1.x", "workflow-S", 600, 512),
    ("store", "u3", "Custom", "OBS-A", 300, 128),
    ("bare", None, None, None, None, None),
]


@dataclass
class Rows:
    """The rows of a trace; each has `region` beside the columns of its table."""

    request: list[Row] = field(default_factory=list)
    coldstart: list[Row] = field(default_factory=list)
    pod: list[Row] = field(default_factory=list)
    function: list[Row] = field(default_factory=list)


@dataclass(frozen=True)
class WrittenTrace:
    path: Path
    regions: tuple[str, ...]
    start_us: int
    end_us: int
    source: str = "a test"
    epoch: str | None = None


def day_of(table: str, row: Row) -> int:
    names = {"request": ["arrive_us"], "coldstart": ["at_us"], "pod": ["create_us", "ready_us", "end_us"]}[table]
    return next((row[name] for name in names if row.get(name) is not None), 0) // DAY_US


def write_trace(path: Path, rows: Rows, num_days: int) -> WrittenTrace:
    for table, schema in TABLES.items():
        places: dict[str, list[Row]] = {}
        for row in getattr(rows, table):
            day = "" if table == "function" else f"/day={day_of(table, row)}"
            places.setdefault(f"{table}/region={row['region']}{day}", []).append(row)
        for place, found in places.items():
            (path / place).mkdir(parents=True)
            columns = {name: [row.get(name) for row in found] for name in schema.names}
            pq.write_table(pa.table(columns, schema=schema), path / place / "part-00000.parquet")
    regions = tuple(sorted({row["region"] for table in TABLES for row in getattr(rows, table)}))
    return WrittenTrace(path, regions, 0, num_days * DAY_US)


def random_rows(seed: int = 7, num_days: int = 3, regions: tuple[str, ...] = ("R1", "R2")) -> Rows:
    """A few thousand requests of six functions a region on pods that are reused, with their cold starts."""
    rng = random.Random(seed)
    rows = Rows()
    for region in regions:
        for name, user, runtime, trigger, cpu, memory in FUNCTIONS:
            if name != "bare":
                row = {"function": name, "user": user, "runtime": runtime, "trigger": trigger}
                rows.function.append(row | {"region": region, "cpu_millicores": cpu, "memory_mb": memory})
            for number in range(rng.randint(20, 60)):
                add_pod(rows, rng, region, name, f"{name}-{number}", num_days)
    return rows


def add_pod(rows: Rows, rng: random.Random, region: str, function: str, pod: str, num_days: int) -> None:
    at = rng.randrange(num_days * DAY_US - 4_000_000_000)
    parts = [int(10 ** rng.uniform(2, 7)), rng.randrange(5) * 1000, rng.choice([0, 0, 70_000, 1_098_000]), 40_000]
    allocation, code, dependency, scheduling = parts
    named = {"region": region, "function": function, "pod": pod}
    times = {"allocation_us": allocation, "code_us": code, "dependency_us": dependency, "scheduling_us": scheduling}
    rows.coldstart.append(named | times | {"at_us": at, "request": f"{region}{pod}", "total_us": sum(parts)})
    ready = start = at + sum(parts)
    end = start
    for index in range(rng.randint(1, 12)):
        arrive = at if index == 0 else end + rng.randrange(60_000_000)
        start = max(arrive, ready)
        end = start + int(10 ** rng.uniform(2, 8))
        row = {"arrive_us": arrive, "start_us": start, "end_us": end, "cold": index == 0}
        row |= {"cpu_cores": round(rng.uniform(0.01, 2.0), 3), "request": f"{region}{pod}-{index}"}
        rows.request.append(named | row)
    rows.pod.append(named | {"create_us": at, "ready_us": ready, "end_us": end + 60_000_000})
