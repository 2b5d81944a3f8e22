"""4 shards -> 3 -> 5 -> 1: every row and its state, and keys that wait for admission, against one table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nonet.common.errors import InputError
from nonet.recsys.features.fid import bucket_of, bucket_owners
from nonet.recsys.table import Adam, EmbeddingTable, ExactCount, SlidingSketch, TimeToLive, read_manifest, reshard
from nonet.recsys.table.interfaces import Admission

RNG = np.random.default_rng(11)
KEYS = np.concatenate([[0, -1, 2**63 - 1, -(2**63)], RNG.integers(-(2**63), 2**63 - 1, 2_000)])


def make(admission: Admission | None = None) -> EmbeddingTable:
    return EmbeddingTable(3, optimizer=Adam(), admission=admission, expiry=TimeToLive(100), seed=3, name="t")


def train(shards: list[EmbeddingTable], first: int, last: int) -> None:
    owners = bucket_owners(len(shards))
    for step in range(first, last):
        rng = np.random.default_rng(step)
        ids = rng.choice(KEYS, 600)
        gradients = rng.normal(size=(600, 3)).astype(np.float32)
        for number, shard in enumerate(shards):
            mine = owners[bucket_of(ids)] == number
            shard.apply_gradients(ids[mine], gradients[mine], now_s=1_000 + step)


def joined(shards: list[EmbeddingTable]) -> list[np.ndarray]:
    columns = [np.concatenate(parts) for parts in zip(*(shard.export() for shard in shards), strict=True)]
    order = np.argsort(columns[0])
    return [column[order] for column in columns]


def snapshot_all(shards: list[EmbeddingTable], folder: Path) -> list[Path]:
    folder.mkdir()
    for number, shard in enumerate(shards):
        shard.snapshot(folder / f"{number}", offsets={"log": 12})
    return [folder / f"{number}" for number in range(len(shards))]


@pytest.mark.parametrize("admission", [None, ExactCount, SlidingSketch])
def test_4_to_3_to_5_to_1_while_training_goes_on(admission: type | None, tmp_path: Path) -> None:
    def filtered() -> Admission | None:
        return admission(3) if admission else None

    alone = make(filtered())
    shards = [make(filtered()) for _ in range(4)]
    step = 0
    for number, size in enumerate((3, 5, 1)):
        train([alone], step, step + 3)
        train(shards, step, step + 3)
        step += 3
        paths = reshard(snapshot_all(shards, tmp_path / f"in{number}"), size, tmp_path / f"out{number}")
        shards = [EmbeddingTable.restore(path) for path in paths]
        assert len(shards) == size
        for shard_number, shard in enumerate(shards):
            shard.check_integrity()
            assert (bucket_owners(size)[bucket_of(shard.keys())] == shard_number).all()
        for ours, want in zip(joined(shards), alone.export(), strict=True):
            assert ours.tobytes() == np.ascontiguousarray(want).tobytes()
        assert read_manifest(paths[0])["offsets"] == {"log": 12}
    assert 0 < len(alone) < len(KEYS)


def test_shards_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    a = make()
    train([a], 0, 1)
    a.snapshot(tmp_path / "a")
    with pytest.raises(InputError, match="a key lies in two shards"):
        reshard([tmp_path / "a", tmp_path / "a"], 2, tmp_path / "out")
    EmbeddingTable(3, seed=4, name="t", optimizer=Adam(), expiry=TimeToLive(100)).snapshot(tmp_path / "b")
    with pytest.raises(InputError, match="differ in seed"):
        reshard([tmp_path / "a", tmp_path / "b"], 2, tmp_path / "out")
    make().snapshot(tmp_path / "c", offsets={"log": 5})
    with pytest.raises(InputError, match="different log offsets"):
        reshard([tmp_path / "a", tmp_path / "c"], 2, tmp_path / "out")
    with pytest.raises(InputError, match="no shards"):
        reshard([], 2, tmp_path / "out")
    with pytest.raises(InputError, match="number of shards"):
        reshard([tmp_path / "a"], 0, tmp_path / "out")
    assert {entry.name for entry in tmp_path.iterdir()} == {"a", "b", "c"}
    with pytest.raises(InputError, match="it exists"):
        reshard([tmp_path / "a"], 2, tmp_path / "b")
