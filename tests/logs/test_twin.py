"""Synthetic twins: the same lines however they are cut, and labels that tell the truth about every line."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import re
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from nonet.common.errors import InputError
from nonet.logs.evaluation import twin as twin_module
from nonet.logs.evaluation.compat_header import split_contents
from nonet.logs.evaluation.scorecard import evaluate_files
from nonet.logs.evaluation.twin import (
    HEADER_FORMAT,
    TwinSource,
    TwinTemplate,
    builtin_templates,
    system_templates,
    templates_from_csv,
    twin,
    with_values,
)
from nonet.logs.evaluation.twin_values import FILLERS, Choice, HarvestedValues, Integer


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twin_module, "BLOCK_LINES", 100)


def contents(source: TwinSource, cuts: list[int]) -> list[str]:
    return [
        line
        for start, stop in itertools.pairwise(cuts)
        for table in source.lines(start, stop)
        for line in table["Content"].to_pylist()
    ]


@given(st.lists(st.integers(0, 1000), max_size=8))
@settings(max_examples=25, deadline=None)
def test_any_cut_gives_the_same_lines(cuts):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(twin_module, "BLOCK_LINES", 100)
        source = TwinSource(builtin_templates(), seed=3)
        whole = contents(source, [0, 1000])
        assert len(whole) == 1000
        assert contents(source, sorted([0, *cuts, 1000])) == whole


def test_same_seed_same_bytes_and_longer_begins_with_shorter(tmp_path, small_blocks):
    for name, lines, seed in (("a", 730, 5), ("b", 730, 5), ("short", 250, 5), ("other", 730, 6)):
        twin(builtin_templates(), lines, seed, tmp_path / f"{name}.log", tmp_path / f"{name}.parquet")
    log = {name: (tmp_path / f"{name}.log").read_bytes() for name in ("a", "b", "short", "other")}
    assert log["a"] == log["b"]
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert log["a"].startswith(log["short"])
    assert log["a"] != log["other"]


def test_every_line_is_what_its_label_says(tmp_path, small_blocks):
    report = twin(builtin_templates(), 990, 1, tmp_path / "t.log", tmp_path / "t.parquet")
    assert (report.num_lines, report.num_templates, report.header_format) == (990, 42, HEADER_FORMAT)
    rows = pq.read_table(tmp_path / "t.parquet").to_pylist()
    kept, columns = split_contents(tmp_path / "t.log", HEADER_FORMAT)
    assert kept == [row["Content"] for row in rows]
    times = [
        f"{date} {time}" for date, time in zip(columns["Date"].to_pylist(), columns["Time"].to_pylist(), strict=True)
    ]
    assert times == sorted(times) and re.fullmatch(r"2026-01-05 00:00:00\.00\d", times[0])
    assert [row["LineId"] for row in rows] == list(range(1, 991))
    for row in rows:
        pattern = ".+".join(map(re.escape, row["EventTemplate"].split("<*>")))
        assert re.fullmatch(pattern, row["Content"])
        assert row["EventId"] == hashlib.md5(row["EventTemplate"].encode()).hexdigest()[:8]
    scores = evaluate_files(tmp_path / "t.parquet", tmp_path / "t.parquet").scores
    assert (scores.ga, scores.fta, scores.num_lines) == (1.0, 1.0, 990)


def test_csv_and_parquet_labels_agree_and_logs_compress(tmp_path, small_blocks):
    templates = builtin_templates()
    twin(templates, 250, 2, tmp_path / "t.log", tmp_path / "t.csv", header=False)
    twin(templates, 250, 2, tmp_path / "t.log.gz", tmp_path / "t.parquet", header=False)
    twin(templates, 250, 2, tmp_path / "t.log.zst", header=False)
    plain = (tmp_path / "t.log").read_bytes()
    assert gzip.decompress((tmp_path / "t.log.gz").read_bytes()) == plain
    assert zstandard.ZstdDecompressor().stream_reader((tmp_path / "t.log.zst").read_bytes()).read() == plain
    rows = pa_csv.read_csv(
        tmp_path / "t.csv", convert_options=pa_csv.ConvertOptions(column_types={"EventId": pa.string()})
    )
    assert rows.to_pylist() == pq.read_table(tmp_path / "t.parquet").to_pylist()
    assert plain.decode().splitlines() == rows["Content"].to_pylist()


def test_templates_are_drawn_by_weight():
    templates = [TwinTemplate(text, weight, ()) for text, weight in (("a", 70), ("b", 29), ("c", 1))]
    lines = contents(TwinSource(templates, 9), [0, twin_module.BLOCK_LINES])
    share = {text: n / len(lines) for text, n in Counter(lines).items()}
    # five standard deviations of a share at 131,072 lines are below 0.0064
    assert share == pytest.approx({"a": 0.70, "b": 0.29, "c": 0.01}, abs=0.0064)


def test_harvested_values_go_where_they_were_seen():
    lines = ["port 22 of ana", "port 443 of bo", "in /a/b now", "in /c now"]
    labels = ["port <*> of <*>"] * 2 + ["in <*> now"] * 2
    values = HarvestedValues.from_lines(lines, labels)
    assert values.pool("port <*> of <*>", 1) == ["ana", "bo"]
    assert values.pool("listens on port <*>", 0) == ["22", "443"]
    assert values.pool("in <*> now, again", 0) == ["/a/b", "/c"]
    assert sorted(values.pool("<*> zzz", 0)) == sorted(["22", "ana", "443", "bo", "/a/b", "/c"])
    assert values.filler("port <*> of <*>", 0) == Integer(22, 443)
    assert isinstance(values.filler("port <*> of <*>", 1), Choice)
    assert HarvestedValues().filler("a <*>", 0) is FILLERS["int"]


@given(st.integers(0, 2**62), st.integers(0, 2**62), st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_integers_stay_in_their_range(a, b, seed):
    import numpy as np

    low, high = sorted((a, b))
    drawn = [int(text) for text in Integer(low, high).draw(np.random.default_rng(seed), 50).to_pylist()]
    assert all(low <= n <= high for n in drawn)


def test_system_twin_has_the_system_templates_and_values(mirror, monkeypatch, tmp_path):
    monkeypatch.setenv("NONET_MIRROR", str(mirror))
    proxifier = system_templates("Proxifier")
    assert len(proxifier) == 11
    assert sum(t.weight for t in proxifier) == 21_320
    openssh = system_templates("OpenSSH")
    assert len(openssh) == 38
    twin(openssh, 5000, 0, out_truth=tmp_path / "t.parquet")
    lines = [
        r["Content"]
        for r in pq.read_table(tmp_path / "t.parquet").to_pylist()
        if r["EventTemplate"].startswith("Invalid user")
    ]
    assert lines and all(re.fullmatch(r"Invalid user .+ from \d+\.\d+\.\d+\.\d+", line) for line in lines)


def test_nothing_half_written_is_left(tmp_path):
    def fail(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        twin(builtin_templates(), 10, 0, tmp_path / "t.log", tmp_path / "t.parquet", progress=fail)
    assert list(tmp_path.iterdir()) == []


def test_bad_requests(tmp_path):
    templates = builtin_templates()
    bad = tmp_path / "bad.csv"
    cases = [
        (lambda: twin(templates, -1, out_log=tmp_path / "x"), "must not be negative"),
        (lambda: twin(templates, 1), "nothing to write"),
        (lambda: twin([], 1, out_log=tmp_path / "x"), "at least one template"),
        (lambda: twin(with_values(["a"], [0], None), 1, out_log=tmp_path / "x"), "weight above 0"),
        (lambda: twin(templates, 1, -1, out_log=tmp_path / "x"), "seed must be"),
        (lambda: twin(templates, 1, out_truth=tmp_path / "x.txt"), r"\*\.parquet or \*\.csv"),
        (lambda: templates_from_csv(tmp_path / "none.csv"), "cannot be read"),
        (lambda: (bad.write_text("A,B\n1,2\n"), templates_from_csv(bad)), "found A, B"),
        (lambda: (bad.write_text("EventTemplate,Occurrences\na,x\n"), templates_from_csv(bad)), "line 2: Occurrences"),
    ]
    for call, message in cases:
        with pytest.raises(InputError, match=message):
            call()
    assert not (tmp_path / "x").exists()


def test_no_lines_is_an_empty_log(tmp_path: Path):
    twin(builtin_templates(), 0, 0, tmp_path / "t.log", tmp_path / "t.csv")
    assert (tmp_path / "t.log").read_bytes() == b""
    assert (tmp_path / "t.csv").read_text().count("\n") == 1
