"""Labelled logs: the Loghub-2.0 systems, their 2,000-line samples, and folders of files laid out like them.

Names are `loghub2/<System>` (full, labels of 2.0) and `loghub2k/<System>` (samples, corrected labels). A folder is
searched, sub-folders included, for `<System>_full.log` with `<System>_full.log_structured.csv` beside it, both plain
or compressed, and for the `_2k` files of the samples.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from nonet.common.datasets import DATASETS, DataFile, Dataset, cache_folder, fetch, is_local, locate, remove, verify
from nonet.common.errors import InputError
from nonet.logs.evaluation.published import SystemFacts, system_facts
from nonet.logs.evaluation.template_columns import column_names, read_column
from nonet.logs.parsers import settings

FULL, SAMPLE = "loghub2", "loghub2k"
EDITIONS = {FULL: "2.0", SAMPLE: "2k"}
"""Family of data sets to the edition of the labels in it."""
_COMPRESSIONS = ("", ".gz", ".zst")
_LOG_NAME = re.compile(r"(?P<system>.+)_(?P<size>full|2k)\.log(\.gz|\.zst)?")
_LABEL_ENDINGS = {"full": ("_structured.csv",), "2k": ("_structured_corrected.csv", "_structured.csv")}

_LICENCE = (
    "Freely available for research or academic work; any use or distribution refers to {url} and cites the papers; "
    "the notice goes with every copy."
)
_LOGHUB_PAPER = (
    "Jieming Zhu, Shilin He, Pinjia He, Jinyang Liu, Michael R. Lyu. Loghub: A Large Collection of System Log Datasets "
    "for AI-driven Log Analytics. ISSRE 2023."
)
_LOGHUB2_PAPER = (
    "Zhihan Jiang, Jinyang Liu, Junjie Huang, Yichen Li, Yintong Huo, Jiazhen Gu, Zhuangbin Chen, Jieming Zhu, "
    "Michael R. Lyu. A Large-scale Evaluation for Log Parsing Techniques: How Far are We? ISSTA 2024."
)
_ZENODO = "https://zenodo.org/records/8275861/files/{system}.zip?download=1"
_REPOSITORY = "https://raw.githubusercontent.com/logpai/{path}/{system}_2k.log"


@dataclass(frozen=True, slots=True)
class LabelledLog:
    """A raw log with one true template a line.

    Attributes:
        name: "loghub2/Linux", or the path of the log for files of a folder.
        system: e.g. "Linux"; picks the header format, masks and tuned parameters of the reference parsers.
        edition: "2.0" or "2k", for the published rows beside the result; "" for neither.
        log_path: the raw log, with headers.
        labels_path: CSV with at least `Content` and `EventTemplate`, one row for each line that the header format
            matches.
        header_format: how to split a raw line; "" for a system without a known one, see
            `compat_header.split_by_labels`.
    """

    name: str
    system: str
    edition: str
    log_path: Path
    labels_path: Path
    header_format: str

    def templates(self) -> pa.ChunkedArray:
        """The true template of every line, dictionary-encoded bytes; null where there is none. Read at each call."""
        return pa.chunked_array(list(read_column(self.labels_path, "EventTemplate", empty_is_null=True)))

    def contents(self) -> pa.ChunkedArray:
        """The Content column of the label file (in 2.0 its blanks are collapsed: parsers read the raw log instead)."""
        return pa.chunked_array(list(read_column(self.labels_path, "Content")))


def load(name: str, folder: Path | str | None = None, *, download: bool = True) -> LabelledLog:
    """A data set by name, found or downloaded (see `nonet.common.datasets`).

    Args:
        name: `loghub2/<System>` or `loghub2k/<System>`.
        folder: an explicit folder that is searched first.
        download: False never touches the network.

    Raises:
        InputError: unknown name, files that are nowhere, or label files with the wrong columns.
    """
    dataset = DATASETS[name]
    family, _, system = name.partition("/")
    if family not in EDITIONS:
        raise InputError(f"{name!r} is not a labelled log; name {FULL}/<System>, {SAMPLE}/<System> or a folder")
    paths = fetch(dataset, folder, download=download)
    return _labelled(name, system, EDITIONS[family], paths["log"], paths["labels"])


def discover(folder: Path | str) -> list[LabelledLog]:
    """All labelled logs in a folder and its sub-folders, in order of their paths.

    Raises:
        InputError: no such folder, no labelled log in it, a log without labels beside it, or labels with the wrong
            columns.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    found: list[LabelledLog] = []
    for path in sorted(folder.rglob("*")):
        match = _LOG_NAME.fullmatch(path.name)
        if match is None or not path.is_file():
            continue
        labels = _labels_beside(path, match["size"])
        size = "2.0" if match["size"] == "full" else "2k"
        edition = size if match["system"] in system_facts() else ""
        found.append(_labelled(str(path), match["system"], edition, path, labels))
    if not found:
        raise InputError(
            f"{folder}: no labelled log in it; expected <System>_full.log and <System>_full.log_structured.csv (or .gz)"
        )
    return found


def resolve(data: str | Path | LabelledLog | Sequence[str | Path | LabelledLog]) -> list[LabelledLog]:
    """Labelled logs from what a user writes: names and folders, separated by commas.

    A bare family name (`loghub2`) is every system of it that is at hand.

    Raises:
        InputError: as `load` and `discover`; or nothing was named, or something twice.
    """
    items = [data] if isinstance(data, str | Path | LabelledLog) else list(data)
    logs: list[LabelledLog] = []
    for item in items:
        if isinstance(item, str):
            for name in filter(None, (part.strip() for part in item.split(","))):
                logs += _resolve_one(name)
        else:
            logs += [item] if isinstance(item, LabelledLog) else discover(item)
    if not logs:
        raise InputError(f"no data named; give {FULL}/<System>, {SAMPLE}/<System> or a folder")
    names = [log.name for log in logs]
    if len(set(names)) < len(names):
        raise InputError(f"named twice: {next(name for name in names if names.count(name) > 1)}")
    return logs


def list_datasets() -> list[dict[str, Any]]:
    """Every data set by name with its size, whether it is at hand, its terms and what to cite."""
    rows = []
    for name in names_of_room():
        dataset = DATASETS[name]
        family, _, system = name.partition("/")
        facts = system_facts().get(system)
        full = family == FULL
        rows.append(
            {
                "name": name,
                "num_lines": facts and (facts.num_lines if full else 2000),
                "num_templates": facts and (facts.num_templates if full else facts.num_templates_2k),
                "local": is_local(dataset),
                "licence": dataset.licence,
                "citation": dataset.citation,
                "homepage": dataset.homepage,
            }
        )
    return rows


def names_of_room() -> list[str]:
    """The names of this room's data sets; other rooms have theirs in the same registry."""
    return [name for name in DATASETS if name.partition("/")[0] in EDITIONS]


def paths_of(name: str) -> dict[str, Path]:
    """Where the files of a data set are, by role; empty when none is at hand. Never downloads."""
    return locate(DATASETS[name])


def fetch_dataset(name: str) -> dict[str, Path]:
    """Download what is missing of a data set into the cache; its files by role."""
    return fetch(DATASETS[name])


def verify_dataset(name: str) -> list[dict[str, Any]]:
    """Check every file of a data set or of a family's sets that are at hand.

    Returns:
        A row a file: its path, and "ok", "present" (no checksum is known), "missing" or "damaged".
    """
    return [
        {"file": check.file.name, "role": check.file.role, "state": check.state, "path": check.path}
        for member in ([name] if name not in EDITIONS else _at_hand(name))
        for check in verify(DATASETS[member])
    ]


def remove_dataset(name: str) -> list[Path]:
    """Delete what was downloaded of a data set; a mirror is never touched."""
    return remove(DATASETS[name])


def _at_hand(family: str) -> list[str]:
    members = [m for m in DATASETS if m.startswith(family + "/") and is_local(DATASETS[m])]
    if not members:
        raise InputError(f"no system of {family} is at hand; set NONET_MIRROR, or fetch one into {cache_folder()}")
    return members


def _resolve_one(name: str) -> list[LabelledLog]:
    if name in DATASETS:
        return [load(name)]
    if Path(name).is_dir():
        return discover(name)
    if name.rstrip("/*") in EDITIONS:
        return [load(member) for member in _at_hand(name.rstrip("/*"))]
    if Path(name).exists() or "/" not in name or name.startswith((".", "/")):
        raise InputError(
            f"{name}: neither a data set nor a folder; data sets are {FULL}/<System> and {SAMPLE}/<System>"
        )
    return [load(name)]


def _labelled(name: str, system: str, edition: str, log_path: Path, labels_path: Path) -> LabelledLog:
    found = column_names(labels_path)
    missing = [column for column in ("Content", "EventTemplate") if column not in found]
    if missing:
        raise InputError(
            f"{labels_path}: label files need the columns Content and EventTemplate; {' and '.join(missing)} missing, "
            f"found {', '.join(found) or 'none'}"
        )
    header = settings.header_format(system) if system in settings.systems() else ""
    return LabelledLog(name, system, edition, log_path, labels_path, header)


def _labels_beside(log: Path, size: str) -> Path:
    stem = re.sub(r"(\.gz|\.zst)$", "", log.name)
    candidates = [log.with_name(stem + ending + gz) for ending in _LABEL_ENDINGS[size] for gz in _COMPRESSIONS]
    labels = next((path for path in candidates if path.is_file()), None)
    if labels is None:
        raise InputError(f"{log}: no labels beside it; expected {candidates[0].name} or {candidates[1].name}")
    return labels


def _full_dataset(facts: SystemFacts) -> Dataset:
    system, url = facts.system, _ZENODO.format(system=facts.system)
    stem = f"{system}_full.log"

    def file(role: str, ending: str, *, optional: bool = False) -> DataFile:
        path = f"logs/loghub2_full/{system}/{stem}{ending}"
        return DataFile(role, path, url, f"{system}/{stem}{ending}", optional=optional)

    files = (file("log", ""), file("labels", "_structured.csv"), file("templates", "_templates.csv", optional=True))
    homepage = "https://github.com/logpai/loghub-2.0"
    return Dataset(
        f"{FULL}/{system}", files, _LICENCE.format(url=homepage), f"{_LOGHUB2_PAPER} {_LOGHUB_PAPER}", homepage
    )


def _sample_dataset(facts: SystemFacts) -> Dataset:
    system = facts.system
    in_loghub2 = facts.num_lines is not None
    repository = "loghub-2.0/main/2k_dataset" if in_loghub2 else "logparser/main/data/loghub_2k_corrected"
    url = _REPOSITORY.format(path=f"{repository}/{system}", system=system)
    folder = f"logs/loghub_2k/{system}/{system}_2k.log"
    files = (
        DataFile("log", folder, url, sha256=facts.sha256_2k_log),
        DataFile(
            "labels",
            f"{folder}_structured_corrected.csv",
            f"{url}_structured_corrected.csv",
            sha256=facts.sha256_2k_labels,
        ),
    )
    homepage = "https://github.com/logpai/loghub"
    return Dataset(f"{SAMPLE}/{system}", files, _LICENCE.format(url=homepage), _LOGHUB_PAPER, homepage)


def _register() -> None:
    for facts in system_facts().values():
        if facts.num_lines is not None:
            DATASETS.add(f"{FULL}/{facts.system}", _full_dataset(facts))
    for facts in system_facts().values():
        DATASETS.add(f"{SAMPLE}/{facts.system}", _sample_dataset(facts))


_register()
