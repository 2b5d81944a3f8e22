"""Log-odds correction against the odds that are known, and that it cannot be done twice."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nonet.common.errors import InputError
from nonet.recsys.example import Bags, ExampleBatch
from nonet.recsys.training.correction import STAGES, LogOdds, RateGuard
from nonet.recsys.training.presets import preset_table
from nonet.recsys.training.trainer import Trainer
from tests.recsys.training.batches import random_batch, with_columns


@given(st.floats(0.001, 0.999), st.floats(0.01, 1))
def test_formulas_undo_the_sampling(p, r):
    # Of p positives and 1 - p negatives, r of the latter are kept.
    sampled = np.array([p / (p + (1 - p) * r)], np.float64)
    assert LogOdds("serving").served(sampled, np.array([r])) == pytest.approx(p, rel=1e-4)
    logit = np.log(p / (1 - p)) + LogOdds("training").shift(np.array([r], np.float32))
    assert 1 / (1 + np.exp(-logit)) == pytest.approx(sampled, rel=1e-4)


def test_each_stage_changes_one_place_only():
    batch = with_columns(random_batch(10), sample_rate=np.full(10, 0.25, np.float32))
    p = np.full(10, 0.5, np.float32)
    for stage in STAGES:
        one = LogOdds(stage)
        changes = (
            (one.shift(batch.sample_rate) != 0).any(),
            (one.loss_weight(batch) != batch.weight).any(),
            (one.served(p, batch.sample_rate) != p).any(),
        )
        assert sum(changes) == (stage != "none"), stage
    given_rate = LogOdds("training", rate=0.5).shift(batch.sample_rate)
    assert given_rate == pytest.approx(np.full(10, np.log(2)))


def sampled_clicks(rate_of, size=60_000, seed=0, *, record_for_positives=True):
    """Clicks with one known rate for each of four ids; negatives kept with a rate that depends on the id."""
    truth = np.array([0.05, 0.1, 0.3, 0.6])
    draw = np.random.default_rng(seed)
    which = draw.integers(0, 4, size)
    label = (draw.random(size) < truth[which]).astype(np.float32)
    rate = np.asarray(rate_of, np.float32)[which]
    kept = np.flatnonzero((label > 0) | (draw.random(size) < rate))
    if not record_for_positives:
        rate = np.where(label > 0, np.float32(1), rate)
    ones = np.ones(size, np.float32)
    whole = ExampleBatch(
        {"a": Bags.single(which)}, np.zeros((size, 0), np.float32), label, ones, rate, np.zeros(size, np.int64)
    )
    return truth, whole.take(kept)


def learned(correction, rows):
    trainer = Trainer("lr", preset_table("lr", 0, learning_rate=0.5), features=["a"], correction=correction)
    for start in [*range(0, len(rows), 1000)] * 3:
        trainer.step(rows.take(slice(start, start + 1000)))
    asked = ExampleBatch(
        {"a": Bags.single(np.arange(4))}, np.zeros((4, 0), np.float32), *np.ones((2, 4), np.float32),
        np.array([rows.sample_rate[rows.ids["a"].values == n].min() for n in range(4)]), np.zeros(4, np.int64),
    )  # fmt: skip
    return trainer.predict(asked)


@pytest.mark.parametrize("rates", [[0.1] * 4, [0.1, 0.5, 0.05, 0.8]])
def test_every_stage_finds_the_true_rates(rates):
    for stage, recorded in (("training", True), ("serving", True), ("weights", False)):
        truth, rows = sampled_clicks(rates, record_for_positives=recorded)
        assert learned(LogOdds(stage), rows) == pytest.approx(truth, rel=0.2), stage
    truth, rows = sampled_clicks(rates)
    assert (learned(LogOdds("none"), rows) > 1.2 * truth)[:3].all()


def test_a_log_with_whole_positives_is_noticed():
    _, rows = sampled_clicks([0.1, 0.5, 0.05, 0.8], record_for_positives=False)
    for stage in ("training", "serving"):
        with pytest.raises(InputError, match=r'every positive has sample_rate 1.*use the stage "weights"'):
            learned(LogOdds(stage), rows)
    learned(LogOdds("training", rate=0.1), rows)  # one given rate does not depend on the log


def test_the_guard_sleeps_where_rates_make_sense():
    guard = RateGuard(LogOdds("training"))
    y, whole = np.array([1.0, 0.0] * 200), np.ones(400)
    for _ in range(3):
        guard.check(y, whole)
    mixed = RateGuard(LogOdds("training"))
    mixed.check(y, np.where(np.arange(400) == 3, 1.0, 0.5))
    guard = RateGuard(LogOdds("training"))
    guard.check(np.zeros(1000), np.full(1000, 0.1))  # no positive yet


def test_settings_that_cannot_be():
    with pytest.raises(InputError, match="unknown stage 'both'"):
        LogOdds("both")
    for rate in (0, 1.5, -1):
        with pytest.raises(InputError, match=r"in \(0, 1\]"):
            LogOdds("training", rate=rate)
