"""What negative sampling does to probabilities, and that the correction, in any stage, undoes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nonet.common.errors import InputError
from nonet.recsys.example import Bags, ExampleBatch, Floats
from nonet.recsys.freshness.setup import USUAL, Setup
from nonet.recsys.reading.examples import concatenate
from nonet.recsys.training.correction import STAGES, UNCORRECTED, LogOdds
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
    seeds: Sequence[int] = (0,),
    epochs: int = 1,
    held_out: float = 0.2,
    setup: Setup = USUAL,
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
        passes = max(1, round(epochs * len(training) / len(sampled)))
        answers = {"unsampled": _trained(training, test, UNCORRECTED, epochs, seed, setup)}
        for stage in STAGES:
            answers[stage] = _trained(sampled, test, LogOdds(stage), passes, seed, setup)
        for name, p in answers.items():
            outcomes.setdefault(name, []).append((auc(test.label, p), calibration(test.label, p)))
    means = {stage: np.mean(pairs, 0) for stage, pairs in outcomes.items()}
    return [Corrected(stage, float(mean[0]), float(mean[1])) for stage, mean in means.items()]


def implicit_negatives(data: ExampleBatch, item: str = "item", per_positive: int = 9, seed: int = 0) -> ExampleBatch:
    """The positives of a log, and for each some items at random in its place: a stream in which negatives abound.

    Explicit ratings have about as many negatives as positives: a tenth of them lacks what the rest would have told,
    and no correction brings that back. Where most of what is shown is passed over, a tenth is enough.

    Args:
        data: rows of which the positives are taken; others are left out.
        item: feature that is exchanged, one id a row.
        per_positive: negatives for each positive.
        seed: of the draw, uniform over the items of `data`.

    Raises:
        InputError: fewer than one negative for each positive, or rows without exactly one item.
    """
    bags = data.ids[item]
    if per_positive < 1 or (np.diff(bags.offsets) != 1).any():
        raise InputError(f"negatives need per_positive >= 1 and one {item} a row, got {per_positive}")
    pool = np.unique(bags.values)
    positives = data.take(np.flatnonzero(data.label > 0.5))
    negatives = positives.take(np.repeat(np.arange(len(positives)), per_positive))
    drawn = Bags.single(np.random.default_rng(seed).choice(pool, len(negatives)))
    ids, label = {**negatives.ids, item: drawn}, np.zeros(len(negatives), np.float32)
    return concatenate([positives, replace(negatives, ids=ids, label=label)])


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
