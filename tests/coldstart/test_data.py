"""The data sets of the room in the registry."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from nonet.coldstart import data
from nonet.common.datasets import DATASETS, is_local
from nonet.common.errors import InputError


def test_every_published_address_is_registered_once(mirror: Path) -> None:
    links = json.loads((mirror / "coldstart" / "dataset_links.json").read_text())
    urls = [file.url for name in data.names_of_room() for file in DATASETS[name].files]
    for entry in links["files"]:
        assert sum(entry["drive_id"] in url for url in urls) == 1
    for entry in links["other"]:
        name = next(n for n in data.names_of_room() if n == data._OTHERS[entry["dataset"]][0])
        assert entry["url"] in (DATASETS[name].files[0].url, DATASETS[name].homepage)
    paths = [file.path for name in data.names_of_room() for file in DATASETS[name].files]
    assert len(set(paths)) == len(paths)


def test_regions_and_tables_are_selected() -> None:
    assert data.select("huawei2025", regions=[2], tables=["cold", "runtime"]) == [
        "huawei2025/cold/R2",
        "huawei2025/runtime/R2",
    ]
    assert len(DATASETS["huawei2025/requests/R1"].files) == 20
    assert len(data.select("huawei2025")) == 16
    with pytest.raises(InputError, match="unknown table 'pods'"):
        data.select("huawei2025", tables=["pods"])
    with pytest.raises(InputError, match="no data set 'huawei'"):
        data.select("huawei")
    with pytest.raises(InputError, match="nothing for these regions"):
        data.select("huawei2025", regions=[9])


def test_measured_tables_are_found_in_the_mirror(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NONET_MIRROR", str(mirror))
    for name in data.select("measured"):
        assert is_local(DATASETS[name]), name
    found = data.fetch_dataset("measured/knative-kpa-vectors")
    assert json.loads(found["kpa_vectors"].read_text())


def test_a_page_instead_of_an_archive_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NONET_HOME", str(tmp_path))
    monkeypatch.delenv("NONET_MIRROR", raising=False)
    path = tmp_path / "data" / DATASETS["huawei2025/cold/R3"].files[0].path
    path.parent.mkdir(parents=True)
    path.write_text("<html>Virus scan warning</html>")
    with pytest.raises(InputError, match=r"no zip archive for R3\.zip"):
        data.fetch_dataset("huawei2025/cold/R3")
    assert not path.exists()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", "x")
    assert data.fetch_dataset("huawei2025/cold/R3") == {"cold": path}


def test_what_has_no_address_says_where_it_is_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NONET_HOME", str(tmp_path))
    monkeypatch.delenv("NONET_MIRROR", raising=False)
    with pytest.raises(InputError, match=r"published at https://github\.com/ubc-cirrus-lab"):
        data.fetch_dataset("ibm2026/all")
    assert {row["name"] for row in data.list_datasets()} == set(data.names_of_room())
