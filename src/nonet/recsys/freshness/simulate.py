"""Algorithm 1 of the paper: train on history, then serve and train shard by shard, synced once a shard.

For each of N shards of the newest rows: sync the serving copy, measure its AUC on the shard, then train on the shard.
A model that stays as it was after the history stands beside it. All N share one pass of training, so that they differ
in when they sync and in nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.recsys.example import ExampleBatch, Floats
from nonet.recsys.freshness.serving_copy import ServingCopy, SyncCost, pass_on
from nonet.recsys.freshness.setup import USUAL, Setup, TrainerFactory
from nonet.recsys.training.metrics import auc
from nonet.recsys.training.trainer import Trainer


@dataclass(frozen=True, slots=True)
class Shard:
    """One shard of one run.

    Args:
        num_shards: N of the run.
        seed: of the run.
        number: from 0.
        rows: of the shard.
        first_ts_ms: event time of its first row.
        online_auc: of the copy synced right before the shard; NaN where the shard has one class only.
        frozen_auc: of the copy that was never synced again.
        sync_rows: rows of the tables that the sync before it carried; 0 for the first, which is a copy of all.
        sync_bytes: likewise, dense weights included.
    """

    num_shards: int
    seed: int
    number: int
    rows: int
    first_ts_ms: int
    online_auc: float
    frozen_auc: float
    sync_rows: int
    sync_bytes: int


@dataclass(frozen=True, slots=True)
class Run:
    """One number of shards with one seed.

    Args:
        num_shards: N.
        seed: of table and model.
        interval_s: mean event time of a shard, that is between syncs.
        online_auc: mean over the shards.
        frozen_auc: likewise, of the model that is never synced again.
        pooled_online_auc: over all rows at once; the one to compare different N by.
        pooled_frozen_auc: likewise.
        sync_rows: mean rows of a sync, the first left out.
        sync_bytes: likewise, dense weights included.
        dense_bytes: of them the dense weights.
    """

    num_shards: int
    seed: int
    interval_s: float
    online_auc: float
    frozen_auc: float
    pooled_online_auc: float
    pooled_frozen_auc: float
    sync_rows: float
    sync_bytes: float
    dense_bytes: int


@dataclass(frozen=True, slots=True)
class Freshness:
    """One number of shards, over all seeds.

    Args:
        num_shards: N.
        interval_s: mean event time between syncs.
        online_auc: mean over shards and seeds.
        frozen_auc: likewise.
        gain: the first less the second.
        gain_spread: standard deviation of the gain over the seeds; None with one, which says nothing of it.
        pooled_online_auc: mean over seeds.
        pooled_frozen_auc: likewise.
        sync_rows: mean rows of a sync.
        sync_bytes: mean bytes of a sync.
        bytes_per_day: what the syncs of a day of event time carry.
    """

    num_shards: int
    interval_s: float
    online_auc: float
    frozen_auc: float
    gain: float
    gain_spread: float | None
    pooled_online_auc: float
    pooled_frozen_auc: float
    sync_rows: float
    sync_bytes: float
    bytes_per_day: float


@dataclass(frozen=True, slots=True)
class Simulation:
    """Result of `simulate`.

    Args:
        history_rows: of the batch stage.
        online_rows: of the shards together.
        runs: one for each number of shards and seed.
        shards: of all runs.
    """

    history_rows: int
    online_rows: int
    runs: tuple[Run, ...]
    shards: tuple[Shard, ...]

    def table(self) -> list[Freshness]:
        """A line for each number of shards, means over the seeds."""
        return [
            _over_seeds([r for r in self.runs if r.num_shards == n])
            for n in dict.fromkeys(r.num_shards for r in self.runs)
        ]


def simulate(
    data: ExampleBatch,
    *,
    shards: Sequence[int] = (10, 50, 100),
    seeds: Sequence[int] = (0, 1, 2),
    history: float = 5 / 7,
    setup: Setup = USUAL,
    make_trainer: TrainerFactory | None = None,
) -> Simulation:
    """What fresher syncs would have bought on a log.

    Args:
        data: rows in the order of their time, as `read_sorted` gives them.
        shards: numbers of shards to try; more shards are fresher syncs.
        seeds: a run for each.
        history: share of the rows for the batch stage.
        setup: how to train.
        make_trainer: a trainer of one's own for a seed, with the features of `data`.

    Raises:
        InputError: rows out of order, too few for the shards, or a share outside of (0, 1).

    >>> from nonet.recsys.freshness.drift import Drift
    >>> [line.num_shards for line in simulate(Drift(rows=2000).log().examples, shards=[5], seeds=[0]).table()]
    [5]
    """
    cut = int(len(data) * history)
    online = len(data) - cut
    if not 0 < history < 1 or not shards or not seeds or cut < 1 or min(shards) < 1 or max(shards) > online:
        raise InputError(
            f"{len(data)} rows, {history:.3g} of them history, cannot be cut into {list(shards)} shards "
            f"for {len(seeds)} seeds; every shard needs a row"
        )
    if (np.diff(data.ts_ms) < 0).any():
        raise InputError("the rows are not in the order of their time; sort them by ts_ms first")
    make = make_trainer or (lambda seed: setup.trainer(tuple(data.ids), data.dense.shape[1], seed))
    runs: list[Run] = []
    parts: list[Shard] = []
    for seed in seeds:
        trainer = make(seed)
        setup.learn(trainer, data.take(slice(0, cut)))
        for course in _online(trainer, data.take(slice(cut, len(data))), shards, setup):
            run, own = course.result(seed)
            runs.append(run)
            parts += own
    return Simulation(cut, online, tuple(runs), tuple(parts))


class _Course:
    """One number of shards on its way through the online rows."""

    def __init__(self, data: ExampleBatch, num_shards: int, copy: ServingCopy, frozen: Floats) -> None:
        self.num_shards, self.copy = num_shards, copy
        self.bounds = np.linspace(0, len(data), num_shards + 1).astype(int)
        self._data, self._frozen = data, frozen
        self._online = np.empty(len(data), np.float32)
        self._costs: list[SyncCost] = []

    def reach(self, row: int) -> None:
        """At the first row of a shard, before any of its rows is learned: sync, then score the shard."""
        number = int(np.searchsorted(self.bounds, row))
        if row != self.bounds[number] or number == self.num_shards:
            return
        cost = self.copy.sync()
        if number:
            self._costs.append(cost)
        stop = int(self.bounds[number + 1])
        self._online[row:stop] = self.copy.predict(self._data.take(slice(row, stop)))

    def result(self, seed: int) -> tuple[Run, list[Shard]]:
        """The run and its shards."""
        label, ts_ms, zero = self._data.label, self._data.ts_ms, SyncCost(0, 0, 0)
        shards = []
        for number, (start, stop) in enumerate(pairwise(self.bounds.tolist())):
            cost = self._costs[number - 1] if number else zero
            online, frozen = (auc(label[start:stop], p[start:stop]) for p in (self._online, self._frozen))
            size = cost.sparse_bytes + cost.dense_bytes
            shards.append(
                Shard(self.num_shards, seed, number, stop - start, int(ts_ms[start]), online, frozen, cost.rows, size)
            )
        both = np.array([(shard.online_auc, shard.frozen_auc) for shard in shards])
        costs = np.array([(c.rows, c.sparse_bytes + c.dense_bytes, c.dense_bytes) for c in self._costs] or [(0, 0, 0)])
        run = Run(
            self.num_shards,
            seed,
            float(ts_ms[-1] - ts_ms[0]) / 1000 / self.num_shards,
            *_mean(both),
            auc(label, self._online),
            auc(label, self._frozen),
            float(costs[:, 0].mean()),
            float(costs[:, 1].mean()),
            int(costs[0, 2]),
        )
        return run, shards


def _mean(aucs: NDArray[np.float64]) -> tuple[float, float]:
    """Over the shards that have both classes."""
    told = aucs[~np.isnan(aucs).any(1)]
    return (float(told[:, 0].mean()), float(told[:, 1].mean())) if len(told) else (float("nan"), float("nan"))


def _online(trainer: Trainer, data: ExampleBatch, shards: Sequence[int], setup: Setup) -> list[_Course]:
    """Train through the rows once; every copy syncs at its own bounds."""
    pass_on(trainer, [])  # what the history touched is in the copies from the start
    copies = [ServingCopy(trainer) for _ in shards]
    frozen = copies[0].predict(data)
    courses = [_Course(data, n, copy, frozen) for n, copy in zip(shards, copies, strict=True)]
    stops = np.unique(np.concatenate([course.bounds for course in courses]))
    for start, stop in pairwise(stops.tolist()):
        pass_on(trainer, copies)
        for course in courses:
            course.reach(start)
        setup.learn(trainer, data.take(slice(start, stop)))
    return courses


def _over_seeds(runs: Sequence[Run]) -> Freshness:
    def mean(name: str) -> float:
        return float(np.mean([getattr(run, name) for run in runs]))

    gains = [run.online_auc - run.frozen_auc for run in runs]
    interval_s, sync_bytes = mean("interval_s"), mean("sync_bytes")
    return Freshness(
        runs[0].num_shards,
        interval_s,
        mean("online_auc"),
        mean("frozen_auc"),
        float(np.mean(gains)),
        float(np.std(gains)) if len(gains) > 1 else None,
        mean("pooled_online_auc"),
        mean("pooled_frozen_auc"),
        mean("sync_rows"),
        sync_bytes,
        sync_bytes * 86_400 / interval_s if interval_s > 0 else float("nan"),
    )
