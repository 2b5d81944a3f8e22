"""From a batch of ids to probabilities: vectors out of tables, through a model.

The trainer and every serving copy score by this one path, so that they can differ in their numbers only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from nonet.common.errors import InputError
from nonet.recsys.example import Bags, ExampleBatch, Floats, Ints
from nonet.recsys.training.correction import UNCORRECTED, LogOdds

Pooling = Literal["sum", "mean"]


class Vectors(Protocol):
    """What a model reads its vectors from: a table or a replica of one. Unknown ids read as zeros."""

    @property
    def dim(self) -> int:
        """Numbers of a key, the bias included where there is one."""

    def lookup(self, ids: Ints) -> Floats:
        """Rows [n, dim] of ids [n]."""

    def lookup_bags(self, values: Ints, offsets: Ints, mode: Pooling = "sum") -> Floats:
        """Pooled rows [n, dim] of n bags; an empty one reads as zeros."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """The ids of some features of one table.

    Args:
        columns: which features.
        ids: int64 [total], in the order in which gradients are laid out.
        offsets: of the bags, feature after feature; None where each bag holds one id (then ids are [n, columns]).
    """

    columns: tuple[int, ...]
    ids: Ints
    offsets: Ints | None

    @classmethod
    def of(cls, batch: ExampleBatch, features: Sequence[str], columns: tuple[int, ...]) -> Gathered:
        """Out of a batch."""
        bags = [batch.ids[features[column]] for column in columns]
        if all(_is_single(bag) for bag in bags):
            return cls(columns, np.stack([bag.values for bag in bags], 1).ravel(), None)
        starts = np.cumsum([0, *(len(bag.values) for bag in bags)])
        offsets = [bag.offsets[:-1] + start for bag, start in zip(bags, starts[:-1], strict=True)]
        return cls(columns, np.concatenate([b.values for b in bags]), np.concatenate([*offsets, starts[-1:]]))

    def rows(self, table: Vectors, size: int, pooling: Pooling) -> Floats:
        """Pooled vectors [size, columns, dim]."""
        if self.offsets is None:
            return table.lookup(self.ids).reshape(size, len(self.columns), table.dim)
        pooled = table.lookup_bags(self.ids, self.offsets, pooling)
        return pooled.reshape(len(self.columns), size, table.dim).transpose(1, 0, 2)

    def gradients(self, gradient: Floats, pooling: Pooling) -> Floats:
        """Gradients of `ids` [total, dim] out of those of the pooled vectors [n, columns, dim]."""
        if self.offsets is None:
            return gradient.reshape(-1, gradient.shape[2])
        by_bag: Floats = gradient.transpose(1, 0, 2).reshape(-1, gradient.shape[2])
        sizes = np.diff(self.offsets)
        if pooling == "mean":
            by_bag = np.divide(by_bag, np.maximum(sizes, 1)[:, None], dtype=np.float32)
        return np.repeat(by_bag, sizes, 0)


def _is_single(bag: Bags) -> bool:
    return len(bag.values) == len(bag) and bool((bag.offsets[1:] - bag.offsets[:-1] == 1).all())


@dataclass(slots=True)
class Scorer:
    """A model over tables.

    Args:
        model: see `models`.
        tables: of each feature, in the order of the model's input; several features may share one.
        pooling: how the vectors of a bag become one.
        correction: of negative sampling.

    Raises:
        InputError: no feature, or tables of different dimensions.
    """

    model: nn.Module
    tables: Mapping[str, Vectors]
    pooling: Pooling = "sum"
    correction: LogOdds = UNCORRECTED
    needs_bias: bool = field(init=False)
    dim: int = field(init=False)
    _groups: list[tuple[Vectors, tuple[int, ...]]] = field(init=False)

    def __post_init__(self) -> None:
        dims = {name: table.dim for name, table in self.tables.items()}
        if len(set(dims.values())) != 1:
            raise InputError(f"a model needs features of one dimension, at least one feature; got {dims or 'none'}")
        if self.pooling not in ("sum", "mean"):
            raise InputError(f"pooling is 'sum' or 'mean', got {self.pooling!r}")
        self.dim = next(iter(dims.values()))
        self.needs_bias = bool(getattr(self.model, "needs_bias", False))
        by_table: dict[int, list[int]] = {}
        for column, table in enumerate(self.tables.values()):
            by_table.setdefault(id(table), []).append(column)
        ordered = list(self.tables.values())
        self._groups = [(ordered[columns[0]], tuple(columns)) for columns in by_table.values()]

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features."""
        return tuple(self.tables)

    @property
    def distinct_tables(self) -> list[Vectors]:
        """Each table once."""
        return [table for table, _ in self._groups]

    def gather(self, batch: ExampleBatch) -> tuple[list[Gathered], Floats]:
        """Ids by table, and the pooled rows [n, num_features, dim].

        Raises:
            InputError: the batch lacks a feature.
        """
        missing = [name for name in self.tables if name not in batch.ids]
        if missing:
            raise InputError(f"the batch lacks the features {missing}; it has {list(batch.ids)}")
        size, features = len(batch), self.features
        parts = [Gathered.of(batch, features, columns) for _, columns in self._groups]
        found = [part.rows(table, size, self.pooling) for part, (table, _) in zip(parts, self._groups, strict=True)]
        if len(found) == 1:
            return parts, np.ascontiguousarray(found[0])
        rows = np.empty((size, len(features), self.dim), np.float32)
        for part, vectors in zip(parts, found, strict=True):
            rows[:, part.columns] = vectors
        return parts, rows

    def logits(self, rows: Tensor, dense: Floats) -> Tensor:
        """Of pooled rows [n, num_features, dim] and numbers [n, num_dense].

        Raises:
            InputError: the model does not answer with one logit a row.
        """
        numbers = torch.from_numpy(dense)
        if self.needs_bias:
            logits: Tensor = self.model(rows[:, :, 1:], numbers, rows[:, :, 0])
        else:
            logits = self.model(rows, numbers)
        if logits.shape != rows.shape[:1]:
            raise InputError(
                f"the model answers with shape {tuple(logits.shape)} for {len(rows)} rows; one logit a row is needed"
            )
        return logits

    def predict(self, batch: ExampleBatch) -> Floats:
        """Probabilities [n]; NaN and infinite numbers count as 0, an empty bag and an unknown id as a zero vector."""
        if len(batch) == 0:
            return np.empty(0, np.float32)
        if self.model.training:
            self.model.eval()
        _, rows = self.gather(batch)
        dense = batch.dense if np.isfinite(batch.dense).all() else np.nan_to_num(batch.dense, posinf=0, neginf=0)
        with torch.inference_mode():
            probability = torch.sigmoid(self.logits(torch.from_numpy(rows), dense)).numpy()
        return self.correction.served(probability, batch.sample_rate)
