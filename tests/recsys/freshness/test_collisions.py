"""Collisions: the published counts, and an effect that must be there."""

import hashlib

import numpy as np
import pytest

from nonet.common.errors import InputError
from nonet.recsys.freshness.collisions import collisions, hashed
from nonet.recsys.freshness.setup import Setup
from tests.recsys.training.batches import random_batch, with_columns


@pytest.mark.parametrize(("vocabulary", "left"), [(162_541, 149_970), (59_047, 57_361)])
def test_published_counts(vocabulary, left):
    """Table 1 of the paper, users and movies of MovieLens-25M, in a space of a million."""
    assert len(np.unique(hashed(np.arange(vocabulary), 1_000_000, 1))) == left


def test_the_hash_is_the_one_that_is_said():
    ids = np.array([0, 7, -3, 2**62])
    expected = [int(hashlib.md5(str(n).encode()).hexdigest(), 16) % 100 + (5 << 48) for n in ids.tolist()]
    assert hashed(ids, 100, 5).tolist() == expected


def rows_with_taste(size=4000):
    """Every id has a click rate of its own, so that a shared row must lose."""
    batch = random_batch(size, vocabulary=150, seed=4)
    rate = np.random.default_rng(5).uniform(0.02, 0.98, 151)
    odds = rate[batch.ids["a"].values % (1 << 20)] * rate[batch.ids["b"].values % (1 << 20)]
    return with_columns(batch, label=(np.random.default_rng(6).random(size) < odds).astype(np.float32))


def test_more_collisions_cost_more():
    data, setup = rows_with_taste(), Setup("lr", 1, batch_rows=64, learning_rate=0.2)
    few = collisions(data, seeds=[0], epochs=2, setup=setup)
    many = collisions(data, space_ratio=0.3, seeds=[0], epochs=2, setup=setup, quotient=False)
    assert few.arms["collisionless"].auc.shape == (1, 2)
    assert few.arms["collisionless"].collision_rate == {"a": 0, "b": 0}
    assert 0 < few.arms["hashed"].collision_rate["a"] < 0.2 < 0.6 < many.arms["hashed"].collision_rate["a"]
    assert many.gap > 0.05 > abs(few.gap) and many.above_every_epoch == 1
    assert many.gap > few.gap and set(many.arms) == {"collisionless", "hashed"}
    assert (few.arms["collisionless"].auc == many.arms["collisionless"].auc).all()
    # Remainder and quotient: 26 rows for 150 ids know less than 150.
    assert few.arms["quotient"].final_auc < few.arms["collisionless"].final_auc - 0.02


def test_nothing_to_compare():
    data = random_batch(10)
    for options in ({"held_out": 0.0}, {"epochs": 0}, {"seeds": []}, {"space_ratio": 0}):
        with pytest.raises(InputError, match="nothing to compare"):
            collisions(data, **options)
