"""The evaluation with tiny parsers: results, limits, resuming after kill -9, and the files it leaves."""

from __future__ import annotations

import ast
import csv
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import psutil
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nonet.common.errors import InputError, MissingExtraError
from nonet.common.parallel import kept_open, parallel_map
from nonet.logs.evaluation.contestants import parser_names
from nonet.logs.evaluation.experiment import evaluate, read_run
from nonet.logs.evaluation.logpai_csv import ParameterExtractor, write_csv_pair
from nonet.logs.parsers.base import Parsed

HERE = Path(__file__).parent


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two labelled logs; `fake_parsers` is importable in worker processes, which see CALLS and HOLD."""
    for system, count in (("Apache", 6), ("Proxifier", 4)):
        place = tmp_path / "data" / system
        place.mkdir(parents=True)
        header = "[t] [info] " if system == "Apache" else "[t] prog - "
        lines = [f"{header}user {i} came" if i % 2 else f"{header}all  quiet" for i in range(count)]
        (place / f"{system}_full.log").write_text("\n".join([*lines, "a line without header"]))
        rows = [
            (i + 1, *((f"user {i} came", "E", "user <*> came") if i % 2 else ("all quiet", "E", "all quiet")))
            for i in range(count)
        ]
        with (place / f"{system}_full.log_structured.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("LineId", "Content", "EventId", "EventTemplate"), *rows])
    paths = [str(HERE), *(p for p in sys.path if p)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("HOLD", str(tmp_path / "hold"))
    return tmp_path / "data"


def test_rows_scores_and_files(folder, tmp_path):
    seen = []
    report = evaluate(
        "fake_parsers:identity,fake_parsers:starred",
        folder / "Apache",
        out_dir=tmp_path / "run",
        keep_outputs=True,
        workers=2,
        progress=lambda done, total, result: seen.append((done, total, result.parser)),
    )
    identity, starred = report.table()
    assert (identity["status"], identity["num_lines"], identity["system"]) == ("finished", 6, "Apache")
    # all 3 quiet lines share one text with two blanks, the 3 user lines have one text each
    assert (identity["ga"], identity["pa"], identity["fta"]) == (0.5, 0.0, 0.0)
    assert identity["pa_normalised"] == 0.5
    assert (starred["ga"], starred["pa"]) == (1.0, 0.5)
    assert identity["seconds"] == pytest.approx(identity["header_s"] + identity["parse_s"] + identity["output_s"])
    assert sorted(seen)[0][:2] == (1, 2) and len(seen) == 2
    run = tmp_path / "run"
    assert sorted(p.name for p in run.iterdir()) == [
        "config.json",
        "env.json",
        "lock",
        "logs",
        "metrics.jsonl",
        "outputs",
        "pairs",
        "results.parquet",
    ]
    assert pl.read_parquet(run / "results.parquet")["parser"].to_list() == [r["parser"] for r in report.table()]
    slices = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [s["slice"] for s in slices[:3]] == ["all", "params:0", "params:1-4"]
    assert slices == json.loads(json.dumps(read_run(run).slice_table()))
    csv_files = sorted(p.name for p in (run / "outputs").rglob("*.csv"))
    assert csv_files == ["Apache_full.log_structured.csv", "Apache_full.log_templates.csv"] * 2 or len(csv_files) == 4


def test_csv_pair_has_the_published_layout(tmp_path):
    contents = ["from 10.0.0.1  port 22", 'all, "quiet"', "from a port b", "odd"]
    templates = ["from <*> port <*>", 'all, "quiet"', "<*> b c"]
    parsed = Parsed(np.array([0, 1, 0, 2], np.int32), templates)
    write_csv_pair(tmp_path, "x.log", contents, pa.table({"Time": ["1", "2", "", "4"]}), parsed)
    with (tmp_path / "x.log_structured.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["LineId", "Time", "Content", "EventId", "EventTemplate", "ParameterList"]
    assert [row["Content"] for row in rows] == contents
    assert [row["LineId"] for row in rows] == ["1", "2", "3", "4"]
    assert rows[0]["EventId"] == hashlib.md5(b"from <*> port <*>").hexdigest()[:8]
    values = [ast.literal_eval(row["ParameterList"]) for row in rows]
    assert values == [["10.0.0.1", "22"], [], ["a", "b"], []]
    with (tmp_path / "x.log_templates.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["EventTemplate"], row["Occurrences"]) for row in rows] == list(
        zip(templates, ["2", "1", "1"], strict=True)
    )


def test_forty_wildcards_do_not_explode():
    extract = ParameterExtractor(" ".join(["<*>"] * 40) + " end")
    started = time.perf_counter()
    assert extract("a " * 2000 + "fin") == ()
    assert len(extract("a " * 39 + "b end")) == 40
    assert time.perf_counter() - started < 5


def test_limits_and_failures_are_told_apart(folder, tmp_path):
    parsers = [f"fake_parsers:{name}" for name in ("wrong", "broken", "fussy")]
    report = evaluate(parsers, folder / "Apache", out_dir=tmp_path / "run", workers=2)
    rows = {row["parser"].partition(":")[2]: row for row in report.table()}
    assert (rows["wrong"]["status"], rows["wrong"]["error"]) == ("failed", "fake_parsers:wrong labelled 5 of 6 lines")
    assert rows["broken"]["error"] == "ZeroDivisionError: division by zero in a parser"
    assert rows["fussy"]["error"] == "this parser wants another log"
    average = report.averages()[0]
    assert (average["num_finished"], average["ga"], average["ga_all"]) == (0, None, 0.0)
    report.write_html(tmp_path / "report.html")
    assert "ZeroDivisionError" in (tmp_path / "report.html").read_text()


def test_timeout_kills_the_pair_and_is_final(folder, tmp_path):
    for _ in range(2):
        report = evaluate("fake_parsers:sleepy", folder / "Apache", out_dir=tmp_path / "run", timeout_s=2)
        (row,) = report.table()
        assert (row["status"], row["seconds"]) == ("timeout", None)
    assert len(list((tmp_path / "run" / "pairs").iterdir())) == 1
    assert 2 <= report.results[0].wall_s < 10


def test_memory_limit_kills_the_pair(folder, tmp_path):
    report = evaluate("fake_parsers:greedy", folder / "Apache", out_dir=tmp_path / "run", memory_gib=0.5)
    (row,) = report.table()
    assert row["status"] == "out_of_memory"
    assert 512 < row["peak_rss_mib"] < 1024


def test_misaligned_labels_are_refused_before_parsing(folder, tmp_path):
    log = folder / "Apache" / "Apache_full.log"
    log.write_text(log.read_text() + "\n[t] [info] one more\n")
    report = evaluate("fake_parsers:counted", folder / "Apache", out_dir=tmp_path / "run")
    assert "matches 7 lines, but Apache_full.log_structured.csv has 6 rows" in report.table()[0]["error"]
    assert not (tmp_path / "calls").exists()


def test_labels_in_another_order_are_refused(folder, tmp_path):
    labels = folder / "Apache" / "Apache_full.log_structured.csv"
    head, *rows = labels.read_text().splitlines()
    labels.write_text("\n".join([head, *reversed(rows)]) + "\n")
    (row,) = evaluate("fake_parsers:identity", folder / "Apache", out_dir=tmp_path / "run").table()
    assert "not in the order of the lines of Apache_full.log" in row["error"]


def start_run(folder: Path, run: Path) -> subprocess.Popen[bytes]:
    # A shell has what it starts in the background ignore interrupts, and these tests with it.
    code = "signal.signal(signal.SIGINT, signal.default_int_handler)"
    code += "; evaluate('fake_parsers:counted', sys.argv[1], out_dir=sys.argv[2])"
    code = f"import signal, sys; from nonet.logs.evaluation.experiment import evaluate; {code}"
    return subprocess.Popen([sys.executable, "-c", code, str(folder), str(run)], stderr=subprocess.PIPE)


def wait_for(condition, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def test_killed_run_continues_where_it_was(folder, tmp_path):
    """kill -9 while the second pair runs: the first pair is kept, the orphan dies, the second runs again."""
    run, calls, hold = tmp_path / "run", tmp_path / "calls", tmp_path / "hold"
    process = start_run(folder, run)
    first = run / "pairs"
    wait_for(lambda: len(list(first.glob("*.json"))) == 1)
    hold.touch()
    wait_for(lambda: calls.exists() and calls.read_text() == "6\n4\n")
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []
    assert len(list(first.glob("*.json"))) == 1
    hold.unlink()
    report = evaluate("fake_parsers:counted", folder, out_dir=run)
    assert [row["status"] for row in report.table()] == ["finished", "finished"]
    assert calls.read_text() == "6\n4\n4\n"
    evaluate("fake_parsers:counted", folder, out_dir=run)
    assert calls.read_text() == "6\n4\n4\n"


def test_interrupt_stops_the_pairs_and_leaves_a_run_that_continues(folder, tmp_path):
    run, hold = tmp_path / "run", tmp_path / "hold"
    hold.touch()
    process = start_run(folder, run)
    wait_for((tmp_path / "calls").exists)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in process.communicate(timeout=20)[1].decode()
    assert psutil.wait_procs(children, timeout=5)[1] == []
    hold.unlink()
    assert not (run / "work").exists()
    report = evaluate("fake_parsers:counted", folder, out_dir=run)
    assert [row["status"] for row in report.table()] == ["finished", "finished"]


def test_one_run_directory_holds_one_question_and_one_process(folder, tmp_path):
    run = tmp_path / "run"
    evaluate("fake_parsers:identity", folder / "Apache", out_dir=run)
    with pytest.raises(InputError, match=r"made for another evaluation \(rules was none, now loghub-2.0\)"):
        evaluate("fake_parsers:identity", folder / "Apache", out_dir=run, rules="loghub-2.0")
    with pytest.raises(InputError, match="holds a run already"):
        evaluate("fake_parsers:identity", folder / "Apache", out_dir=run, resume=False)
    (tmp_path / "hold").touch()
    process = start_run(folder, tmp_path / "other")
    wait_for((tmp_path / "calls").exists)
    with pytest.raises(InputError, match="another evaluation is running there"):
        evaluate("fake_parsers:counted", folder, out_dir=tmp_path / "other")
    process.kill()
    process.communicate()


def test_a_run_directory_takes_in_more_parsers_and_data(folder, tmp_path):
    run = tmp_path / "run"
    evaluate("fake_parsers:identity", folder / "Apache", out_dir=run)
    more = evaluate("fake_parsers:counted", folder, out_dir=run)
    assert {result.parser for result in more.results} == {"fake_parsers:counted"}
    pairs = {(result.parser, result.data) for result in read_run(run).results}
    assert len(pairs) == 1 + len(more.results) == len(pl.read_parquet(run / "results.parquet"))


def test_results_without_their_question_are_not_taken_over(folder, tmp_path):
    run = tmp_path / "run"
    evaluate("fake_parsers:identity", folder / "Apache", out_dir=run)
    (run / "config.json").write_text("{")
    with pytest.raises(InputError, match="delete the folder"):
        evaluate("fake_parsers:identity", folder / "Apache", out_dir=run, rules="loghub-2.0")
    (run / "config.json").unlink()
    with pytest.raises(InputError, match="delete the folder"):
        evaluate("fake_parsers:identity", folder / "Apache", out_dir=run, rules="loghub-2.0")


def test_damaged_result_is_named(folder, tmp_path):
    run = tmp_path / "run"
    evaluate("fake_parsers:identity", folder / "Apache", out_dir=run)
    (file,) = (run / "pairs").glob("*.json")
    file.write_text('{"parser": ')
    with pytest.raises(InputError, match="damaged"):
        evaluate("fake_parsers:identity", folder / "Apache", out_dir=run)


def test_bad_requests(folder, tmp_path):
    for arguments, message in [
        ({"parsers": "drian"}, "did you mean 'Drain'"),
        ({"parsers": ""}, "no parser named"),
        ({"parsers": "drain,Drain"}, "named twice"),
        ({"mode": "both"}, "mode must be"),
        ({"timeout_s": 0}, "timeout_s must be above 0"),
        ({"rules": "v7"}, "unknown rule version"),
        ({"slices": ["x"]}, "slice 'x'"),
        ({"workers": 0}, "workers must be at least 1"),
        ({"engine": "cloud"}, "unknown engine"),
    ]:
        given = {"parsers": "nonet", "data": folder, "out_dir": tmp_path / message.split()[0], **arguments}
        with pytest.raises(InputError, match=message):
            evaluate(**given)
    assert "Drain" in parser_names("all") and parser_names("all")[0] == "nonet"


def test_unknown_own_parser_fails_as_a_pair(folder, tmp_path):
    (row,) = evaluate("no_such_module:X", folder / "Apache", out_dir=tmp_path / "run").table()
    assert row["status"] == "failed" and "no_such_module" in row["error"]


def test_ray_without_ray_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'nonet\[ray\]'"):
        list(parallel_map(str, [1], engine="ray"))


@pytest.fixture(scope="module")
def one_ray() -> Iterator[None]:
    """Ray, started once; that a map starts and ends its own is tested with the planner of power."""
    pytest.importorskip("ray", reason="the extra nonet[ray] is not installed")
    with kept_open("ray", 2):
        yield


def test_an_evaluation_on_ray_gives_what_a_local_one_does(one_ray, folder, tmp_path):
    asked = {"parsers": "nonet,Drain", "data": folder / "Apache", "mode": "fixed", "workers": 2}
    local = evaluate(**asked, out_dir=tmp_path / "local").table()
    spread = evaluate(**asked, out_dir=tmp_path / "spread", engine="ray").table()
    measured = {"seconds", "lines_per_s", "header_s", "parse_s", "output_s", "peak_rss_mib"}
    assert [{k: v for k, v in row.items() if k not in measured} for row in spread] == [
        {k: v for k, v in row.items() if k not in measured} for row in local
    ]


@pytest.mark.parametrize("engine", ["local", "threads", "ray"])
def test_parallel_map_gives_every_result_with_its_position(engine, request):
    if engine == "ray":
        request.getfixturevalue("one_ray")
    assert sorted(parallel_map(abs, [-3, -2, -1], workers=2, engine=engine)) == [(0, 3), (1, 2), (2, 1)]
    with pytest.raises(TypeError):
        list(parallel_map(abs, [1, "x"], workers=1, engine=engine))


def test_drain_meets_the_published_granular_values(mirror, monkeypatch, tmp_path):
    """Published slices of Drain on full Linux and Proxifier (Preprocessing-is-All-You-Need, original results)."""
    monkeypatch.setenv("NONET_MIRROR", str(mirror))
    report = evaluate("drain", "loghub2/Linux,loghub2/Proxifier", out_dir=tmp_path / "run")
    rows = {(row["system"], row["slice"]): row for row in report.slice_table()}
    expected = {
        ("Linux", "params:1-4"): (0.779, 0.745, 0.091, 0.059),
        ("Linux", "params:5+"): (0.010, 0.235, 0.0, 0.0),
        ("Linux", "params:0"): (1.0, 1.0, 1.0, 1.0),
        ("Proxifier", "params:1-4"): (0.984, 0.824, 0.978, 0.706),
        ("Proxifier", "params:5+"): (0.0, 0.0, 0.0, 0.0),
        ("Proxifier", "all"): (0.692, 0.206, 0.688, 0.176),
    }
    for key, values in expected.items():
        assert [rows[key][m] for m in ("ga", "fga", "pa", "fta")] == pytest.approx(values, abs=0.001), key
    assert all(abs(row[f"difference_{m}"]) <= 0.001 for row in report.table() for m in ("ga", "fga", "pa", "fta"))
    assert ("Proxifier", "params:0") not in rows


@settings(max_examples=400, deadline=None)
@given(st.text("ab \t<", max_size=14), st.lists(st.sampled_from(["<*>", "a", "b", " ", "  ", "<"]), max_size=6))
def test_values_are_those_of_lazy_groups(content: str, parts: list[str]) -> None:
    template = "".join(parts)
    pieces = (r"[ \t\n\r\f]+".join(map(re.escape, re.split(r"[ \t]+", piece))) for piece in template.split("<*>"))
    match = re.fullmatch("(.*?)".join(pieces), content, re.DOTALL)
    assert ParameterExtractor(template)(content) == (() if match is None else match.groups())
