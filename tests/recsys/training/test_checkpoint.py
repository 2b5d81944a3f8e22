"""A restored trainer goes on bit for bit, and refuses what is not its own."""

import json

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from nonet.common.errors import InputError, NonetError
from nonet.recsys.table.optimizers import FTRL
from nonet.recsys.training.correction import LogOdds
from nonet.recsys.training.presets import preset_table
from nonet.recsys.training.trainer import Positioned, Trainer
from tests.recsys.training.batches import random_batch


def make(optimizer=torch.optim.Adagrad, name="deepfm", dim=4, apart=False, **options):
    tables = [preset_table(name, dim, bias_optimizer=FTRL(), name=f"t{n}") for n in range(2 if apart else 1)]
    kind = {"a": tables[0], "b": tables[-1]}
    return Trainer(name, kind, num_dense=2, optimizer=lambda w: optimizer(w, lr=0.03), **options)


def batches(start, stop):
    return [Positioned(random_batch(num_dense=2, seed=n), {"p0": n + 1}) for n in range(start, stop)]


def everything(trainer):
    arrays = list(trainer.dense_state().values())
    for table in trainer.distinct_tables:
        arrays += list(table.export())
    return arrays


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("optimizer", [torch.optim.Adagrad, torch.optim.Adam, torch.optim.SGD])
def test_restored_equals_uninterrupted(tmp_path, optimizer, apart):
    whole, first = make(optimizer, apart=apart), make(optimizer, apart=apart)
    whole.train(batches(0, 8))
    first.train(batches(0, 3))
    first.snapshot(tmp_path / "s")
    first.train(batches(3, 5))
    first.snapshot(tmp_path / "s")
    again = make(optimizer, apart=apart, seed=99)
    again.restore(tmp_path / "s")
    assert again.offsets == {"p0": 5} and again.steps == 5
    assert len(again.distinct_tables) == (2 if apart else 1)
    again.train(batches(5, 8))
    for ours, theirs in zip(everything(again), everything(whole), strict=True):
        assert (ours == theirs).all()
    batch = random_batch(num_dense=2, seed=50)
    assert (again.predict(batch) == whole.predict(batch)).all()
    assert len(list((tmp_path / "s").glob("state-*"))) == 1


def test_a_crash_while_writing_leaves_the_snapshot_before(tmp_path, monkeypatch):
    trainer = make()
    trainer.train(batches(0, 2))
    trainer.snapshot(tmp_path)
    kept = everything(trainer)
    trainer.train(batches(2, 4))
    table = trainer.distinct_tables[0]
    monkeypatch.setattr(type(table), "snapshot", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OSError, match="No space"):
        trainer.snapshot(tmp_path)
    monkeypatch.undo()
    again = make()
    again.restore(tmp_path)
    assert all((a == b).all() for a, b in zip(everything(again), kept, strict=True))
    assert len(list(tmp_path.glob("state-*"))) == 1  # nothing half written takes room


@pytest.mark.parametrize("what", ["torch", "numpy"])
def test_a_full_disk_is_said_in_one_line_and_keeps_its_room(tmp_path, monkeypatch, what):
    trainer = make()
    trainer.train(batches(0, 2))
    trainer.snapshot(tmp_path)

    def full(_, path):
        path.write_bytes(b"half")
        raise safetensors.SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(getattr(safetensors, what), "save_file", full)
    with pytest.raises(NonetError, match=r"cannot write a snapshot .*No space left.*make room"):
        trainer.snapshot(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"manifest.json", "state-00000001"}


def test_what_a_crash_left_goes_with_the_next_snapshot(tmp_path):
    trainer = make()
    (tmp_path / "state-00000007").mkdir()
    trainer.snapshot(tmp_path)
    assert [path.name for path in tmp_path.glob("state-*")] == ["state-00000008"]


@pytest.mark.parametrize("field", ["offsets", "steps", "about", "optimizer_scalars"])
def test_damage_of_what_the_manifest_says_is_noticed(tmp_path, field):
    """Another offset would learn rows twice, or never."""
    trainer = make()
    trainer.train(batches(0, 2))
    trainer.snapshot(tmp_path)
    place = tmp_path / "manifest.json"
    manifest = json.loads(place.read_text())
    place.write_text(json.dumps({**manifest, field: {"p0": 1} if field != "steps" else 1}))
    with pytest.raises(InputError, match="damaged: wrong checksum"):
        make().restore(tmp_path)


def test_what_is_not_its_own_is_refused_and_changes_nothing(tmp_path):
    saved = make(correction=LogOdds("training"))
    saved.train(batches(0, 2))
    saved.snapshot(tmp_path)
    cases = [
        (make(), "corrected twice or never"),
        (make(correction=LogOdds("training", rate=0.5)), "corrected twice or never"),
        (make(dim=5, correction=LogOdds("training")), "another shape"),
        (make(name="fm", correction=LogOdds("training")), "another shape"),
        (
            Trainer("deepfm", preset_table("deepfm", 4), features=["b", "a"], num_dense=2),
            r"has the features \['a', 'b'\]",
        ),
    ]
    for trainer, reason in cases:
        before = everything(trainer)
        with pytest.raises(InputError, match=reason):
            trainer.restore(tmp_path)
        assert all(np.array_equal(a, b) for a, b in zip(before, everything(trainer), strict=True))


def test_damage_is_noticed(tmp_path):
    trainer = make()
    trainer.train(batches(0, 2))
    with pytest.raises(InputError, match="holds no snapshot"):
        trainer.restore(tmp_path / "none")
    trainer.snapshot(tmp_path)
    dense = next(tmp_path.glob("state-*/dense.safetensors"))
    good = dense.read_bytes()
    dense.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(InputError, match="damaged"):
        trainer.restore(tmp_path)
    dense.unlink()
    with pytest.raises(InputError, match="cannot be read"):
        trainer.restore(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "version": 99}))
    with pytest.raises(InputError, match="version 99"):
        trainer.restore(tmp_path)
