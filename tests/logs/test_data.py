"""Labelled logs by name and by folder, and the header splitting that keeps them aligned with their labels."""

from __future__ import annotations

import csv
import gzip
import re
import shutil
from pathlib import Path

import polars as pl
import pytest

from nonet.common.errors import InputError
from nonet.logs.evaluation.compat_header import compile_header, split_by_labels, split_contents
from nonet.logs.evaluation.data import discover, list_datasets, load, paths_of, resolve, verify_dataset
from nonet.logs.evaluation.published import paper_rows, published_row, read_table, system_facts
from nonet.logs.parsers import settings

LOG = b"[t1] [info] a 1\n[t2] [warn] b\r\nno header here\n\n[t3] [info]  c\xff"
LABELS = "LineId,Content,EventId,EventTemplate\n1,a 1,E1,a <*>\n2,b,E2,b\n3,c,E3,null\n"


def put(folder: Path, system: str = "Apache", labels: str = LABELS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{system}_full.log").write_bytes(LOG)
    (folder / f"{system}_full.log_structured.csv").write_text(labels)
    return folder


def test_discover_searches_sub_folders_and_compressed_files(tmp_path):
    put(tmp_path / "one")
    put(tmp_path / "two" / "deep", "Linux")
    deep = tmp_path / "two" / "deep"
    for name in ("Linux_full.log", "Linux_full.log_structured.csv"):
        path = deep / name
        (deep / f"{name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    logs = discover(tmp_path)
    assert [(log.system, log.edition) for log in logs] == [("Apache", "2.0"), ("Linux", "2.0")]
    assert logs[1].log_path.name == "Linux_full.log.gz"
    assert logs[0].templates().to_pylist() == [b"a <*>", b"b", b"null"]


def test_split_drops_what_the_format_does_not_match(tmp_path):
    log = discover(put(tmp_path))[0]
    contents, columns = split_contents(log.log_path, log.header_format)
    assert contents == ["a 1", "b", "c\N{REPLACEMENT CHARACTER}"]
    assert columns.to_pydict() == {"Time": ["t1", "t2", "t3"], "Level": ["info", "warn", "info"]}


def test_format_that_matches_nothing_shows_the_first_lines(tmp_path):
    path = tmp_path / "x.log"
    path.write_text("hello\nworld\n")
    with pytest.raises(InputError, match=r"matches no line; the file begins 'hello' \| 'world'"):
        split_contents(path, "<Date> <Time> <Content>")
    path.write_bytes(gzip.compress(b"a b\n" * 9999)[:-30])
    with pytest.raises(InputError, match="cannot be read to its end"):
        split_contents(path, "<Date> <Content>")
    path.write_bytes(b"")
    assert split_contents(path, "<Date> <Content>")[0] == []


@pytest.mark.parametrize("header_format", ["<Date> <Time>", "<A> <A> <Content>", "<Content> (", "<a b> <Content>"])
def test_unusable_formats_are_input_errors(header_format):
    with pytest.raises(InputError, match="header format"):
        compile_header(header_format)


def test_wrong_label_columns_name_the_file_and_the_columns(tmp_path):
    put(tmp_path, labels="LineId,Text,Template\n1,a,b\n")
    with pytest.raises(
        InputError,
        match=r"Apache_full\.log_structured\.csv: .*Content and EventTemplate missing, found LineId, Text, Template",
    ):
        discover(tmp_path)


def test_folders_without_a_labelled_log(tmp_path):
    with pytest.raises(InputError, match="no labelled log in it; expected"):
        discover(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        discover(tmp_path / "none")
    put(tmp_path)
    (tmp_path / "Apache_full.log_structured.csv").unlink()
    with pytest.raises(InputError, match=r"no labels beside it; expected Apache_full\.log_structured\.csv"):
        discover(tmp_path)


def test_resolve_takes_names_folders_and_lists(tmp_path, mirror, monkeypatch):
    monkeypatch.setenv("NONET_MIRROR", str(mirror))
    put(tmp_path)
    logs = resolve(f"loghub2/Linux, loghub2k/Linux,{tmp_path}")
    assert [(log.system, log.edition) for log in logs] == [("Linux", "2.0"), ("Linux", "2k"), ("Apache", "2.0")]
    assert {log.name for log in resolve("loghub2")} == {"loghub2/Linux", "loghub2/Proxifier"}
    assert len(resolve("loghub2k/*")) == 16
    with pytest.raises(InputError, match="named twice: loghub2/Linux"):
        resolve(["loghub2/Linux", "loghub2/Linux"])
    with pytest.raises(InputError, match="did you mean 'loghub2/Linux'"):
        resolve("loghub2/Linnux")
    with pytest.raises(InputError, match="neither a data set nor a folder"):
        resolve(str(tmp_path / "nothing"))
    with pytest.raises(InputError, match="no data named"):
        resolve(" , ")


def test_samples_of_the_mirror_are_the_published_files(mirror, monkeypatch):
    monkeypatch.setenv("NONET_MIRROR", str(mirror))
    rows = [row for row in list_datasets() if row["name"].startswith("loghub2k/")]
    assert len(rows) == 16 and all(row["local"] for row in rows)
    for row in rows:
        assert [check["state"] for check in verify_dataset(row["name"])] == ["ok", "ok"]
    assert set(paths_of("loghub2/Linux")) == {"log", "labels", "templates"}
    assert all("research" in row["licence"] and row["citation"] for row in list_datasets())


@pytest.mark.parametrize("family", ["loghub2", "loghub2k"])
def test_raw_lines_align_with_their_labels(mirror, monkeypatch, family):
    """The kept lines are as many as the labels and say the same, but for white space (2.0 collapses it)."""
    monkeypatch.setenv("NONET_MIRROR", str(mirror))
    for log in resolve(family):
        contents, _ = split_contents(log.log_path, log.header_format)
        opener = gzip.open if log.labels_path.suffix == ".gz" else open
        with opener(log.labels_path, "rt", newline="", encoding="utf-8") as file:
            labels = [row["Content"] for row in csv.DictReader(file)]
        assert len(contents) == len(labels)
        assert all(re.sub(r"\s+", " ", a) == re.sub(r"\s+", " ", b) for a, b in zip(contents, labels, strict=True))


def test_load_needs_no_network_when_told_so(monkeypatch, tmp_path):
    monkeypatch.setenv("NONET_MIRROR", str(tmp_path))
    with pytest.raises(InputError, match=r"HDFS_full\.log is not in the mirror"):
        load("loghub2/HDFS", download=False)


def test_published_tables_are_complete():
    assert len(paper_rows()) == 15 * 14 * 2
    drain = published_row("Drain", "2.0", "Proxifier")
    assert (drain.ga, drain.fga, drain.pa, drain.fta) == (0.692, 0.206, 0.688, 0.176)
    assert published_row("LogMine", "2.0", "HDFS").ga is None
    assert published_row("UniParser", "2k", "Linux").ga is None
    means = [row.ga for (parser, edition, _), row in paper_rows().items() if (parser, edition) == ("drain", "2.0")]
    assert sum(means) / 14 == pytest.approx(0.84, abs=0.005)
    assert {row["slice"] for row in read_table("rq3")} == {
        "params:0",
        "params:1-4",
        "params:5+",
        "rare:10",
        "frequent:10",
    }
    assert sum(f.num_lines or 0 for f in system_facts().values()) / 14 == pytest.approx(3_601_187, abs=1)


@pytest.mark.parametrize("system", ["Apache", "HealthApp", "HPC"])
def test_a_system_of_an_unknown_name_is_split_by_its_labels(system: str, mirror: Path, tmp_path: Path) -> None:
    source = mirror / "logs/loghub_2k" / system / f"{system}_2k.log"
    labels = source.with_name(source.name + "_structured_corrected.csv")
    shutil.copy(source, tmp_path / "Unknown_full.log")
    shutil.copy(labels, tmp_path / "Unknown_full.log_structured.csv")
    (log,) = discover(tmp_path)
    assert log.header_format == ""
    contents, _ = split_contents(source, settings.header_format(system))
    assert split_by_labels(log.log_path, pl.read_csv(labels)["Content"]) == contents


def test_split_by_labels_takes_ends_of_lines_in_order(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("Jan 1 [a]: up  and\trunning\nno header\nJan 1 [b]: down\n\nJan 2 [c]: x=1\n")
    assert split_by_labels(log, ["up and running", "down", "x=1"]) == ["up  and\trunning", "down", "x=1"]
    assert split_by_labels(log, []) == []
    for labels, row in (["own"], 1), (["down", "up and running"], 2), (["up and running", "down", "x=1", "x=1"], 4):
        with pytest.raises(InputError, match=f"label row {row} "):
            split_by_labels(log, labels)
