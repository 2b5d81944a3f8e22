"""Published figures of the field, to stand beside what is measured: small tables in `published/`, each with its source.

* `rq2.csv`: effectiveness and seconds of the 15 parsers on the 14 systems, 2k and 2.0 edition;
* `rq3.csv`: their granular means on 2.0;
* `preprocessed_drain.csv`: Drain with the reference masks and with 14 general masks, by slice;
* `systems.csv`: lines and templates of every system.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

METRICS = ("ga", "fga", "pa", "fta")
EDITIONS = ("2.0", "2k")


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """One parser on one system as published; None: it did not finish within 12 hours, or the cell is not usable."""

    parser: str
    edition: str
    system: str
    ga: float | None
    fga: float | None
    pa: float | None
    fta: float | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class SystemFacts:
    """What is published about a system: lines and templates of 2.0 (None: not in it) and of the 2k sample."""

    system: str
    num_lines: int | None
    num_templates: int | None
    num_templates_2k: int | None
    sha256_2k_log: str
    sha256_2k_labels: str


@cache
def read_table(name: str) -> tuple[dict[str, str], ...]:
    """The rows of a table in `published/` as text.

    >>> read_table("rq3")[0]["parser"]
    'AEL'
    """
    return tuple(csv.DictReader(line for line in _lines(name) if not line.startswith("#")))


def source_note(name: str) -> str:
    """Where a table in `published/` comes from.

    >>> source_note("rq2").startswith("Effectiveness and seconds of the 15 parsers")
    True
    """
    return " ".join(line.lstrip("# ").strip() for line in _lines(name) if line.startswith("#"))


@cache
def paper_rows() -> dict[tuple[str, str, str], PublishedRow]:
    """The paper's results by (parser in lower case, edition, system).

    >>> row = paper_rows()["drain", "2.0", "Linux"]
    >>> row.ga, row.fta, row.seconds
    (0.686, 0.259, 2.59)
    """
    rows = {}
    for cell in read_table("rq2"):
        values = (_number(cell[name]) for name in (*METRICS, "seconds"))
        row = PublishedRow(cell["parser"], cell["edition"], cell["system"], *values)
        rows[row.parser.lower(), row.edition, row.system] = row
    return rows


def published_row(parser: str, edition: str, system: str) -> PublishedRow | None:
    """The paper's row of a parser on a system of an edition ("2.0" or "2k"), if there is one."""
    return paper_rows().get((parser.lower(), edition, system))


@cache
def system_facts() -> dict[str, SystemFacts]:
    """Facts by system: the 14 systems of Loghub-2.0, then Android and Windows.

    >>> system_facts()["HDFS"].num_lines, len(system_facts())
    (11167740, 16)
    """
    return {
        row["system"]: SystemFacts(
            row["system"],
            _whole(row["num_lines"]),
            _whole(row["num_templates"]),
            _whole(row["num_templates_2k"]),
            row["sha256_2k_log"],
            row["sha256_2k_labels"],
        )
        for row in read_table("systems")
    }


def _lines(name: str) -> list[str]:
    text = files("nonet.logs.evaluation").joinpath("published").joinpath(f"{name}.csv").read_text("utf-8")
    return text.splitlines()


def _number(text: str) -> float | None:
    return float(text) if text else None


def _whole(text: str) -> int | None:
    return int(text) if text else None
