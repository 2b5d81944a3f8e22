"""Arms of an experiment: one log teaches all of them, users are dealt out, and each goes on after a restart."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nonet.common.errors import InputError
from nonet.recsys.config import JobFile, load_job
from nonet.recsys.example import Example, encode
from nonet.recsys.features.encoder import FeatureEncoder
from nonet.recsys.logs import Record
from nonet.recsys.running import keeping
from nonet.recsys.running.arms import arm_job
from nonet.recsys.running.checking import check_job
from nonet.recsys.running.loop import Loop, log_lags
from nonet.recsys.running.parts import build_trainer, open_job_log
from nonet.recsys.running.starting import PRESETS, Columns, write_job
from tests.recsys.running.conftest import MakeJob, eventually
from tests.recsys.running.test_loop import ITEMS, Client

WIDE = {"share": 1.0, "model": "dlrm", "hidden": [8, 4], "dense_lr": 0.01, "defaults": {"dim": 6}}


@pytest.fixture
def job(make_job: MakeJob) -> JobFile:
    return make_job(arms={"main": {"share": 3.0}, "wide": WIDE})


def show(job: JobFile, first: int, count: int) -> None:
    """Examples of ten users and eight items, the even ones liked, straight into the log."""
    encoders = {name: FeatureEncoder(name, slot) for slot, name in enumerate(("user", "item", "genre"), 1)}
    records = []
    for n in range(first, first + count):
        values = {"user": f"u{n % 10}", "item": f"i{n % 8}", "genre": f"g{n % 3}"}
        ids = {name: encoders[name].ids([value]).tolist() for name, value in values.items()}
        ts_ms = 1_700_000_000_000 + n
        row = Example(
            request_id=b"r%d" % n, item_id=values["item"].encode(), ts_ms=ts_ms, ids=ids, label=float(n % 2 == 0)
        )
        records.append(Record(b"", encode(row), ts_ms))
    with open_job_log(job) as log:
        log.append("examples", 0, records)


def learned(loop: Loop, rows: int) -> None:
    eventually(lambda: {one["learned"] for one in loop.status()["arms"].values()} == {rows} or loop.wait(0))
    if loop.wait(0):
        loop.stop()  # raises what ended it


def test_all_arms_learn_what_any_of_them_has_shown(job: JobFile) -> None:
    users = [f"u{n}" for n in range(16)]
    with Loop(job, items=ITEMS) as loop, Client(loop) as client:
        answers = [client.recommend(user) for user in users]
        for answer in answers:
            client.click(answer, "i5")
        by_arm = {name: sum(one["arm"] == name for one in answers) for name in job.arms}
        assert min(by_arm.values()) > 0
        assert sum(by_arm.values()) == len(users)
        counts = loop.joiner.counts
        eventually(lambda: counts.positives + counts.corrections == len(users))
        rows = 8 * len(users) + counts.corrections
        learned(loop, rows)
        text = client.http.get("/metrics").text
        assert client.recommend("u7")["arm"] == answers[7]["arm"]
    for name, count in by_arm.items():
        assert f'nonet_recsys_staleness_seconds{{arm="{name}"}}' in text
        assert f'nonet_recsys_arm_learned_total{{arm="{name}"}} {rows}.0' in text
        assert f'nonet_recsys_requests_total{{arm="{name}",route="recommend"}} {count}.0' in text


def test_each_arm_is_measured_on_the_same_rows_by_its_own_model(job: JobFile) -> None:
    show(job, 0, 2100)
    with Loop(job) as loop, Client(loop) as client:
        learned(loop, 2100)
        arms = client.http.get("/v1/status").json()["arms"]
        text = client.http.get("/metrics").text
        wide = loop.recommender.arms["wide"]
        trainer = loop.further[0].trainer
        keys = trainer.distinct_tables[0].keys()
        assert (len(keys), trainer.distinct_tables[0].dim) == (10 + 8 + 3, 6)
        rows = trainer.distinct_tables[0].lookup(keys)
        eventually(lambda: np.array_equal(wide.replica.lookup(keys), rows))
        assert loop.arm.replica.lookup(keys).shape == (21, 5)
        eventually(lambda: len(wide.index) == 8)  # items that the log alone has named
    for name in ("main", "wide"):
        measured = arms[name]["validation"]
        assert (measured["rows"], measured["positives"]) == (2000, 1000)
        assert measured["auc"] > 0.7
        assert 0.5 < measured["calibration"] < 2
        for measure in ("auc", "normalised_entropy", "calibration"):
            assert f'nonet_recsys_arm_{measure}{{arm="{name}"}} {measured[measure]}' in text
    assert arms["main"]["validation"]["auc"] != arms["wide"]["validation"]["auc"]
    assert (arms["main"]["share"], arms["wide"]["share"]) == (3.0, 1.0)


def test_users_are_dealt_out_by_the_shares(job: JobFile) -> None:
    with Loop(job) as loop:
        arms = [loop.recommender.assignment.arm_of(f"user {n}") for n in range(4000)]
    assert abs(arms.count("wide") / 4000 - 0.25) < 4 * (0.25 * 0.75 / 4000) ** 0.5


def test_an_arm_goes_on_after_a_restart_and_a_new_one_replays_the_log(job: JobFile, make_job: MakeJob) -> None:
    show(job, 0, 100)
    with Loop(job) as loop:
        learned(loop, 100)
        before = loop.further[0].trainer.distinct_tables[0].export()
        eventually(lambda: log_lags(loop.log, job)["arm-wide"] == 0)
    assert dict(keeping.load(keeping.arm_place(job.snapshot.path, "wide"))[0].offsets) == {"examples:0": 100}
    show(job, 100, 30)
    more = make_job(arms={"main": {"share": 3.0}, "wide": WIDE, "late": {"model": "fm"}})
    assert log_lags(open_job_log(more), more)["arm-late"] == 130
    loop = Loop(more)
    after = loop.further[0].trainer.distinct_tables[0].export()
    assert np.array_equal(before.keys, after.keys)
    assert np.array_equal(before.rows, after.rows)
    with loop:
        counts = {"main": 30, "wide": 30, "late": 130}
        eventually(lambda: {name: one["learned"] for name, one in loop.status()["arms"].items()} == counts)


def test_a_new_arm_begins_with_the_oldest_example_that_is_left(make_job: MakeJob) -> None:
    job = make_job(arms={"main": {}, "b": {}}, log={"options": {"segment_bytes": 4096}})
    for first in range(0, 200, 20):
        show(job, first, 20)
    with open_job_log(job) as log:
        log.trim("examples", 0, 100)
        first, end = log.offsets("examples", 0)
    assert 0 < first <= 100
    with Loop(job) as loop:
        learned(loop, end - first)
        assert loop.status()["arms"]["b"]["trimmed"] == 0


def test_a_snapshot_on_demand_a_copy_and_the_doctor_have_all_arms(job: JobFile, tmp_path: Path) -> None:
    show(job, 0, 1100)
    with Loop(job) as loop, Client(loop) as client:
        learned(loop, 1100)
        client.http.post("/v1/snapshot").raise_for_status()
        keeping.copy(job.snapshot.path, tmp_path / "copy", num_shards=2)
        live = {one.name: one for one in check_job(job)}
    assert live["arm wide: calibration over 1,000 rows"].state in ("good", "bad")
    assert live["arm wide: table user: keys"].value == 21
    assert live["arm-wide lags, records"].state == "good"
    copied = keeping.arm_places(tmp_path / "copy")
    assert [(place.name, keeping.describe(place)["shards"]) for place in copied] == [("wide", 1)]
    shutil.rmtree(job.snapshot.path)
    keeping.copy(tmp_path / "copy", job.snapshot.path)
    with Loop(job) as loop:
        assert loop.learner.offsets == loop.further[0].learner.offsets == {0: 1100}
        assert len(loop.further[0].trainer.distinct_tables[0]) == 21


def test_what_fails_in_an_arm_ends_the_job(job: JobFile) -> None:
    loop = Loop(job).start()

    def broken() -> int:
        raise InputError("the arm is ill")

    loop.further[0].learner.step = broken  # type: ignore[method-assign]
    assert loop.wait(30)
    with pytest.raises(InputError, match="the arm is ill"):
        loop.stop()


def test_an_arm_differs_in_what_it_says_and_in_nothing_else(job: JobFile) -> None:
    own = arm_job(job, "wide")
    assert own.trainer.model_dump(exclude={"model", "hidden", "dense_lr"}) == job.trainer.model_dump(
        exclude={"model", "hidden", "dense_lr"}
    )
    assert (own.trainer.model, own.trainer.hidden, own.trainer.dense_lr) == ("dlrm", [8, 4], 0.01)
    changed = {"dim": 6, "bias": False}  # dlrm takes no bias
    assert own.features.defaults.model_dump() == {**job.features.defaults.model_dump(), **changed}
    assert own.features.slots == job.features.slots
    assert own.snapshot.path == job.snapshot.path / "arms" / "wide"


@pytest.mark.parametrize("preset", PRESETS)
def test_the_arms_that_init_writes_as_a_comment_are_good(tmp_path: Path, preset: str) -> None:
    _, path = write_job(tmp_path, Columns(), preset)
    before, comment, arms = path.read_text().partition("# arms:\n")
    assert comment
    path.write_text(f"{before}arms:\n" + arms.replace("#   ", "  "))
    job = load_job(path)
    assert {name: arm.share for name, arm in job.arms.items()} == {"main": 0.9, "wide": 0.1}
    trainer = build_trainer(arm_job(job, "wide"))
    assert trainer.distinct_tables[0].dim == 32 + (preset != "dlrm")


def test_without_the_section_there_is_one_arm(make_job: MakeJob) -> None:
    loop = Loop(make_job())
    assert (list(loop.recommender.arms), loop.further) == (["main"], [])
    loop.start().stop()


@pytest.mark.parametrize(
    ("arms", "said"),
    [
        ("{main: {}, b: {model: deepfn}}", "arms.b.model: input should be 'deepfm', 'dlrm', 'lr' or 'fm'"),
        ("{main: {}, b: {share: 0}}", "arms.b.share: input should be greater than 0"),
        ("{main: {}, b: {share: -1}}", "arms.b.share: input should be greater than 0"),
        ("{main: {}, b: {share: .inf}}", "arms.b.share: input should be a finite number"),
        ("{main: {}, b: {}, b: {}}", "the key 'b' stands twice"),
        ("{a: {}, b: {}}", "'main' is missing"),
        ("{}", "'main' is missing"),
        ("{main: {model: fm}}", "'main' takes a share alone"),
        ("{main: {}, ../b: {}}", "string should match pattern"),
        ("{main: {}, B: {}}", "string should match pattern"),
        ("{main: {}, b: {hiden: [4]}}", "unknown key 'arms.b.hiden'; did you mean 'hidden'?"),
        ("{main: {}, b: {defaults: {dimm: 4}}}", "unknown key 'arms.b.defaults.dimm'; did you mean 'dim'?"),
    ],
)
def test_a_bad_section_is_refused_in_one_line(tmp_path: Path, arms: str, said: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(f"features: {{features: {{user: {{slot: 1}}, item: {{slot: 2}}}}}}\narms: {arms}\n")
    with pytest.raises(InputError) as refused:
        load_job(path)
    assert said in str(refused.value)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("arm", "said"),
    [
        ({"model": "fm", "defaults": {"bias": False}}, "arm 'b': feature 'user': the model fm needs bias: true"),
        ({"model": "fm", "defaults": {"dim": 0}}, "arm 'b': feature 'user': the model fm needs dim: 1 or more"),
        ({"model": "dlrm", "defaults": {"dim": 0}}, "arm 'b': features: .* has neither a vector"),
    ],
)
def test_an_arm_that_its_model_cannot_take_is_refused(make_job: MakeJob, arm: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Loop(make_job(arms={"main": {}, "b": arm}))


def test_an_arm_that_changed_does_not_go_on_from_its_snapshot(job: JobFile, make_job: MakeJob) -> None:
    place = keeping.arm_place(job.snapshot.path, "wide")
    own = arm_job(job, "wide")
    keeping.save(place, own, build_trainer(own), {})
    with pytest.raises(InputError, match="arms/wide: was trained with other features, dimensions"):
        Loop(make_job(arms={"main": {}, "wide": {**WIDE, "defaults": {"dim": 5}}}))
