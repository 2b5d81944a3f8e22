"""The generator keeps the half-life, the rates and the lifetimes that it is asked for."""

import numpy as np
import pytest

from nonet.common.errors import InputError
from nonet.recsys.example import ActionEvent, FeatureEvent
from nonet.recsys.freshness.drift import Drift
from nonet.recsys.training.metrics import auc, calibration


def test_the_same_seed_gives_the_same_log():
    first, again, other = (Drift(rows=500, seed=seed).log() for seed in (1, 1, 2))
    assert (first.logit == again.logit).all() and (first.examples.label == again.examples.label).all()
    assert (first.logit != other.logit).any()


def test_labels_follow_the_true_log_odds():
    log = Drift(rows=60_000, seed=3).log()
    p = 1 / (1 + np.exp(-log.logit.astype(float)))
    assert calibration(log.examples.label, p) == pytest.approx(1, abs=0.03)
    assert log.oracle_auc == auc(log.examples.label, p)
    # Where the truth says 20 to 30 %, 20 to 30 % are clicked.
    mine = (p > 0.2) & (p < 0.3)
    assert 0.23 < log.examples.label[mine].mean() < 0.27
    assert (np.diff(log.examples.ts_ms) >= 0).all()


@pytest.mark.parametrize("half_life", [2.0, 12.0])
def test_tastes_forget_with_the_half_life(half_life):
    """Without trends, corr(<p, q>(t), <p, q>(t + lag)) = 2^(-2 lag / H): either factor halves after H."""
    drift = Drift(
        rows=120_000, users=5, items=4, hours=400, half_life_hours=half_life, lifetime_hours=1e6, trend_scale=0, seed=4
    )
    log = drift.log()
    hours = (log.examples.ts_ms - log.examples.ts_ms[0]) / 3.6e6
    pairs = {}
    for key in range(20):
        mine = np.flatnonzero((log.user == key // 4) & (log.item == key % 4))
        steps = (hours[mine] / (half_life / 4)).astype(int)
        sums, counts = np.bincount(steps, log.logit[mine] + 1), np.bincount(steps)
        series = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
        pairs[key] = series

    def correlation(lag):
        left = np.concatenate([series[:-lag] for series in pairs.values()])
        right = np.concatenate([series[lag:] for series in pairs.values()])
        both = ~np.isnan(left) & ~np.isnan(right)
        return (left[both] * right[both]).mean() / (left[both] ** 2).mean()

    assert correlation(2) == pytest.approx(2 ** (-1.0), abs=0.12)  # lag H / 2
    assert correlation(4) == pytest.approx(2 ** (-2.0), abs=0.12)  # lag H


def test_items_come_and_go():
    log = Drift(rows=50_000, hours=200, items=100, lifetime_hours=20, half_life_hours=50, seed=5).log()
    early, late = set(log.item[:10_000].tolist()), set(log.item[-10_000:].tolist())
    assert len(early - late) > 50 and len(late - early) > 50
    counts = np.sort(np.bincount(log.item))[::-1]
    assert counts[:10].sum() > 5 * counts[50:60].sum()


def test_events_carry_the_labels_and_come_by_time():
    log = Drift(rows=2000, seed=6).log()
    events = list(log.events())
    times = [event.ts_ms for event in events]
    assert times == sorted(times)
    shown = {event.request_id: event for event in events if isinstance(event, FeatureEvent)}
    clicks = {event.request_id: event for event in events if isinstance(event, ActionEvent)}
    assert len(shown) == 2000 and len(clicks) == int(log.examples.label.sum())
    for row in np.flatnonzero(log.examples.label).tolist():
        key = f"drift:{row}".encode()
        assert clicks[key].item_id == shown[key].item_id
        assert clicks[key].ts_ms - shown[key].ts_ms == log.delay_ms[row]
    delays_s = Drift(rows=50_000, seed=7).log().delay_ms / 1000
    assert np.median(delays_s) == pytest.approx(
        30 * np.log(2) * 1.06, rel=0.1
    )  # of the mixture, nearly the quick part's
    assert (delays_s > 3600).mean() == pytest.approx(0.05, abs=0.01)


def test_sizes_that_cannot_be():
    with pytest.raises(InputError, match="positive sizes"):
        Drift(users=0)
    with pytest.raises(InputError, match="at most 100,000"):
        Drift(hours=10_000, half_life_hours=0.1)
