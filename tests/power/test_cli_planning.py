"""`fit`, `simulate`, `plan` and `sweep` as typed: what is printed, what is refused."""

import json

import pytest
from typer.testing import CliRunner

from nonet.common.errors import InputError
from nonet.power.cli import app
from nonet.power.load.fit import FitSpace
from nonet.power.profiles import PROFILES


def typed(*arguments):
    """Standard output of a command that ends well, or exit code 1."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout


def test_fit_takes_its_defaults_and_any_shipped_profile(tmp_path):
    for more in ([], ["--profile", "a100-bloom-176b-tp8"]):
        out = tmp_path / "base.json"
        typed("fit", "--servers", 4, "--days", 0.01, *more, "-o", out, "-q")
        written = json.loads(out.read_text())
        profile = PROFILES[written["profile"]]
        assert written["instances_per_server"] * profile.tensor_parallel == profile.server.num_gpus


def test_the_fit_of_another_row_has_traffic_for_its_instances():
    whole, half = (FitSpace.of_row("a100-llama2-70b-tp4", servers).requests_per_s for servers in (40, 20))
    assert half == pytest.approx([rate / 2 for rate in whole], rel=0.01)
    assert whole[0] < min(FitSpace().requests_per_s) < max(FitSpace().requests_per_s) < whole[-1]
    assert FitSpace.of_row("h100-llama3.1-8b-tp1", 40).requests_per_s[0] > 10 * whole[0]
    with pytest.raises(InputError, match="nope"):
        FitSpace.of_row("nope", 4)


ROW = """
row = {{ name = "hall-b", budget_w = 40000 }}
servers = [{servers}]
serving = {{ profile = "a100-llama2-70b-tp8" }}
plan = {{ seeds = 1, max_added = 0.2, days = 0.02 }}
"""
BOTH = '{ names = "n[1-5]", priority = "low" }, { names = "m[1-5]", priority = "high" }'


@pytest.fixture
def folder(tmp_path):
    """A row file of both classes, `row.toml`, and requests without priorities, `load.csv`."""
    rows = [f"{second * 7.5},{600 + second},{100 + second % 90}" for second in range(200)]
    (tmp_path / "load.csv").write_text("\n".join(["arrival_s,prompt_tokens,output_tokens", *rows]))
    (tmp_path / "row.toml").write_text(ROW.format(servers=BOTH))
    return tmp_path


@pytest.mark.parametrize(("priority", "other"), [("high", "lp"), ("low", "hp")])
def test_a_row_of_one_class_is_planned_and_swept(folder, priority, other):
    one = folder / "one.toml"
    one.write_text(ROW.format(servers=f'{{ names = "n[1-9]", priority = "{priority}" }}'))
    printed = typed("plan", one, "--load", folder / "load.csv", "-q")
    assert "servers fit" in printed and f"ll servers are of {priority} priority" in printed
    assert ("POLCA degenerates" in printed) == (priority == "high")
    found = json.loads(typed("plan", one, "--load", folder / "load.csv", "--json", "-q"))
    assert not any(name.startswith(other) for name in found["policies"]["polca"]["steps"][0]["impact"])
    assert "80-89" in typed("sweep", one, "--load", folder / "load.csv", "--added", 0.1, "-q")


def test_requests_of_a_class_without_servers_are_refused_by_the_key_to_mend(folder):
    (folder / "low.csv").write_text("arrival_s,prompt_tokens,output_tokens,priority\n0,100,10,low\n9,100,10,high\n")
    high = folder / "high.toml"
    high.write_text(ROW.format(servers='{ names = "n[1-9]", priority = "high" }'))
    with pytest.raises(InputError, match=r'low priority, but no server.*priority = "low".*load\.low_share'):
        typed("plan", high, "--load", folder / "low.csv", "-q")
    high.write_text(high.read_text() + "load = { week = { requests_per_s = 0.1 } }")
    with pytest.raises(InputError, match=r"load\.week: has requests of low priority"):
        typed("plan", high, "-q")


def test_own_requests_profile_and_limits_in_one_command(folder):
    """The profile is what `calibrate` writes; the row file may be the controller's, which names none."""
    slower = PROFILES["a100-llama2-70b-tp4"].model_copy(update={"name": "mine"})
    (folder / "mine.json").write_text(slower.to_json())
    row = (folder / "row.toml").read_text().replace('serving = { profile = "a100-llama2-70b-tp8" }', "")
    (folder / "row.toml").write_text(row)
    asked = ["plan", folder / "row.toml", "--load", folder / "load.csv", "--slo", "lp:5,40", "-q"]
    with pytest.raises(InputError, match="--profile"):
        typed(*asked)
    page = folder / "plan.html"
    printed = typed(*asked, "--profile", folder / "mine.json", "--workers", 1, "-o", page)
    assert "servers fit" in printed and f"wrote {page}" in printed.replace("\n", "")
    assert ">mine<" in page.read_text() and "LP P99 40%" in page.read_text()
    with pytest.raises(InputError, match="'other' is neither a file nor one of"):
        typed(*asked, "--profile", "other")
    with pytest.raises(InputError, match="unknown engine"):
        typed(*asked, "--profile", "a100-llama2-70b-tp4", "--engine", "dask")
    with pytest.raises(InputError, match="--profile needs a row file"):
        typed("plan", "--profile", "a100-llama2-70b-tp4")


def test_simulate_takes_the_row_file_and_reads_all_policies_before_it_runs(folder):
    asked = ["simulate", folder / "row.toml", "--load", folder / "load.csv", "--added", 0.2, "-q"]
    document = json.loads(typed(*asked, "--policy", "null,no-cap", "--json", "-o", folder / "runs"))
    assert [found["policy"] for found in document["policies"]] == ["null", "no-cap"]
    assert document["uncapped"]["servers"] == 12 and (folder / "runs" / "no-cap").is_dir()
    for wrong in ("null,null", "null,", "null,null.toml"):
        with pytest.raises(InputError, match="different names or files"):
            typed(*asked, "--policy", wrong)
    with pytest.raises(InputError, match="give a TOML file or one of"):
        typed(*asked, "--policy", "null,poca", "-o", folder / "none")
    assert not (folder / "none").exists()
