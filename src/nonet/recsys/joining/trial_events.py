"""Events and settings for a trial of the joiner: rows and actions of a month, up to a week late and in any order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nonet.recsys.example import ActionEvent, FeatureEvent, encode
from nonet.recsys.joining.labels import Label
from nonet.recsys.joining.settings import Joining
from nonet.recsys.logs import Log, Record, partition_of

DAY_MS = 86_400_000
START_MS = 1_700_000_000_000
SPAN_MS = 30 * DAY_MS
DISORDER_MS = 7 * DAY_MS
WAIT_MS = 3 * DAY_MS
LATE_MS = 4 * DAY_MS

Event = tuple[int, str, Record]
"""When it comes, its topic, and its record."""


def make_events(num_events: int, seed: int) -> list[Event]:
    """Events in the order in which they come.

    Of 100 events some 58 are shown rows; 39 actions, of which one half comes within an hour of its row, the other up to
    eight days later; 1 action is of a row that was never shown, and 2 events come twice. Each event comes up to a week
    after its time, whatever its kind.

    Args:
        num_events: how many.
        seed: of the draws.

    Returns:
        [num_events].
    """
    rng = np.random.default_rng(seed)
    num_orphans, num_twice = num_events // 100, num_events // 50
    num_shown = int(num_events * 0.58)
    num_actions = num_events - num_shown - num_orphans - num_twice
    shown_ms = START_MS + rng.integers(0, SPAN_MS, num_shown)
    draws = rng.integers(0, 1 << 40, (num_shown, 4)).tolist()
    records = [("features", ts_ms, _shown(n, ts_ms, draws[n])) for n, ts_ms in enumerate(shown_ms.tolist())]

    row = rng.integers(0, num_shown, num_actions)
    soon = rng.random(num_actions) < 0.5
    delay_ms = np.where(soon, rng.exponential(1.2e6, num_actions), rng.uniform(0, 8 * DAY_MS, num_actions))
    action_ms = (shown_ms[row] + delay_ms).astype(np.int64)
    kind = np.where(rng.random(num_actions) < 0.8, "click", "like")
    for n, ts_ms, action in zip(row.tolist(), action_ms.tolist(), kind.tolist(), strict=True):
        records.append(("actions", ts_ms, _done(n, ts_ms, action)))
    for n, ts_ms in enumerate((START_MS + rng.integers(0, SPAN_MS, num_orphans)).tolist(), num_shown):
        records.append(("actions", ts_ms, _done(n, ts_ms, "click")))
    records += [records[at] for at in rng.integers(0, len(records), num_twice).tolist()]

    comes_ms = np.array([ts_ms for _, ts_ms, _ in records]) + rng.integers(0, DISORDER_MS, len(records))
    order = np.argsort(comes_ms, kind="stable").tolist()
    return [(int(comes_ms[at]), records[at][0], records[at][2]) for at in order]


def write_events(log: Log, events: Sequence[Event], num_partitions: int = 2) -> None:
    """Put events on a log, by partition in the order in which they come."""
    apart: dict[tuple[str, int], list[Record]] = {}
    for topic in ("features", "actions"):
        log.create(topic, num_partitions)
    for _, topic, record in events:
        apart.setdefault((topic, partition_of(record.key, num_partitions)), []).append(record)
    for (topic, partition), records in apart.items():
        log.append(topic, partition, records)


def trial_joining(num_events: int, cache_rows: int) -> Joining:
    """Settings of a trial."""
    label = Label("click", WAIT_MS, late="correction", late_ms=LATE_MS)
    return Joining(
        (label,), allowed_lateness_ms=DISORDER_MS, cache_rows=cache_rows, checkpoint_events=max(1, num_events // 7)
    )


def _ids(row: int) -> tuple[bytes, bytes]:
    """Ten items a request; some ids are no text."""
    return b"r\xff%d" % (row // 10), b"i%d" % (row % 10)


def _shown(row: int, ts_ms: int, draws: list[int]) -> Record:
    request_id, item_id = _ids(row)
    ids = {"user": [draws[0]], "item": [draws[1]], "history": draws[2 : 2 + row % 3]}
    event = FeatureEvent(request_id=request_id, item_id=item_id, ts_ms=ts_ms, ids=ids, dense=[row % 7 / 7])
    return Record(request_id, encode(event), ts_ms)


def _done(row: int, ts_ms: int, action: str) -> Record:
    request_id, item_id = _ids(row)
    return Record(
        request_id, encode(ActionEvent(request_id=request_id, item_id=item_id, ts_ms=ts_ms, action=action)), ts_ms
    )
