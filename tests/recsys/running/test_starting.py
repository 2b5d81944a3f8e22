"""The files that `init` writes: they load, fit the data, and are not overwritten."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nonet.common.errors import InputError
from nonet.recsys.config import JobFile, load_job
from nonet.recsys.reading.frames import read_frames
from nonet.recsys.running.parts import build_trainer, data_format, feature_roles, joining_of
from nonet.recsys.running.starting import PRESETS, Columns, columns_of, job_for, write_job
from tests.recsys.running.conftest import FEATURES, MakeJob

FILES = {
    "ratings.csv": ("userId,movieId,rating,timestamp\n1,2,4.0,100\n", "movielens", ("user", "item"), "user", "item"),
    "u.data": ("1\t2\t4\t100\n", "movielens-data", ("user", "item"), "user", "item"),
    "clicks.csv": ("1,2,3,pv,100\n", "taobao", ("user", "item", "category"), "user", "item"),
    "bts.csv": (
        "timestamp,item_id,position,click,propensity_score,"
        "user_feature_0,user_feature_1,user_feature_2,user_feature_3\n"
        "2019-11-24 00:00:17.004101+00:00,7,3,1,0.1,a,b,c,d\n",
        "obd",
        ("item", "position", *(f"user_feature_{n}" for n in range(4))),
        None,
        "item",
    ),
    "train.txt": ("\t".join(["1", *["2"] * 13, *["ab"] * 26]) + "\n", "criteo", None, None, "C3"),
}


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_makes_a_trainer(tmp_path: Path, preset: str) -> None:
    paths = write_job(tmp_path / "shop", Columns(), preset)
    assert [path.name for path in paths] == ["features.yaml", "job.yaml"]
    job = load_job(paths[1])
    trainer = build_trainer(job)
    assert type(trainer.model).__name__.lower().startswith({"lr": "logistic", "fm": "factor"}.get(preset, preset))
    assert trainer.tables["user"].dim == {"dlrm": 16, "lr": 1}.get(preset, 17)
    assert job == job_for(Columns(), preset).model_copy(
        update={name: getattr(job, name) for name in ("log", "joiner", "snapshot", "dictionaries")}  # their paths
    )


def test_the_files_teach(tmp_path: Path) -> None:
    for path in write_job(tmp_path, Columns()):
        comments = re.findall(r"#", path.read_text())
        assert len(comments) >= 10


@pytest.mark.parametrize("name", FILES)
def test_a_job_fits_the_columns_of_a_file(tmp_path: Path, name: str) -> None:
    text, kind, features, user, item = FILES[name]
    (tmp_path / name).write_text(text)
    columns = columns_of(tmp_path / name)
    job = load_job(write_job(tmp_path / "job", columns)[1])
    assert (job.data.format, job.features.user, job.features.item) == (kind, user, item)
    if features is not None:
        assert tuple(job.features.features) == features
    else:
        assert (len(job.features.features), len(job.features.dense)) == (26, 13)
    assert data_format(job, tmp_path / name).name == kind
    assert build_trainer(job).features == tuple(job.features.features)


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("who,shop,paid,at,age\nu,s,1,100,3\n")
    given = {"label": "paid > 0", "timestamp": "at", "features": ["who", "shop"], "dense": ["age"], "user": "who"}
    job = job_for(columns_of(file, **given))  # type: ignore[arg-type]
    assert (job.features.user, job.features.item, job.features.dense) == ("who", "shop", ["age"])
    assert data_format(job, file).label == "paid > 0"
    with pytest.raises(InputError, match="--feature"):
        columns_of(file, timestamp="at")
    with pytest.raises(InputError, match="needs the columns"):
        columns_of(file, **{**given, "features": ["who", "what"]})  # type: ignore[arg-type]
    with pytest.raises(InputError, match="'me' is none of its features"):
        columns_of(file, **{**given, "user": "me"})  # type: ignore[arg-type]


def test_files_that_are_there_stay(tmp_path: Path) -> None:
    path, _ = write_job(tmp_path, Columns())
    path.write_text("mine")
    with pytest.raises(InputError, match="exists"):
        write_job(tmp_path, Columns())
    assert path.read_text() == "mine"
    write_job(tmp_path, Columns(), force=True)
    assert path.read_text() != "mine"
    with pytest.raises(InputError, match="unknown preset 'big'"):
        write_job(tmp_path / "b", Columns(), "big")


def test_names_that_yaml_would_take_for_something_else(tmp_path: Path) -> None:
    columns = Columns(features=("yes", "1", "a: b"), user="yes", item="1", dense=("null", "#x"))
    job = load_job(write_job(tmp_path, columns)[1])
    assert list(job.features.features) == ["yes", "1", "a: b"]
    assert (job.features.user, job.features.item, job.features.dense) == ("yes", "1", ["null", "#x"])


def features_with(**defaults: object) -> dict[str, object]:
    return {**FEATURES, "defaults": {"dim": 4, **defaults}}


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"features": features_with(bias=False)}, "deepfm needs bias: true"),
        ({"trainer": {"model": "dlrm"}}, "dlrm needs bias: false"),
        ({"features": features_with(dim=0)}, "needs dim: 1 or more"),
        ({"features": {"features": {"a": {"slot": 1, "dim": 3}, "b": {"slot": 2}}}}, "features of one dim"),
        ({"features": {"features": {"a": {"slot": 1, "pooling": "MEAN"}, "b": {"slot": 2}}}}, "of one pooling"),
    ],
)
def test_a_model_that_the_features_do_not_fit_is_refused(make_job: MakeJob, sections: dict, message: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(InputError, match=message):
        build_trainer(make_job(**sections))


def test_serving_needs_a_user_and_an_item() -> None:
    job = JobFile.model_validate({"features": {"features": {"C1": {"slot": 1}}}})
    with pytest.raises(InputError, match="names no user or no item"):
        feature_roles(job.features, job.features.encoders())


def test_the_job_tells_the_joiner(make_job: MakeJob) -> None:
    job = make_job(
        labels={"positive": ["buy", "cart"], "wait": "5m", "late": "fake_negative", "late_wait": "1h"},
        joiner={"negative_rate": 0.25, "cache_rows": 7, "allowed_lateness": "2s", "idle": "3s"},
        log={"topics": {"features": "f", "actions": "a", "examples": "e", "dead-letters": "d"}, "partitions": 4},
    )
    joining = joining_of(job)
    (label,) = joining.labels
    assert (label.actions, label.wait_ms, label.late, label.late_ms) == (
        ("buy", "cart"),
        300_000,
        "fake_negative",
        3_600_000,
    )
    assert label.sampling.rate({}, ()) == 0.25
    assert (joining.features, joining.actions, label.topic, joining.dead_letters) == ("f", "a", "e", "d")
    assert (joining.cache_rows, joining.allowed_lateness_ms, joining.idle_s, joining.output_partitions) == (
        7,
        2000,
        3.0,
        4,
    )


def test_every_option_of_the_network_has_effect(make_job: MakeJob) -> None:
    import torch

    job = make_job(
        trainer={"model": "deepfm", "hidden": [3, 2], "dense_optimizer": "sgd", "dense_lr": 0.5, "seed": 3,
                 "correct_in": "serving"},
        features={**FEATURES, "dense": ["a", "b"]},
    )  # fmt: skip
    trainer = build_trainer(job)
    assert isinstance(trainer.optimizer, torch.optim.SGD)
    assert trainer.optimizer.param_groups[0]["lr"] == 0.5
    assert trainer.correction.stage == "serving"
    shapes = [tuple(value.shape) for value in trainer.dense_state().values() if value.ndim == 2]
    assert shapes == [(3, 3 * 4 + 2), (2, 3), (1, 2)]
    other = build_trainer(make_job(trainer={"hidden": [3, 2], "seed": 4}, features={**FEATURES, "dense": ["a", "b"]}))
    assert any(
        (a != b).any() for a, b in zip(trainer.dense_state().values(), other.dense_state().values(), strict=True)
    )


@pytest.mark.parametrize(
    ("time", "unit", "ts_ms"), [("1700000000", "s", 1_700_000_000_000), ("1700000000000", "ms", 1_700_000_000_000)]
)
def test_milliseconds_of_a_table_are_noticed(tmp_path: Path, time: str, unit: str, ts_ms: int) -> None:
    (tmp_path / "rows.csv").write_text(f"at,user,shop,paid\n{time},u,s,1\n")
    columns = columns_of(tmp_path / "rows.csv", label="paid > 0", timestamp="at", features=["user", "shop"])
    job = load_job(write_job(tmp_path / "job", columns)[1])
    assert job.data.unit == unit
    form = data_format(job, tmp_path / "rows.csv")
    assert next(read_frames(tmp_path / "rows.csv", form))["ts_ms"].to_list() == [ts_ms]
