"""The batch stage against scikit-learn's measures, and against a trainer run by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from nonet.common.errors import InputError
from nonet.recsys.config import JobFile
from nonet.recsys.example import Example, encode
from nonet.recsys.logs import Record, SegmentLog
from nonet.recsys.reading.blocks import BadLines
from nonet.recsys.reading.examples import read_sorted
from nonet.recsys.running.batch_stage import FileRows, train_file, train_log
from nonet.recsys.running.parts import build_trainer, data_format
from nonet.recsys.running.starting import columns_of, job_for


@pytest.fixture
def ratings(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    lines = [
        f"{draw.integers(20)},{draw.integers(30)},{draw.integers(1, 6)},{draw.integers(1_000_000)}" for _ in range(1000)
    ]
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n" + "\n".join(lines) + "\n")
    return tmp_path / "ratings.csv"


@pytest.fixture
def job(ratings: Path) -> JobFile:
    return job_for(columns_of(ratings))


def rows_of(path: Path, job: JobFile, bad: BadLines | None = None) -> FileRows:
    return FileRows(path, data_format(job, path), job.features.encoders(), item=job.features.item, bad=bad)


def test_windows_are_measured_as_scikit_learn_does_and_rows_come_by_time(ratings: Path, job: JobFile) -> None:
    done = train_file(build_trainer(job), rows_of(ratings, job), batch_rows=50, window_rows=400)
    byhand, data = build_trainer(job), read_sorted(ratings)
    answers = [byhand.step(data.take(slice(n, n + 50))).probability for n in range(0, 1000, 50)]
    probability = np.concatenate(answers)
    assert [window.rows for window in done.windows] == [400, 400, 200]
    for window, part in zip(done.windows, (slice(0, 400), slice(400, 800), slice(800, 1000)), strict=True):
        label = data.label[part]
        assert window.auc == pytest.approx(roc_auc_score(label, probability[part]))
        assert window.log_loss == pytest.approx(log_loss(label, probability[part].astype(float)), rel=1e-5)
        assert window.calibration == pytest.approx(probability[part].sum() / label.sum(), rel=1e-5)
    assert done.whole is not None
    assert done.whole.auc == pytest.approx(roc_auc_score(data.label, probability))
    assert (done.whole.first_ts_ms, done.whole.last_ts_ms) == (data.ts_ms[0], data.ts_ms[-1])
    assert (done.rows, done.event_ts_ms) == (1000, data.ts_ms[-1])
    assert done.keys == {"user": len(np.unique(np.concatenate([bag.values for bag in data.ids.values()])))}


def test_one_pass_goes_by_the_file_and_epochs_go_on(ratings: Path, job: JobFile) -> None:
    one = train_file(build_trainer(job), rows_of(ratings, job), batch_rows=50, one_pass=True)
    by_time = train_file(build_trainer(job), rows_of(ratings, job), batch_rows=50)
    twice = train_file(build_trainer(job), rows_of(ratings, job), batch_rows=50, epochs=2)
    assert one.whole is not None and by_time.whole is not None and twice.whole is not None
    assert one.whole.auc != by_time.whole.auc
    assert (twice.rows, twice.whole) == (2000, by_time.whole)  # the second epoch has seen the answers
    with pytest.raises(InputError, match="one pass is one epoch"):
        train_file(build_trainer(job), rows_of(ratings, job), batch_rows=50, one_pass=True, epochs=2)


@pytest.mark.parametrize("one_pass", [False, True])
def test_rows_from_a_time_on_are_left(ratings: Path, job: JobFile, one_pass: bool) -> None:
    until_ms = 400_000_000
    expected = int((read_sorted(ratings).ts_ms < until_ms).sum())
    done = train_file(build_trainer(job), rows_of(ratings, job), batch_rows=64, one_pass=one_pass, until_ms=until_ms)
    assert (done.rows, done.event_ts_ms < until_ms) == (expected, True)
    with pytest.raises(InputError, match="no rows before --until"):
        train_file(build_trainer(job), rows_of(ratings, job), batch_rows=64, one_pass=one_pass, until_ms=0)


def test_items_are_found_and_bad_lines_are_counted(ratings: Path, job: JobFile) -> None:
    ratings.write_text(ratings.read_text() + "1,2\n")
    done = train_file(build_trainer(job), rows_of(ratings, job, BadLines("skip")), batch_rows=64)
    data = read_sorted(ratings, bad=BadLines("skip"))
    assert {ids["item"][0] for ids in done.items.values()} == set(data.ids["item"].values.tolist())
    assert done.bad_lines == 1
    with pytest.raises(InputError, match="line 1002: 2 fields"):
        train_file(build_trainer(job), rows_of(ratings, job), batch_rows=64)


def test_a_threshold_keeps_rare_ids_out(ratings: Path) -> None:
    job = job_for(columns_of(ratings))
    features = job.features.model_copy(update={"defaults": job.features.defaults.model_copy(update={"threshold": 36})})
    done = train_file(build_trainer(job.model_copy(update={"features": features})), rows_of(ratings, job), batch_rows=1)
    data = read_sorted(ratings)
    counts = np.unique(np.concatenate([bag.values for bag in data.ids.values()]), return_counts=True)[1]
    assert done.keys == {"user": int((counts >= 36).sum())}
    assert done.admitted == pytest.approx(np.maximum(counts - 35, 0).sum() / counts.sum())


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SegmentLog]:
    with SegmentLog(tmp_path / "log") as opened:
        yield opened


def test_a_log_is_learned_from_where_the_trainer_stands(log: SegmentLog, job: JobFile) -> None:
    with pytest.raises(InputError, match="has no topic 'examples'"):
        train_log(build_trainer(job), log, job)
    log.create("examples")
    rows = [
        Example(request_id=b"", item_id=f"i{n % 5}".encode(), ts_ms=n, ids={"item": [n % 5], "user": [9]}, label=n % 2)
        for n in range(300)
    ]
    log.append("examples", 0, [Record(b"", encode(row), row.ts_ms) for row in rows])
    trainer = build_trainer(job)
    first = train_log(trainer, log, job, until_ms=200)
    second = train_log(trainer, log, job)
    assert (first.rows, second.rows, dict(trainer.offsets)) == (200, 100, {"examples:0": 300})
    assert set(first.items) == {f"i{n}" for n in range(5)}
    with pytest.raises(InputError, match="no examples to learn"):
        train_log(trainer, log, job)
