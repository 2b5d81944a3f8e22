"""The joiner on small logs, against rules written down plainly, and under faults."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
import xxhash

from nonet.common.errors import InputError
from nonet.recsys.example import ActionEvent, Example, FeatureEvent, decode, encode
from nonet.recsys.features.encoder import FeatureEncoder
from nonet.recsys.joining import (
    ActionRate,
    ConstantRate,
    DeadLetter,
    FeatureRate,
    Joiner,
    Joining,
    Label,
    SpillError,
    decode_letter,
)
from nonet.recsys.logs import Log, LogUnavailableError, Record, SegmentLog

HOUR = 3_600_000
T0 = 1_700_000_000_000


def shown(request: int | bytes, ts_ms: int = T0, item: bytes = b"i", **fields: Any) -> FeatureEvent:
    name = request if isinstance(request, bytes) else b"r%d" % request
    return FeatureEvent(request_id=name, item_id=item, ts_ms=ts_ms, **fields)


def done(request: int | bytes, ts_ms: int, action: str = "click", item: bytes = b"i") -> ActionEvent:
    name = request if isinstance(request, bytes) else b"r%d" % request
    return ActionEvent(request_id=name, item_id=item, ts_ms=ts_ms, action=action)


@pytest.fixture
def log(tmp_path: Path) -> Any:
    with SegmentLog(tmp_path / "log") as opened:
        for topic in ("features", "actions"):
            opened.create(topic)
        yield opened


def put(log: Log, *events: FeatureEvent | ActionEvent, partition: int = 0) -> None:
    for event in events:
        topic = "features" if isinstance(event, FeatureEvent) else "actions"
        log.append(topic, partition, [Record(event.request_id[:100], encode(event), max(0, min(event.ts_ms, 1 << 60)))])


def examples(log: Log, topic: str = "examples") -> list[Example]:
    return [decode(r.payload, Example) for r in log.read(topic, 0, 0, 1 << 20).records]


def letters(log: Log) -> list[DeadLetter]:
    return [decode_letter(r.payload) for r in log.read("dead-letters", 0, 0, 1 << 20).records]


def finished(log: Log, folder: Path, joining: Joining) -> Joiner:
    """A joiner that has read all and let out all."""
    joiner = Joiner(log, folder / "rows", joining)
    joiner.run(until_end=True)
    joiner.finish()
    joiner.close()
    return joiner


def labels_of(log: Log, topic: str = "examples") -> dict[bytes, tuple[float, bool]]:
    return {e.request_id: (e.label, e.is_correction) for e in examples(log, topic)}


def test_actions_before_and_after_their_row_make_it_positive(log: Log, tmp_path: Path) -> None:
    put(log, done(1, T0 + 5), shown(1), shown(2), done(2, T0 + HOUR), shown(3), done(3, T0 + HOUR + 1), shown(4))
    put(log, done(5, T0), shown(5, T0 + 1000))  # its clock is behind
    joiner = finished(log, tmp_path, Joining((Label("click", HOUR),)))
    assert {name: label for name, (label, _) in labels_of(log).items()} == {
        b"r1": 1, b"r2": 1, b"r3": 0, b"r4": 0, b"r5": 1
    }  # fmt: skip
    assert (joiner.counts.orphans, joiner.counts.positives, joiner.counts.examples) == (1, 3, 5)
    assert [letter.reason for letter in letters(log)] == ["no_feature"]


def test_nothing_goes_out_before_every_partition_has_passed_the_wait(log: Log, tmp_path: Path) -> None:
    joining = Joining((Label("click", HOUR),), allowed_lateness_ms=60_000)
    log.create("actions", 2)
    with Joiner(log, tmp_path / "rows", joining) as joiner:
        put(log, shown(1), shown(2, T0 + 3 * HOUR), done(2, T0 + 3 * HOUR))
        joiner.run(until_end=True)
        assert examples(log) == []  # partition 1 of the actions has said nothing yet
        put(log, done(1, T0 + 10), done(9, T0 + HOUR), partition=1)
        joiner.run(until_end=True)
        assert examples(log) == []
        put(log, done(9, T0 + HOUR + 60_000 + 2 * joining.tick_ms), partition=1)
        joiner.run(until_end=True)
        assert labels_of(log) == {b"r1": (1, False)}


def test_an_idle_partition_does_not_hold_time_back(log: Log, tmp_path: Path) -> None:
    log.create("actions", 3)
    put(log, shown(1), shown(2, T0 + 3 * HOUR), done(2, T0 + 3 * HOUR))
    with Joiner(log, tmp_path / "rows", Joining((Label("click", HOUR),), idle_s=0.2)) as joiner:
        joiner.run(until_end=True)
        assert examples(log) == []
        time.sleep(0.25)
        joiner.run(until_end=True)
        assert labels_of(log) == {b"r1": (0, False)}
        put(log, done(1, T0 + 20), partition=2)  # back again, too late for its row
        joiner.run(until_end=True)
        assert (joiner.counts.late_events, joiner.counts.orphans) == (1, 1)


@pytest.mark.parametrize("late", ["drop", "correction", "fake_negative"])
def test_late_positives(log: Log, tmp_path: Path, late: str) -> None:
    label = Label("click", HOUR, late=late, late_ms=HOUR, correction_weight=2.0)
    put(log, shown(1), shown(2), shown(3), done(1, T0 + 1), done(2, T0 + HOUR + 1), done(3, T0 + 2 * HOUR + 1))
    put(log, done(1, T0 + 2), done(2, T0 + HOUR + 2))
    joiner = finished(log, tmp_path, Joining((label,)))
    found = Counter((e.request_id, e.label, e.weight, e.is_correction) for e in examples(log))
    negatives = Counter({(b"r2", 0.0, 1.0, False): 1, (b"r3", 0.0, 1.0, False): 1})
    late_2 = Counter({(b"r2", 1.0, 2.0, True): 1})
    early_1 = Counter({(b"r1", 1.0, 1.0, False): 1})
    if late == "drop":
        assert found == negatives + early_1
        assert joiner.counts.late_dropped == 1
    elif late == "correction":
        assert found == negatives + early_1 + late_2
    else:
        assert found == negatives + late_2 + Counter({(b"r1", 0.0, 1.0, False): 1, (b"r1", 1.0, 2.0, True): 1})
    assert joiner.counts.orphans == 1


def test_a_correction_comes_after_its_negative_is_out(log: Log, tmp_path: Path) -> None:
    label = Label("click", HOUR, late="correction", late_ms=9 * HOUR)
    with Joiner(log, tmp_path / "rows", Joining((label,))) as joiner:
        put(log, shown(1, dense=[0.5]), shown(2, T0 + 3 * HOUR), done(2, T0 + 3 * HOUR))
        joiner.run(until_end=True)
        assert labels_of(log) == {b"r1": (0, False)}
        put(log, done(1, T0 + 2 * HOUR), done(1, T0 + 2 * HOUR + 1))
        joiner.run(until_end=True)
        assert [(e.label, e.is_correction, e.dense) for e in examples(log)] == [(0, False, [0.5]), (1, True, [0.5])]


def test_each_label_has_its_wait_and_its_topic(log: Log, tmp_path: Path) -> None:
    click, purchase = Label("click", HOUR), Label("purchase", 48 * HOUR, actions=("buy", "order"), topic="bought")
    with Joiner(log, tmp_path / "rows", Joining((click, purchase), cache_rows=2)) as joiner:
        put(log, *(shown(n) for n in range(10)), done(1, T0 + 1), done(2, T0 + 40 * HOUR, "order"))
        put(log, shown(99, T0 + 41 * HOUR))
        joiner.run(until_end=True)
        assert len(examples(log)) == 10
        assert examples(log, "bought") == []
        joiner.finish()
    assert {name for name, (label, _) in labels_of(log).items() if label} == {b"r1"}
    assert {name for name, (label, _) in labels_of(log, "bought").items() if label} == {b"r2"}
    assert len(examples(log, "bought")) == len(examples(log)) == 11


def test_duplicates_orphans_and_strangers_are_counted(log: Log, tmp_path: Path) -> None:
    put(log, shown(1, ids={"a": [1]}), shown(1, ids={"a": [1]}), done(1, T0 + 1), done(1, T0 + 1), done(1, T0 + 2))
    put(log, done(2, T0), done(2, T0), done(3, T0 + 3), done(3, T0 + 3), shown(3), done(1, T0, "scroll"))
    counts = finished(log, tmp_path, Joining((Label("click", HOUR),))).counts
    assert (counts.duplicate_features, counts.duplicate_actions, counts.orphans, counts.unused_actions) == (1, 2, 2, 1)
    assert (counts.features, counts.actions, counts.examples, counts.parked) == (3, 8, 2, 0)


def test_ids_that_only_look_alike_stay_apart(log: Log, tmp_path: Path) -> None:
    put(log, shown(b"ab", item=b"c"), shown(b"a", item=b"bc"), shown(b"", item=b"abc"), shown(b"abc", item=b""))
    put(log, done(b"a", T0 + 1, item=b"bc"))
    finished(log, tmp_path, Joining((Label("click", HOUR),)))
    assert {(e.request_id, e.item_id, e.label) for e in examples(log)} == {
        (b"ab", b"c", 0), (b"a", b"bc", 1), (b"", b"abc", 0), (b"abc", b"", 0)
    }  # fmt: skip


def test_bad_events_become_dead_letters_and_the_stream_goes_on(log: Log, tmp_path: Path) -> None:
    now_ms = int(time.time() * 1000)
    put(log, shown(b"\xff\xfe\x00", T0), shown(b"x" * 5000), shown(3, now_ms + HOUR), shown(4, -5))
    raw = [b"", b"\xc1", b"not a map", msgspec.msgpack.encode({"request_id": b"r", "item_id": b"i"})]
    raw += [msgspec.msgpack.encode({"request_id": "text", "item_id": b"i", "ts_ms": 1})]
    raw += [msgspec.msgpack.encode({"request_id": b"r", "item_id": b"i", "ts_ms": 1, "ids": {"a": [1 << 63]}})]
    raw += [b"\x91" * 5000]
    log.append("features", 0, [Record(b"", payload, 0) for payload in raw])
    put(log, shown(5, ids={"a": list(range(200_000))}), shown(6, ids={"a": [-1, 0, (1 << 63) - 1]}))
    put(log, done(6, T0 + 1), done(b"\xff\xfe\x00", T0 + 1), done(6, now_ms + HOUR))
    joiner = finished(log, tmp_path, Joining((Label("click", HOUR),)))
    found = letters(log)
    expected = {"huge_id": 1, "future_timestamp": 2, "poison": 8, "huge_event": 1}
    assert Counter(letter.reason for letter in found) == expected
    assert joiner.counts.dead_letters == 12
    assert labels_of(log) == {b"\xff\xfe\x00": (1, False), b"r6": (1, False)}
    poison = [letter for letter in found if letter.reason == "poison" and letter.payload in raw]
    assert [letter.payload for letter in poison] == raw
    assert [letter.offset for letter in poison] == list(range(4, 4 + len(raw)))


def test_fields_that_others_have_added_do_no_harm(log: Log, tmp_path: Path) -> None:
    feature = {"request_id": b"r1", "item_id": b"i", "ts_ms": T0, "ids": {"a": [7]}, "label": 1.0, "new": [None]}
    plain = {"ts_ms": T0, "item_id": b"i", "request_id": b"r2", "dense": []}
    log.append("features", 0, [Record(b"", msgspec.msgpack.encode(row), T0) for row in (feature, plain)])
    put(log, done(2, T0 + 1))
    finished(log, tmp_path, Joining((Label("click", HOUR),)))
    assert {(e.request_id, e.label, str(e.ids)) for e in examples(log)} == {(b"r1", 0, "{'a': [7]}"), (b"r2", 1, "{}")}


def test_events_in_json_join_with_those_in_messagepack(log: Log, tmp_path: Path) -> None:
    """Raw values get the ids that the encoder gives; what was added is passed over; rows survive their wait on disk."""
    user = FeatureEncoder("user", 3)
    row = {"request_id": "r1", "item_id": "i", "ts_ms": T0, "values": {"user": ["u1", 5], "added": {}}, "new": 1}
    ready = {"request_id": "r2", "item_id": "i", "ts_ms": T0, "ids": {"user": [9]}, "dense": [0.5]}
    acted = {"request_id": "r2", "item_id": "i", "ts_ms": T0 + 5, "action": "click"}
    rows: list[Any] = [row, ready, {"request_id": 3}, {**row, "values": {"user": {"a": 1}}}]
    log.append("features", 0, [Record(b"", json.dumps(one).encode(), T0) for one in rows])
    log.append("actions", 0, [Record(b"", json.dumps(acted).encode(), T0)])
    put(log, *[shown(n, ids={"user": [n]}) for n in range(10, 20)], done(1, T0 + 7))
    joining = Joining((Label("click", HOUR),), cache_rows=1)
    with Joiner(log, tmp_path / "rows", joining, encoders={"user": user}) as joiner:
        joiner.run(until_end=True)
        joiner.finish()
    found = {e.request_id: e for e in examples(log)}
    assert found[b"r1"].ids == {"user": user.ids(["u1", "5"]).tolist()} and found[b"r1"].label == 1
    assert (found[b"r2"].ids, found[b"r2"].dense, found[b"r2"].label) == ({"user": [9]}, [0.5], 1)
    assert len(found) == 12
    assert [json.loads(letter.payload) for letter in letters(log)] == rows[2:]


def test_raw_values_without_encoders_are_dead_letters_that_say_so(log: Log, tmp_path: Path) -> None:
    row = {"request_id": "r1", "item_id": "i", "ts_ms": T0, "values": {"user": "u1"}}
    log.append("features", 0, [Record(b"", json.dumps(row).encode(), T0)])
    finished(log, tmp_path, Joining((Label("click", HOUR),)))
    (letter,) = letters(log)
    assert letter.reason == "poison" and "given no encoders" in letter.detail


def test_rows_that_come_when_their_time_is_forgotten_are_dead_letters(log: Log, tmp_path: Path) -> None:
    joining = Joining((Label("click", HOUR),), allowed_lateness_ms=0)
    with Joiner(log, tmp_path / "rows", joining) as joiner:
        put(log, shown(1), shown(2, T0 + 9 * HOUR), done(2, T0 + 9 * HOUR))
        joiner.run(until_end=True)
        put(log, shown(1), shown(3), shown(4, T0 + 8 * HOUR + 60_000), done(4, T0 + 8 * HOUR + 70_000))
        joiner.run(until_end=True)
        joiner.finish()
    assert [letter.reason for letter in letters(log)] == ["late_feature"] * 2
    assert labels_of(log) == {b"r1": (0, False), b"r2": (1, False), b"r4": (1, False)}
    assert joiner.counts.late_events == 4


def test_parked_actions_and_actions_of_a_row_are_bounded(log: Log, tmp_path: Path) -> None:
    put(log, *(done(n, T0) for n in range(5)), shown(9), *(done(9, T0 + n) for n in range(4)))
    joining = Joining((Label("click", HOUR),), max_parked=3, max_actions=2)
    counts = finished(log, tmp_path, joining).counts
    reasons = Counter(letter.reason for letter in letters(log))
    assert reasons == {"parked_full": 2, "no_feature": 3, "too_many_actions": 2}
    assert counts.parked == 0


def test_sampling_is_by_key_and_written_into_the_example(log: Log, tmp_path: Path) -> None:
    rates = {
        "constant": ConstantRate(0.3),
        "feature": FeatureRate("channel", {1: 0.5}, default=0.1),
        "action": ActionRate({"like": 0.5}, default=0.2),
    }
    made = [Label(name, HOUR, ("click",), sampling=rate, topic=name) for name, rate in rates.items()]
    put(log, *(shown(n, ids={"channel": [n % 2]}) for n in range(2000)), *(done(n, T0 + 1) for n in range(0, 2000, 10)))
    put(log, *(done(n, T0 + 1, "like") for n in range(0, 2000, 3)))
    joiner = finished(log, tmp_path, Joining(tuple(made), seed=5, cache_rows=100))
    for number, label in enumerate(made):
        expected = {}
        for n in range(2000):
            rate = {"constant": 0.3, "feature": 0.5 if n % 2 else 0.1, "action": 0.2 if n % 3 else 0.5}[label.name]
            name = b"r%d" % n
            draw = xxhash.xxh3_64_intdigest(xxhash.xxh3_128_digest(name + b"i", len(name)), 5 * 31 + number)
            if n % 10 == 0:
                expected[name] = (1.0, rate)  # what negatives like it are kept with
            elif draw / 2**64 < rate:
                expected[name] = (0.0, rate)
        assert {e.request_id: (e.label, e.sample_rate) for e in examples(log, label.topic)} == expected
    assert joiner.counts.sampled_out == 6000 - joiner.counts.examples


def oracle(events: list[FeatureEvent | ActionEvent], wait_ms: int, late_ms: int) -> Counter:
    """Examples by the rules, with dictionaries."""
    rows = {e.request_id: e for e in events if isinstance(e, FeatureEvent)}
    found = Counter()
    for name, row in rows.items():
        after = [e.ts_ms - row.ts_ms for e in events if isinstance(e, ActionEvent) and e.request_id == name]
        in_time = any(delay <= wait_ms for delay in after)
        found[name, float(in_time), False] += 1
        if not in_time and any(delay <= wait_ms + late_ms for delay in after):
            found[name, 1.0, True] += 1
    return found


@pytest.mark.parametrize("seed", range(6))
def test_any_order_any_cache_any_crash_gives_the_same_examples(log: Log, tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    events: list[FeatureEvent | ActionEvent] = [shown(n, T0 + draw.randrange(50 * HOUR)) for n in range(300)]
    times = {e.request_id: e.ts_ms for e in events}
    for _ in range(300):
        n = draw.randrange(330)
        events.append(done(n, times.get(b"r%d" % n, T0) + draw.randrange(-60_000, 12 * HOUR)))
    events += draw.choices(events, k=30)
    events.sort(key=lambda e: e.ts_ms + draw.randrange(5 * HOUR))
    log.create("actions", 2)
    for event in events:
        put(log, event, partition=draw.randrange(2) if isinstance(event, ActionEvent) else 0)
    label = Label("click", 4 * HOUR, late="correction", late_ms=draw.choice([0, 4 * HOUR]))
    joining = Joining(
        (label,),
        allowed_lateness_ms=5 * HOUR,
        cache_rows=draw.choice([1, 7, 40, 1000]),
        checkpoint_events=50,
        fsync=False,
    )
    while True:
        joiner = Joiner(log, tmp_path / "rows", joining)
        for _ in range(draw.randrange(1, 60)):
            num = joiner.step()
        if num == 0:
            break
        joiner.close()  # as a crash would: what came after the last checkpoint is lost
    joiner.finish()
    assert joiner.num_waiting == 0
    joiner.close()
    found = Counter((e.request_id, e.label, e.is_correction) for e in examples(log))
    assert found == oracle(events, label.wait_ms, label.late_ms)
    assert joiner.counts.features + joiner.counts.actions == len(events)
    assert joiner.counts.late_events == 0


class FailingLog(SegmentLog):
    """A log whose broker is gone at times."""

    gone = 0

    def append(self, *args: Any, **more: Any) -> int:
        FailingLog.gone -= 1
        if FailingLog.gone >= 0:
            raise LogUnavailableError("gone")
        return super().append(*args, **more)


def test_a_broker_that_is_gone_when_examples_go_out(tmp_path: Path) -> None:
    joining = Joining((Label("click", HOUR),), checkpoint_events=10)
    with FailingLog(tmp_path / "log") as log:
        log.create("features")
        put(log, *(shown(n) for n in range(30)))
        FailingLog.gone = 3
        joiner = Joiner(log, tmp_path / "rows", joining)
        joiner.run(until_end=True)
        FailingLog.gone = 1
        with pytest.raises(LogUnavailableError):
            joiner.finish()
        joiner.close()
        FailingLog.gone = 1
        with pytest.raises(LogUnavailableError):
            Joiner(log, tmp_path / "rows", joining)
        finished(log, tmp_path, joining)
        assert sorted(e.request_id for e in examples(log)) == sorted(b"r%d" % n for n in range(30))


def test_a_full_store_is_said_and_nothing_is_lost(log: Log, tmp_path: Path) -> None:
    events = [shown(n, T0 + n, dense=[float(n)] * 200) for n in range(3000)]
    put(log, *events)
    small = Joining((Label("click", HOUR),), cache_rows=100, max_spill_bytes=2 << 20, checkpoint_events=300)
    joiner = Joiner(log, tmp_path / "rows", small)
    with pytest.raises(SpillError, match="free room or raise max_spill_bytes"):
        joiner.run(until_end=True)
    with pytest.raises(SpillError):
        joiner.step()
    joiner.close()
    assert 0 < sum(joiner.offsets.values()) < 3000
    large = Joining((Label("click", HOUR),), cache_rows=100, max_spill_bytes=1 << 28)
    finished(log, tmp_path, large)
    assert sorted(e.dense[0] for e in examples(log)) == list(range(3000))


_FULL = """
import resource, signal, sys
from nonet.recsys.joining import Joiner, Joining, Label, SpillError
from nonet.recsys.logs import open_log
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with open_log(f"file:{sys.argv[1]}/log") as log:
    joining = Joining((Label("click", 3600000),), cache_rows=100, checkpoint_events=300)
    joiner = Joiner(log, f"{sys.argv[1]}/rows", joining)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, resource.RLIM_INFINITY))
    try:
        joiner.run(until_end=True)
    except SpillError as error:
        print("full" if "nothing is lost" in str(error) else error)
    joiner.close()
"""


def test_a_full_disk_is_said_and_nothing_is_lost(log: Log, tmp_path: Path) -> None:
    put(log, *(shown(n, T0 + n, dense=[float(n)] * 200) for n in range(1500)))
    process = subprocess.run([sys.executable, "-c", _FULL, str(tmp_path)], capture_output=True, text=True, check=False)
    assert process.stdout == "full\n", process.stderr
    joiner = finished(log, tmp_path, Joining((Label("click", HOUR),), cache_rows=100, checkpoint_events=300))
    assert sorted(e.dense[0] for e in examples(log)) == list(range(1500))
    assert joiner.counts.features == 1500


def test_new_partitions_are_read_and_lost_ones_refused(log: Log, tmp_path: Path) -> None:
    put(log, shown(1))
    joining = Joining((Label("click", HOUR),))
    with Joiner(log, tmp_path / "rows", joining) as joiner:
        joiner.run(until_end=True)
        log.create("actions", 2)
        put(log, done(1, T0 + 1), partition=1)
        time.sleep(1.1)
        joiner.run(until_end=True)
        joiner.finish()
        assert labels_of(log) == {b"r1": (1, False)}
        assert log.committed("joiner", "actions") == {0: 0, 1: 1}
    with SegmentLog(tmp_path / "other") as other, pytest.raises(InputError, match="partition 1 was read"):
        Joiner(other, tmp_path / "rows", joining)


def test_it_runs_until_it_is_stopped_and_wakes_for_events(log: Log, tmp_path: Path) -> None:
    stop = threading.Event()
    label = Label("click", 0, late="fake_negative", late_ms=HOUR)
    joiner = Joiner(log, tmp_path / "rows", Joining((label,), checkpoint_s=0.05))
    thread = threading.Thread(target=joiner.run, kwargs={"stop": stop})
    thread.start()
    time.sleep(0.2)
    put(log, shown(1))
    assert log.wait({("examples", 0): 0}, 5)
    put(log, done(1, T0 + 5))
    assert log.wait({("examples", 0): 1}, 5)
    stop.set()
    thread.join(5)
    assert not thread.is_alive()
    joiner.close()
    assert [(e.label, e.is_correction) for e in examples(log)] == [(0, False), (1, True)]


def test_the_folder_is_of_one_joiner_and_of_one_kind(log: Log, tmp_path: Path) -> None:
    with Joiner(log, tmp_path / "rows"), pytest.raises(InputError, match="another joiner"):
        Joiner(log, tmp_path / "rows")
    finished(log, tmp_path, Joining())
    with pytest.raises(InputError, match="other labels"):
        Joiner(log, tmp_path / "rows", Joining((Label("click", 1),)))


def test_the_clock_on_the_wall_may_go_back(log: Log, tmp_path: Path) -> None:
    now_s = [T0 / 1000 + 10]
    with Joiner(
        log, tmp_path / "rows", Joining((Label("click", HOUR),), max_ahead_ms=0), clock=lambda: now_s[0]
    ) as joiner:
        put(log, shown(1))
        joiner.run(until_end=True)
        now_s[0] -= 1000
        put(log, shown(2, T0 + 9_000), done(1, T0 + 9_000), shown(3, T0 + 11_000))
        joiner.run(until_end=True)
        joiner.finish()
    assert labels_of(log) == {b"r1": (1, False), b"r2": (0, False)}
    assert [letter.reason for letter in letters(log)] == ["future_timestamp"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Joining(()),
        lambda: Joining((Label("a"), Label("b"))),
        lambda: Joining(cache_rows=0),
        lambda: Joining(allowed_lateness_ms=-1),
        lambda: Label("a", -1),
        lambda: Label("a", late="never"),
        lambda: Label("a", correction_weight=0),
        lambda: Label("a", topic="a/b"),
        lambda: ConstantRate(1.5),
        lambda: FeatureRate("a", {1: -0.1}),
        lambda: decode_letter(b"\xc1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make: Any) -> None:
    with pytest.raises(InputError):
        make()
