"""`nonet logs`: what each verb prints, pipes, state files, and one-line errors with exit code 2 for bad input."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from nonet.cli import exit_code_of
from nonet.common import console
from nonet.common.findings import Finding
from nonet.logs.cli import app
from nonet.logs.mining.miner import Miner
from nonet.logs.mining.template import restore

LINES = [f"2026-03-01 12:{i:02d}:00 INFO app: request {i} from 10.0.0.{i} took {i}ms" for i in range(50)]
VERBS = ("parse", "top", "diff", "compare", "evaluate", "twin", "data", "bench")


@pytest.fixture(autouse=True)
def _loud() -> Any:
    yield
    console.set_quiet(False)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "app.log"
    path.write_text("\n".join(LINES) + "\n")
    return path


def run(*arguments: str | Path, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], input=stdin)


def run_ok(*arguments: str | Path, stdin: bytes | None = None) -> str:
    result = run(*arguments, stdin=stdin)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def process(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "nonet", "logs", *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "100"}
    return subprocess.run(command, input=stdin, capture_output=True, timeout=120, check=False, env=environment)


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_every_verb_teaches() -> None:
    shown = run_ok("--help")
    for verb in VERBS:
        assert verb in shown
        assert f"nonet logs {verb}" in run_ok(verb, "--help")


def test_parse_prints_templates_and_the_account(log: Path) -> None:
    shown = run_ok("parse", log)
    assert "request <int> from <ip> took <duration>" in shown and "50 lines, 50 records, 1 templates" in shown


def test_parse_writes_parquet_that_gives_the_lines_back(log: Path, tmp_path: Path) -> None:
    out = tmp_path / "parsed"
    shown = run_ok("parse", log, "-o", out)
    assert f"written: {out}" in shown
    rows = pq.read_table(out / "lines.parquet").to_pylist()
    contents = [restore(r["template"], r["parameters"], r["spacing"]) for r in rows]
    assert contents == [line.split("app: ")[1] for line in LINES]
    assert pq.read_table(out / "templates.parquet").num_rows == 1
    assert pq.read_table(out / "parameters.parquet")["type"].to_pylist() == ["int", "ip", "duration"]


def test_jsonl_has_the_otel_attribute_and_typed_parameters(log: Path) -> None:
    rows = objects(run_ok("parse", log, "--jsonl"))
    assert len(rows) == 50
    assert rows[7]["log.record.template"] == "request <*> from <*> took <*>"
    assert rows[7]["parameters"] == [
        {"type": "int", "value": "7"},
        {"type": "ip", "value": "10.0.0.7"},
        {"type": "duration", "value": "7ms"},
    ]
    assert rows[7]["template_id"].startswith("t-") and rows[7]["timestamp"].startswith("2026-03-01T12:07:00")


def test_a_pipe_and_a_file_give_the_same(log: Path) -> None:
    piped = process("parse", "-", "--jsonl", stdin=log.read_bytes())
    assert piped.returncode == 0 and piped.stderr.count(b"error") == 0
    assert piped.stdout.decode() == run_ok("parse", log, "--jsonl")


def test_standard_input_is_named_as_such(log: Path) -> None:
    for verb in (("top",), ("diff", "--at", "10m")):
        done = process(verb[0], "-", *verb[1:], stdin=log.read_bytes())
        assert done.returncode == 0 and b"standard input" in done.stdout and b"/standard input" not in done.stdout


def test_csv_pair(log: Path, tmp_path: Path) -> None:
    run_ok("parse", log, "--csv", "-o", tmp_path / "out")
    with (tmp_path / "out" / "app.log_structured.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["Content"] for row in rows] == [line.split("app: ")[1] for line in LINES]
    assert {"LineId", "Content", "EventId", "EventTemplate", "ParameterList"} <= rows[0].keys()
    with (tmp_path / "out" / "app.log_templates.csv").open() as file:
        assert [row["Occurrences"] for row in csv.DictReader(file)] == ["50"]


def test_json_report(log: Path) -> None:
    report = json.loads(run_ok("parse", log, "--json"))
    assert report["read"]["lines"] == 50 and report["templates"][0]["count"] == 50


def test_masks_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("order ab-cd done\norder ef-gh done\n")
    rows = objects(run_ok("parse", tmp_path / "x", "--jsonl", "--mask", "[a-z]{2}-[a-z]{2}=order"))
    assert [row["parameters"] for row in rows] == [
        [{"type": "order", "value": "ab-cd"}],
        [{"type": "order", "value": "ef-gh"}],
    ]


def test_state_goes_on(log: Path, tmp_path: Path) -> None:
    state = tmp_path / "miner.state"
    run_ok("parse", log, "--state", state)
    report = json.loads(run_ok("parse", log, "--state", state, "--json"))
    assert report["templates"][0]["count"] == 100
    refused = run("parse", log, "--state", state, "--mask", "x+")
    assert exit_code_of(refused.exception) == 2 and "other masks" in str(refused.exception)


def test_csv_input(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text('Id,Content\n1,"port 80, open"\n2,"port 81, open"\n')
    rows = objects(run_ok("parse", tmp_path / "in.csv", "--content-column", "Content", "--jsonl"))
    assert [row["log.record.template"] for row in rows] == ["port <*>, open"] * 2


def test_top_diff_and_compare_print_and_give_json(log: Path, tmp_path: Path) -> None:
    assert "request <int> from <ip>" in run_ok("top", log)
    assert json.loads(run_ok("top", log, "--json", "--since", "10m"))["num_records"] == 11
    html = tmp_path / "top.html"
    run_ok("top", log, "--html", html)
    assert "request &lt;int&gt;" in html.read_text()
    assert "1 as before" in run_ok("diff", log, "--at", "2026-03-01T12:30")
    assert json.loads(run_ok("diff", log, log, "--json"))["rows"] == []
    report = json.loads(run_ok("compare", log, "--parsers", "LFA", "--json", "-q"))
    assert report["parsers"][0]["quality"]["num_templates"] == 1


def test_twin_is_the_same_for_a_seed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        run_ok("twin", "-n", "500", "--seed", "3", "-o", tmp_path / f"{name}.log", "--truth", tmp_path / f"{name}.csv")
    assert (tmp_path / "a.log").read_bytes() == (tmp_path / "b.log").read_bytes()
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert (tmp_path / "a.log").read_bytes().count(b"\n") == 500


def test_data_verbs(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NONET_MIRROR", str(mirror))
    assert "loghub2/Proxifier" in run_ok("data", "list")
    assert {row["name"] for row in json.loads(run_ok("data", "list", "--json"))} >= {"loghub2k/Linux"}
    paths = dict(line.split("\t") for line in run_ok("data", "path", "loghub2/Proxifier").splitlines())
    assert Path(paths["log"]).is_file()
    assert "ok" in run_ok("data", "verify", "loghub2k/Linux")


def test_evaluate_shows_the_published_scores(mirror: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NONET_MIRROR", str(mirror))
    arguments = ["evaluate", "--data", "loghub2k/Proxifier", "--parsers", "LFA", "-o", tmp_path / "run", "-q"]
    first = run_ok(*arguments)
    assert "LFA" in first and "+.000" in first and str(tmp_path / "run") in first
    again = json.loads(run_ok(*arguments, "--json"))
    assert again["rows"][0]["status"] == "finished" and again["rows"][0]["difference_ga"] == pytest.approx(0, abs=1e-3)


def test_evaluate_fails_when_no_pair_finished(mirror: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NONET_MIRROR", str(mirror))
    arguments = [
        "evaluate",
        "--data",
        "loghub2k/Proxifier",
        "--parsers",
        "UniParser",
        "-o",
        str(tmp_path / "run"),
        "-q",
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1 and "no labelled line" in " ".join(result.stdout.split())


@pytest.mark.parametrize(("value", "code"), [(2.0, 0), (0.5, 1)])
def test_bench_prints_findings_and_fails_with_a_broken_promise(
    value: float, code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scales = []

    def measure(scale: str) -> list[Finding]:
        scales.append(scale)
        return [Finding("logs", "speed", value, "x", "higher", "synthetic", promise=1.0)]

    monkeypatch.setitem(sys.modules, "nonet.logs.bench", SimpleNamespace(bench=measure))
    result = run("bench", "--quick", "--json", tmp_path / "f.jsonl")
    assert result.exit_code == code and scales == ["quick"] and "speed" in result.stdout
    assert objects((tmp_path / "f.jsonl").read_text())[0]["value"] == value


# --- bad input: every line is kept, or one line says what is wrong

KEPT = {
    "empty": b"",
    "no final newline": b"a 1\nb 2",
    "crlf": b"a 1\r\na 2\r\n",
    "nul": b"a\0b 1\nplain\n",
    "invalid utf-8": b"caf\xe9 1\n\xff\xfe\xfa\nok\n",
    "a long line": b"x" * (1 << 20) + b"\nshort\n",
    "many tokens": b"w " * 100_000 + b"\nshort\n",
    "a literal wildcard": b"a <*> b\na x b\n<*>\n",
    "one token": b"up\ndown\nup\n",
    "blank lines": b"\n\n  \n\t\n",
}


@pytest.mark.parametrize("name", KEPT)
def test_odd_input_is_kept(name: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.log"
    path.write_bytes(KEPT[name])
    rows = objects(run_ok("parse", path, "--jsonl", "--header", "none", "--multiline", "off"))
    want = [line.removesuffix(b"\r") for line in KEPT[name].split(b"\n")]
    if not want[-1]:
        want.pop()
    assert [content_of(row) for row in rows] == want
    run_ok("top", path)
    run_ok("parse", path)
    json.loads(run_ok("parse", path, "--json"))
    html = tmp_path / "odd.html"
    if want:
        run_ok("diff", path, path, "--html", html)
    run_ok("top", path, "--html", html)


def content_of(row: dict[str, Any]) -> bytes:
    if "raw" in row:
        return bytes.fromhex(row["raw"])
    values = [parameter["value"] for parameter in row["parameters"]]
    return restore(row["log.record.template"], values, row.get("spacing")).encode()


def bad_inputs(folder: Path) -> dict[str, tuple[list[str], str]]:
    """Arguments, and what the error names."""
    log = folder / "app.log"
    log.write_text("\n".join(LINES) + "\n")
    (folder / "cut.gz").write_bytes(gzip.compress(os.urandom(50_000) + b"line\n" * 1000)[:-2000])
    (folder / "labels").mkdir()
    (folder / "labels" / "X_2k.log").write_text("a\n")
    (folder / "labels" / "X_2k.log_structured.csv").write_text("Wrong,Columns\n1,2\n")
    (folder / "bad.state").write_bytes(b"nonsense")
    return {
        "missing file": (["parse", str(folder / "nothing.log")], "no such file"),
        "a directory": (["top", str(folder)], "directory"),
        "truncated gzip": (["parse", str(folder / "cut.gz")], "truncated"),
        "header matches nothing": (["parse", str(log), "--header", "<A>;;<Content>"], "no line matches"),
        "header without content": (["top", str(log), "--format", "<A> <B>"], "<Content>"),
        "wrong multiline": (["parse", str(log), "--multiline", "sometimes"], "multiline"),
        "labels with wrong columns": (
            ["evaluate", "--data", str(folder / "labels"), "--parsers", "LFA"],
            "EventTemplate",
        ),
        "unknown data": (["evaluate", "--data", "loghub2/Nothing"], "loghub2/Nothing"),
        "unknown parser": (["compare", str(log), "--parsers", "Drian"], "Drain"),
        "exploding mask": (["parse", str(log), "--mask", r"(a)\1"], "back-references"),
        "damaged state": (["parse", str(log), "--state", str(folder / "bad.state")], "not a miner state"),
        "time that is none": (["top", str(log), "--since", "soon"], "soon"),
        "two outputs": (["parse", str(log), "--json", "--jsonl"], "choose one"),
        "one log to diff": (["diff", str(log)], "two logs"),
        "no folder for the page": (["top", str(log), "--html", str(folder / "no" / "x.html")], "does not exist"),
        "unknown option": (["top", str(log), "--nonsense"], "--nonsense"),
        "too few clusters": (["parse", str(log), "--max-clusters", "3"], "max-clusters"),
        "missing csv column": (["parse", str(log), "--content-column", "Nope"], "Nope"),
        "labels of an unknown kind": (["twin", "-o", str(folder / "t"), "--truth", str(folder / "t.xml")], ".parquet"),
        "unknown system": (["twin", "-o", str(folder / "t"), "--system", "Nope"], "Nope"),
    }


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for what, (arguments, reason) in bad_inputs(tmp_path).items():
        check_refused(what, arguments, reason, capsys)
    assert not any(path.name.startswith(".tmp") for path in tmp_path.rglob("*"))


def check_refused(what: str, arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    result = CliRunner().invoke(app, arguments, standalone_mode=False)
    assert result.exception is not None, what
    capsys.readouterr()
    assert exit_code_of(result.exception) == 2, (what, repr(result.exception))
    message = capsys.readouterr().err
    assert reason in message and message.count("\n") == 1 and "bug in nonet" not in message, (what, message)


def test_a_process_fails_with_one_line_and_no_traceback(tmp_path: Path) -> None:
    done = process("parse", tmp_path / "nothing.log")
    assert done.returncode == 2 and done.stdout == b""
    assert done.stderr.startswith(b"error: no such file") and done.stderr.count(b"\n") == 1


def test_help_starts_no_compiler() -> None:
    code = (
        "import sys\nfrom nonet.cli import main\n"
        "try:\n    main(['logs', '--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted(set(sys.modules) & {'numba', 'numpy', 'pyarrow', 'polars', 'altair'}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]" and "parse" in done.stdout


def test_output_is_plain_in_a_pipe(log: Path) -> None:
    done = process("top", log)
    assert done.returncode == 0 and b"\x1b[" not in done.stdout
    assert io.TextIOWrapper(io.BytesIO(done.stdout), "utf-8").read().count("request <int>") == 1


def test_commands_do_without_scipy(log: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from nonet.logs.cli import app\n"
        "app(['parse', sys.argv[1], '--out', sys.argv[2], '-q'], standalone_mode=False)\n"
        "assert 'scipy.linalg' not in sys.modules, 'SciPy was imported'\n"
    )
    command = [sys.executable, "-c", code, str(log), str(tmp_path / "out")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_piped_log_needs_no_name(tmp_path: Path) -> None:
    """Also in a new process, where standard input is a pipe and no terminal."""
    run = [sys.executable, "-m", "nonet", "logs", "parse", "--jsonl", "-q"]
    done = subprocess.run(run, input=b"port 80 open\nport 81 open\n", capture_output=True, check=True, cwd=tmp_path)
    assert [json.loads(line)["log.record.template"] for line in done.stdout.splitlines()] == ["port <*> open"] * 2


def test_two_processes_share_a_state_one_after_the_other(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("".join(f"job {i} done\n" for i in range(3_000)))
    run = [sys.executable, "-m", "nonet", "logs", "parse", "a.log", "--state", "shared.state", "-q"]
    both = [subprocess.Popen(run, cwd=tmp_path, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert Miner.load(tmp_path / "shared.state").num_lines == 6_000


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("logs evaluate --parsers nonet,Dr", {"nonet,Drain"}),
        ("logs data fetch loghub2/Prox", {"loghub2/Proxifier"}),
        ("logs top --sort ra", {"rare"}),
        ("logs twin --system HP", {"HPC"}),
        ("logs evaluate --rules log", {"loghub-2.0"}),
    ],
)
def test_the_shell_completes_values(words: str, offered: set[str]) -> None:
    environment = {**os.environ, "_NONET_COMPLETE": "complete_bash", "COMP_WORDS": f"nonet {words}", "COMP_CWORD": "99"}
    environment["COMP_CWORD"] = str(len(words.split()))
    nonet = Path(sys.executable).with_name("nonet")
    done = subprocess.run([str(nonet)], env=environment, capture_output=True, text=True, check=False)
    assert set(done.stdout.split()) == offered
