"""Every arm learns from the whole log; an event reaches a prediction."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nonet.recsys.example import Example, encode
from nonet.recsys.logs import Record, SegmentLog
from nonet.recsys.serving import ArmFeed, feed_arms
from nonet.recsys.serving.trials import freshness_trial, recall_trial
from nonet.recsys.training.presets import preset_table
from nonet.recsys.training.trainer import Trainer


def make() -> Trainer:
    return Trainer("fm", preset_table("fm", 4, name="ids"), features=("user", "item"), seed=1)


def write(log: SegmentLog, first: int, last: int) -> None:
    rng = np.random.default_rng(first)
    for n in range(first, last):
        ids = {"user": [n % 7], "item": [100 + n % 5]}
        row = Example(request_id=b"r%d" % n, item_id=b"i", ts_ms=1000 + n, ids=ids, label=float(rng.random() < 0.5))
        log.publish("examples", [Record(row.request_id, encode(row), row.ts_ms)])


def state(trainer: Trainer) -> list[bytes]:
    return [column.tobytes() for column in trainer.distinct_tables[0].export()]


def test_an_arm_that_comes_later_learns_what_the_others_have(tmp_path: Path) -> None:
    with SegmentLog(tmp_path / "log") as log:
        log.create("examples", 2)
        write(log, 0, 300)
        trainers = {"a": make()}
        feed_arms(log, trainers)
        trainers["b"] = make()
        write(log, 300, 400)
        once = state(trainers["a"])
        feed_arms(log, trainers)
        assert state(trainers["a"]) != once
        assert len(trainers["b"].distinct_tables[0]) == 12
        feed = ArmFeed(log, "a", trainers["a"])  # a restart goes on where it was
        assert feed.step() == 0
        late = make()
        ArmFeed(log, "c", late).run()
        assert state(late) == state(trainers["b"])  # the same log gives the same model
        assert log.committed("arm-c", "examples") == log.committed("arm-a", "examples")


def test_an_event_changes_its_prediction_soon_after_the_next_sync() -> None:
    trial = freshness_trial(interval_s=0.2, probes=3)
    assert trial.probes == 3
    assert 0.05 < trial.p50_s <= 2.0
    assert trial.staleness_s < 10


def test_retrieval_finds_what_brute_force_finds() -> None:
    trial = recall_trial(num_items=2500, queries=30, rounds=2)
    assert trial.recall >= 0.95
    assert trial.found_after_change == 1.0
