"""What the rooms' verbs `bench` and `fetch` share."""

import json
from pathlib import Path

import pytest
import typer

from nonet.common.findings import Finding
from nonet.common.verbs import fetch_datasets, report_findings, show_datasets


def finding(value):
    return Finding("power", "brakes", value, "", "lower", "synthetic", (), 1.0, "")


def test_a_promise_that_is_not_kept_ends_with_1_after_everything_is_written(tmp_path, capsys):
    report_findings("power", [finding(1.0)], None)
    with pytest.raises(typer.Exit) as ended:
        report_findings("power", [finding(2.0)], tmp_path / "found.jsonl")
    assert ended.value.exit_code == 1 and "nonet power bench" in capsys.readouterr().out
    assert '"brakes"' in (tmp_path / "found.jsonl").read_text()


def test_data_sets_are_listed_with_their_terms(capsys):
    rows = [{"name": "a/b", "num_files": 2, "local": True, "licence": "MIT", "homepage": "https://x"}]
    show_datasets(rows, as_json=False)
    assert "MIT" in capsys.readouterr().out
    show_datasets(rows, as_json=True)
    assert json.loads(capsys.readouterr().out) == rows


def test_files_of_what_was_fetched_are_named(capsys):
    fetch_datasets(["a/b"], lambda name: {"table": Path("/cache") / name}, as_json=False)
    printed = capsys.readouterr()
    assert printed.out == "a/b\t/cache/a/b\n" and "fetching a/b" in printed.err
    fetch_datasets(["a/b"], lambda name: {"table": Path("/cache") / name}, as_json=True)
    assert json.loads(capsys.readouterr().out) == {"a/b": {"table": "/cache/a/b"}}
