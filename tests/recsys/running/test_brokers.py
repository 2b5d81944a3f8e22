"""A job whose log is a real broker: it learns, lives on without the broker, and learns every event exactly once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from nonet.recsys.config import JobFile
from nonet.recsys.example import Example, FeatureEvent, decode
from nonet.recsys.logs import Log
from nonet.recsys.running import keeping
from nonet.recsys.running.learning import Learner
from nonet.recsys.running.loop import Loop
from nonet.recsys.running.parts import build_trainer, open_job_log
from nonet.recsys.training.trainer import Trainer
from tests.recsys.logs.brokers import Broker
from tests.recsys.running.conftest import MakeJob, eventually
from tests.recsys.running.test_loop import ITEMS, Client, liked


@pytest.fixture(params=[*(pytest.param(kind, marks=pytest.mark.slow) for kind in ("kafka", "nats")), "redis"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Broker]:
    (tmp_path / "broker").mkdir()
    broker = Broker(request.param, tmp_path / "broker")
    broker.start()
    yield broker
    broker.stop()


def job_on(broker: Broker, make_job: MakeJob) -> JobFile:
    """With a step for each row, so that where a batch ends does not hang on when rows came."""
    kind, _, address = broker.url.partition("://")
    log = {"backend": kind, "address": address.partition("?")[0]}
    if kind == "kafka":
        log["options"] = {"batch.num.messages": 1}
    return make_job(log=log, trainer={"batch_size": 1}, shards={"count": 2, "run": "thread"})


def events(log: Log, topic: str, kind: type) -> Counter:
    """How often each is there; a click that came late makes a second example, of another label."""
    rows = log.read(topic, 0, 0, log.offsets(topic, 0)[1]).records
    found = [decode(row.payload, kind) for row in rows]
    return Counter((event.request_id, event.item_id, getattr(event, "label", None)) for event in found)


def assert_learned_once(job: JobFile) -> None:
    """What a job has kept is what one pass over its log gives, bit for bit."""
    kept = keeping.load(job.snapshot.path, job)[0]
    with open_job_log(job) as log:
        shown, joined = events(log, "features", FeatureEvent), events(log, "examples", Example)
        assert [key for key, times in joined.items() if times > 1] == []
        assert [key for key, times in shown.items() if times > 1] == []
        assert {key[:2] for key in joined} <= {key[:2] for key in shown}
        learner = Learner(log, "examples", build_trainer(job), batch_rows=1)
        while learner.offsets != {0: kept.offsets["examples:0"]}:
            assert learner.step() == 1
    assert bits(kept) == bits(learner.trainer)


def bits(trainer: Trainer) -> list[bytes]:
    columns = [column for table in trainer.distinct_tables for column in table.export()]
    return [array.tobytes() for array in (*columns, *trainer.dense_state().values())]


def served_until_s(client: Client) -> float:
    """Newest event time that answers know of."""
    status = client.http.get("/v1/status").json()
    return float(status["now_s"] - status["staleness_s"])


def test_a_job_lives_through_the_death_of_its_broker(broker: Broker, make_job: MakeJob) -> None:
    job = job_on(broker, make_job)
    with Loop(job, items=ITEMS) as loop, Client(loop) as client:
        liked(client, "i5", rounds=2)
        eventually(lambda: client.best() == "i5")
        if job.log.backend != "kafka":  # this one keeps nothing on a disk
            broker.stop()
            answer = client.recommend()
            assert (len(answer["items"]), answer["logged"]) == (8, False)
            action = {"request_id": answer["request_id"], "item": "i1", "action": "click"}
            assert client.http.post("/v1/actions", json=action).status_code == 503
            status = client.http.get("/v1/status")
            assert (status.status_code, status.json()["lag"]) == (200, None)
            assert client.http.get("/metrics").status_code == 200
            broker.start()
            eventually(lambda: client.recommend()["logged"])
        served_s = served_until_s(client)
        liked(client, "i2", rounds=2)
        eventually(lambda: served_until_s(client) > served_s)
        at = client.http.post("/v1/snapshot").json()["offsets"]["examples:0"]
        liked(client, "i2", rounds=1)
        loop._saves.write = lambda: None  # type: ignore[method-assign] - as `kill -9` before the last snapshot
    with Loop(job) as loop:
        eventually(lambda: loop.learner.rows >= 8)
        assert loop.learner.offsets[0] >= at + 8
    assert_learned_once(job)
