"""A sharded table against one table that gets the same calls."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from nonet.common.errors import InputError, NonetError
from nonet.recsys.features.fid import bucket_of, bucket_owners
from nonet.recsys.sharding import ShardDownError, ShardedTable, wire
from nonet.recsys.sharding.backends import ProcessShard
from nonet.recsys.sharding.process import answer
from nonet.recsys.syncing import DeltaPublisher, InProcessLink, Replica
from nonet.recsys.syncing.trials import is_equal
from nonet.recsys.table import TimeToLive
from nonet.recsys.table.admission import ExactCount
from nonet.recsys.table.snapshot import Saved, save
from tests.recsys.sharding.driving import assert_equal, drive, make


def test_resharding_keeps_every_row_state_and_touched_key() -> None:
    rng = np.random.default_rng(1)
    table = make()
    with ShardedTable(make(), 4) as sharded:
        replica = Replica({"t": 4})
        publisher = DeltaPublisher({"t": sharded})
        publisher.attach("r", InProcessLink(replica))
        for num_shards in (3, 5):
            drive(sharded, table, rng, 3)
            sharded.reshard(num_shards)
            assert sharded.num_shards == num_shards
            assert (sharded.owners == bucket_owners(num_shards)).all()
            assert_equal(sharded, table)
            sharded.check_integrity()
            publisher.publish()
            assert is_equal(table, replica, "t")
        drive(sharded, table, rng, 2)
        assert_equal(sharded, table)


def test_admission_and_expiry_work_in_the_shards() -> None:
    options = {"admission": ExactCount(2), "expiry": TimeToLive(100)}
    table = make(**options)
    with ShardedTable(make(admission=ExactCount(2), expiry=TimeToLive(100)), 3) as sharded:
        for now_s in (1000, 1000, 1150):
            keys = np.arange(now_s - 990)
            grads = np.ones((len(keys), 4), np.float32)
            done = [one.apply_gradients(keys, grads, now_s=now_s) for one in (sharded, table)]
            assert done[0] == done[1]
        assert len(table) == 10
        sharded.reshard(2)
        assert sharded.apply_gradients([60], np.ones((1, 4)), now_s=1300).created == 1  # counted before it moved


def test_a_shard_that_failed_goes_back_alone_and_replicas_follow(tmp_path: Path) -> None:
    with ShardedTable(make(), 4, "process") as sharded:
        keys = np.arange(400)
        sharded.upsert(keys, np.ones((400, 4)))
        replica = Replica({"t": 4})
        publisher = DeltaPublisher({"t": sharded})
        publisher.attach("r", InProcessLink(replica))
        publisher.publish()
        paths = sharded.snapshot(tmp_path / "s", {"examples": 7})
        sharded.upsert(keys, np.full((400, 4), 2.0))
        sharded.upsert([1000, 1001, 1002, 1003, 1004, 1005], np.ones((6, 4)))
        publisher.publish()
        handle = sharded._shards.handles[2]
        assert isinstance(handle, ProcessShard)
        os.kill(handle.pid, signal.SIGKILL)
        with pytest.raises(ShardDownError, match="restore it"):
            sharded.lookup(keys)
        with pytest.raises(ShardDownError):
            sharded.apply_gradients(keys, np.ones((400, 4)))
        sharded.replace(2, paths[2])
        owner = sharded.owners[bucket_of(keys)]
        rows = sharded.lookup(keys)
        assert (rows[owner == 2] == 1).all()
        untouched = sharded._shards.handles[0].begin("describe")()
        assert untouched["step"] == 1  # that step reached the others: what replay undoes
        assert (rows[owner != 2] != 1).all()
        publisher.resend("t", sharded.owners == 2)
        publisher.publish()
        assert (replica.lookup(keys, "t") == rows).all()
        assert (replica.table("t").keys() == sharded.keys()).all()
        assert sharded.restore(tmp_path / "s") == {"examples": 7}
        assert (sharded.lookup(keys) == 1).all()
        publisher.publish()
        assert (replica.lookup(keys, "t") == 1).all()
        assert (replica.table("t").keys() == keys).all()


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'thread'"):
        ShardedTable(make(), 2, "thraed")


def test_a_shard_answers_with_what_went_wrong(tmp_path: Path) -> None:
    from nonet.recsys.sharding import Shard

    save(Saved.of(make(), {}), tmp_path / "s")
    shard = Shard(str(tmp_path / "s"))
    assert "TypeError" in answer(shard, {"op": "lookup", "args": []})["failed"]
    assert "no operation" in answer(shard, {"op": "table", "args": []})["refused"]


def test_the_wire_carries_numbers_and_refuses_objects() -> None:
    value = {"a": [np.arange(6).reshape(2, 3), None, "ü"], "b": {"c": np.array(2.5)}, "d": b"\x00", "e": np.int64(4)}
    back = wire.decode(wire.encode(value))
    assert back["a"][0].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert back["a"][1:] == [None, "ü"]
    assert back["b"]["c"].shape == ()
    assert (back["d"], back["e"]) == (b"\x00", 4)
    with pytest.raises(InputError, match="object"):
        wire.encode(np.array([object()]))
    for junk in (b"", b"\xff" * 10, wire.encode(np.arange(9))[:-3]):
        with pytest.raises((InputError, NonetError)):
            wire.decode(junk)
