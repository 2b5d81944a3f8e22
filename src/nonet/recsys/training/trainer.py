"""Trains a model and its tables on examples: one step a batch, the same in the batch stage and online."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nonet.common.errors import InputError, NonetError
from nonet.recsys.example import ExampleBatch, Floats
from nonet.recsys.table.embedding_table import Applied, EmbeddingTable
from nonet.recsys.training.correction import UNCORRECTED, LogOdds, RateGuard
from nonet.recsys.training.metrics import Quality, Windows
from nonet.recsys.training.models import MODELS, build_model
from nonet.recsys.training.scoring import Gathered, Pooling, Scorer

DenseOptimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
Offsets = Mapping[str, int]


def default_optimizer(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Adagrad with learning rate 0.05 for the dense weights."""
    return torch.optim.Adagrad(parameters, lr=0.05, fused=True)


@dataclass(frozen=True, slots=True)
class StepStats:
    """What one step did.

    Args:
        rows: of the batch.
        rejected: of them, left out: a number, weight or label that is not finite, or a rate outside of (0, 1].
        loss: mean loss of the others before the update; NaN where there is none.
        probability: float32 [rows], what the model answered *before* it learned from the row; NaN where rejected.
    """

    rows: int
    rejected: int
    loss: float
    probability: Floats


@dataclass(frozen=True, slots=True)
class TrainStats:
    """What `Trainer.train` did.

    Args:
        rows: seen.
        rejected: of them, left out.
        seconds: taken.
        windows: progressive validation, each row scored before it was learned.
    """

    rows: int
    rejected: int
    seconds: float
    windows: list[Quality] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Positioned:
    """A batch and where its source stands after it, to be stored with a snapshot.

    Args:
        batch: rows.
        offsets: of the next row to read, by partition.
    """

    batch: ExampleBatch
    offsets: Offsets


class Trainer:
    """A model and its tables, learning.

    Gradients of the vectors are summed over the rows of a batch, those of the dense weights averaged, so that the
    learning rates of the tables do not depend on the size of a batch.

    Args:
        model: a module (see `models`), or the name of one in `MODELS`.
        tables: of each feature, or one for all `features`.
        features: their names, in the order of the model's input; needed with one table.
        num_dense: numbers of a row, for a model by name.
        hidden: widths of its hidden layers, likewise.
        pooling: how the vectors of a bag become one.
        optimizer: makes the optimizer of the dense weights.
        correction: of negative sampling.
        sparse_gradients: "sum" (above) or "mean" over the batch.
        seed: of a model by name.

    Raises:
        InputError: features and tables do not fit.

    >>> from nonet.recsys import Example, preset_table
    >>> trainer = Trainer("fm", preset_table("fm", 4), features=("user", "item"))
    >>> rows = [
    ...     Example(request_id=b"", item_id=b"", ts_ms=n, ids={"user": [n % 5], "item": [9 + n % 7]}, label=n % 7 < 3)
    ...     for n in range(140)
    ... ]
    >>> batch = ExampleBatch.of(rows, trainer.features)
    >>> losses = [trainer.step(batch).loss for _ in range(20)]
    >>> losses[-1] < losses[0] / 2, len(trainer.distinct_tables[0])
    (True, 12)
    """

    def __init__(
        self,
        model: nn.Module | str,
        tables: Mapping[str, EmbeddingTable] | EmbeddingTable,
        *,
        features: Sequence[str] = (),
        num_dense: int = 0,
        hidden: Sequence[int] = (32, 16),
        pooling: Pooling = "sum",
        optimizer: DenseOptimizer = default_optimizer,
        correction: LogOdds = UNCORRECTED,
        sparse_gradients: Literal["sum", "mean"] = "sum",
        seed: int = 0,
    ) -> None:
        self.tables = _by_feature(tables, features)
        if isinstance(model, str):
            bias = bool(getattr(MODELS[model], "needs_bias", False))
            dim = next(iter(self.tables.values())).dim - bias
            model = build_model(model, len(self.tables), dim, num_dense, hidden, seed)
        self.model = model
        self.scorer = Scorer(model, self.tables, pooling, correction)
        self._parameters = [weight for weight in model.parameters() if weight.requires_grad]
        self.optimizer = optimizer(self._parameters) if self._parameters else None
        self.offsets: Offsets = {}
        self.steps = 0
        self.applied = Applied()
        """What the tables have done with all gradients so far."""
        self._guard = RateGuard(correction)
        self._sums = sparse_gradients == "sum"

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features."""
        return self.scorer.features

    @property
    def correction(self) -> LogOdds:
        """Of negative sampling."""
        return self.scorer.correction

    @property
    def distinct_tables(self) -> list[EmbeddingTable]:
        """Each table once, in the order of the features."""
        return list({id(table): table for table in self.tables.values()}.values())

    def step(self, batch: ExampleBatch) -> StepStats:
        """Learn from a batch; an empty one changes nothing.

        When a shard goes down, `steps` tells whether the step was taken by all that is left (it has risen), or by none.

        Raises:
            InputError: the batch lacks a feature, or its sampling rates cannot be those of its features.
        """
        size = len(batch)
        good = _usable(batch)
        kept = batch if good.all() else batch.take(np.flatnonzero(good))
        if len(kept) == 0:
            return StepStats(size, size, float("nan"), np.full(size, np.nan, np.float32))
        self._guard.check(kept.label, kept.sample_rate)
        loss, answered = self._learn(kept)
        if len(kept) == size:
            return StepStats(size, 0, loss, answered)
        probability = np.full(size, np.nan, np.float32)
        probability[good] = answered
        return StepStats(size, size - len(kept), loss, probability)

    def _learn(self, batch: ExampleBatch) -> tuple[float, Floats]:
        if not self.model.training:
            self.model.train()
        parts, found = self.scorer.gather(batch)
        rows = torch.from_numpy(found).requires_grad_()
        logits = self.scorer.logits(rows, batch.dense)
        loss = self._loss(logits, batch)
        if self.optimizer is not None:
            for weight in self._parameters:
                weight.grad = None
        loss.backward()
        if self.optimizer is not None:
            self.optimizer.step()
        self.steps += 1
        self._update_tables(parts, rows, batch)
        probability = torch.sigmoid(logits.detach()).numpy()
        return loss.item(), self.correction.served(probability, batch.sample_rate)

    def _loss(self, logits: Tensor, batch: ExampleBatch) -> Tensor:
        if self.correction.stage == "training":
            logits = logits + torch.from_numpy(self.correction.shift(batch.sample_rate))
        return nn.functional.binary_cross_entropy_with_logits(
            logits, torch.from_numpy(batch.label), torch.from_numpy(self.correction.loss_weight(batch))
        )

    def _update_tables(self, parts: list[Gathered], rows: Tensor, batch: ExampleBatch) -> None:
        if rows.grad is None:  # a model that ignores its vectors
            return
        gradient = rows.grad.numpy()
        if self._sums:
            gradient *= len(batch)
        now_s = max(int(batch.ts_ms.max()) // 1000, 0)
        failure: NonetError | None = None
        for part, table in zip(parts, self.distinct_tables, strict=True):
            own = gradient if len(parts) == 1 else gradient[:, part.columns]
            try:
                done = table.apply_gradients(part.ids, part.gradients(own, self.scorer.pooling), now_s=now_s)
            except NonetError as error:  # a shard is down; the others take the step, so that nobody has to repeat it
                failure = failure or error
            else:
                self.applied = self.applied + done
        if failure is not None:
            raise failure

    def predict(self, batch: ExampleBatch) -> Floats:
        """Probabilities [n]; see `Scorer.predict`."""
        return self.scorer.predict(batch)

    def train(
        self,
        source: Iterable[ExampleBatch | Positioned],
        *,
        until_ms: int | None = None,
        max_rows: int | None = None,
        windows: Windows | None = None,
    ) -> TrainStats:
        """Learn from a source, once through: a file in the batch stage, a log that never ends online.

        Args:
            source: batches in the order of events; offsets of `Positioned` ones are kept for the snapshot.
            until_ms: stop before the first row at or after this event time; earlier rows of its batch are learned.
            max_rows: stop after as many rows.
            windows: collects progressive validation, on answers from before each step.
        """
        started = time.perf_counter()
        rows = rejected = 0
        done: list[Quality] = []
        for item in source:
            batch, offsets = (item.batch, item.offsets) if isinstance(item, Positioned) else (item, None)
            whole = len(batch)
            batch = _cut(batch, until_ms, None if max_rows is None else max_rows - rows)
            stats = self.step(batch)
            if windows is not None:
                done += windows.add(batch.label, stats.probability, batch.weight, batch.ts_ms)
            rows += stats.rows
            rejected += stats.rejected
            if len(batch) < whole:
                break
            if offsets is not None:
                self.offsets = dict(offsets)
            if rows == max_rows:
                break
        return TrainStats(rows, rejected, time.perf_counter() - started, done)

    def dense_state(self) -> dict[str, NDArray[np.generic]]:
        """Copies of all dense weights and buffers by name."""
        return {name: value.detach().numpy().copy() for name, value in self.model.state_dict().items()}

    def use_tables(self, tables: Mapping[str, EmbeddingTable]) -> None:
        """Go on with other tables, of the same features in the same order.

        Raises:
            InputError: other features, or tables of different dimensions.
        """
        if list(tables) != list(self.tables):
            raise InputError(f"the features {list(tables)} are not those of the trainer {list(self.tables)}")
        scorer = Scorer(self.model, tables, self.scorer.pooling, self.correction)
        self.tables, self.scorer = dict(tables), scorer

    def snapshot(self, folder: str | Path) -> None:
        """Write model, optimizer, tables and offsets into a folder, atomically; see `checkpoint.save`."""
        from nonet.recsys.training.checkpoint import save

        save(self, Path(folder))

    def restore(self, folder: str | Path) -> None:
        """Go back to a snapshot of a trainer that was built alike; see `checkpoint.load`."""
        from nonet.recsys.training.checkpoint import load

        load(self, Path(folder))


def _by_feature(
    tables: Mapping[str, EmbeddingTable] | EmbeddingTable, features: Sequence[str]
) -> dict[str, EmbeddingTable]:
    if not isinstance(tables, Mapping):
        if not features:
            raise InputError("one table for all features needs their names: Trainer(..., features=[...])")
        return dict.fromkeys(features, tables)
    if features and set(features) != set(tables):
        raise InputError(f"the features {list(features)} are not those of the tables {list(tables)}")
    return {name: tables[name] for name in features or tables}


def _usable(batch: ExampleBatch) -> NDArray[np.bool_]:
    """Rows that can be learned from: every number finite, weight >= 0, label and rate within their bounds."""
    good = np.isfinite(batch.weight) & (batch.weight >= 0) & (batch.label >= 0) & (batch.label <= 1)
    good &= (batch.sample_rate > 0) & (batch.sample_rate <= 1)
    if batch.dense.shape[1]:
        good &= np.isfinite(batch.dense).all(1)
    return good


def _cut(batch: ExampleBatch, until_ms: int | None, max_rows: int | None) -> ExampleBatch:
    """The rows before a time and within a number."""
    size = len(batch)
    if until_ms is not None and (batch.ts_ms >= until_ms).any():
        size = int(np.argmax(batch.ts_ms >= until_ms))
    if max_rows is not None:
        size = min(size, max_rows)
    return batch if size == len(batch) else batch.take(slice(0, size))
