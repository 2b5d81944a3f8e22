"""`nonet recsys` as typed: what is printed, what is written, what is refused in one line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from nonet.common.errors import InputError
from nonet.recsys.cli import app
from nonet.recsys.running.control import say_running

VERBS = ("init", "train", "up", "simulate", "snapshot", "restore", "doctor")


def typed(*arguments: object) -> str:
    """Standard output of a command that ends well, or with exit code 1."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code in (0, 1), done.output
    return done.stdout


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """ratings.csv and a job for it."""
    draw = np.random.default_rng(0)
    lines = [f"{draw.integers(20)},{draw.integers(9)},{draw.integers(1, 6)},{1_000 + n}" for n in range(1200)]
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n" + "\n".join(lines) + "\n")
    typed("init", tmp_path / "job", "--data", tmp_path / "ratings.csv", "--preset", "fm")
    return tmp_path


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_an_example(verb: str) -> None:
    assert re.search(rf"nonet recsys {verb} \S+", typed(verb, "--help"))


def test_help_imports_nothing_heavy() -> None:
    heavy = ("numpy", "torch", "numba", "polars", "pyarrow", "fastapi", "rich", "nonet.recsys.config")
    code = """
import sys
from nonet.cli import main
try:
    main(["recsys", "--help"])
except SystemExit:
    pass
print([name for name in sys.argv[1:] if name in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=True)
    assert "Commands:" in done.stdout and done.stderr.strip() == "[]"


def test_train_then_doctor_then_copies(shop: Path) -> None:
    job, snapshots = shop / "job" / "job.yaml", shop / "job" / "snapshots"
    printed = typed("train", "--data", shop / "ratings.csv", "--job", job, "--window", 500, "-o", snapshots)
    assert "Progressive validation" in printed and "rows/s" in printed and "admitted 100.0%" in printed
    found = json.loads(typed("doctor", snapshots, "--json"))
    values = {one["name"]: one["value"] for one in found}
    assert (values["table user: keys"], values["items"]) == (29, 9)
    assert "in 3 shards" in typed("snapshot", job, "-o", shop / "three", "--shards", 3, "-q")
    typed("snapshot", shop / "three", "-o", shop / "rows", "--export", "parquet", "-q")
    assert pq.read_table(shop / "rows" / "user.parquet").num_rows == 29
    more = json.loads(
        typed("train", "--data", shop / "ratings.csv", "--from", shop / "three", "-o", shop / "more", "--json")
    )
    assert more["rows"] == 1200
    restored = json.loads(typed("restore", shop / "more", job, "--json"))
    assert (restored["shards"], restored["steps"]) == (1, 10)
    assert json.loads(typed("doctor", job, "--json"))[0]["value"] == "no"


def test_an_arm_is_trained_beside_main(shop: Path) -> None:
    job, snapshots = shop / "job" / "job.yaml", shop / "job" / "snapshots"
    job.write_text(job.read_text() + "arms: {main: {}, small: {model: dlrm, hidden: [4], defaults: {dim: 2}}}\n")
    for more in ((), ("--arm", "small")):
        typed("train", "--data", shop / "ratings.csv", "--job", job, *more, "-o", snapshots, "-q")
    values = {one["name"]: one["value"] for one in json.loads(typed("doctor", snapshots, "--json"))}
    assert values["table user: keys"] == values["arm small: table user: keys"] == 29
    typed("snapshot", snapshots / "arms" / "small", "-o", shop / "rows", "--export", "parquet", "-q")
    assert len(pq.read_table(shop / "rows" / "user.parquet")["vector"][0]) == 2


def test_a_seed_is_another_beginning(shop: Path) -> None:
    def trained(seed: int) -> float:
        arguments = ("train", "--data", shop / "ratings.csv", "-o", shop / f"s{seed}", "--json", "--seed", seed)
        return float(json.loads(typed(*arguments))["whole"]["log_loss"])

    assert trained(1) == trained(1) != trained(2)


def test_simulate_prints_a_table_and_writes_a_page(shop: Path) -> None:
    page = shop / "report.html"
    arguments = ("simulate", "--data", shop / "ratings.csv", "--shards", "2,4", "--seeds", 1, "-o", page)
    printed = typed(*arguments)
    assert "AUC frozen" in printed and "pay" in printed
    assert "vega" in page.read_text() and "ratings.csv" in page.read_text()
    found = json.loads(typed(*arguments, "--json", "--job", shop / "job" / "job.yaml"))
    assert [line["num_shards"] for line in found["table"]] == [2, 4]
    assert found["history_rows"] == 857


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--data", "ratings.csv", "-o", "kept"],
        ["restore", "more", "own.yaml"],
        ["snapshot", "more", "-o", "kept"],
    ],
)
def test_nothing_is_written_under_a_job_that_runs(
    shop: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    """The job would write its own over it a while later, and nobody would know."""
    monkeypatch.chdir(shop)
    text = (shop / "job" / "job.yaml").read_text().replace("path: snapshots", "path: kept")
    (shop / "own.yaml").write_text(text.replace("features: features.yaml", "features: job/features.yaml"))
    (shop / "kept").mkdir(exist_ok=True)
    with say_running(shop / "kept", "http://127.0.0.1:1"), pytest.raises(InputError, match="runs as process"):
        typed(*arguments)
    assert [path.name for path in (shop / "kept").iterdir()] == ["running.json"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "-o", "out"], "give --data FILE, or --log URL"),
        (["train", "--data", "none.csv", "-o", "out"], "none.csv: cannot be read"),
        (["train", "--log", "file:log", "-o", "out"], "a log needs --job"),
        (["train", "--data", "ratings.csv", "--until", "soon", "-o", "out"], "'soon' is no time"),
        (["train", "--data", "ratings.csv", "--label", "(", "-o", "out"], "is no SQL expression"),
        (["train", "--data", "ratings.csv", "--format", "movielense", "-o", "out"], "did you mean 'movielens'"),
        (["train", "--data", "ratings.csv", "--preset", "big", "-o", "out"], "unknown preset 'big'"),
        (["train", "--data", "ratings.csv", "--from", "job", "-o", "out"], "holds no snapshot"),
        (["train", "--data", "ratings.csv", "--arm", "b", "-o", "out"], "no further arm 'b' (known: -)"),
        (["simulate", "--data", "ratings.csv", "--shards", "ten"], "expected whole numbers"),
        (["simulate", "--data", "ratings.csv", "--shards", "5000"], "cannot be cut"),
        (["simulate", "--data", "ratings.csv", "--label", "1"], "all rows are alike by the rule '1'"),
        (["init", "job"], "exists"),
        (["init", "new", "--data", "job/job.yaml"], "cannot tell its format"),
        (["up", "none.yaml"], "cannot read none.yaml"),
        (["up", "job/job.yaml", "--items", "items.txt"], "items come as one of"),
        (["up", "job/job.yaml", "--items", "ratings.csv"], "lacks the column 'item'"),
        (["snapshot", "job/job.yaml", "-o", "out"], "there is no snapshot yet"),
        (["restore", "job", "job/job.yaml"], "holds no snapshot"),
        (["doctor", "none.csv"], "none.csv"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    shop: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(shop)
    with pytest.raises(InputError, match=re.escape(message)) as refused:
        typed(*arguments)
    assert "\n" not in str(refused.value)
    assert not (shop / "out").exists()
