"""The experiments on sampling and speed, small."""

import numpy as np
import pytest

from nonet.common.errors import InputError
from nonet.recsys.bench.rates import train_rates
from nonet.recsys.freshness.drift import Drift
from nonet.recsys.freshness.log_odds import implicit_negatives, log_odds
from nonet.recsys.freshness.setup import Setup
from tests.recsys.training.batches import random_batch


@pytest.mark.parametrize("other_rate", [None, 0.6])
def test_corrected_probabilities_are_calibrated(other_rate):
    data = Drift(rows=15_000, users=40, items=40, half_life_hours=1000, base_logit=-2, seed=1).log().examples
    setup = Setup("fm", 4, batch_rows=64, learning_rate=0.1)
    lines = {line.stage: line for line in log_odds(data, rate=0.2, other_rate=other_rate, setup=setup)}
    assert list(lines) == ["unsampled", "none", "training", "weights", "serving"]
    assert lines["none"].calibration > 1.4
    for stage in ("unsampled", "training", "weights", "serving"):
        assert lines[stage].calibration == pytest.approx(1, abs=0.15), stage
        assert lines[stage].auc > lines["unsampled"].auc - 0.03, stage


def test_implicit_negatives_keep_users_and_positives():
    data = random_batch(100, features=("user", "item"))
    stream = implicit_negatives(data, per_positive=3, seed=1)
    positives = data.take(np.flatnonzero(data.label))
    assert len(stream) == 4 * len(positives) and stream.label.sum() == len(positives)
    negatives = stream.take(np.flatnonzero(stream.label == 0))
    assert (negatives.ids["user"].values == np.repeat(positives.ids["user"].values, 3)).all()
    assert set(negatives.ids["item"].values.tolist()) <= set(data.ids["item"].values.tolist())
    with pytest.raises(InputError, match="per_positive"):
        implicit_negatives(data, per_positive=0)
    with pytest.raises(InputError, match="one item a row"):
        implicit_negatives(random_batch(20, features=("user", "item"), bags=True))


def test_settings_that_cannot_be():
    with pytest.raises(InputError, match=r"rates \[0.0, 0.0\]"):
        log_odds(random_batch(100), rate=0.0)


def test_rates_are_measured_on_the_rows():
    pytest.importorskip("river")
    rates = train_rates(random_batch(400), rows=400, single_rows=50, batch_rows=(128,), rounds=2)
    for rate in (rates.fm_batched, rates.fm_single, rates.river, rates.deepfm[128], rates.torch[128]):
        assert rate.rows_per_s == max(rate.rounds) > 0 and len(rate.rounds) == 2
    assert rates.vs_river == rates.fm_batched.rows_per_s / rates.river.rows_per_s
    assert rates.vs_torch == rates.deepfm[128].rows_per_s / rates.torch[128].rows_per_s
