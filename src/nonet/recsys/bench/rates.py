"""Examples per second in training, beside river's factorisation machine and a plain loop of torch.

Each rival trains the same kind of model on the same rows: river example by example, which is its way; torch on the
same batches with `EmbeddingBag(sparse=True)` for each feature over rows that are numbered beforehand.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from nonet.common.errors import InputError, MissingExtraError
from nonet.recsys.example import ExampleBatch
from nonet.recsys.freshness.setup import Setup


@dataclass(frozen=True, slots=True)
class Rate:
    """Speed of one way to train.

    Args:
        rows_per_s: examples per second, the best round.
        rounds: of each round.
    """

    rows_per_s: float
    rounds: tuple[float, ...]


def rate_ours(data: ExampleBatch, setup: Setup, *, rounds: int = 3, seed: int = 0) -> Rate:
    """This trainer on batches of `setup.batch_rows`, each round from an empty table, cutting batches included.

    Args:
        data: rows.
        setup: model and size of batches.
        rounds: how often.
        seed: of table and model.
    """
    warm = setup.trainer(tuple(data.ids), data.dense.shape[1], seed)
    setup.learn(warm, data.take(slice(0, 2 * setup.batch_rows)))

    def run() -> None:
        setup.learn(setup.trainer(tuple(data.ids), data.dense.shape[1], seed), data)

    return _timed(run, len(data), rounds)


def rate_torch(data: ExampleBatch, setup: Setup, *, rounds: int = 3, seed: int = 0) -> Rate:
    """A plain loop: one `EmbeddingBag(sparse=True)` a feature, Adagrad for all, the same model and batches.

    Ids become row numbers, and batches tensors, before the clock runs.
    """
    import torch

    from nonet.recsys.training.models import build_model

    names = {name: np.unique(bags.values, return_inverse=True) for name, bags in data.ids.items()}
    batches = []
    for start in range(0, len(data), setup.batch_rows):
        rows = slice(start, min(start + setup.batch_rows, len(data)))
        bags = []
        for name, whole in data.ids.items():
            first, last = whole.offsets[rows.start], whole.offsets[rows.stop]
            numbers = torch.from_numpy(names[name][1][first:last].astype(np.int64))
            bags.append((numbers, torch.from_numpy(whole.offsets[rows.start : rows.stop] - first)))
        batches.append((bags, torch.from_numpy(data.dense[rows]), torch.from_numpy(data.label[rows])))

    def run() -> None:
        model = build_model(setup.model, len(names), setup.dim, data.dense.shape[1], setup.hidden, seed)
        biased = bool(getattr(model, "needs_bias", False))
        width = setup.dim + biased
        tables = [
            torch.nn.EmbeddingBag(len(known), width, mode="sum", sparse=True, include_last_offset=False)
            for known, _ in names.values()
        ]
        sparse = torch.optim.Adagrad([t.weight for t in tables], lr=setup.learning_rate)
        dense = torch.optim.Adagrad(model.parameters(), lr=setup.learning_rate, fused=True)
        for bags, numbers, label in batches:
            rows = torch.stack([table(ids, offsets) for table, (ids, offsets) in zip(tables, bags, strict=True)], 1)
            logits = model(rows[:, :, 1:], numbers, rows[:, :, 0]) if biased else model(rows, numbers)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, label)
            sparse.zero_grad(set_to_none=True)
            dense.zero_grad(set_to_none=True)
            loss.backward()
            sparse.step()
            dense.step()

    with torch.sparse.check_sparse_tensor_invariants(False):
        return _timed(run, len(data), rounds)


def rate_river(data: ExampleBatch, *, dim: int = 8, rounds: int = 1, seed: int = 0) -> Rate:
    """River's `FMClassifier` by `learn_one`; examples become dictionaries before the clock runs.

    Raises:
        MissingExtraError: river is not installed.
        InputError: a row without exactly one id for each feature, which river's machine cannot take.
    """
    try:
        from river import facto
    except ImportError as error:
        raise MissingExtraError("this rival needs river; install it: pip install river") from error
    if any((np.diff(bags.offsets) != 1).any() for bags in data.ids.values()):
        raise InputError("river's factorisation machine takes one id for each feature")
    columns = [[str(value) for value in bags.values.tolist()] for bags in data.ids.values()]
    rows = [dict(zip(data.ids, row, strict=True)) for row in zip(*columns, strict=True)]
    labels = (data.label > 0.5).tolist()

    def run() -> None:
        model = facto.FMClassifier(n_factors=dim, seed=seed)
        for row, label in zip(rows, labels, strict=True):
            model.learn_one(row, label)

    return _timed(run, len(data), rounds)


@dataclass(frozen=True, slots=True)
class TrainRates:
    """Result of `train_rates`.

    Args:
        fm_batched: our factorisation machine in micro-batches.
        fm_single: the same, example by example.
        river: river's, example by example.
        deepfm: our DeepFM by batch size.
        torch: plain torch's, on the same batches.
    """

    fm_batched: Rate
    fm_single: Rate
    river: Rate
    deepfm: dict[int, Rate]
    torch: dict[int, Rate]

    @property
    def vs_river(self) -> float:
        """Micro-batches over river."""
        return self.fm_batched.rows_per_s / self.river.rows_per_s

    @property
    def single_vs_river(self) -> float:
        """Example by example over river."""
        return self.fm_single.rows_per_s / self.river.rows_per_s

    @property
    def vs_torch(self) -> float:
        """The worst ratio over the batch sizes."""
        return min(self.deepfm[size].rows_per_s / self.torch[size].rows_per_s for size in self.deepfm)


def train_rates(
    data: ExampleBatch,
    *,
    rows: int = 50_000,
    single_rows: int = 3000,
    batch_rows: Sequence[int] = (256, 1024),
    dim: int = 8,
    rounds: int = 3,
    seed: int = 0,
) -> TrainRates:
    """All rates on one log.

    Args:
        data: rows; the first ones are taken.
        rows: of them, in batches.
        single_rows: of them, example by example.
        batch_rows: sizes of batches; river is compared with the first.
        dim: of a vector.
        rounds: of each; the best counts.
        seed: of every model.
    """
    many, few = data.take(slice(0, rows)), data.take(slice(0, single_rows))
    deepfm, torch = {}, {}
    for size in batch_rows:
        setup = Setup("deepfm", dim, batch_rows=size)
        deepfm[size] = rate_ours(many, setup, rounds=rounds, seed=seed)
        torch[size] = rate_torch(many, setup, rounds=rounds, seed=seed)
    return TrainRates(
        rate_ours(many, Setup("fm", dim, batch_rows=batch_rows[0]), rounds=rounds, seed=seed),
        rate_ours(few, Setup("fm", dim, batch_rows=1), rounds=rounds, seed=seed),
        rate_river(few, dim=dim, rounds=rounds, seed=seed),
        deepfm,
        torch,
    )


def _timed(run: Callable[[], None], rows: int, rounds: int) -> Rate:
    if rows < 1 or rounds < 1:
        raise InputError(f"a rate needs rows and rounds, got {rows} and {rounds}")
    rates = []
    for _ in range(rounds):
        started = time.perf_counter()
        run()
        rates.append(rows / (time.perf_counter() - started))
    return Rate(max(rates), tuple(rates))
