"""The joiner against a database: events in disorder, a small cache, `kill -9`, and the same examples in the end.

The joiner runs in a process of its own, which is killed and started again. DuckDB joins the whole logs as tables; it
shares no code with the joiner but the log that both read.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from nonet.common.errors import GateFailedError
from nonet.recsys.joining.trial_events import LATE_MS, WAIT_MS, make_events, write_events
from nonet.recsys.logs import Log, open_log

_WAITING_S = 600.0

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class JoinTrial:
    """What a trial has found.

    Attributes:
        is_equal: the examples are those of the database, each once, and so are the counts.
        num_events: on the logs.
        num_examples: that the joiner wrote.
        num_expected: that the database finds.
        num_missing: of those that it finds, not written.
        num_surplus: written more often than that.
        counts: orphans, duplicate features, duplicate actions and corrections: the joiner's and the database's.
        kills: processes killed.
        num_repeated: events that were read again after a kill.
        events_per_s: read events, repeated ones too, over the time in which processes ran the joiner.
        events_per_cpu_s: likewise over their processor time.
        max_cached_rows: most rows in memory after a batch.
        spill_bytes: size of the store.
    """

    is_equal: bool
    num_events: int
    num_examples: int
    num_expected: int
    num_missing: int
    num_surplus: int
    counts: dict[str, tuple[int, int]]
    kills: int
    num_repeated: int
    events_per_s: float
    events_per_cpu_s: float
    max_cached_rows: int
    spill_bytes: int


def trial(num_events: int = 1_000_000, cache_rows: int = 10_000, kills: int = 2, seed: int = 0) -> JoinTrial:
    """Join events on an embedded log in a process that is killed meanwhile, and compare with DuckDB.

    Args:
        num_events: shown rows and actions, up to a week late and in any order.
        cache_rows: that the joiner keeps in memory.
        kills: how often its process gets SIGKILL, at even shares of the way, between two checkpoints.
        seed: of events and moments.

    Raises:
        GateFailedError: the process died of itself.
    """
    with tempfile.TemporaryDirectory(prefix="nonet-join-") as folder:
        url = f"file:{folder}/log?fsync=never"
        with open_log(url) as log:
            write_events(log, make_events(num_events, seed))
        lives = list(_lives(url, Path(folder) / "rows", num_events, cache_rows, kills, seed))
        with open_log(url) as log:
            return _compared(log, lives, kills, num_events)


def _lives(url: str, rows: Path, num_events: int, cache_rows: int, kills: int, seed: int) -> Iterator[dict[str, Any]]:
    """Last report of each process."""
    rng = np.random.default_rng(seed)
    for life in range(kills + 1):
        until = num_events * (life + 1) / (kills + 1) if life < kills else float("inf")
        command = [
            sys.executable,
            "-m",
            "nonet.recsys.joining.trial_worker",
            url,
            str(rows),
            str(num_events),
            str(cache_rows),
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            last = None
            for line in process.stdout:
                last = json.loads(line)
                if last["read"] >= until and not last["is_over"]:
                    time.sleep(rng.uniform(0, 0.002))
                    process.send_signal(signal.SIGKILL)
                    break
            code = process.wait(_WAITING_S)
        if last is None or code not in (0, -signal.SIGKILL):
            raise GateFailedError(f"the joiner's process ended with {code} after {last}; see its message above")
        yield last | {"was_killed": code == -signal.SIGKILL}


def _compared(log: Log, lives: list[dict[str, Any]], kills: int, num_events: int) -> JoinTrial:
    expected, expected_counts = expected_examples(log, WAIT_MS, LATE_MS)
    written = read_examples(log, "examples")
    num_missing, num_surplus = differences(expected, written)
    last = lives[-1]
    counts = {name: (last["counts"][name], num) for name, num in expected_counts.items()}
    same = all(ours == theirs for ours, theirs in counts.values())
    killed = sum(life["was_killed"] for life in lives)
    num_read = sum(life["read_here"] for life in lives)
    return JoinTrial(
        is_equal=num_missing == num_surplus == 0 and same and killed == kills,
        num_events=num_events,
        num_examples=written.num_rows,
        num_expected=expected.num_rows,
        num_missing=num_missing,
        num_surplus=num_surplus,
        counts=counts,
        kills=killed,
        num_repeated=num_read - num_events,
        events_per_s=num_read / sum(life["elapsed_s"] for life in lives),
        events_per_cpu_s=num_read / sum(life["cpu_s"] for life in lives),
        max_cached_rows=max(life["max_cached_rows"] for life in lives),
        spill_bytes=last["spill_bytes"],
    )


def read_examples(log: Log, topic: str) -> pa.Table:
    """Every example of a topic, as the database's columns."""
    return _table([_columns(row) for row in _all(log, topic)], body="binary", label="double", is_correction="bool")


def _table(rows: list[dict[str, Any]], **columns: str) -> pa.Table:
    """Rows as a table of keys, times and further columns of these types."""
    import pyarrow as pa

    types = {"request_id": "binary", "item_id": "binary", "ts_ms": "int64", **columns}
    return pa.Table.from_pylist(rows, pa.schema([(name, pa.type_for_alias(kind)) for name, kind in types.items()]))


def _columns(row: dict[str, Any]) -> dict[str, Any]:
    body = msgspec.json.encode([row.get("ids", {}), row.get("dense", []), row.get("weight", 1.0)], order="sorted")
    return {
        "request_id": row["request_id"],
        "item_id": row["item_id"],
        "ts_ms": row["ts_ms"],
        "body": body,
        "label": row.get("label", 0.0),
        "is_correction": row.get("is_correction", False),
    }


def _all(log: Log, topic: str) -> Iterator[dict[str, Any]]:
    for partition in range(log.num_partitions(topic)):
        offset = 0
        while records := log.read(topic, partition, offset, 10_000).records:
            yield from (msgspec.msgpack.decode(record.payload) for record in records)
            offset += len(records)


_EXPECTED = """
with shown as (
    select request_id, item_id, any_value(ts_ms) as ts_ms, any_value(body) as body from features group by all
), clicked as (
    select s.request_id, s.item_id, min(a.ts_ms - s.ts_ms) as after_ms,
    from shown s join actions a using (request_id, item_id)
    where a.action = 'click' and a.ts_ms - s.ts_ms <= $wait_ms + $late_ms group by all
), joined as (
    select s.*, coalesce(after_ms <= $wait_ms, false) as in_time, coalesce(after_ms > $wait_ms, false) as is_late
    from shown s left join clicked using (request_id, item_id)
)
select request_id, item_id, ts_ms, body, cast(in_time as double) as label, false as is_correction from joined
union all
select request_id, item_id, ts_ms, body, 1.0, true from joined where is_late
"""

_MATCHED = """
select count(*) as num, count(distinct (a.request_id, a.item_id, a.ts_ms)) as num_different
from actions a join (select distinct request_id, item_id, ts_ms from features) f using (request_id, item_id)
where a.action = 'click' and a.ts_ms - f.ts_ms <= $wait_ms + $late_ms
"""


def expected_examples(log: Log, wait_ms: int, late_ms: int) -> tuple[pa.Table, dict[str, int]]:
    """Examples and counts that DuckDB finds in the raw logs, for a label "click" with corrections.

    Args:
        log: with the topics "features" and "actions".
        wait_ms: of the label.
        late_ms: of the label.
    """
    import duckdb

    features = [_columns(row) for row in _all(log, "features")]
    names = ("request_id", "item_id", "ts_ms", "action")
    actions = [{name: row.get(name, "click") for name in names} for row in _all(log, "actions")]
    times = {"wait_ms": wait_ms, "late_ms": late_ms}
    with duckdb.connect() as database:
        database.execute("set enable_progress_bar = false")
        database.register("features", _table(features, body="binary"))
        database.register("actions", _table(actions, action="string"))
        expected = database.sql(_EXPECTED, params=times).to_arrow_table()
        num_matched, num_different = database.execute(_MATCHED, times).fetchone() or (0, 0)
        num_clicks = database.execute("select count(*) from actions where action = 'click'").fetchone() or (0,)
        num_shown = database.execute("select count(distinct (request_id, item_id)) from features").fetchone() or (0,)
        num_late = database.execute("select count(*) from expected where is_correction").fetchone() or (0,)
    return expected, {
        "features": len(features),
        "actions": len(actions),
        "orphans": num_clicks[0] - num_matched,
        "duplicate_actions": num_matched - num_different,
        "duplicate_features": len(features) - num_shown[0],
        "corrections": num_late[0],
    }


def differences(expected: pa.Table, written: pa.Table) -> tuple[int, int]:
    """Rows of one that the other has less often, both ways."""
    import duckdb

    query = "select count(*) from (select * from {} except all select * from {})"
    with duckdb.connect() as database:
        database.execute("set enable_progress_bar = false")
        database.register("expected", expected)
        database.register("written", written)
        missing = database.execute(query.format("expected", "written")).fetchone() or (0,)
        surplus = database.execute(query.format("written", "expected")).fetchone() or (0,)
    return missing[0], surplus[0]
