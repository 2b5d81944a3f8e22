"""The data sets of the room: addresses, checksums against the real files, refusals."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nonet.common.datasets import DATASETS, is_local, verify
from nonet.common.errors import InputError
from nonet.power import data
from nonet.power.load.readers import read_requests


@pytest.fixture
def nothing_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NONET_HOME", str(tmp_path))
    monkeypatch.delenv("NONET_MIRROR", raising=False)
    return tmp_path / "data"


def test_names_files_and_terms() -> None:
    names = data.names_of_room()
    files = [file for name in names for file in DATASETS[name].files]
    assert len(set(names)) == len(names)
    assert len({file.path for file in files}) == len(files)
    assert all(file.url == "" or file.url.startswith("https://") for file in files)
    assert all(DATASETS[name].licence and DATASETS[name].citation and DATASETS[name].homepage for name in names)
    assert [row["name"] for row in data.list_datasets()] == names


def test_families_and_names_are_selected() -> None:
    assert data.select("burstgpt") == ["burstgpt/1", "burstgpt/2", "burstgpt/3"]
    assert data.select("azure2025/multimodal") == ["azure2025/multimodal"]
    with pytest.raises(InputError, match="no data set 'azure'; there are azure2023/code"):
        data.select("azure")


def test_checksums_are_those_of_the_real_files(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NONET_MIRROR", str(mirror))
    known = ("azure2023/code", "azure2023/conv", "splitwise/perf-model")
    assert [verify(DATASETS[name])[0].state for name in known] == ["ok"] * 3
    for name in ("azure2024-figures/week-rate", "mooncake-lengths/conversation", "mlenergy/llm-configs"):
        assert is_local(DATASETS[name]), name


@pytest.mark.parametrize("name", ["azure2023/code", "azure2023/conv", "mooncake-lengths/conversation"])
def test_what_is_fetched_is_read(name: str, mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NONET_MIRROR", str(mirror))
    path = data.fetch_dataset(name)["requests"]
    with path.open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    load = read_requests(path)
    assert len(load) == len(rows)
    assert int(load.prompt_tokens.sum()) == sum(int(row[1]) for row in rows)
    assert int(load.output_tokens.sum()) == sum(int(row[2]) for row in rows)


@pytest.mark.parametrize("page", ["<!DOCTYPE html>", "\n <html>", "version https://git-lfs.github.com/spec/v1\n"])
def test_a_page_instead_of_a_trace_is_refused(nothing_at_hand: Path, page: str) -> None:
    path = nothing_at_hand / DATASETS["burstgpt/1"].files[0].path
    path.parent.mkdir(parents=True)
    path.write_text(page)
    with pytest.raises(InputError, match=r"a page instead of BurstGPT_1\.csv"):
        data.fetch_dataset("burstgpt/1")
    assert not path.exists()


def test_what_has_no_address_says_where_it_is_published(nothing_at_hand: Path) -> None:
    with pytest.raises(InputError, match=r"published at https://github\.com/ml-energy/leaderboard"):
        data.fetch_dataset("mlenergy/llm-configs")
    with pytest.raises(InputError, match="unknown data set 'azure2024/codes'"):
        data.fetch_dataset("azure2024/codes")
    assert not nothing_at_hand.exists()


def test_other_rooms_do_not_take_the_names_and_import_touches_no_network() -> None:
    code = (
        "import socket, json; socket.socket = None\n"
        "from nonet.coldstart import data as other; from nonet.power import data\n"
        "print(json.dumps(sorted(set(data.names_of_room()) & set(other.names_of_room()))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True)
    assert json.loads(done.stdout) == []
