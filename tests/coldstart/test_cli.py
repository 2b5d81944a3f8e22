"""The verbs of the room: what they print, their exit codes, their errors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from nonet.cli import exit_code_of
from nonet.coldstart.cli import app
from nonet.coldstart.cli_options import named_values, source_of
from nonet.coldstart.simulating.policies import policies
from nonet.coldstart.simulating.scenario import policy_names
from nonet.common import console
from nonet.common.errors import InputError


@pytest.fixture(autouse=True)
def _loud() -> Any:
    yield
    console.set_quiet(False)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trace") / "t"
    preset = "poisson:functions=6,rate=0.02,run_ms=200,cold_ms=900"
    assert run("generate", "--preset", preset, "--days", "2", "-o", str(out), "-q").exit_code == 0
    return out


def test_generate_simulate_and_report_go_together(trace: Path, tmp_path: Path) -> None:
    done = run("simulate", str(trace), "--policy", "none,ka:60,ka:600,hist", "--json", "-q")
    rows = json.loads(done.stdout)
    assert [row["policy"] for row in rows] == ["none", "ka:60", "ka:600", "hist"]
    # hist learns online and needs no training days, so all saw the whole trace: 6 functions, 2 days, 0.02 a second
    assert len({row["num_requests"] for row in rows}) == 1
    assert rows[0]["num_requests"] == pytest.approx(6 * 2 * 86_400 * 0.02, rel=0.05)
    cold = [row["num_cold"] for row in rows]
    assert cold[0] > cold[1] > cold[2]
    assert rows[1]["num_cold"] / rows[1]["num_requests"] == pytest.approx(2.718281828 ** (-0.02 * 60), abs=0.01)
    page = tmp_path / "r.html"
    assert "figures" in run("report", str(trace), "-o", str(page), "-q").stdout
    assert "http://" not in page.read_text().replace("http://www.w3.org", "")


def test_a_memory_cap_below_every_function_is_told(trace: Path) -> None:
    """No request runs, so none is cold: that must not look like the best policy."""
    done = run("simulate", str(trace), "--policy", "ka:60,gd:1MB", "--json")
    kept, capped = json.loads(done.stdout)
    assert (capped["num_dropped"], capped["num_cold"]) == (capped["num_requests"], 0)
    assert f"gd:1MB: {capped['num_requests']:,} of {capped['num_requests']:,} requests dropped" in done.stderr
    assert kept["num_dropped"] == 0
    assert "ka:60:" not in done.stderr


def test_several_regions_are_simulated_together() -> None:
    # Region 3 starts pods much quicker than Region 1: rarely called functions of Region 1 gain by going there.
    given = ("huawei2025", "--days", "2", "--scale", "0.01", "--policy", "ka:60,paper:region", "--train", "1")
    done = run("simulate", *given, "--regions", "R4,R3", "--rtt", "0.05", "--json", "-q")
    home, placed = json.loads(done.stdout)
    assert home["num_requests"] == placed["num_requests"]
    assert placed["cold_response_s"]["p50"] < home["cold_response_s"]["p50"]
    full = json.loads(run("simulate", *given, "--regions", "R4,R3", "--capacity", "1000,0", "--json", "-q").stdout)
    assert full[0]["num_cold"] == full[1]["num_cold"]  # nobody moves into a region without room
    for more, message in (
        (("--regions", "R4,R9"), "two or more different regions out of R1, R2"),
        (("--regions", "R4"), "two or more different regions"),
        (("--regions", "all", "--region", "R4"), "not both"),
        (("--regions", "R4,R3", "--capacity", "1"), r"capacity \(2,\)"),
        (("--regions", "R4,R3", "--capacity", "a,b"), "such as 100,50"),
    ):
        with pytest.raises(InputError, match=message):
            refused = run("simulate", *given, *more, "-q")
            raise refused.exception or AssertionError(refused.output)


def test_policies_that_learn_are_tried_on_later_days(trace: Path) -> None:
    done = run("simulate", str(trace), "--policy", "ka:60,paper:keepalive", "--json", "-q")
    rows = json.loads(done.stdout)
    assert len({row["num_requests"] for row in rows}) == 1
    assert rows[0]["num_requests"] == pytest.approx(6 * 86_400 * 0.02, rel=0.06)


def test_policies_that_size_pools_run_on_a_trace_without_any(tmp_path: Path) -> None:
    out = tmp_path / "r2"
    assert run("generate", "--days", "2", "--scale", "0.01", "-o", str(out), "-q").exit_code == 0
    done = run("simulate", str(out), "--policy", "ka:60,paper:timer+pool,drops", "--json", "-q")
    rows = json.loads(done.stdout)
    assert [row["policy"] for row in rows] == ["ka:60", "paper:timer+paper:pool", "drops"]
    assert len({row["num_requests"] for row in rows}) == 1
    assert rows[1]["num_cold"] < rows[0]["num_cold"]
    assert rows[2]["allocation_s"] != rows[0]["allocation_s"]


def test_the_table_names_every_policy(trace: Path) -> None:
    done = run("simulate", str(trace), "--policy", "none,ka:60", "-q")
    assert [line.split()[0] for line in done.stdout.splitlines() if line.strip().startswith(("none", "ka:60"))] == [
        "none",
        "ka:60",
    ]


def test_lists() -> None:
    assert {row["name"] for row in json.loads(run("policies", "--json").stdout)} == set(policies())
    assert "k8s" in {row["name"] for row in json.loads(run("formats", "--json").stdout)}
    assert any(row["name"].startswith("huawei2025/cold") for row in json.loads(run("fetch", "--json").stdout))


def test_a_list_of_policies_keeps_commas_that_belong_to_one() -> None:
    assert policy_names("gd:8GB,cost=1,ttl:600,8GB, none") == ["gd:8GB,cost=1", "ttl:600,8GB", "none"]
    assert policy_names("paper:timer+pool,kpa") == ["paper:timer+pool", "kpa"]


def test_ingest_reads_what_it_is_told(tmp_path: Path) -> None:
    (tmp_path / "calls.csv").write_text("ts,done,fn\n0,50,a\n200000,200050,a\n400000,400020,b\nx,1,b\n")
    out = tmp_path / "t"
    done = run(
        "ingest", "--from", f"csv:{tmp_path / 'calls.csv'}", "--set", "map=arrive=ts:ms,end=done:ms,function=fn",
        "--set", "times=relative", "-o", str(out), "--json", "-q",
    )  # fmt: skip
    report = json.loads(done.stdout)
    assert (report["num_requests"], sum(report["quarantined"].values())) == (3, 1)
    refused = run("simulate", str(out), "--policy", "ka:60", "-q")
    assert "--cold-seconds" in str(refused.exception)
    done = run("simulate", str(out), "--policy", "ka:60", "--cold-seconds", "1.5", "--json", "-q")
    (row,) = json.loads(done.stdout)
    assert (row["num_cold"], row["allocation_s"] + row["rest_s"]) == (3, 4.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("simulate", "nowhere"), "no such trace"),
        (("simulate", "poisson:functions=2", "--policy", "kaa:60", "--days", "1"), "did you mean 'ka'"),
        (("simulate", "poisson:functions=2", "--memory", "8", "--days", "1"), "give for example 8GB"),
        (("ingest", "--from", "k8s", "-o", "x"), "expected FORMAT:PATH"),
        (("ingest", "--from", "k9s:pods.json", "-o", "x"), "did you mean 'k8s'"),
        (("ingest", "--from", "k8s:missing.json", "-o", "x"), "missing.json"),
        (("generate", "--preset", "huawei2024", "-o", "x"), "unknown preset"),
        (("report", "nowhere"), "nowhere"),
        (("audit", "--claims", "missing.toml"), "missing.toml"),
        (("check", "nowhere"), "name a limit"),
        (("check", "nowhere", "--max-p99", "soon"), "a time such as 2s"),
        (("check", "nowhere", "--max-cold-rate", "200%"), "between 0 and 100%"),
    ],
)
def test_mistakes_are_one_line(
    arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert done.exception is not None
    assert exit_code_of(done.exception) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert error.count("\n") == 0


def test_an_audit_of_contradicted_claims_exits_with_1(tmp_path: Path, mirror: Path) -> None:
    done = run("audit", "--json", "-q")
    assert done.exit_code == 1
    verdicts = [row["verdict"] for row in json.loads(done.stdout)]
    assert len(verdicts) >= 25
    assert verdicts.count("contradicted") >= 4


def test_options_as_text() -> None:
    assert source_of("lambda:a.txt") == ("lambda", [Path("a.txt")])
    assert named_values(["map=a=b,c=d"]) == {"map": "a=b,c=d"}
    with pytest.raises(InputError, match="NAME=VALUE"):
        named_values(["map"])


def test_nothing_complains_at_exit(trace: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nonet", "coldstart", "report", str(trace), "-o", "r.html", "--figures", "3a", "-q"],
        capture_output=True, text=True, cwd=tmp_path, check=True,
    )  # fmt: skip
    assert done.stderr == ""


def test_advice_on_a_trace(trace: Path, tmp_path: Path) -> None:
    explained = json.loads(run("explain", str(trace), "--json", "-q").stdout)
    assert explained["num_cold"] > 0
    advice = run("recommend", str(trace), "-o", str(tmp_path / "advice"), "--max-extra-memory", "50%", "-q")
    assert advice.exit_code == 0
    assert "advice.json" in advice.stdout
    assert json.loads((tmp_path / "advice" / "advice.json").read_text())


@pytest.mark.parametrize(("limit", "code"), [("0.1%", 1), ("99%", 0)])
def test_check_is_a_gate(trace: Path, limit: str, code: int) -> None:
    assert run("check", str(trace), "--max-cold-rate", limit, "-q").exit_code == code
