"""Batches and events of a file, against the rows as Python reads them."""

import numpy as np
import pytest

from nonet.common.datasets import DATASETS, fetch, is_local
from nonet.common.errors import InputError
from nonet.recsys import data
from nonet.recsys.example import ActionEvent, FeatureEvent
from nonet.recsys.features.encoder import FeatureEncoder
from nonet.recsys.reading.examples import concatenate, read_batches, read_events, read_sorted

ROWS = [(n % 7, n % 11, 1 + n % 5, 1000 - 3 * (n % 50)) for n in range(230)]


@pytest.fixture
def ratings(tmp_path):
    path = tmp_path / "ratings.csv"
    lines = ["userId,movieId,rating,timestamp", *(",".join(map(str, row)) for row in ROWS)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_batches_hold_every_row_in_order(ratings):
    batches = list(read_batches(ratings, rows=64))
    assert [len(batch) for batch in batches] == [64, 64, 64, 38]
    whole = concatenate(batches)
    users = FeatureEncoder("user", 1).ids([str(row[0]) for row in ROWS])
    items = FeatureEncoder("item", 2).ids([str(row[1]) for row in ROWS])
    assert (whole.ids["user"].values == users).all() and (whole.ids["item"].values == items).all()
    assert whole.label.tolist() == [float(row[2] >= 3.5) for row in ROWS]
    assert whole.ts_ms.tolist() == [row[3] * 1000 for row in ROWS]
    assert len(concatenate(list(read_batches(ratings, rows=64, max_rows=100)))) == 100
    with pytest.raises(InputError, match="at least one row"):
        next(read_batches(ratings, rows=0))


def test_sorted_rows_keep_the_order_of_the_file_within_a_time(ratings):
    whole = read_sorted(ratings, label="rating = 1")
    expected = sorted(ROWS, key=lambda row: row[3])
    assert whole.ts_ms.tolist() == [row[3] * 1000 for row in expected]
    assert whole.label.tolist() == [float(row[2] == 1) for row in expected]
    assert (whole.ids["user"].values == FeatureEncoder("user", 1).ids([str(row[0]) for row in expected])).all()


def test_events_are_what_a_live_system_would_log(ratings):
    events = list(read_events(ratings, action="like", delay_mean_s=60, seed=3))
    shown = [event for event in events if isinstance(event, FeatureEvent)]
    done = {event.request_id: event for event in events if isinstance(event, ActionEvent)}
    assert len(shown) == len(ROWS) and len({event.request_id for event in shown}) == len(ROWS)
    for event, (user, item, rating, seconds) in zip(shown, ROWS, strict=True):
        assert event.item_id == str(item).encode() and event.ts_ms == seconds * 1000
        assert event.ids["user"] == FeatureEncoder("user", 1).ids([str(user)]).tolist()
        assert (event.request_id in done) == (rating >= 3.5)
    for event in shown:
        if action := done.get(event.request_id):
            assert (action.item_id, action.action) == (event.item_id, "like") and action.ts_ms >= event.ts_ms
    delays = [done[e.request_id].ts_ms - e.ts_ms for e in shown if e.request_id in done]
    assert 40_000 < np.mean(delays) < 90_000
    assert events == list(read_events(ratings, action="like", delay_mean_s=60, seed=3))


def test_no_rows_is_an_error(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("userId,movieId,rating,timestamp\n")
    with pytest.raises(InputError, match="no rows"):
        read_sorted(path)


@pytest.mark.parametrize(
    ("dataset", "rows", "positives"),
    [
        (data.ML_100K, 100_000, 0.55375),
        (data.ML_LATEST_SMALL, 100_004, 0.62104),
        (data.CRITEO_SAMPLE, 7200, 0.21514),
        (data.AVAZU, 8087, 0.17275),
        (data.OBD_SAMPLE, 10_000, 0.0042),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_real_files(dataset, rows, positives):
    assert DATASETS[dataset.name] is dataset
    if not is_local(dataset):
        pytest.skip(f"{dataset.name} is not at hand; set NONET_MIRROR")
    whole = concatenate(list(read_batches(fetch(dataset, download=False)["log"], rows=4096)))
    assert len(whole) == rows
    assert whole.label.mean() == pytest.approx(positives, abs=1e-5)
