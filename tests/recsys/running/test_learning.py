"""Examples from a log into a trainer, against the steps done by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from nonet.recsys.example import Example, ExampleBatch, encode
from nonet.recsys.features.fid import bucket_of, fid_v2
from nonet.recsys.joining import fake_negative_weights
from nonet.recsys.logs import Keeping, Record, SegmentLog
from nonet.recsys.running.learning import Learner, named_items
from nonet.recsys.sharding import ShardDownError, ShardedTable
from nonet.recsys.training.presets import preset_table
from nonet.recsys.training.trainer import Trainer

FEATURES = ("user", "item")


def examples(count: int, seed: int = 0) -> list[Example]:
    draw = np.random.default_rng(seed)
    return [
        Example(
            request_id=str(n).encode(),
            item_id=f"i{n % 7}".encode(),
            ts_ms=1_000_000 + n * 1000,
            ids={"user": [int(fid_v2(1, [draw.integers(9)])[0])], "item": [int(fid_v2(2, [n % 7])[0])]},
            label=float(draw.random() < 0.4),
        )
        for n in range(count)
    ]


def fresh_trainer() -> Trainer:
    return Trainer("fm", preset_table("fm", 4, name="ids"), features=FEATURES)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SegmentLog]:
    with SegmentLog(tmp_path / "log", Keeping(segment_bytes=2000)) as opened:
        opened.create("examples")
        yield opened


def write(log: SegmentLog, rows: list[Example]) -> None:
    log.append("examples", 0, [Record(b"", encode(row), row.ts_ms) for row in rows])


def rows_of(trainer: Trainer) -> NDArray[np.float32]:
    return trainer.distinct_tables[0].export().rows


def test_a_learner_does_the_steps_that_a_trainer_does(log: SegmentLog) -> None:
    rows, byhand, learner = examples(300), fresh_trainer(), Learner(log, "examples", fresh_trainer(), batch_rows=64)
    write(log, rows)
    while learner.step():
        pass
    for start in range(0, 300, 64):
        byhand.step(ExampleBatch.of(rows[start : start + 64], FEATURES))
    assert np.array_equal(rows_of(learner.trainer), rows_of(byhand))
    assert dict(learner.trainer.offsets) == {"examples:0": 300}
    assert (learner.rows, learner.event_ts_ms) == (300, rows[-1].ts_ms)


def test_a_learner_goes_on_where_its_trainer_stands(log: SegmentLog) -> None:
    write(log, examples(100))
    first = Learner(log, "examples", fresh_trainer(), batch_rows=30)
    assert [first.step(), first.step()] == [30, 30]
    second = Learner(log, "examples", first.trainer, batch_rows=100)
    assert [second.step(), second.step(), second.rows] == [40, 0, 40]


def test_fake_negatives_are_weighed_by_what_the_model_says_before_the_step(log: SegmentLog) -> None:
    rows, byhand = examples(64), fresh_trainer()
    write(log, rows)
    learner = Learner(log, "examples", fresh_trainer(), batch_rows=32, fake_negatives=True)
    while learner.step():
        pass
    for start in (0, 32):
        batch = ExampleBatch.of(rows[start : start + 32], FEATURES)
        weights = fake_negative_weights(batch.label, byhand.predict(batch))
        byhand.step(ExampleBatch(batch.ids, batch.dense, batch.label, weights, batch.sample_rate, batch.ts_ms))
    assert np.array_equal(rows_of(learner.trainer), rows_of(byhand))


@pytest.mark.parametrize("dies_at", ["lookup", "apply_gradients"])
def test_a_batch_is_learned_once_by_the_shards_that_are_left(
    log: SegmentLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies_at: str
) -> None:
    write(log, examples(128))
    tables = [ShardedTable(preset_table("fm", 4, name=name), 3) for name in FEATURES]
    sound = {name: preset_table("fm", 4, name=name) for name in FEATURES}
    trainers = [Trainer("fm", dict(zip(FEATURES, tables, strict=True))), Trainer("fm", sound)]  # type: ignore[arg-type]
    dying, whole = [Learner(log, "examples", trainer, batch_rows=64) for trainer in trainers]
    for learner in (dying, whole):
        learner.step()
    paths = tables[0].snapshot(tmp_path / "saved")
    keys = sound["user"].keys()
    owners = tables[0].owners[bucket_of(keys)]
    number = int(owners[0])
    handle = tables[0]._shards.handles[number]
    begin = handle.begin

    def ends(operation: str, *args: object) -> object:
        if operation == dies_at:
            tables[0].kill(number)
        return begin(operation, *args)

    monkeypatch.setattr(handle, "begin", ends)
    with pytest.raises(ShardDownError):
        dying.step()
    tables[0].replace(number, paths[number])
    dying.step()
    whole.step()
    assert (dying.offsets, dying.trainer.steps) == (whole.offsets, whole.trainer.steps) == ({0: 128}, 2)
    same = (tables[0].lookup(keys) == sound["user"].lookup(keys)).all(1)
    assert same[owners != number].all()
    assert same.all() == (dies_at == "lookup")  # the shard that died within the step has not heard of it
    assert np.array_equal(tables[1].export().rows, sound["item"].export().rows)
    for ours, theirs in zip(*(trainer.dense_state().values() for trainer in trainers), strict=True):
        assert np.array_equal(ours, theirs)
    for table in tables:
        table.close()


def test_poison_is_counted_and_passed_over(log: SegmentLog) -> None:
    good = examples(2)
    log.append("examples", 0, [Record(b"", b"\xc1poison", 1)])
    write(log, [good[0]])
    write(log, [Example(request_id=b"r", item_id=b"i", ts_ms=5, dense=[1.0])])  # the job has no numbers
    write(log, [good[1]])
    learner = Learner(log, "examples", fresh_trainer())
    assert learner.step() == 4
    assert (learner.rows, learner.poison, learner.offsets) == (2, 2, {0: 4})


def test_a_learner_stops_before_a_time_and_stands_there(log: SegmentLog) -> None:
    rows = examples(50)
    write(log, rows)
    learner = Learner(log, "examples", fresh_trainer(), batch_rows=20, until_ms=rows[33].ts_ms)
    while learner.step():
        pass
    assert (learner.rows, learner.offsets) == (33, {0: 33})


def test_records_that_were_trimmed_unread_are_counted(log: SegmentLog) -> None:
    write(log, examples(50))
    log.trim("examples", 0, 30)
    first, _ = log.offsets("examples", 0)
    assert first > 0
    learner = Learner(log, "examples", fresh_trainer())
    learner.step()
    assert (learner.trimmed, learner.rows) == (first, 50 - first)


def test_items_that_json_cannot_name_are_left_out() -> None:
    row = examples(1)[0]
    odd = Example(request_id=b"r", item_id=b"\xff", ts_ms=1, ids=row.ids)
    without = Example(request_id=b"r", item_id=b"i", ts_ms=1)
    assert [name for name, _ in named_items([row, odd, without], "item")] == ["i0"]
