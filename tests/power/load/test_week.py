"""Synthetic weeks against what they are told to be."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from nonet.common.errors import InputError
from nonet.power.load.services import POLCA_MIX, Service
from nonet.power.load.week import WeekConfig, even_requests, generate_week, weekly_shape


def test_rate_mix_and_lengths():
    load = generate_week(WeekConfig(requests_per_s=0.5), days=7, seed=3)
    expected = 0.5 * 7 * 86_400
    assert abs(len(load) - expected) < 4 * np.sqrt(expected)
    for index, kind in enumerate(POLCA_MIX):
        own = load.service == index
        assert abs(own.mean() - kind.share) < 0.01
        assert load.prompt_tokens[own].min() == pytest.approx(kind.prompt_tokens[0], rel=0.01)
        assert load.prompt_tokens[own].max() == pytest.approx(kind.prompt_tokens[1], rel=0.01)
        assert load.output_tokens[own].mean() == pytest.approx(np.mean(kind.output_tokens), rel=0.01)
        assert abs((load.priority[own] == 0).mean() - kind.low_share) < 0.02


def test_hours_follow_the_shape():
    load = generate_week(WeekConfig(requests_per_s=2.0, conv_share=0.25), days=7, seed=1)
    hours = np.bincount((load.arrival_s // 3600).astype(int), minlength=168) / 7200
    shape = weekly_shape(0.25)
    # Within an hour the rate goes straight from one middle to the next, so peaks are a little lower.
    assert np.abs(hours - shape).max() < 0.12
    assert np.abs(hours - shape).mean() < 0.03


def test_flat_traffic_is_poisson():
    load = generate_week(WeekConfig(requests_per_s=1.0, flatness=1.0), days=7, seed=5)
    counts = np.bincount((load.arrival_s // 2).astype(int), minlength=302_400)
    assert counts.var() / counts.mean() == pytest.approx(1.0, abs=0.02)


def test_bursts_keep_the_rate_and_add_variance_which_grows_with_the_row():
    bursty = WeekConfig(requests_per_s=1.0, flatness=1.0, burst_share=0.3, burst_size=10, burst_spread_s=1.0)
    ratios = []
    for factor in (1.0, 1.3):
        load = generate_week(bursty.scaled(factor), days=7, seed=6)
        counts = np.bincount((load.arrival_s // 10).astype(int), minlength=60_480)
        assert counts.mean() == pytest.approx(10 * factor, rel=0.02)
        ratios.append(counts.var() / counts.mean())
    # A burst of one plus Poisson(m - 1) counts as E[k^2]/m = m + 1 - 1/m in its share of the requests; bins cut some.
    assert ratios[0] == pytest.approx(0.7 + 0.3 * 10.9, rel=0.1)
    assert ratios[1] == pytest.approx(0.7 + 0.3 * 13.92, rel=0.1)


def test_days_are_the_same_whatever_is_asked_for():
    config = WeekConfig(requests_per_s=0.2, burst_share=0.2)
    three = generate_week(config, days=3, seed=9)
    third = generate_week(config, days=1, seed=9, start_day=2)
    tail = three.between(2 * 86_400, 3 * 86_400)
    # Rounding of the day's offset aside; a burst may reach over midnight.
    assert abs(len(tail) - len(third)) <= 10
    assert np.array_equal(tail.prompt_tokens[-100:], third.prompt_tokens[-100:])
    other = generate_week(config, days=3, seed=10)
    assert len(other) != len(three) or not np.array_equal(other.arrival_s, three.arrival_s)
    assert np.array_equal(generate_week(config, days=3, seed=9).arrival_s, three.arrival_s)


def test_even_requests_follow_their_rates():
    rates = np.array([0.5, 0.0, 3.0])
    load = even_requests(rates, 60.0, POLCA_MIX, seed=0)
    counts = np.bincount((load.arrival_s // 60).astype(int), minlength=3)
    assert np.abs(counts - rates * 60).max() <= 1


def test_shape_is_the_digitised_one():
    mirror = os.environ.get("NONET_MIRROR")
    path = Path(mirror or "/nowhere") / "power/azure2024_week_rate_digitized.csv"
    if not path.is_file():
        pytest.skip("needs azure2024_week_rate_digitized.csv in NONET_MIRROR")
    sums, counts = {"code": [0.0] * 168, "conv": [0.0] * 168}, {"code": [0] * 168, "conv": [0] * 168}
    first_day = {"code": 4, "conv": 6}
    with path.open() as file:
        for row in csv.DictReader(file):
            minute = (float(row["minute_offset"]) - 3.6 + first_day[row["trace"]] * 1440) % 10080
            sums[row["trace"]][int(minute // 60)] += float(row["req_per_min_mid"])
            counts[row["trace"]][int(minute // 60)] += 1
    for name, conv_share in (("code", 0.0), ("conv", 1.0)):
        hours = np.array(sums[name]) / np.array(counts[name])
        assert np.allclose(weekly_shape(conv_share), hours / hours.mean(), atol=1e-3)


def test_refused():
    with pytest.raises(InputError, match="days"):
        generate_week(WeekConfig(requests_per_s=1), days=0)
    with pytest.raises(ValidationError):
        WeekConfig(requests_per_s=0)
    with pytest.raises(ValidationError, match="extra"):
        WeekConfig(requests_per_s=1, typo=2)
    with pytest.raises(ValidationError, match="range"):
        Service(name="x", prompt_tokens=(9, 1), output_tokens=(1, 1), share=1, low_share=0)
    with pytest.raises((ValidationError, InputError), match="twice"):
        WeekConfig(requests_per_s=1, services=(POLCA_MIX[0], POLCA_MIX[0]))
