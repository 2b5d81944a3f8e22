"""What the doctor says about sound and about sick jobs, snapshots and files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from nonet.common.errors import InputError
from nonet.recsys.example import ActionEvent, FeatureEvent, encode
from nonet.recsys.logs import Record
from nonet.recsys.running import keeping
from nonet.recsys.running.checking import Check, _live, check, check_job
from nonet.recsys.running.loop import Loop
from nonet.recsys.running.parts import build_trainer, open_job_log
from tests.recsys.running.conftest import MakeJob, eventually

STATUS: dict[str, Any] = {
    "staleness_s": 1.0,
    "lag": {"joiner": 0, "trainer": 0},
    "learned": 10,
    "admitted": 0.5,
    "expired": 5,
    "up_s": 43_200.0,
    "recoveries": 0,
    "snapshot": {"age_s": 30.0, "failures": 1, "failure": None},
    "trimmed": 0,
    "poison": 0,
    "arms": {
        "main": {"validation": {"rows": 1009, "positives": 200, "calibration": 1.1}},
        "wide": {
            "learned": 10,
            "trimmed": 0,
            "validation": {"rows": 1000, "positives": 200, "calibration": 1.0, "auc": 0.7},
        },
    },
}


def by_name(found: Sequence[Check]) -> dict[str, Check]:
    return {one.name: one for one in found}


def sick(found: Sequence[Check]) -> list[str]:
    return [one.name for one in found if one.state == "bad"]


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({}, None),
        ({"staleness_s": 1e4, "lag": {"joiner": 5, "trainer": 0}}, "staleness, s"),
        ({"staleness_s": 1e4}, None),  # nobody comes
        ({"staleness_s": 1e4, "lag": None}, "log"),
        ({"recoveries": 1}, "shards that failed"),
        ({"snapshot": {"age_s": 9e4, "failures": 2, "failure": "no room"}}, "snapshots that failed"),
        ({"trimmed": 3}, "examples trimmed unread"),
        ({"poison": 1}, "records that are no examples"),
        (
            {"arms": {"main": {"validation": {"rows": 1000, "positives": 200, "calibration": 1.4}}}},
            "calibration over 1,000 rows",
        ),
        ({"arms": {"main": {"validation": {"rows": 1000, "positives": 20, "calibration": 1.4}}}}, None),  # too few
        ({"arms": {"b": {"learned": 0, "trimmed": 7, "validation": {"rows": 0}}}}, "arm b: examples trimmed unread"),
    ],
)
def test_numbers_of_a_running_job(make_job: MakeJob, change: dict[str, Any], name: str | None) -> None:
    found = list(_live({**STATUS, **change}, make_job()))
    assert sick(found) == ([] if name is None else [name])
    assert by_name(found)["expired a day, keys"].value == 10


def test_an_old_staleness_is_told_where_nobody_comes_and_good_only_where_it_is_small(make_job: MakeJob) -> None:
    for staleness_s, state in ((1.0, "good"), (None, "good"), (3e8, "told")):
        found = list(_live({**STATUS, "staleness_s": staleness_s}, make_job()))
        assert by_name(found)["staleness, s"].state == state


def test_dead_letters_are_counted_by_reason_and_damage_is_found(make_job: MakeJob) -> None:
    job = make_job()
    now_ms = 1_700_000_000_000
    with open_job_log(job) as log:
        log.publish("actions", [Record(b"", b"\xc1", now_ms) for _ in range(20)])
        action = ActionEvent(request_id=b"nobody", item_id=b"i", ts_ms=now_ms)
        log.publish("actions", [Record(b"", encode(action), now_ms)])
        later = FeatureEvent(request_id=b"r", item_id=b"i", ts_ms=now_ms + 10**7)
        log.publish("features", [Record(b"", encode(later), now_ms + 10**7)])
    with Loop(job) as loop:
        eventually(lambda: loop.joiner.counts.dead_letters == 21)
        eventually(lambda: check_job(job)[0].value.startswith("process"))
        eventually(lambda: by_name(check_job(job))["joiner lags, records"].value == 0)
    found = check_job(job)
    letters = by_name(found)
    assert (letters["dead letters: poison"].value, letters["dead letters: poison"].state) == (20, "bad")
    assert (letters["dead letters: no_feature"].value, letters["dead letters: no_feature"].state) == (1, "good")
    assert letters["log, actions: sound records"].value >= 21
    assert letters["runs"].value == "no"
    segment = next((job.log.path / "features" / "0").glob("*.seg"))
    content = bytearray(segment.read_bytes())
    content[-3] ^= 1
    segment.write_bytes(content)
    assert "log, features" in sick(check_job(job))


def test_a_snapshot_with_numbers_that_are_none(make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job()
    trainer = build_trainer(job)
    table = trainer.tables["user"]
    table.upsert([1 << 48, (2 << 48) + 5], [[0.0] * 5, [float("nan")] * 5])
    keeping.save(tmp_path / "kept", job, trainer, {})
    found = check(tmp_path / "kept")
    assert sick(found) == ["table user: keys with NaN"]
    assert by_name(found)["table user: keys"].value == 2
    assert by_name(found)["feature item: pairs with one id, expected"].value == 0
    (tmp_path / "kept" / "state-00000001" / "table-0" / "manifest.json").write_text("{}")
    assert sick(check(tmp_path / "kept")) == ["snapshot"]


def test_a_file_of_rows(tmp_path: Path) -> None:
    file = tmp_path / "ratings.csv"
    file.write_text("userId,movieId,rating,timestamp\n1,2,4.0,100\n1,3,4.0,90\nx\n2,2,5.0,95\n")
    found = by_name(check(file))
    assert found["bad lines"].value == 1
    assert "line 4" in found["bad lines"].advice
    assert found["rows earlier than the one before"].value == 1
    assert (found["feature user: values"].value, found["feature user: pairs with one id"].value) == (2, 0)
    assert sick(list(found.values())) == ["bad lines", "positive by rating >= 3.5"]
    assert by_name(check(file, label="rating >= 5"))["positive by rating >= 5"].value == pytest.approx(1 / 3)
    with pytest.raises(InputError, match="a folder without a snapshot"):
        check(tmp_path)
