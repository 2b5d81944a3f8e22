"""Guards: rows and series with one planted fault each."""

from __future__ import annotations

import numpy as np
import pytest

from nonet.common.errors import InputError
from nonet.power.policies import Priority
from nonet.power.policies.guards import refuse_training, row_warnings, series_doubts


def test_rows_of_one_class_are_named():
    assert "degenerates" in row_warnings([Priority.HIGH] * 3, 0.8, 0.89)[0]
    assert "low priority" in row_warnings([Priority.LOW] * 3, 0.8, 0.89)[0]
    assert row_warnings([Priority.LOW, Priority.HIGH], 0.8, 0.89, rise_cap=0.1) == ()


@pytest.mark.parametrize("t1", [0.89, 0.95])
def test_t1_must_be_below_t2(t1):
    with pytest.raises(InputError, match="not below"):
        row_warnings([Priority.LOW], t1, 0.89)


def test_a_stuck_sensor_is_counted_and_a_short_repetition_is_not():
    power_w = np.random.default_rng(0).normal(100e3, 1e3, 500)
    assert series_doubts(power_w, 200e3) == ()
    power_w[100:120] = 99e3
    assert series_doubts(power_w, 200e3) == ()
    power_w[200:240] = 98e3
    assert series_doubts(power_w, 200e3)[0].startswith("40 samples are stuck")


def test_training_is_refused_and_inference_and_lies_are_not():
    noise = np.random.default_rng(1).normal(0, 4e3, 2000)
    inference = 140e3 + noise
    refuse_training(inference, 200e3)
    lying = inference.copy()
    lying[::100] *= 10
    lying[50::100] = np.nan
    lying[25::100] = -1.0
    refuse_training(lying, 200e3)
    training = inference + np.where(np.arange(2000) % 7 == 0, -75e3, 0.0)
    with pytest.raises(InputError, match="training job"):
        refuse_training(training, 200e3)
