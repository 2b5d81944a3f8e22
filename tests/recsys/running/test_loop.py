"""The whole job in this process: what goes in over HTTP changes what comes out, also across failures."""

from __future__ import annotations

import errno
import json
import os
import time
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from nonet.common.errors import InputError
from nonet.recsys.config import JobFile
from nonet.recsys.example import ActionEvent, FeatureEvent, encode
from nonet.recsys.features.encoder import FeatureEncoder
from nonet.recsys.logs import Record
from nonet.recsys.running import keeping
from nonet.recsys.running.control import RUNNING, ask_running, refuse_running, running_at, say_running
from nonet.recsys.running.loop import Loop
from nonet.recsys.training import checkpoint
from tests.recsys.running.conftest import FEATURES, MakeJob, eventually

ITEMS = {f"i{n}": {"genre": [f"g{n % 3}"]} for n in range(8)}


class Client:
    """Somebody in front of the shop."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.http = httpx2.Client(base_url=loop.address, timeout=30)
        self.number = 0

    def recommend(self, user: str = "u1", count: int = 8) -> dict[str, Any]:
        self.number += 1
        body = {"user": user, "k": count, "request_id": f"{user}-{time.time_ns()}-{self.number}"}
        answer = self.http.post("/v1/recommend", json=body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def best(self, user: str = "u1") -> str:
        """Without showing it: what is shown and not clicked counts against it."""
        answer = self.http.post("/v1/rank", json={"user": user, "items": list(ITEMS)}).json()
        return str(answer["items"][0]["id"])

    def click(self, shown: dict[str, Any], item: str) -> None:
        body = {"request_id": shown["request_id"], "item": item, "action": "click"}
        assert self.http.post("/v1/actions", json=body).status_code == 202

    def learned(self, rows: int) -> dict[str, Any]:
        """The status once so many rows are learned and synced."""
        eventually(lambda: self.loop.learner.rows >= rows or self.loop.wait(0))
        assert not self.loop.wait(0), self.loop.stop()
        return dict(self.http.get("/v1/status").json())

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()


@pytest.fixture
def job(make_job: MakeJob) -> JobFile:
    return make_job()


def liked(client: Client, item: str, rounds: int = 8) -> None:
    """Recommend and click the same item, some rounds long; until it is learned."""
    before = client.loop.learner.rows
    for _ in range(rounds):
        client.click(client.recommend(), item)
    client.learned(before + 8 * rounds)


def test_an_action_changes_what_is_recommended_and_the_staleness_falls(job: JobFile) -> None:
    with Loop(job, items=ITEMS) as loop, Client(loop) as client:
        first = client.recommend()
        assert (first["source"], first["staleness_s"], len(first["items"])) == ("default", None, 8)
        liked(client, "i5")
        eventually(lambda: client.best() == "i5")
        assert client.recommend()["items"][0]["id"] == "i5"
        time.sleep(0.5)
        stale = client.http.get("/v1/status").json()["staleness_s"]
        liked(client, "i5", rounds=1)
        eventually(lambda: client.http.get("/v1/status").json()["staleness_s"] < stale)
        counts = loop.joiner.counts
        eventually(lambda: counts.positives + counts.corrections == 9)
        status = client.http.get("/v1/status").json()
        assert status["joined"]["orphans"] == status["poison"] == 0
        text = client.http.get("/metrics").text
        assert 'nonet_recsys_joined_total{kind="orphans"} 0.0' in text
        assert 'nonet_recsys_lag_records{reader="trainer"}' in text
        scores = {one["id"]: one["score"] for one in client.recommend()["items"]}
        assert scores["i5"] == max(scores.values())


def test_a_restart_goes_on_from_the_snapshot_and_replays_the_rest(job: JobFile) -> None:
    with Loop(job, items=ITEMS) as loop, Client(loop) as client:
        liked(client, "i3")
        at = client.http.post("/v1/snapshot").json()["offsets"]["examples:0"]
        assert at >= 64
        liked(client, "i3", rounds=2)
        expected = set(loop.trainer.tables["item"].keys())
        loop._saves.write = lambda: None  # type: ignore[method-assign] - as `kill -9` before the last snapshot
    end = loop.learner.offsets[0]
    assert end >= at + 16
    trainer, items, _ = keeping.load(job.snapshot.path, job)
    assert dict(trainer.offsets) == {"examples:0": at}
    assert set(items) == set(ITEMS)
    with Loop(job) as loop, Client(loop) as client:
        assert len(loop.catalogue) == 8
        eventually(lambda: loop.learner.offsets[0] >= end)
        assert loop.learner.rows >= end - at
        assert set(loop.trainer.tables["item"].keys()) == expected
        eventually(lambda: client.best() == "i3")


def test_two_processes_do_not_run_one_job(job: JobFile) -> None:
    with Loop(job, items=ITEMS) as loop:
        running = running_at(job.snapshot.path)
        assert running is not None
        assert ask_running(running, "GET", "/v1/status")["items"] == 8
        assert running["address"] == loop.address
        with pytest.raises(InputError, match="another"):
            Loop(job)
        with pytest.raises(InputError, match=f"runs as process {os.getpid()}; stop it first"):
            refuse_running(job.snapshot.path)
    assert running_at(job.snapshot.path) is None
    refuse_running(job.snapshot.path)


def test_a_process_with_the_number_of_one_that_was_killed_is_not_the_job(tmp_path: Path) -> None:
    """In a container every job is process 1, and so is the `restore` after it."""
    held = say_running(tmp_path, "http://127.0.0.1:1")
    assert (running_at(tmp_path) or {})["pid"] == os.getpid()
    held.close()  # as `kill -9`: the file stays
    assert (tmp_path / RUNNING).exists() and running_at(tmp_path) is None


def publish(loop: Loop, count: int, ids: dict[str, list[int]], item: str, first_ms: int, step_ms: int) -> None:
    features, actions = [], []
    for n in range(count):
        key, ts_ms = f"{item}-{n}".encode(), first_ms + n * step_ms
        event = FeatureEvent(request_id=key, item_id=item.encode(), ts_ms=ts_ms, ids=ids)
        features.append(Record(key, encode(event), ts_ms))
        done = ActionEvent(request_id=key, item_id=item.encode(), ts_ms=ts_ms + 1)
        actions.append(Record(key, encode(done), ts_ms + 1))
    loop.log.publish("features", features)
    loop.log.publish("actions", actions)


def test_items_of_feature_events_on_the_log_are_recommended(job: JobFile) -> None:
    with Loop(job) as loop, Client(loop) as client:
        assert client.recommend()["items"] == []
        names = {
            name: FeatureEncoder(name, slot).ids([value]).tolist()
            for slot, (name, value) in enumerate({"user": "u1", "item": "novel", "genre": "g"}.items(), 1)
        }
        publish(loop, 20, names, "novel", int(time.time() * 1000) - 20, 1)
        eventually(lambda: [one["id"] for one in client.recommend()["items"]] == ["novel"])
        assert loop.catalogue.ids_of("novel") == {"item": names["item"], "genre": names["genre"]}


def test_ids_expire_in_event_time_and_leave_the_server(make_job: MakeJob) -> None:
    features = {**FEATURES, "features": {**FEATURES["features"], "user": {"slot": 1, "ttl": 60}}}  # type: ignore[dict-item]
    job = make_job(features=features, expire_interval=30.0, joiner={"heartbeat": None})
    with Loop(job) as loop:
        now_ms = int(time.time() * 1000) - 400_000
        ids = {name: FeatureEncoder(name, slot).ids(["old"]).tolist() for slot, name in ((1, "user"), (2, "item"))}
        publish(loop, 3, ids, "i", now_ms, 1)
        fresh = {**ids, "user": FeatureEncoder("user", 1).ids(["new"]).tolist()}
        publish(loop, 3, fresh, "i2", now_ms + 300_000, 1)  # lets time pass for the first
        eventually(lambda: loop.learner.rows == 3)
        publish(loop, 3, fresh, "i3", now_ms + 320_000, 1)
        replica = loop.replica.table("user")
        eventually(lambda: loop.expired == 1)
        eventually(lambda: not replica.contains(np.array(ids["user"]))[0])
        assert replica.contains(np.array(ids["item"]))[0]


@pytest.mark.parametrize("recovery", ["replay", "snapshot"])
def test_a_shard_that_dies_is_replaced(make_job: MakeJob, recovery: str) -> None:
    job = make_job(shards={"count": 3, "run": "thread", "recovery": recovery})
    with Loop(job, items=ITEMS) as loop, Client(loop) as client:
        liked(client, "i2")
        before = loop.tables["user"].export()
        loop.tables["user"].kill(1)
        eventually(lambda: loop.recoveries == 1 and not loop.tables["user"].down())
        liked(client, "i2", rounds=2)
        after = loop.tables["user"].export()
        if recovery == "replay":
            assert set(before.keys) <= set(after.keys)
        eventually(lambda: np.array_equal(loop.replica.table("user").keys(), loop.tables["user"].keys()))
        keys = loop.tables["user"].keys()
        eventually(lambda: np.array_equal(loop.replica.lookup(keys), loop.tables["user"].lookup(keys)))
        loop.tables["user"].check_integrity()


def test_what_fails_in_a_thread_ends_the_job(job: JobFile) -> None:
    loop = Loop(job, items=ITEMS).start()

    def broken() -> int:
        raise InputError("the disk is gone")

    loop.learner.step = broken  # type: ignore[method-assign]
    assert loop.wait(30)
    with pytest.raises(InputError, match="the disk is gone"):
        loop.stop()


@pytest.mark.parametrize("stage", ["training", "serving"])
def test_the_answers_are_corrected_for_sampling_where_the_job_says(make_job: MakeJob, stage: str) -> None:
    loop = Loop(make_job(joiner={"negative_rate": 0.25}, trainer={"correct_in": stage}))
    batch = loop.catalogue.features.batch({}, [{}], [], 0)
    plain = loop.trainer.predict(batch)[0]  # the rate of this row is 1
    odds = plain / (1 - plain) * (0.25 if stage == "serving" else 1.0)
    assert loop.arm.rank(batch)[0] == pytest.approx(odds / (1 + odds), rel=1e-5)
    loop.start().stop()


def test_an_item_in_json_on_the_log_can_be_recommended(job: JobFile) -> None:
    now_ms = int(time.time() * 1000)
    event = {"request_id": "r1", "item_id": "i99", "ts_ms": now_ms, "values": {"user": "u1"}}
    with Loop(job, items=ITEMS) as loop:
        loop.log.append("features", 0, [Record(b"r1", json.dumps(event).encode(), now_ms)])
        eventually(lambda: "i99" in loop.catalogue)


def test_a_job_outlives_a_disk_that_is_full_for_a_while(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job(snapshot={"interval": "0.2s"})
    is_full = False
    write = checkpoint.atomic_write

    def refuse_when_full(*given: Any) -> Any:
        if is_full:
            raise OSError(errno.ENOSPC, "no space left on device")
        return write(*given)

    monkeypatch.setattr(checkpoint, "atomic_write", refuse_when_full)
    with Loop(job, items=ITEMS) as loop, Client(loop) as client:
        liked(client, "i5", rounds=2)
        is_full = True
        eventually(lambda: loop.status()["snapshot"]["failures"] >= 2)
        liked(client, "i5", rounds=2)
        status = client.http.get("/v1/status").json()["snapshot"]
        assert "no space left" in status["failure"] and status["age_s"] > 0
        assert "nonet_recsys_snapshot_failures_total" in client.http.get("/metrics").text
        asked = client.http.post("/v1/snapshot")
        assert asked.status_code == 503 and "no space left" in asked.text
        assert "the one before stays, and it is tried again" in capsys.readouterr().err
        kept, _, _ = keeping.load(job.snapshot.path, job)
        assert kept.offsets.get("examples:0", 0) < loop.trainer.offsets["examples:0"]
        is_full = False
        eventually(lambda: loop.status()["snapshot"]["failure"] is None)
        assert client.http.post("/v1/snapshot").status_code == 200
    kept, _, _ = keeping.load(job.snapshot.path, job)
    assert kept.offsets == loop.trainer.offsets
