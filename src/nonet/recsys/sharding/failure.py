"""A shard is killed while a model learns from a log: what is lost, and what it costs.

Snapshot mode is the paper's (Monolith, section 2.3.3 and 3.3): the shard that failed goes back to its last snapshot,
the others and the network go on. Replay mode takes everything back to the snapshot and learns from the example log
again from where it stood: with one worker the end is that of a run without failure, bit for bit.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from nonet.common.errors import InputError
from nonet.recsys.example import Example, ExampleBatch, decode, encode
from nonet.recsys.features.fid import bucket_of
from nonet.recsys.freshness.drift import Drift
from nonet.recsys.logs import Log, Record, SegmentLog
from nonet.recsys.sharding.backends import ShardDownError
from nonet.recsys.sharding.sharded import ShardedTable
from nonet.recsys.training.metrics import auc
from nonet.recsys.training.presets import preset_table
from nonet.recsys.training.trainer import Trainer

Mode = Literal["snapshot", "replay"]
_FEATURES = ("user", "item")
_TOPIC = "examples"


@dataclass(frozen=True, slots=True)
class FailureTrial:
    """What `failure_trial` saw.

    Args:
        mode: "snapshot" or "replay".
        backend: where the shards ran.
        auc_without: on the last rows, of a run without failure.
        auc_with: of the run in which a shard was killed.
        auc_drop: the difference.
        is_equal: whether both ends are equal bit for bit: keys, rows, state, network.
        lost_share: of all keys, those whose row went back when the shard was restored.
        changed_elsewhere: keys of other shards whose row changed by the recovery; 0 in snapshot mode.
        rows_again: examples that were learned from a second time.
        recovery_s: from the failure to the first step after it.
    """

    mode: Mode
    backend: str
    auc_without: float
    auc_with: float
    auc_drop: float
    is_equal: bool
    lost_share: float
    changed_elsewhere: int
    rows_again: int
    recovery_s: float


def failure_trial(
    mode: Mode,
    backend: str = "process",
    *,
    num_rows: int = 40_000,
    num_shards: int = 4,
    batch_rows: int = 256,
    snapshot_rows: int = 8_192,
    seed: int = 0,
) -> FailureTrial:
    """Learn from a log of the drift generator twice, once with a shard killed at 70 % (SIGKILL for a process).

    Args:
        mode: "snapshot" or "replay".
        backend: "thread", "process" or "ray".
        num_rows: examples; the last fifth tests.
        num_shards: of which the second is killed.
        batch_rows: of a step.
        snapshot_rows: between two snapshots of all shards.
        seed: of the generator and the model.

    Raises:
        InputError: an unknown mode or backend, or too few rows for a snapshot before the failure.
    """
    if mode not in ("snapshot", "replay"):
        raise InputError(f"mode is 'snapshot' or 'replay', not {mode!r}")
    if num_rows < 2 * snapshot_rows or num_shards < 2:
        raise InputError(f"a failure trial needs {2 * snapshot_rows} rows and 2 shards, got {num_rows}, {num_shards}")
    rows = Drift(rows=num_rows, users=300, items=200, half_life_hours=1000, seed=seed).log().examples
    with tempfile.TemporaryDirectory(prefix="nonet-failure-") as folder, SegmentLog(Path(folder) / "log") as log:
        cut = num_rows * 4 // 5
        _write(log, rows.take(slice(0, cut)))
        test = rows.take(slice(cut, num_rows))
        runs = []
        for name, fail_at in (("sound", None), ("failing", int(0.7 * cut))):
            with _Run(log, Path(folder) / name, num_shards, backend, batch_rows, snapshot_rows, seed) as run:
                run.learn(mode, fail_at)
                runs.append((run, run.end(), auc(test.label, run.trainer.predict(test))))
    (_, sound_end, auc_without), (failed, failed_end, auc_with) = runs
    same = all(a.tobytes() == b.tobytes() for a, b in zip(sound_end, failed_end, strict=True))
    return FailureTrial(
        mode,
        backend,
        auc_without,
        auc_with,
        auc_without - auc_with,
        same,
        failed.lost_share,
        failed.changed_elsewhere,
        failed.rows_again,
        failed.recovery_s,
    )


def _write(log: Log, rows: ExampleBatch) -> None:
    log.create(_TOPIC)
    records = []
    for n in range(len(rows)):
        ids = {name: bags.values[bags.offsets[n] : bags.offsets[n + 1]].tolist() for name, bags in rows.ids.items()}
        ts_ms = int(rows.ts_ms[n])
        example = Example(request_id=str(n).encode(), item_id=b"", ts_ms=ts_ms, ids=ids, label=float(rows.label[n]))
        records.append(Record(b"", encode(example), ts_ms))
    for first in range(0, len(records), 4096):
        log.append(_TOPIC, 0, records[first : first + 4096])


class _Run:
    """One run over the log."""

    def __init__(
        self,
        log: Log,
        folder: Path,
        num_shards: int,
        backend: str,
        batch_rows: int,
        snapshot_rows: int,
        seed: int,
    ) -> None:
        self._log, self._folder = log, folder
        self._batch_rows, self._snapshot_rows = batch_rows, snapshot_rows
        folder.mkdir()
        self.table = ShardedTable(preset_table("deepfm", 8, seed=seed, name="ids"), num_shards, backend)
        self.trainer = Trainer("deepfm", self.table, features=_FEATURES, seed=seed)  # type: ignore[arg-type]
        self._dense: Any = None
        self.lost_share, self.changed_elsewhere, self.rows_again, self.recovery_s = 0.0, 0, 0, 0.0

    def __enter__(self) -> _Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.table.close()

    def learn(self, mode: Mode, fail_at: int | None) -> None:
        """All of the log, with a failure at an offset."""
        offset, saved_at = 0, 0
        self._save(0)
        while records := self._log.read(_TOPIC, 0, offset, self._batch_rows).records:
            if fail_at is not None and offset >= fail_at:
                before = self.table.export()
                self.table.kill(1)
                fail_at = None
            batch = ExampleBatch.of([decode(record.payload, Example) for record in records], _FEATURES)
            try:
                self.trainer.step(batch)
            except ShardDownError:
                offset = self._recover(mode, offset, before)
                continue
            offset += len(records)
            if offset - saved_at >= self._snapshot_rows:
                self._save(offset)
                saved_at = offset

    def _save(self, offset: int) -> None:
        self.table.snapshot(self._folder / "snapshot", {_TOPIC: offset})
        optimizer = self.trainer.optimizer
        model = {name: value.clone() for name, value in self.trainer.model.state_dict().items()}
        self._dense = model, None if optimizer is None else _copied(optimizer.state_dict())

    def _recover(self, mode: Mode, offset: int, before: Any) -> int:
        started = time.perf_counter()
        self.table.replace(1, self._folder / "snapshot" / "shard-0001")
        if mode == "replay":
            at = self.table.restore(self._folder / "snapshot")[_TOPIC]
            model, optimizer = self._dense
            self.trainer.model.load_state_dict(model)
            if self.trainer.optimizer is not None:
                self.trainer.optimizer.load_state_dict(_copied(optimizer))
            self.rows_again = offset - at
        else:
            at = offset
        self.recovery_s = time.perf_counter() - started
        changed = before.keys[(self.table.lookup(before.keys) != before.rows).any(axis=1)]
        failed = self.table.owners[bucket_of(changed)] == 1
        self.lost_share = float(failed.sum()) / len(before.keys)
        self.changed_elsewhere = int((~failed).sum())
        return at

    def end(self) -> list[Any]:
        """Everything that was learned, in one order."""
        return [*self.table.export(), *(value for _, value in sorted(self.trainer.dense_state().items()))]


def _copied(state: Any) -> Any:
    if isinstance(state, torch.Tensor):
        return state.clone()
    if isinstance(state, dict):
        return {key: _copied(value) for key, value in state.items()}
    if isinstance(state, list):
        return [_copied(value) for value in state]
    return state
