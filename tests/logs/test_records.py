from __future__ import annotations

import csv
import gzip
import io
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nonet.common.errors import InputError
from nonet.logs.reading import records as records_module
from nonet.logs.reading.headers import HeaderFormat
from nonet.logs.reading.records import NO_TIME, RecordReader, read_records
from nonet.logs.reading.sources import open_blocks

HEADER = "<Time> <Level>: <Content>"
JAVA = [
    b"2026-11-22 12:30:01,250 ERROR [main] a.B: failed",
    b"java.io.IOException: x: y",
    b"\tat a.B.c(B.java:1)",
    b"Caused by: java.lang.Error: z: q",
    b"\t... 3 more",
    b"2026-11-22 12:30:02,250 INFO [main] a.B: ok",
]
PYTHON = [
    b"2026-11-22 12:30:01,250 ERROR [main] a.B: failed",
    b"Traceback (most recent call last):",
    b'  File "x.py", line 3, in <module>',
    b"    raise Stop",
    b"app.Stop: because",
    b"unrelated line",
    b"2026-11-22 12:30:02,250 INFO [main] a.B: ok",
]


def read(data: bytes, **options: Any) -> tuple[list[bytes], RecordReader]:
    reader = read_records(io.BytesIO(data), **options)
    contents = [content for batch in reader for content in batch.contents()]
    report = reader.report
    assert report.records == len(contents) == report.matched + report.unmatched_kept
    assert report.lines == report.records + report.joined
    return contents, reader


def everything(data: bytes, **options: Any) -> tuple[list[tuple[Any, ...]], dict[str, int]]:
    """All that a reader delivers, record by record, and its report."""
    reader = read_records(io.BytesIO(data), **options)
    rows: list[tuple[Any, ...]] = []
    for batch in reader:
        fields = [batch.field(name) for name in batch.names]
        times = [None] * len(batch) if batch.timestamps_us is None else batch.timestamps_us.tolist()
        rows += zip(
            batch.contents(), batch.header_matched.tolist(), batch.line_numbers.tolist(), times, *fields, strict=True
        )
    return rows, asdict(reader.report)


PIECES = [
    b"12:00 INFO: up", b"12:01 WARN:  two  blanks ", b"noise", b"", b"  indented", b"\tat x", b"at y", b"Caused by: z",
    b"a.BError: q", b"Traceback (most recent call last):", b"... 3 more", b"\xff\xfe", b"nul \x00 INFO: x",
    b"13:00 E: \xc3\xa9", b" 14:00 INFO: stripped\t",
]  # fmt: skip


@given(
    st.lists(st.tuples(st.sampled_from(PIECES), st.sampled_from([b"\n", b"\r\n"])), max_size=14),
    st.booleans(),
    st.sampled_from(["auto", "join", "off"]),
    st.sampled_from([HEADER, "none"]),
    st.integers(1, 80),
)
@settings(max_examples=150, deadline=None)
def test_records_do_not_depend_on_the_block_size(
    lines: list[tuple[bytes, bytes]], ends: bool, multiline: str, header: str, block_bytes: int
) -> None:
    data = b"12:00 INFO: first\n" + b"".join(line + end for line, end in lines)
    data = data if ends else data.rstrip(b"\r\n")
    options = {"header": header, "multiline": multiline}
    whole, report = everything(data, **options)
    assert everything(data, block_bytes=block_bytes, **options) == (whole, report)
    assert (
        report["lines"]
        == report["matched"] + report["unmatched_kept"] + report["joined"]
        == len(data.split(b"\n")) - data.endswith(b"\n")
    )


@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=14))
@settings(max_examples=200, deadline=None)
def test_every_line_is_in_exactly_one_record(lines: list[bytes]) -> None:
    data = b"12:00 INFO: first\n" + b"\n".join(lines) + b"\n"
    pattern = re.compile(rb"^(.*?)\s+(.*?):\s+(.*?)$")
    expected = []
    for line in data.split(b"\n")[:-1]:
        found = pattern.match(line.strip())
        expected.append((found.group(3) if found else line, found is not None))
    rows, report = everything(data, header=HEADER, multiline="off")
    assert [row[:2] for row in rows] == expected
    assert [row[2] for row in rows] == list(range(1, len(expected) + 1))
    assert report["matched"] == sum(matched for _, matched in expected)
    joined, _ = everything(data, header=HEADER, multiline="join")
    text = b"\n".join(content for content, *_ in joined).split(b"\n")
    assert len(text) == len(expected)  # nothing is lost by joining


def test_stack_traces_join_the_record_before() -> None:
    contents, reader = read(b"\n".join(JAVA))
    assert contents == [b"failed\n" + b"\n".join(JAVA[1:5]), b"ok"]
    assert (reader.report.matched, reader.report.joined) == (2, 4)
    contents, reader = read(b"\n".join(PYTHON))
    assert contents == [b"failed\n" + b"\n".join(PYTHON[1:5]), b"unrelated line", b"ok"]
    assert reader.report.unmatched_kept == 1
    assert read(b"\n".join(PYTHON), multiline="join")[0] == [b"failed\n" + b"\n".join(PYTHON[1:6]), b"ok"]
    assert len(read(b"\n".join(PYTHON), multiline="off")[0]) == len(PYTHON)


def test_traces_join_without_any_header_too() -> None:
    contents, reader = read(b"starting\nTraceback (most recent call last):\n  File x\nKeyboardInterrupt\nstopped\n")
    assert reader.header is None
    assert contents == [b"starting\nTraceback (most recent call last):\n  File x\nKeyboardInterrupt", b"stopped"]
    assert read(b"a\nb\nc\n", multiline="join")[0] == [b"a", b"b", b"c"]


def test_joining_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records_module, "MAX_RECORD_LINES", 3)
    monkeypatch.setattr(records_module, "MAX_RECORD_BYTES", 60)
    data = b"12:00 INFO: x\n" + b"  trace\n" * 7 + b"12:01 INFO: y\n" + b" " * 50 + b"long\n"
    for block_bytes in (1, 20, 1000):
        contents, reader = read(data, header=HEADER, block_bytes=block_bytes)
        assert [content.count(b"\n") + 1 for content in contents] == [3, 3, 2, 1, 1]
        assert reader.report.lines == 10


def test_trailing_fields_turn_joining_off() -> None:
    contents, _ = read(b"up [a]\n  x\ndown [b]\n", header=r"<Content> \[<Tag>\]")
    assert contents == [b"up", b"  x", b"down"]


def test_detected_headers_need_a_real_time() -> None:
    data = b"\n".join([JAVA[0], b"Caused by: ERROR [x] a.B: looks like a header", JAVA[5]])
    contents, reader = read(data, multiline="off")
    assert reader.report.unmatched_kept == 1
    assert contents[1].startswith(b"Caused by")


def test_times_of_records() -> None:
    rows, _ = everything(b"\n".join(JAVA))
    assert [str(np.datetime64(row[3], "us")) for row in rows] == [
        "2026-11-22T12:30:01.250000",
        "2026-11-22T12:30:02.250000",
    ]
    rows, _ = everything(b"\n".join(PYTHON), header=r"<Date> <Time> <Level> \[<Thread>\] <Content>", multiline="off")
    assert [row[3] == NO_TIME for row in rows] == [False, True, True, True, True, True, False]


# Bad input ---------------------------------------------------------------------------------------------------------


def test_empty_input() -> None:
    for options in (
        {},
        {"header": HEADER},
        {"header": "none"},
        {"input_format": "json"},
        {"content_column": "Content"},
    ):
        contents, reader = read(b"", **options)
        assert contents == []
        assert reader.report.lines == 0


def test_no_final_newline_crlf_nul_and_invalid_utf8() -> None:
    contents, reader = read(
        b"12:00 INFO: a\r\n12:01 INFO: nul \x00 x\r\n12:02 INFO: bad \xff\xc3\r\n12:03 INFO: last", header=HEADER
    )
    assert contents == [b"a", b"nul \x00 x", b"bad \xff\xc3", b"last"]
    assert (reader.report.matched, reader.report.invalid_utf8) == (4, 1)


@given(
    st.lists(st.binary(max_size=6) | st.text(max_size=3).filter(lambda t: t.isprintable()).map(str.encode), max_size=6)
)
@settings(max_examples=200, deadline=None)
def test_invalid_utf8_is_counted_like_python(parts: list[bytes]) -> None:
    lines = [part.replace(b"\n", b"").replace(b"\r", b"") for part in [b"x", *parts]]
    _, reader = read(b"\n".join(lines) + b"\n", header="none", multiline="off", input_format="text")

    def bad(line: bytes) -> bool:
        try:
            line.decode()
        except UnicodeDecodeError:
            return True
        return False

    assert reader.report.invalid_utf8 == sum(map(bad, lines))


def test_giant_lines() -> None:
    megabyte = b"12:00 INFO: " + b"x" * (1 << 20)
    tokens = b"12:01 INFO: " + b"token " * 100_000
    unmatched = b"no header " * 200_000
    data = b"\n".join([megabyte, tokens, unmatched, b"12:02 INFO: end"])
    contents, reader = read(data, header=HEADER)
    assert contents == [b"x" * (1 << 20), (b"token " * 100_000).strip(), unmatched, b"end"]
    assert (reader.report.matched, reader.report.unmatched_kept, reader.report.too_long) == (3, 1, 0)


def test_lines_over_the_limit_are_cut_and_counted() -> None:
    data = b"12:00 INFO: " + b"x" * 100 + b"\n12:01 INFO: end\n"
    for block_bytes in (1, 30, 1000):
        contents, reader = read(data, header=HEADER, max_line_bytes=40, block_bytes=block_bytes)
        assert contents == [b"x" * 28, b"x" * 40, b"x" * 32, b"end"]
        assert (reader.report.too_long, reader.report.unmatched_kept) == (2, 2)


def test_a_header_that_matches_nothing_shows_the_lines_and_what_was_expected() -> None:
    reader = read_records(io.BytesIO(b"one two\nthree\n\xff\nfive\n"), header=r"\[<Time>\] <Content>")
    with pytest.raises(InputError) as raised:
        for batch in reader:
            assert not batch.header_matched.any()
    message = str(raised.value)
    assert "'one two' | 'three'" in message
    assert r"\[<Time>\] <Content>" in message.replace("\\\\", "\\")
    assert "\n" not in message


def test_a_header_that_matches_no_first_line_is_refused_at_once() -> None:
    with pytest.raises(InputError, match=r"no line matches .* 'no header' \| 'no header'"):
        read_records(io.BytesIO(b"no header\n" * 100_000), header=r"\[<Time>\] <Content>")


@given(
    st.binary(max_size=80)
    | st.lists(st.sampled_from([*PIECES, b'{"message":"a', b'{"a":{}}', b"\x1f\x8b"])).map(b"\n".join)
)
@settings(max_examples=150, deadline=None)
def test_any_bytes_give_records_or_a_one_line_error(data: bytes) -> None:
    for options in (
        {},
        {"input_format": "cri"},
        {"json_field": "message"},
        {"content_column": "a"},
        {"header": "<A> <Content>"},
    ):
        try:
            read(data, **options)
        except InputError as error:
            assert "\n" not in str(error)


def test_truncated_gzip_gives_its_records_first(tmp_path: Path) -> None:
    data = b"".join(b"12:00 INFO: message %d\n" % i for i in range(100_000))
    for name, text in (
        ("plain", data),
        ("cri", b"".join(b"2026-11-22T12:30:01.5Z stdout F " + x + b"\n" for x in data.splitlines())),
    ):
        path = tmp_path / f"{name}.log.gz"
        path.write_bytes(gzip.compress(text)[:-5000])
        reader = read_records(path, header=HEADER)
        contents: list[bytes] = []
        with pytest.raises(InputError, match=r"ends early .* after line"):
            for batch in reader:
                contents += batch.contents()
        assert contents[:3] == [b"message 0", b"message 1", b"message 2"]
        assert len(contents) == reader.report.lines > 50_000


def test_missing_file_and_directory(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_records(tmp_path / "missing.log")
    with pytest.raises(InputError, match="is a directory"):
        read_records(tmp_path)


@pytest.mark.parametrize("options", [{"multiline": "sometimes"}, {"input_format": "xml"}, {"header": "<A> <B>"}])
def test_unknown_options(options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        read_records(io.BytesIO(b"a\n"), **options)


# Tables ------------------------------------------------------------------------------------------------------------

CELL = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=8)


@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=8))
@settings(max_examples=100, deadline=None)
def test_csv_agrees_with_pythons_reader(rows: list[tuple[str, str]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    writer.writerows([("Level", "Content"), *rows])
    rows_read, report = everything(text.getvalue().encode(), content_column="Content")
    assert [(row[4], row[0]) for row in rows_read] == [(a.encode(), b.encode()) for a, b in rows]
    assert report["lines"] == report["matched"] == len(rows)


def test_csv_keeps_bad_rows_and_bytes() -> None:
    data = b'LineId,Content,Level\n1,"a, ""b""\nc",INFO\n2,null,\n3,bad\n4,y\xff,E\n'
    contents, reader = read(data, content_column="Content")
    assert contents == [b'a, "b"\nc', b"null", b"y\xff", b"3,bad"]
    assert (reader.report.invalid_rows, reader.report.unmatched_kept, reader.report.invalid_utf8) == (1, 1, 1)
    assert read(gzip.compress(data), content_column="Content")[0] == contents


def test_csv_without_the_column() -> None:
    with pytest.raises(InputError, match="no column 'Content'; the columns are 'a', 'b'"):
        read(b"a,b\n1,2\n", content_column="Content")


def test_csv_of_the_data(mirror: Path) -> None:
    path = mirror / "logs/loghub_2k/HDFS/HDFS_2k.log_structured_corrected.csv"
    with path.open(newline="") as file:
        expected = [row["Content"].encode() for row in csv.DictReader(file)]
    assert [
        content for batch in read_records(path, content_column="Content") for content in batch.contents()
    ] == expected


# Real data ---------------------------------------------------------------------------------------------------------


def test_real_data_with_its_formats_and_with_detection(mirror: Path) -> None:
    formats: dict[str, str] = json.loads((mirror / "logs/params.json").read_text())["log_format"]
    for system, text in formats.items():
        path = mirror / f"logs/loghub_2k/{system}/{system}_2k.log"
        given, detected = read_records(path, header=text, multiline="off"), read_records(path)
        expected = [content for batch in given for content in batch.contents()]
        assert [content for batch in detected for content in batch.contents()] == expected, system
        assert given.report.matched == given.report.lines == detected.report.matched == 2000


def test_linux_in_full(mirror: Path) -> None:
    path = mirror / "logs/loghub2_full/Linux/Linux_full.log.gz"
    pattern = re.compile(rb"^(.*?)\s+(.*?)\s+(.*?)\s+(.*?)\s+(.*?)(\[(.*?)\])?:\s+(.*?)$")
    matches = [pattern.match(line.strip()) for line in gzip.decompress(path.read_bytes()).split(b"\n")[:-1]]
    expected = [found.group(8) for found in matches if found]
    header = HeaderFormat.parse(r"<Month> <Date> <Time> <Level> <Component>(\[<PID>\])?: <Content>")
    reader = read_records(path, header=header, block_bytes=100_000)
    contents = []
    for batch in reader:
        assert batch.timestamps_us is not None
        assert (np.diff(batch.timestamps_us) >= -86_400_000_000).all()
        contents += batch.contents()
    assert contents == expected
    assert reader.report.lines == len(matches)


def test_blocks_are_closed_on_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"a\n")
    closed = []
    opened = open_blocks(path)
    monkeypatch.setattr(opened, "close", lambda: closed.append(True))
    monkeypatch.setattr(records_module, "open_blocks", lambda *_, **__: opened)
    with pytest.raises(InputError):
        read_records(path, header="<A>")
    assert closed
