"""What shared rows cost: one model and one log, ids as they are against ids through a hash into a small space.

All arms run through the same table and differ in ids only: `collisionless` has the ids themselves; `hashed` is the
paper's baseline, MD5 of the id modulo a space; `quotient` adds the vectors of remainder and quotient (the baseline
of the paper's production model, 2^24 there, the square root of the vocabulary here).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.recsys.example import Bags, ExampleBatch, Ints
from nonet.recsys.features.audit import md5_hash_trick
from nonet.recsys.features.fid import fid_v2
from nonet.recsys.freshness.setup import USUAL, Setup
from nonet.recsys.training.metrics import auc

PAPER_SPACE_RATIO = 6.17
"""Space over vocabulary of the users in the paper's table 1: 1,000,000 / 162,541."""

Disguise = Callable[[Bags], Bags]


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to name ids.

    Args:
        name: "collisionless", "hashed" or "quotient".
        collision_rate: per feature, 1 - distinct names / distinct ids.
        auc: float64 [seeds, epochs] on the held-out rows after each epoch.
    """

    name: str
    collision_rate: Mapping[str, float]
    auc: NDArray[np.float64]

    @property
    def final_auc(self) -> float:
        """Mean over seeds after the last epoch."""
        return float(self.auc[:, -1].mean())


@dataclass(frozen=True, slots=True)
class Collisions:
    """Result of `collisions`.

    Args:
        arms: by name.
    """

    arms: Mapping[str, Arm]

    @property
    def gap(self) -> float:
        """Final AUC without collisions less that with hashed ids, mean over seeds."""
        return self.arms["collisionless"].final_auc - self.arms["hashed"].final_auc

    @property
    def above_every_epoch(self) -> float:
        """Share of epochs after which the collisionless table was above, by the mean over seeds."""
        ours, theirs = (self.arms[name].auc.mean(0) for name in ("collisionless", "hashed"))
        return float((ours > theirs).mean())


def collisions(
    data: ExampleBatch,
    *,
    space_ratio: float = PAPER_SPACE_RATIO,
    seeds: Sequence[int] = (0, 1, 2),
    epochs: int = 4,
    held_out: float = 0.2,
    quotient: bool = True,
    setup: Setup = USUAL,
) -> Collisions:
    """AUC after each epoch with and without collisions, on a random split.

    Args:
        data: rows in any order.
        space_ratio: space of the hash over the number of distinct ids, per feature.
        seeds: of split, order, table and model; a run of each arm for each.
        epochs: passes over the training rows.
        held_out: share of the rows to measure on.
        quotient: run that arm, too.
        setup: how to train.

    Raises:
        InputError: nothing to train or to measure on, or a ratio that is not positive.
    """
    held = int(len(data) * held_out)
    if not 0 < held < len(data) or epochs < 1 or not seeds or space_ratio <= 0:
        raise InputError(
            f"{len(data)} rows with {held_out} held out, {epochs} epochs, {len(seeds)} seeds, ratio {space_ratio} "
            "leave nothing to compare"
        )
    arms = {}
    for name in ("collisionless", "hashed", *(["quotient"] if quotient else [])):
        disguised, rates = _disguised(data, name, space_ratio)
        arms[name] = Arm(name, rates, np.array([_run(disguised, held, seed, epochs, setup) for seed in seeds]))
    return Collisions(arms)


def _run(data: ExampleBatch, held: int, seed: int, epochs: int, setup: Setup) -> list[float]:
    random = np.random.default_rng(seed)
    order = random.permutation(len(data))
    test, training = data.take(order[:held]), order[held:]
    trainer = setup.trainer(tuple(data.ids), data.dense.shape[1], seed)
    aucs = []
    for _ in range(epochs):
        setup.learn(trainer, data.take(random.permutation(training)))
        aucs.append(auc(test.label, trainer.predict(test)))
    return aucs


def _disguised(data: ExampleBatch, name: str, space_ratio: float) -> tuple[ExampleBatch, dict[str, float]]:
    ids, rates = {}, {}
    for slot, (feature, bags) in enumerate(data.ids.items(), 1):
        known, where = np.unique(bags.values, return_inverse=True)
        if name == "quotient":
            ids[feature], rates[feature] = _quotient(bags, where, len(known), slot), 0.0
            continue
        names = known if name == "collisionless" else hashed(known, max(1, round(space_ratio * len(known))), slot)
        ids[feature] = Bags(names[where], bags.offsets)
        rates[feature] = 1 - len(np.unique(names)) / max(len(known), 1)
    return ExampleBatch(ids, data.dense, data.label, data.weight, data.sample_rate, data.ts_ms), rates


def hashed(ids: Ints, space: int, slot: int) -> Ints:
    """Ids through the paper's MD5 into a space of a slot.

    Args:
        ids: distinct.
        space: size.
        slot: so that features do not share rows.

    >>> len(set(hashed(np.arange(1000), 6170, 1).tolist()))
    926
    """
    return fid_v2(slot, md5_hash_trick(ids.tolist(), space))


def _quotient(bags: Bags, where: Ints, vocabulary: int, slot: int) -> Bags:
    """Each id as a bag of two: number modulo and number divided by the root of the vocabulary."""
    root = max(1, int(np.ceil(np.sqrt(vocabulary))))
    both = np.stack([where % root, where // root + root], 1)
    return Bags(fid_v2(slot, both.ravel()), bags.offsets * 2)
