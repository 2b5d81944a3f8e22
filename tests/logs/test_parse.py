"""A whole file: every line comes out, with the template that the whole file supports."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from lines import any_lines

from nonet.common.errors import InputError
from nonet.logs import Miner, parse_file, restore
from nonet.logs import parse as parse_module
from nonet.logs.outputs import CsvSink, JsonLinesSink, event_id


def contents_of(folder: Path) -> list[bytes]:
    """Contents as the Parquet file restores them, in order of lines."""
    lines = pl.read_parquet(folder / "lines.parquet")
    if not lines.height:
        return []
    rows = lines.select("template", "parameters", "spacing", "raw").iter_rows()
    return [raw if raw is not None else restore(text, values, blanks).encode() for text, values, blanks, raw in rows]


@given(any_lines)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_line_comes_out_byte_for_byte(tmp_path: Path, contents: list[bytes]) -> None:
    contents = [c.replace(b"\n", b"").replace(b"\r", b"") for c in contents]
    log = tmp_path / "a.log"
    log.write_bytes(b"\n".join(contents) + b"\n")
    report = parse_file(log, out=tmp_path / "out", header="none", multiline="off", input_format="text")
    assert contents_of(tmp_path / "out") == contents
    assert report.num_lines == report.read.lines == len(contents)


def test_header_fields_templates_and_parameters(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text(
        "".join(f"2026-11-22 10:00:0{i} INFO web: request {i} took {i}ms\n" for i in range(9)) + "odd one out\n"
    )
    report = parse_file(
        log, out=tmp_path / "out", header="<Date> <Time> <Level> <Component>: <Content>", multiline="off"
    )
    lines = pl.read_parquet(tmp_path / "out/lines.parquet")
    assert lines["Component"].to_list() == ["web"] * 9 + [None]
    assert lines["header_matched"].to_list() == [True] * 9 + [False]
    assert lines["template"].unique().sort().to_list() == ["odd one out", "request <*> took <*>"]
    assert lines["parameters"].to_list()[3] == ["3", "3ms"]
    assert report.read.unmatched_kept == 1
    templates = pl.read_parquet(tmp_path / "out/templates.parquet")
    assert templates["count"].to_list() == [9, 1]
    assert templates["typed_template"].to_list()[0] == "request <int> took <duration>"
    parameters = pl.read_parquet(tmp_path / "out/parameters.parquet")
    assert parameters["type"].to_list() == ["int", "duration"]


def test_threads_and_the_size_of_memory_leave_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "a.log.gz"
    log.write_bytes(gzip.compress(b"".join(b"job %d of user u%d done\n" % (i, i % 7) for i in range(5000))))
    tables = []
    for name, threads, keep_bytes in (("one", 1, 1 << 30), ("three", 3, 1 << 30), ("again", 2, 10)):
        monkeypatch.setattr(parse_module, "KEEP_BYTES", keep_bytes)
        parse_file(log, out=tmp_path / name, threads=threads, header="none", block_bytes=4096)
        tables.append(
            tuple(pl.read_parquet(tmp_path / name / f"{part}.parquet") for part in ("lines", "templates", "parameters"))
        )
    assert all(a.equals(b) for other in tables[1:] for a, b in zip(tables[0], other, strict=True))


def test_a_miner_goes_on_from_file_to_file(tmp_path: Path) -> None:
    miner = Miner()
    for name in ("a", "b"):
        (tmp_path / name).write_text("".join(f"port {i} open\n" for i in range(10)))
        parse_file(tmp_path / name, miner=miner)
    assert [(t.text, t.count) for t in miner.templates()] == [("port <*> open", 20)]


def test_evicted_shapes_leave_their_lines_whole(tmp_path: Path) -> None:
    names = ["".join(chr(97 + (i * k) % 26) for k in (1, 3, 5, 7, 11)) + chr(97 + i % 26) * (i % 5) for i in range(400)]
    log = tmp_path / "a.log"
    log.write_text("\n".join(f"{a} {b}x" for a, b in zip(names, reversed(names), strict=True)))
    report = parse_file(log, out=tmp_path / "out", miner=Miner(max_clusters=32), header="none")
    assert contents_of(tmp_path / "out") == log.read_bytes().split(b"\n")
    assert report.num_unplaced > 0


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"no end",
        b"a\r\nb\r\n",
        b"nul \x00 here\n",
        b"bad \xff\xfe utf8 \xc3\n",
        b"x" * (1 << 20) + b"\n",
        b"w " * 100_000 + b"\n",
        b"<*> said <*>\n<*>\n",
        b"one\ntwo\n",
    ],
)
def test_odd_files_lose_nothing(tmp_path: Path, data: bytes) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(data)
    report = parse_file(log, out=tmp_path / "out", header="none", multiline="off")
    expected = data.replace(b"\r\n", b"\n").removesuffix(b"\n").split(b"\n") if data else []
    assert contents_of(tmp_path / "out") == expected
    assert report.num_lines == len(expected)


def test_input_that_cannot_be_read_is_one_clear_error(tmp_path: Path) -> None:
    for bad in (tmp_path, tmp_path / "missing"):
        with pytest.raises(InputError, match=bad.name):
            parse_file(bad, out=tmp_path / "out")
    cut = tmp_path / "cut.gz"
    cut.write_bytes(gzip.compress(b"line of text\n" * 10_000)[:-40])
    with pytest.raises(InputError, match=r"cut\.gz"):
        parse_file(cut, out=tmp_path / "out")
    assert not (tmp_path / "out" / "lines.parquet").exists()
    (tmp_path / "plain").write_text("hello\n" * 200)
    with pytest.raises(InputError, match="hello"):
        parse_file(tmp_path / "plain", header="<Date> <Time> <Level>: <Content>")
    with pytest.raises(InputError, match="folder"):
        parse_file(tmp_path / "plain", out=tmp_path / "plain" / "out", header="none")


def test_csv_pair_and_json_lines(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("12:00 INFO: port 80  open\n12:01 WARN: port 81 open\n")
    stream = io.StringIO()
    parse_file(log, sinks=[CsvSink(tmp_path, "a.log"), JsonLinesSink(stream)], header="<Time> <Level>: <Content>")
    rows = list(csv.DictReader((tmp_path / "a.log_structured.csv").open()))
    assert [(r["LineId"], r["Level"], r["Content"], r["EventTemplate"]) for r in rows] == [
        ("1", "INFO", "port 80  open", "port <*> open"),
        ("2", "WARN", "port 81 open", "port <*> open"),
    ]
    assert {r["EventId"] for r in rows} == {event_id("port <*> open")}
    totals = list(csv.DictReader((tmp_path / "a.log_templates.csv").open()))
    assert totals == [{"EventId": event_id("port <*> open"), "EventTemplate": "port <*> open", "Occurrences": "2"}]
    objects = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert objects[0]["log.record.template"] == "port <*> open"
    assert objects[0]["parameters"] == ["80"]
    assert objects[0]["spacing"] == ["", " ", "  ", ""]
    assert "spacing" not in objects[1]


def test_forgotten_lines_are_told_with_and_without_outputs(tmp_path: Path) -> None:
    rng = random.Random(0)
    names = ("".join(rng.choices("abcdefghijklmnop", k=9)) for _ in range(4_000))
    (tmp_path / "many.log").write_text("".join(f"{name}\n" for name in names))
    silent = parse_file(tmp_path / "many.log", miner=Miner(max_clusters=100))
    written = parse_file(tmp_path / "many.log", miner=Miner(max_clusters=100), out=tmp_path / "out")
    counted = sum(template.count for template in silent.templates)
    assert silent.num_lines - silent.num_unplaced == counted == sum(t.count for t in written.templates)
    assert silent.num_unplaced > 3_000
    assert written.num_unplaced == silent.num_unplaced
