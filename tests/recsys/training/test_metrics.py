"""Metrics against scikit-learn, windows against cutting the stream by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss as sk_log_loss
from sklearn.metrics import roc_auc_score

from nonet.common.errors import InputError
from nonet.recsys.training.metrics import Windows, auc, calibration, log_loss, measure, normalised_entropy

rows = st.lists(
    st.tuples(st.booleans(), st.sampled_from([0.0, 0.125, 0.25, 0.3, 0.5, 0.75, 1.0]), st.floats(0.1, 5)),
    min_size=2,
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(rows)
def test_against_scikit_learn_with_ties_and_weights(drawn):
    y, p, w = (np.array(column) for column in zip(*drawn, strict=True))
    y = y.astype(float)
    if len(set(y)) == 1:
        assert math.isnan(auc(y, p)) and math.isnan(normalised_entropy(y, p))
        return
    assert auc(y, p, w) == pytest.approx(roc_auc_score(y, p, sample_weight=w), abs=1e-12)
    assert auc(y, p) == pytest.approx(roc_auc_score(y, p), abs=1e-12)
    clipped = np.clip(p, 1e-7, 1 - 1e-7)
    assert log_loss(y, p, w) == pytest.approx(sk_log_loss(y, clipped, sample_weight=w), rel=1e-9)
    base = np.full(len(y), np.average(y, weights=w))
    expected = sk_log_loss(y, clipped, sample_weight=w) / sk_log_loss(y, base, sample_weight=w)
    assert normalised_entropy(y, p, w) == pytest.approx(expected, rel=1e-9)
    assert calibration(y, p, w) == pytest.approx((w * p).sum() / (w * y).sum())


def test_nothing_to_measure():
    none = np.empty(0)
    whole = measure(none, none)
    assert whole.rows == 0 and all(math.isnan(v) for v in (whole.auc, whole.log_loss, whole.calibration))
    left_out = measure(np.array([1.0, 0.0, 1.0]), np.array([0.5, np.nan, 0.25]), ts_ms=np.array([5, 1, 9]))
    assert (left_out.rows, left_out.positives, left_out.first_ts_ms, left_out.last_ts_ms) == (2, 2, 5, 9)


def random_rows(size=500, seed=1):
    draw = np.random.default_rng(seed)
    ts = np.sort(draw.integers(0, 10_000, size))
    return draw.integers(0, 2, size).astype(float), draw.random(size).astype(np.float32), draw.random(size), ts


@pytest.mark.parametrize("chunk", [1, 7, 100, 500])
def test_windows_by_rows_do_not_depend_on_how_rows_come(chunk):
    columns = random_rows()
    windows = Windows(rows=60)
    done = []
    for start in range(0, 500, chunk):
        done += windows.add(*(column[start : start + chunk] for column in columns))
    assert windows.pending == 20
    done += windows.flush()
    assert windows.flush() == []
    expected = [measure(*(column[start : start + 60] for column in columns)) for start in range(0, 500, 60)]
    assert [w.rows for w in done] == [w.rows for w in expected]
    for ours, theirs in zip(done, expected, strict=True):
        assert ours.auc == pytest.approx(theirs.auc) and ours.log_loss == pytest.approx(theirs.log_loss, rel=1e-5)
        assert (ours.first_ts_ms, ours.last_ts_ms) == (theirs.first_ts_ms, theirs.last_ts_ms)


@pytest.mark.parametrize("chunk", [1, 33, 500])
def test_windows_by_time(chunk):
    y, p, w, ts = random_rows()
    windows = Windows(rows=10_000, span_ms=2_500)
    done = []
    for start in range(0, 500, chunk):
        done += windows.add(*(column[start : start + chunk] for column in (y, p, w, ts)))
    done += windows.flush()
    assert [window.rows for window in done] == np.bincount(ts // 2_500).tolist()
    for number, window in enumerate(done):
        mine = ts // 2_500 == number
        assert window.auc == pytest.approx(auc(y[mine], p[mine], w[mine]), rel=1e-6)
    assert windows.late == 0


def test_late_rows_count_where_they_arrive():
    windows = Windows(rows=100, span_ms=10)
    ones = np.ones(4)
    assert windows.add(ones, ones, ones, np.array([5, 15, 7, 16]))[0].rows == 1
    assert windows.add(np.ones(1), np.ones(1), None, np.array([3])) == []
    assert windows.late == 2 and windows.flush()[0].rows == 4


def test_a_window_by_time_is_bounded_by_rows():
    windows = Windows(rows=3, span_ms=1000)
    assert [w.rows for w in windows.add(np.ones(7), np.ones(7), None, np.zeros(7, int))] == [3, 3]
    with pytest.raises(InputError, match="rows >= 1"):
        Windows(rows=0)
