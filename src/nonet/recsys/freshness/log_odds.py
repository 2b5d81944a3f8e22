"""What negative sampling does to probabilities, and that the correction, in any stage, undoes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nonet.common.errors import InputError
from nonet.recsys.example import ExampleBatch, Floats
from nonet.recsys.freshness.setup import Setup
from nonet.recsys.training.correction import STAGES, LogOdds
from nonet.recsys.training.metrics import auc, calibration


@dataclass(frozen=True, slots=True)
class Corrected:
    """A model trained on sampled negatives, measured on all rows held out; means over seeds.

    Args:
        stage: of the correction; "unsampled" for the model that saw every negative.
        auc: on the held-out rows.
        calibration: sum(p) / sum(y) on them.
    """

    stage: str
    auc: float
    calibration: float


def log_odds(
    data: ExampleBatch,
    *,
    rate: float = 0.1,
    other_rate: float | None = None,
    seeds: Sequence[int] = (0, 1),
    epochs: int = 2,
    held_out: float = 0.2,
    setup: Setup = Setup(),
) -> list[Corrected]:
    """Sample the negatives of a random split and compare the stages of the correction with no sampling.

    Args:
        data: rows in any order.
        rate: negatives are kept with it.
        other_rate: for rows whose first feature has an odd id, where rates depend on a feature; None: `rate`.
        seeds: of split, sampling, table and model.
        epochs: passes over the unsampled rows; sampled ones get as many steps as that by more passes.
        held_out: share of the rows to measure on, never sampled.
        setup: how to train.

    Returns:
        One line for "unsampled" and one for each stage.

    Raises:
        InputError: a rate outside of (0, 1], or nothing to measure on.
    """
    rates = [rate, rate if other_rate is None else other_rate]
    held = int(len(data) * held_out)
    if not all(0 < r <= 1 for r in rates) or not 0 < held < len(data) or not seeds or epochs < 1:
        raise InputError(f"rates {rates} must lie in (0, 1], and {len(data)} rows must leave some to measure on")
    ids = next(iter(data.ids.values()))
    first = np.where(np.diff(ids.offsets) > 0, ids.values[np.minimum(ids.offsets[:-1], len(ids.values) - 1)], 0)
    # Every row carries the rate of its features, positives as well.
    data = replace(data, sample_rate=np.array(rates, np.float32)[first % 2])
    outcomes: dict[str, list[tuple[float, float]]] = {}
    for seed in seeds:
        random = np.random.default_rng(seed)
        order = random.permutation(len(data))
        test, training = data.take(order[:held]), data.take(order[held:])
        kept = (training.label > 0.5) | (random.random(len(training)) < training.sample_rate)
        sampled = training.take(np.flatnonzero(kept))
        for stage in ("unsampled", *STAGES):
            rows = replace(training, sample_rate=np.ones(len(training), np.float32)) if stage == "unsampled" else sampled
            correction = LogOdds("none" if stage == "unsampled" else stage)
            passes = max(1, round(epochs * len(training) / len(rows)))
            p = _trained(rows, test, correction, passes, seed, setup)
            outcomes.setdefault(stage, []).append((auc(test.label, p), calibration(test.label, p)))
    means = {stage: np.mean(pairs, 0) for stage, pairs in outcomes.items()}
    return [Corrected(stage, float(mean[0]), float(mean[1])) for stage, mean in means.items()]


def _trained(
    rows: ExampleBatch, test: ExampleBatch, correction: LogOdds, passes: int, seed: int, setup: Setup
) -> Floats:
    # A weighted row carries its own rate: positives are always kept.
    if correction.stage == "weights":
        rows = replace(rows, sample_rate=np.where(rows.label > 0.5, np.float32(1), rows.sample_rate))
    trainer = setup.trainer(tuple(rows.ids), rows.dense.shape[1], seed, correction)
    for number in range(passes):
        setup.learn(trainer, rows.take(np.random.default_rng([seed, number]).permutation(len(rows))))
    return trainer.predict(test)
