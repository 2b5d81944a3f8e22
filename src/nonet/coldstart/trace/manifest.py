"""`trace.json`: what a finished trace holds, file by file, with checksums. Without it a folder is no trace."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nonet.coldstart.trace.schema import TABLES
from nonet.common.atomic import atomic_write
from nonet.common.errors import InputError

FORMAT, VERSION = "nonet.coldstart.trace", 1
MANIFEST_NAME = "trace.json"


@dataclass(frozen=True, slots=True)
class Part:
    """One Parquet file.

    Attributes:
        path: below the trace's folder, with `/`.
        table, region: what it holds.
        day: its day, None for the table of functions.
        num_rows, num_bytes, sha256: its size and checksum.
        first_us, last_us: range of the column that says the day, None without any; the rows are in this order.
        until_us: the latest moment of any column.
    """

    path: str
    table: str
    region: str
    day: int | None
    num_rows: int
    num_bytes: int
    sha256: str
    first_us: int | None
    last_us: int | None
    until_us: int | None


@dataclass(frozen=True, slots=True)
class Manifest:
    """A finished trace.

    Attributes:
        source: what it was made from, in words.
        epoch: ISO time of moment 0, None for a relative trace.
        start_us, end_us: the window.
        regions: names, sorted.
        parts: every file.
        quarantined: refused rows by reason.
        notes: what the importer or generator wants to keep (settings, seeds, warnings).
    """

    source: str
    epoch: str | None
    start_us: int
    end_us: int
    regions: tuple[str, ...]
    parts: tuple[Part, ...]
    quarantined: dict[str, int] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """Rows of every table."""
        counts = dict.fromkeys(TABLES, 0)
        for part in self.parts:
            counts[part.table] += part.num_rows
        return counts


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `trace.json` atomically; the trace is finished with that."""
    body = {**asdict(manifest), "counts": manifest.counts}
    document = {"format": FORMAT, "version": VERSION, "sha256": _checksum(body), "trace": body}
    with atomic_write(folder / MANIFEST_NAME) as file:
        json.dump(document, file, indent=1, allow_nan=False)


def read_manifest(folder: Path) -> Manifest:
    """Read and check `trace.json`.

    Raises:
        InputError: there is none (no trace, or an unfinished one), it is of another version, or it is damaged.
    """
    path = folder / MANIFEST_NAME
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; make a trace with `nonet coldstart ingest` or `generate`")
    if not path.is_file():
        raise InputError(f"{folder}: no finished trace ({MANIFEST_NAME} is missing); run ingest or generate again")
    try:
        document = json.loads(path.read_bytes())
        if document["format"] != FORMAT:
            raise KeyError("format")
        version = int(document["version"])
        if version != VERSION:
            raise InputError(f"{path}: version {version}, this program reads version {VERSION}; convert it again")
        body = document["trace"]
        if document["sha256"] != _checksum(body):
            raise InputError(f"{path}: damaged (its checksum differs); convert the trace again")
        body.pop("counts")
        body["parts"] = tuple(Part(**part) for part in body["parts"])
        return Manifest(**{**body, "regions": tuple(body["regions"])})
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: damaged or no manifest of a trace ({error}); convert the trace again") from None


def window_of(parts: Iterable[Part]) -> tuple[int, int]:
    """First and last moment of requests and cold starts; of pods where there is neither; (0, 0) of nothing."""
    listed = list(parts)
    for tables in (("request", "coldstart"), ("pod",)):
        chosen = [part for part in listed if part.table in tables and part.first_us is not None]
        if chosen:
            first = min(part.first_us for part in chosen if part.first_us is not None)
            return first, max(part.until_us for part in chosen if part.until_us is not None)
    return 0, 0


def _checksum(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, allow_nan=False).encode()).hexdigest()
