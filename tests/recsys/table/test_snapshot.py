"""Snapshots: bit for bit for every optimizer and filter, whole or not at all, refused when damaged."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from nonet.common.errors import InputError
from nonet.recsys.features.fid import fid_v2
from nonet.recsys.table import (
    ADMISSIONS,
    FTRL,
    OPTIMIZERS,
    Adam,
    BelowCount,
    Constant,
    EmbeddingTable,
    ExactCount,
    Fixed8,
    Fp16,
    LeastRecent,
    LowestScore,
    Normal,
    OnlyAbove,
    Optimizer,
    Segment,
    Several,
    SlidingSketch,
    SmallestNorm,
    TimeToLive,
    Uniform,
    read_manifest,
)
from nonet.recsys.table import snapshot as module

EDGES = [0, -1, 2**63 - 1, -(2**63)]


def train(table: EmbeddingTable, first: int, last: int) -> None:
    for step in range(first, last):
        rng = np.random.default_rng(step)
        ids = np.concatenate([EDGES, rng.integers(0, 60 + step, 20)])
        table.apply_gradients(ids, rng.normal(size=(len(ids), table.dim)), now_s=1_000 + step)
        if step % 50 == 49:
            table.expire()


def equal_bits(a: EmbeddingTable, b: EmbeddingTable) -> bool:
    same = all(x.tobytes() == y.tobytes() for x, y in zip(a.export(), b.export(), strict=True))
    return same and (a.step, a.clock_s, a.seed, a.name) == (b.step, b.clock_s, b.seed, b.name)


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_stop_and_restore_equals_no_stop_bit_for_bit(name: str, tmp_path: Path) -> None:
    whole, stopped = (EmbeddingTable(4, optimizer=OPTIMIZERS[name](), seed=7) for _ in range(2))
    train(whole, 0, 1_000)
    train(stopped, 0, 500)
    stopped.snapshot(tmp_path / "s")
    restored = EmbeddingTable.restore(tmp_path / "s")
    assert equal_bits(stopped, restored)
    train(restored, 500, 1_000)
    restored.check_integrity()
    assert equal_bits(whole, restored)


@pytest.mark.parametrize("name", list(ADMISSIONS))
def test_filters_go_on_where_they_were(name: str, tmp_path: Path) -> None:
    def make() -> EmbeddingTable:
        expiry = Several((TimeToLive(60, {3: 9}), OnlyAbove(BelowCount(2, 0.5), 5), LowestScore(150, 0.9, {0: 2.0})))
        return EmbeddingTable(2, admission=ADMISSIONS[name](threshold=4, slot_thresholds={2: 9}), expiry=expiry)

    whole, stopped = make(), make()
    train(whole, 0, 400)
    train(stopped, 0, 123)
    stopped.snapshot(tmp_path / "s")
    restored = EmbeddingTable.restore(tmp_path / "s")
    assert (restored.admission, restored.expiry) == (stopped.admission, stopped.expiry)
    train(restored, 123, 400)
    assert equal_bits(whole, restored)
    assert 0 < len(whole) <= 151


def test_segments_and_options_come_back(tmp_path: Path) -> None:
    segments = (
        Segment(1, FTRL(lr=0.1, l1=0.01), Constant(0.5), "bias", Fp16()),
        Segment(3, Adam(), Normal(0, 0.1), "vector", Fixed8(2.0)),
        Segment(2, Adam(nesterov=True), Uniform(-1, 1), "more"),
    )
    policies = Several((LeastRecent(max_bytes=1 << 20), SmallestNorm(min_norm=0.1)))
    table = EmbeddingTable(segments=segments, expiry=policies, seed=-5, name="clicks")
    train(table, 0, 30)
    table.snapshot(tmp_path / "s", offsets={"examples/0": 17})
    restored = EmbeddingTable.restore(tmp_path / "s")
    assert (restored.segments, restored.expiry) == (segments, policies)
    assert equal_bits(table, restored)
    assert read_manifest(tmp_path / "s")["offsets"] == {"examples/0": 17}


def test_an_empty_table_comes_back(tmp_path: Path) -> None:
    EmbeddingTable(3).snapshot(tmp_path / "s")
    restored = EmbeddingTable.restore(tmp_path / "s")
    assert (len(restored), restored.dim) == (0, 3)


def test_a_restored_table_has_touched_nothing(tmp_path: Path) -> None:
    table = EmbeddingTable(1)
    train(table, 0, 3)
    table.snapshot(tmp_path / "s")
    assert [len(keys) for keys in EmbeddingTable.restore(tmp_path / "s").take_touched()] == [0, 0]
    assert len(table.take_touched().upserted) == len(table)


@dataclass(frozen=True)
class Halving(Optimizer):
    """Not in the registry."""

    def state_dim(self, dim: int) -> int:
        return 0

    def initial_state(self, dim: int) -> np.ndarray:
        return np.zeros(0, np.float32)

    def update(self, weights: np.ndarray, state: np.ndarray, gradients: np.ndarray, step: int) -> None:
        weights *= 0.5


def test_an_optimizer_of_your_own_is_asked_for(tmp_path: Path) -> None:
    table = EmbeddingTable(2, optimizer=Halving())
    train(table, 0, 3)
    table.snapshot(tmp_path / "s")
    with pytest.raises(InputError, match=r"Halving is in no registry"):
        EmbeddingTable.restore(tmp_path / "s")
    restored = EmbeddingTable.restore(tmp_path / "s", segments=table.segments)
    assert equal_bits(table, restored)
    with pytest.raises(InputError, match="shape"):
        EmbeddingTable.restore(tmp_path / "s", segments=[Segment(5, Halving())])


def small(path: Path, steps: int = 5) -> EmbeddingTable:
    table = EmbeddingTable(2, admission=ExactCount(2))
    train(table, 0, steps)
    table.snapshot(path)
    return table


def test_a_flipped_bit_anywhere_is_refused(tmp_path: Path) -> None:
    small(tmp_path / "s")
    for file in sorted((tmp_path / "s").iterdir()):
        content = file.read_bytes()
        for at in range(0, len(content), 1 if file.name == "manifest.json" else 37):
            file.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
            if file.name == "manifest.json" and same_json(content, file.read_bytes()):
                continue  # white space
            with pytest.raises(InputError, match=r"damaged|manifest of a table|version|missing"):
                EmbeddingTable.restore(tmp_path / "s")
        file.write_bytes(content)
    EmbeddingTable.restore(tmp_path / "s")


def same_json(a: bytes, b: bytes) -> bool:
    try:
        return bool(json.loads(a) == json.loads(b))
    except ValueError:
        return False


def test_a_file_cut_short_or_gone_is_refused(tmp_path: Path) -> None:
    small(tmp_path / "s")
    (rows,) = (tmp_path / "s").glob("rows-*")
    rows.write_bytes(rows.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"rows-.*damaged: \d+ bytes instead of \d+"):
        EmbeddingTable.restore(tmp_path / "s")
    rows.unlink()
    with pytest.raises(InputError, match=r"rows-.*missing"):
        EmbeddingTable.restore(tmp_path / "s")
    (tmp_path / "s" / "manifest.json").unlink()
    with pytest.raises(InputError, match="no snapshot at"):
        EmbeddingTable.restore(tmp_path / "s")


def test_another_version_is_refused_by_its_number(tmp_path: Path) -> None:
    small(tmp_path / "s")
    place = tmp_path / "s" / "manifest.json"
    place.write_text(place.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(InputError, match="version 2, this program reads version 1"):
        EmbeddingTable.restore(tmp_path / "s")


@pytest.mark.parametrize("fails_at", ["rows", "manifest"])
def test_a_full_disk_leaves_the_old_snapshot(fails_at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = small(tmp_path / "s")
    old = EmbeddingTable.restore(tmp_path / "s")
    train(table, 5, 9)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        if fails_at == "rows":
            patch.setattr(module.safetensors.numpy, "save_file", full)
        else:
            patch.setattr(module.json, "dump", full)
        with pytest.raises(OSError, match="No space") as caught:
            table.snapshot(tmp_path / "s")
    assert fails_at in str(caught.value.filename)
    assert equal_bits(old, EmbeddingTable.restore(tmp_path / "s"))
    table.snapshot(tmp_path / "s")
    assert equal_bits(table, EmbeddingTable.restore(tmp_path / "s"))


def test_kill_9_while_writing_leaves_a_whole_snapshot(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np\n"
        "from nonet.recsys.table import EmbeddingTable\n"
        "table = EmbeddingTable(8)\n"
        "for n in range(1, 10_000):\n"
        "    table.upsert(np.arange(5_000), np.full((5_000, 8), n, np.float32))\n"
        "    table.snapshot(sys.argv[1])\n"
        "    print(n, flush=True)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "s")], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for _ in range(3):
        child.stdout.readline()
    time.sleep(0.013)
    os.kill(child.pid, signal.SIGKILL)
    rest = child.stdout.read().split()
    child.wait()
    finished = int(rest[-1]) if rest else 3
    rows = EmbeddingTable.restore(tmp_path / "s").export().rows
    assert rows.shape == (5_000, 8)
    assert rows.min() == rows.max()
    assert int(rows[0, 0]) in (finished, finished + 1)


def test_old_files_do_not_pile_up(tmp_path: Path) -> None:
    table = small(tmp_path / "s")
    for step in range(5, 10):
        train(table, step, step + 1)
        table.snapshot(tmp_path / "s")
        assert equal_bits(table, EmbeddingTable.restore(tmp_path / "s"))
    assert len(list((tmp_path / "s").glob("rows-*"))) == 2  # of this snapshot, and of the one a reader may be at


def test_a_place_that_cannot_be_is_refused(tmp_path: Path) -> None:
    table = EmbeddingTable(1)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="it is a file"):
        table.snapshot(tmp_path / "file")
    with pytest.raises(InputError, match="does not exist"):
        table.snapshot(tmp_path / "no" / "s")
    with pytest.raises(InputError, match=r"no snapshot|damaged"):
        EmbeddingTable.restore(tmp_path / "file")


@pytest.mark.parametrize("make", [lambda: ExactCount(3), lambda: SlidingSketch(3, capacity=50)])
def test_two_tables_of_one_snapshot_count_apart(make: object, tmp_path: Path) -> None:
    table = EmbeddingTable(1, admission=make())  # type: ignore[operator]
    key = fid_v2(2, [1])
    table.apply_gradients(key, [[1.0]])
    table.snapshot(tmp_path / "s")
    one, two = (EmbeddingTable.restore(tmp_path / "s") for _ in range(2))
    assert [one.apply_gradients(key, [[1.0]]).created for _ in range(2)] == [0, 1]
    assert [two.apply_gradients(key, [[1.0]]).created for _ in range(2)] == [0, 1]
