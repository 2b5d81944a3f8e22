"""Every kind of shard through the same cases: one table is the oracle, and a shard that is killed says so."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nonet.common.errors import InputError
from nonet.recsys.sharding import BACKENDS, ShardDownError, ShardedTable
from nonet.recsys.sharding.backends import ProcessShard, RayShard
from nonet.recsys.table import EmbeddingTable
from tests.conftest import needs
from tests.recsys.sharding.driving import assert_equal, drive, make


@pytest.fixture(scope="module")
def one_ray() -> Iterator[None]:
    """Ray, started once, small."""
    try:
        import ray
    except ImportError:
        needs(False, "no Ray: pip install 'nonet[ray]'")
    ray.init(num_cpus=2, object_store_memory=100 << 20, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(params=list(BACKENDS))
def backend(request: pytest.FixtureRequest) -> str:
    if request.param == "ray":
        request.getfixturevalue("one_ray")
    return str(request.param)


def end_as_a_machine_does(table: ShardedTable, number: int) -> None:
    """SIGKILL from outside, where there is a process."""
    handle = table._shards.handles[number]
    if isinstance(handle, ProcessShard):
        os.kill(handle.pid, signal.SIGKILL)
    elif isinstance(handle, RayShard):
        import ray

        os.kill(ray.get(handle._actor.__ray_call__.remote(lambda _: os.getpid())), signal.SIGKILL)
    else:
        table.kill(number)


def test_it_does_what_one_table_does_also_after_a_shard_was_killed(backend: str, tmp_path: Path) -> None:
    table = make()
    with ShardedTable(make(), 2 if backend == "ray" else 3, backend) as sharded:
        draw = np.random.default_rng(0)
        drive(sharded, table, draw, 3)
        assert_equal(sharded, table)
        assert (sharded.keys() == table.keys()).all()
        ours, theirs = sharded.take_touched(), table.take_touched()
        assert set(ours.upserted) == set(theirs.upserted)
        assert set(ours.erased) == set(theirs.erased)
        assert not len(sharded.take_touched().upserted)
        sharded.check_integrity()

        then = [column.tobytes() for column in table.export()]
        paths = sharded.snapshot(tmp_path / "saved", {"examples": 7})
        end_as_a_machine_does(sharded, 1)
        for _ in range(2):
            with pytest.raises(ShardDownError, match="restore it"):
                sharded.lookup(table.keys())
        assert sharded.down() == [1]
        sharded.replace(1, paths[1])
        assert sharded.down() == []
        assert_equal(sharded, table)
        drive(sharded, table, draw, 1)
        assert_equal(sharded, table)
        assert sharded.restore(tmp_path / "saved") == {"examples": 7}
        assert [column.tobytes() for column in sharded.export()] == then


def test_what_a_shard_refuses_is_said(backend: str) -> None:
    with ShardedTable(make(), 2, backend) as sharded:
        with pytest.raises(InputError, match="shape"):
            sharded.apply_gradients([1], np.ones((1, 3)))
        with pytest.raises(InputError, match="flat array"):
            sharded.lookup([[1]])
        with pytest.raises(InputError, match="now_s"):
            sharded.apply_gradients([1], np.ones((1, 4)), now_s=-1)
        with pytest.raises(InputError, match="no operation"):
            sharded._shards.handles[0].begin("__class__")()
        with pytest.raises(InputError, match="no snapshot"):
            sharded.replace(0, "/nowhere")
        assert len(sharded) == 0  # it goes on


def test_a_process_outlives_the_signals_that_its_client_ends_by(tmp_path: Path) -> None:
    EmbeddingTable(2).snapshot(tmp_path / "empty")
    shard = ProcessShard(str(tmp_path / "empty"))
    assert shard.begin("describe")()["keys"] == 0
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(shard.pid, number)
    assert shard.begin("upsert", np.arange(3), np.ones((3, 2), np.float32), 1)() == 3
    shard.stop()


def test_calls_that_wait_for_a_thread_that_is_killed_say_that_it_is_down(tmp_path: Path) -> None:
    EmbeddingTable(2).snapshot(tmp_path / "empty")
    shard = BACKENDS["thread"](str(tmp_path / "empty"))
    begun = [shard.begin("keys") for _ in range(2000)]
    shard.kill()
    down = 0
    for wait in begun:
        try:
            wait()
        except ShardDownError:
            down += 1
    assert down > 0
