"""What a job keeps: written, read, copied, cut into shards, exported, damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from nonet.common.errors import InputError
from nonet.recsys.config import JobFile
from nonet.recsys.example import Bags, ExampleBatch
from nonet.recsys.features.fid import bucket_of, bucket_owners, fid_v2
from nonet.recsys.running import keeping
from nonet.recsys.running.parts import build_trainer
from nonet.recsys.table import EmbeddingTable
from nonet.recsys.training import checkpoint
from nonet.recsys.training.trainer import Trainer
from tests.recsys.running.conftest import FEATURES, MakeJob

ITEMS = {"i1": {"item": [5], "genre": [7, 8]}}


def batch(count: int = 200, seed: int = 0) -> ExampleBatch:
    draw = np.random.default_rng(seed)
    ids = {name: Bags.single(fid_v2(slot, draw.integers(0, 40, count))) for slot, name in
           enumerate(("user", "item", "genre"), 1)}  # fmt: skip
    ones = np.ones(count, np.float32)
    label = (draw.random(count) < 0.5).astype(np.float32)
    return ExampleBatch(ids, np.zeros((count, 0), np.float32), label, ones, ones, np.full(count, 5_000, np.int64))


@pytest.fixture
def saved(make_job: MakeJob, tmp_path: Path) -> tuple[JobFile, Trainer, Path]:
    job = make_job()
    trainer = build_trainer(job)
    trainer.step(batch())
    trainer.offsets = {"examples:0": 17}
    keeping.save(tmp_path / "kept", job, trainer, ITEMS, event_ts_ms=5_000)
    return job, trainer, tmp_path / "kept"


def test_a_snapshot_goes_on_bit_for_bit_without_its_job_file(saved: tuple[JobFile, Trainer, Path]) -> None:
    job, trainer, place = saved
    again, items, event_ts_ms = keeping.load(place)
    assert (items, event_ts_ms, dict(again.offsets)) == (ITEMS, 5_000, {"examples:0": 17})
    for one in (trainer, again):
        one.step(batch(seed=1))
    for ours, theirs in zip(trainer.tables["user"].export(), again.tables["user"].export(), strict=True):
        assert np.array_equal(ours, theirs)
    assert np.array_equal(trainer.predict(batch(seed=2)), again.predict(batch(seed=2)))
    assert keeping.job_of(place).features == job.features


@pytest.mark.parametrize(
    "change",
    [
        {"features": {**FEATURES, "defaults": {"dim": 5}}},
        {"features": {**FEATURES, "features": {"user": {"slot": 1}, "item": {"slot": 2}}, "item_attributes": []}},
        {"trainer": {"model": "fm"}},
    ],
)
def test_another_model_is_refused(saved: tuple[JobFile, Trainer, Path], make_job: MakeJob, change: dict) -> None:  # type: ignore[type-arg]
    with pytest.raises(InputError, match="was trained with other features"):
        keeping.load(saved[2], make_job(**change))


def test_times_to_live_of_the_job_count_from_now_on(saved: tuple[JobFile, Trainer, Path], make_job: MakeJob) -> None:
    features = {**FEATURES, "defaults": {**FEATURES["defaults"], "ttl": "1h"}}  # type: ignore[dict-item]
    trainer, _, _ = keeping.load(saved[2], make_job(features=features))
    assert len(trainer.tables["user"].expire(3604)) == 0
    trainer.tables["user"].upsert([1], np.zeros((1, 5), np.float32), now_s=10_000)
    assert len(trainer.tables["user"].expire(10_000)) > 40


def test_a_copy_in_shards_is_the_same_table(saved: tuple[JobFile, Trainer, Path], tmp_path: Path) -> None:
    _, trainer, place = saved
    keeping.copy(place, tmp_path / "three", num_shards=3)
    places = checkpoint.table_places(tmp_path / "three")[0]
    for number, one in enumerate(places):
        keys = EmbeddingTable.restore(one).keys()
        assert (bucket_owners(3)[bucket_of(keys)] == number).all()
    whole, items, _ = keeping.load(tmp_path / "three")
    for ours, theirs in zip(trainer.tables["user"].export(), whole.tables["user"].export(), strict=True):
        assert np.array_equal(ours, theirs)
    assert items == ITEMS
    keeping.copy(tmp_path / "three", tmp_path / "three", num_shards=1)
    about = keeping.describe(tmp_path / "three")
    assert (about["shards"], about["keys"], about["items"]) == (1, {"user": len(whole.tables["user"])}, 1)
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_an_export_has_every_key(saved: tuple[JobFile, Trainer, Path], tmp_path: Path) -> None:
    _, trainer, place = saved
    (written,) = keeping.export(place, tmp_path / "rows", "parquet")
    table = pq.read_table(written)
    assert table.column_names == ["key", "updated_s", "bias", "vector"]
    assert table["key"].to_pylist() == trainer.tables["user"].keys().tolist()
    with pytest.raises(InputError, match="unknown format 'xml'"):
        keeping.export(place, tmp_path / "rows", "xml")


@pytest.mark.parametrize("name", ["dense.safetensors", "items.msgpack", "table-0/rows-00000001.safetensors"])
def test_a_damaged_file_is_named_and_not_copied(
    saved: tuple[JobFile, Trainer, Path], tmp_path: Path, name: str
) -> None:
    place = saved[2] / "state-00000001" / name
    content = bytearray(place.read_bytes())
    content[len(content) // 2] ^= 1
    place.write_bytes(content)
    with pytest.raises(InputError, match=f"{Path(name).name}.*damaged"):
        keeping.copy(saved[2], tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_what_is_no_snapshot_is_neither_copied_nor_overwritten(
    saved: tuple[JobFile, Trainer, Path], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="no snapshot of a trainer"):
        keeping.copy(tmp_path / "nothing", tmp_path / "copy")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="something else than a snapshot"):
        keeping.copy(saved[2], tmp_path / "mine")
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


def test_exact_features_keep_their_ids(make_job: MakeJob, tmp_path: Path) -> None:
    features = {**FEATURES, "features": {**FEATURES["features"], "user": {"slot": 1, "exact": True}}}  # type: ignore[dict-item]
    job = make_job(features=features)

    def ids(job: JobFile, values: list[str]) -> list[int]:
        encoder = job.features.encoders(job.dictionaries)["user"]
        assert encoder.dictionary is not None
        with encoder.dictionary:
            return encoder.ids(values).tolist()

    known = ids(job, ["ann", "bob"]) + ids(job, ["cid"])
    keeping.save(tmp_path / "kept", job, build_trainer(job), {})
    later = ids(job, ["dan"])
    keeping.bring_back_dictionaries(tmp_path / "kept", job)
    assert ids(job, ["dan", "ann", "bob", "cid"]) == later + known  # what came after the snapshot stays

    elsewhere = job.model_copy(update={"dictionaries": tmp_path / "elsewhere" / "dictionaries"})
    keeping.copy(tmp_path / "kept", tmp_path / "copy")
    keeping.bring_back_dictionaries(tmp_path / "copy", elsewhere)
    assert ids(elsewhere, ["cid", "bob", "ann"]) == known[::-1]

    behind = job.model_copy(update={"dictionaries": tmp_path / "behind"})
    assert ids(behind, ["ann"]) == known[:1]
    keeping.bring_back_dictionaries(tmp_path / "kept", behind)
    assert ids(behind, ["new", "cid"])[1] == known[2]

    other = job.model_copy(update={"dictionaries": tmp_path / "other"})
    ids(other, ["bob"])
    with pytest.raises(InputError, match="numbers other values"):
        keeping.bring_back_dictionaries(tmp_path / "kept", other)
    assert ids(other, ["bob"]) == [known[0]]
