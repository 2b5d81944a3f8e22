"""What the doctor looks at: a job with its log, a snapshot, a file of rows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nonet.common.errors import InputError
from nonet.recsys.config import MAIN_ARM, JobFile, load_job
from nonet.recsys.features.audit import CollisionCounter, expected_pairs
from nonet.recsys.features.fid import slot_v2
from nonet.recsys.joining import REASONS, decode_letter
from nonet.recsys.logs import Log, LogDamagedError
from nonet.recsys.running import keeping
from nonet.recsys.running.control import ask_running, running_at
from nonet.recsys.running.loop import log_lags
from nonet.recsys.running.parts import open_job_log
from nonet.recsys.training import checkpoint

State = Literal["good", "bad", "told"]

_JOB_FILES = (".yaml", ".yml", ".toml")
_LAG_RECORDS = 100_000
_CALIBRATED = (0.8, 1.25)
_ENOUGH_POSITIVES = 100
_DEAD_SHARE = 0.01
_READ_RECORDS = 1_000_000
_COLLIDING_PAIRS = 1.0


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Args:
        name: of it.
        value: how it is.
        state: "good", "bad", or "told" where nothing is right or wrong.
        advice: what to do about a bad one.
    """

    name: str
    value: Any
    state: State = "told"
    advice: str = ""


def check(source: str | Path, *, kind: str | None = None, label: str | None = None, token: str = "") -> list[Check]:
    """Look at a job file, the folder of a snapshot, or a file of rows.

    Args:
        source: which.
        kind: of the format of rows; by looking.
        label: which rows are positive.
        token: of the job's server.

    Raises:
        InputError: there is nothing, or it is none of the three.
    """
    place = Path(source)
    if place.is_dir():
        if not keeping.is_snapshot(place):
            raise InputError(f"{place}: a folder without a snapshot; name a job file, a snapshot or a file of rows")
        return check_snapshot(place)
    if place.suffix in _JOB_FILES:
        return check_job(load_job(place), token=token)
    return check_data(place, kind=kind, label=label)


def check_job(job: JobFile, *, token: str = "") -> list[Check]:
    """Look at a job: is it running and how fresh, its log, its dead letters, its last snapshot.

    Args:
        job: the file.
        token: of its server.
    """
    running = running_at(job.snapshot.path)
    found = [Check("runs", "no" if running is None else f"process {running['pid']} at {running['address']}")]
    if running is not None:
        found += _live(ask_running(running, "GET", "/v1/status", token), job)
    if job.log.backend != "segments" or job.log.path.is_dir():
        with open_job_log(job) as log:
            found += [
                Check(f"{reader} lags, records", lag, _ok(lag < _LAG_RECORDS), "it is too slow, or does not run")
                for reader, lag in log_lags(log, job).items()
            ]
            found += [*_damage(log, job), *_dead_letters(log, job)]
    if keeping.is_snapshot(job.snapshot.path):
        found += check_snapshot(job.snapshot.path)
    else:
        found.append(Check("snapshot", "none yet"))
    return found


def check_snapshot(folder: Path) -> list[Check]:
    """Read all of a snapshot: damage, numbers that are none, keys, and pairs of values that share an id by chance;
    then the same of further arms.

    Args:
        folder: of the snapshot.
    """
    try:
        checkpoint.check(folder)
        about = keeping.describe(folder)
        names = {feature.slot: name for name, feature in keeping.job_of(folder).features.features.items()}
    except InputError as error:
        return [Check("snapshot", str(error), "bad", "nonet recsys restore an older one")]
    newest = about["event_ts_ms"]
    found = [
        Check("snapshot, every file", "whole", "good"),
        Check("items", about["items"]),
        Check("newest event learned, Unix s", newest / 1000 if newest else None),
    ]
    for places in checkpoint.table_places(folder):
        saved = checkpoint.load_table(places)
        name, rows = saved.options["name"], saved.exported
        broken = int((~np.isfinite(rows.rows)).any(axis=1).sum())
        found.append(Check(f"table {name}: keys", len(rows.keys)))
        found.append(Check(f"table {name}: keys with NaN", broken, _ok(not broken), "lower the learning rate"))
        slots, counts = np.unique(slot_v2(rows.keys), return_counts=True)
        for slot, count in zip(slots.tolist(), counts.tolist(), strict=True):
            pairs = expected_pairs(count)
            found.append(
                Check(
                    f"feature {names.get(slot, f'slot {slot}')}: pairs with one id, expected",
                    pairs,
                    _ok(pairs < _COLLIDING_PAIRS),
                    "exact: true numbers values by a dictionary",
                )
            )
    for place in keeping.arm_places(folder):
        found += [replace(one, name=f"arm {place.name}: {one.name}") for one in check_snapshot(place)]
    return found


def check_data(path: Path, *, kind: str | None = None, label: str | None = None) -> list[Check]:
    """Read a file of rows: bad lines, labels, order, and values of each feature that share an id.

    Args:
        path: the file.
        kind: of its format; by looking.
        label: which rows are positive.

    Raises:
        InputError: it cannot be read.
    """
    from nonet.recsys.reading.blocks import BadLines
    from nonet.recsys.reading.frames import open_format, read_frames

    form = open_format(path, kind).with_label(label)
    bad = BadLines("skip")
    counters = {name: CollisionCounter(name) for name in form.features}
    rows, positive, backwards, last_ms = 0, 0.0, 0, -math.inf
    for frame in read_frames(path, form, bad=bad):
        ts_ms = frame["ts_ms"].to_numpy()
        backwards += int((np.diff(ts_ms) < 0).sum()) + int(ts_ms[0] < last_ms)
        last_ms, rows, positive = int(ts_ms[-1]), rows + frame.height, positive + float(frame["label"].sum())
        for name, counter in counters.items():
            counter.add(frame[name].to_arrow())
    share = positive / rows if rows else 0.0
    found = [
        Check("format", form.name),
        Check("rows", rows, _ok(rows > 0), "the file is empty"),
        Check("bad lines", bad.count, _ok(not bad.count), bad.first[0] if bad.first else ""),
        Check(
            f"positive by {form.label}", share, _ok(0 < share < 1), "another --label: rows of one kind teach nothing"
        ),
        Check("rows earlier than the one before", backwards, "told", "train sorts by time; --one-pass does not"),
    ]
    for name, counter in counters.items():
        report = counter.report()
        found.append(Check(f"feature {name}: values", report.num_values))
        found.append(
            Check(f"feature {name}: pairs with one id", report.num_pairs, _ok(not report.num_pairs), "use exact: true")
        )
    return found


def _ok(is_good: bool) -> State:
    return "good" if is_good else "bad"


def _live(status: Mapping[str, Any], job: JobFile) -> Iterator[Check]:
    staleness_s = status["staleness_s"]
    patience_s = 10 * (job.labels.wait + job.joiner.allowed_lateness + job.sync_interval)
    lag = status["lag"]
    if lag is None:
        yield Check("log", "does not answer", "bad", "start its broker: what is shown meanwhile is not learned")
    is_old = staleness_s is not None and staleness_s >= patience_s
    # Where nothing waits to be read, nobody sends anything, or only what is long past.
    state: State = "told" if is_old and not (lag and lag["joiner"]) else _ok(not is_old)
    yield Check("staleness, s", staleness_s, state, "joiner or trainer cannot keep up")
    yield Check("learned since the start", status["learned"])
    yield Check("admitted, share of updates", status["admitted"])
    yield Check("expired a day, keys", status["expired"] / max(status["up_s"], 1.0) * 86_400)
    yield Check(
        "shards that failed", status["recoveries"], _ok(not status["recoveries"]), "see why their processes ended"
    )
    saved = status["snapshot"]
    yield Check("snapshot, s ago", saved["age_s"])
    yield Check("snapshots that failed", saved["failures"], _ok(not saved["failure"]), f"{saved['failure']}")
    lost = status["trimmed"]
    yield Check("examples trimmed unread", lost, _ok(not lost), "longer retention, or more frequent snapshots")
    yield Check("records that are no examples", status["poison"], _ok(not status["poison"]), "who writes them?")
    for name, arm in status["arms"].items():
        prefix = "" if name == MAIN_ARM else f"arm {name}: "
        if prefix:
            yield Check(f"{prefix}learned since the start", arm["learned"])
            yield Check(f"{prefix}examples trimmed unread", arm["trimmed"], _ok(not arm["trimmed"]), "longer retention")
        yield from _validation(arm["validation"], prefix)


def _validation(of: Mapping[str, Any], prefix: str) -> Iterator[Check]:
    """What progressive validation says of an arm."""
    if not of["rows"]:
        return
    value, enough = of["calibration"], of["positives"] >= _ENOUGH_POSITIVES
    in_range = value is not None and _CALIBRATED[0] <= value <= _CALIBRATED[1]
    state: State = _ok(in_range) if enough and value is not None else "told"
    rows = f"over {of['rows']:,} rows"
    yield Check(f"{prefix}calibration {rows}", value, state, "longer labels.wait, or late: correct")
    if prefix:
        yield Check(f"{prefix}AUC {rows}", of["auc"])


def _damage(log: Log, job: JobFile) -> Iterator[Check]:
    """Read the log, whose checksums tell."""
    for purpose in ("features", "actions", "examples", "dead-letters"):
        topic = job.log.topic(purpose)
        try:
            records = sum(_count(log, topic, partition) for partition in range(log.num_partitions(topic)))
        except LogDamagedError as error:
            yield Check(
                f"log, {purpose}", str(error), "bad", "trim the topic behind the damage; what was there is lost"
            )
        else:
            yield Check(f"log, {purpose}: sound records", records, "good")


def _count(log: Log, topic: str, partition: int) -> int:
    offset, end = log.offsets(topic, partition)
    first = offset = max(offset, end - _READ_RECORDS)
    while offset < end:
        offset = log.read(topic, partition, offset, 4096).next_offset
    return offset - first


def _dead_letters(log: Log, job: JobFile) -> Iterator[Check]:
    topic, reasons = job.log.topic("dead-letters"), Counter[str]()
    for partition in range(log.num_partitions(topic)):
        offset, end = log.offsets(topic, partition)
        offset = max(offset, end - _READ_RECORDS)
        while offset < end:
            batch = log.read(topic, partition, offset, 4096)
            offset = batch.next_offset
            reasons.update(decode_letter(record.payload).reason for record in batch.records)
    events = sum(
        log.offsets(job.log.topic(purpose), partition)[1]
        for purpose in ("features", "actions")
        for partition in range(log.num_partitions(job.log.topic(purpose)))
    )
    for reason, count in reasons.most_common():
        is_few = count <= max(10, _DEAD_SHARE * events)
        yield Check(f"dead letters: {reason}", count, _ok(is_few), REASONS.get(reason, ""))
    if not reasons:
        yield Check("dead letters", 0, "good")
