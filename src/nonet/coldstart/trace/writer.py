"""Writes a trace in bounded memory; the manifest comes last, so that what is not finished is no trace.

A writer owns its folder (a lock keeps a second one out). It begins by leaving `unfinished.json` there, writes every
Parquet file beside its name and renames it, and ends by writing `trace.json` and removing `unfinished.json`. When it
is killed, the next writer clears the folder, or goes on after the last `checkpoint` if it does the same job.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nonet.coldstart.trace.journal import JOURNAL_NAME, Journal, load_journal
from nonet.coldstart.trace.manifest import MANIFEST_NAME, Manifest, Part, window_of, write_manifest
from nonet.coldstart.trace.quarantine import Quarantine
from nonet.coldstart.trace.schema import DAY_COLUMNS, DAY_US, TABLES, conform
from nonet.common.atomic import atomic_path
from nonet.common.errors import InputError

if TYPE_CHECKING:
    import polars as pl

QUARANTINE_NAME = "quarantine.csv"
SPOOL_NAME = "spool.arrow"
_REGION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_PART_ROWS = 1_000_000
_ROW_GROUP_ROWS = 131_072
_BUFFER_BYTES = 192 << 20

_Place = tuple[str, str, int | None]


class TraceWriter:
    """Writes one trace; use it as a context manager.

    Holds at most about 192 MiB of rows. When the block ends well the trace is finished; when it ends by an error,
    files after the last checkpoint are removed, and without any checkpoint the folder is left empty.

    Args:
        path: the folder, new or empty, or with an unfinished trace.
        source: what the trace is made from, in words.
        epoch: ISO time of moment 0; None for a relative trace.
        overwrite: replace a finished trace there.
        window: start and end in microseconds; by default from the first to the last moment of requests and cold starts.
        job: names the work for `checkpoint`; an unfinished trace of the same job is gone on with (see `done`).

    Raises:
        InputError: the folder holds something else, or another writer is at work in it.

    >>> import tempfile
    >>> with TraceWriter(Path(tempfile.mkdtemp()) / "t", "an example") as writer:
    ...     writer.append("function", "default", pa.table({"function": ["f"]}))
    >>> writer.manifest.counts["function"]
    1
    """

    def __init__(
        self,
        path: str | Path,
        source: str,
        epoch: str | None = None,
        overwrite: bool = False,
        *,
        window: tuple[int, int] | None = None,
        job: str = "",
    ) -> None:
        self.path = Path(path)
        self.source, self.epoch = source, epoch
        self.notes: dict[str, Any] = {}
        self.manifest: Manifest | None = None
        self._window = window
        self._lock = _locked_folder(self.path)
        try:
            self._journal = _begin(self.path, overwrite, job)
            self._parts = list(self._journal.parts)
            self._quarantine = Quarantine(
                self.path / QUARANTINE_NAME, self._journal.quarantined, self._journal.quarantine_bytes
            )
        except BaseException:
            os.close(self._lock)
            raise
        self._regions = {part.region for part in self._parts}
        self._buffers: dict[_Place, list[pa.Table]] = {}
        self._buffered_bytes = 0
        self._numbers: dict[_Place, int] = {}
        for part in self._parts:
            place = (part.table, part.region, part.day)
            self._numbers[place] = self._numbers.get(place, 0) + 1

    @property
    def done(self) -> tuple[str, ...]:
        """Steps that an interrupted run of the same job had finished."""
        return tuple(self._journal.done)

    @property
    def memory(self) -> Mapping[str, int]:
        """What `checkpoint` was last given to remember, of an interrupted run of the same job too."""
        return dict(self._journal.memory)

    @property
    def counts(self) -> dict[str, int]:
        """Rows of each table so far, buffered ones included."""
        counts = dict.fromkeys(TABLES, 0)
        for part in self._parts:
            counts[part.table] += part.num_rows
        for (table, _, _), pieces in self._buffers.items():
            counts[table] += sum(piece.num_rows for piece in pieces)
        return counts

    @property
    def regions(self) -> tuple[str, ...]:
        """Regions so far, sorted."""
        return tuple(sorted(self._regions))

    @property
    def quarantined(self) -> dict[str, int]:
        """Refused rows by reason so far."""
        return dict(self._quarantine.counts)

    def add_region(self, region: str) -> None:
        """Name a region that may have no rows at all."""
        if not _REGION.fullmatch(region):
            raise InputError(f"region {region!r}: a region is letters, digits, '.', '_' and '-'; rename it")
        self._regions.add(region)

    def append(self, table: str, region: str, batch: pa.Table | pa.RecordBatch) -> None:
        """Add rows of one table and region, in any order.

        Raises:
            InputError: rows that do not fit the schema (see `conform`), a bad name of a region, or the disk is full.
        """
        self.add_region(region)
        rows = conform(table, pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch)
        for day, piece in _split_days(table, rows):
            place = (table, region, day)
            pieces = self._buffers.setdefault(place, [])
            pieces.append(piece)
            self._buffered_bytes += piece.nbytes
            if sum(piece.num_rows for piece in pieces) >= _PART_ROWS:
                self._flush(place)
        if self._buffered_bytes > _BUFFER_BYTES:
            largest = sorted(self._buffers, key=lambda p: sum(x.nbytes for x in self._buffers[p]), reverse=True)
            for place in largest:
                self._flush(place)
                if self._buffered_bytes < _BUFFER_BYTES // 2:
                    break

    def quarantine(self, file: str, line: int | None, reason: str, text: str = "") -> None:
        """Refuse a row of the source; it is counted and written to `quarantine.csv`."""
        self._quarantine.add(file, line, reason, text)

    def scan_parts(self, table: str, region: str) -> pl.LazyFrame:
        """What was given of a table and region so far, as a Polars lazy frame; writes out what is buffered."""
        import polars as pl

        for place in [place for place in self._buffers if place[:2] == (table, region)]:
            self._flush(place)
        files = [self.path / part.path for part in self._parts if (part.table, part.region) == (table, region)]
        if not files:
            return pl.LazyFrame(pl.from_arrow(TABLES[table].empty_table()))
        return pl.scan_parquet(files, hive_partitioning=False, glob=False)

    def checkpoint(self, step: str, memory: Mapping[str, int] | None = None) -> None:
        """Everything up to here is on the disk; a run of the same job that begins later finds `step` in `done`."""
        self._flush_all()
        journal = self._journal
        journal.done.append(step)
        journal.parts = list(self._parts)
        journal.quarantine_bytes = self._quarantine.flush()
        journal.quarantined = dict(self._quarantine.counts)
        journal.memory = dict(memory or {})
        journal.save(self.path)

    def close(self) -> None:
        """Write what is buffered and the manifest: the trace is finished."""
        if self.manifest is not None:
            return
        self._flush_all()
        self._quarantine.close()
        start_us, end_us = self._window or window_of(self._parts)
        manifest = Manifest(
            source=self.source,
            epoch=self.epoch,
            start_us=start_us,
            end_us=end_us,
            regions=tuple(sorted(self._regions)),
            parts=tuple(self._parts),
            quarantined=dict(self._quarantine.counts),
            notes=self.notes,
        )
        write_manifest(self.path, manifest)
        (self.path / JOURNAL_NAME).unlink()
        self.manifest = manifest
        os.close(self._lock)

    def discard(self) -> None:
        """Keep nothing for a later run when this one ends by an error."""
        self._journal.done.clear()

    def abort(self) -> None:
        """Give up: remove what was written since the last checkpoint; without any, everything."""
        self._quarantine.release()
        self._buffers.clear()
        if self._journal.done:
            _keep_only(self.path, self._journal)
        else:
            _clear(self.path)
        os.close(self._lock)

    def __enter__(self) -> TraceWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self.manifest is not None:
            return
        try:
            if kind is None:
                self.close()
        finally:
            if self.manifest is None:
                self.abort()

    def _flush_all(self) -> None:
        for place in list(self._buffers):
            self._flush(place)

    def _flush(self, place: _Place) -> None:
        table, region, day = place
        pieces = self._buffers.pop(place)
        self._buffered_bytes -= sum(piece.nbytes for piece in pieces)
        rows, times_us = _in_order(table, pa.concat_tables(pieces))
        number = self._numbers.get(place, 0)
        self._numbers[place] = number + 1
        folder = f"{table}/region={region}" + ("" if day is None else f"/day={day}")
        name = f"{folder}/part-{number:05d}.parquet"
        try:
            (self.path / folder).mkdir(parents=True, exist_ok=True)
            with atomic_path(self.path / name) as beside:
                pq.write_table(rows, beside, compression="zstd", row_group_size=_ROW_GROUP_ROWS)
                num_bytes, sha256 = beside.stat().st_size, _sha256(beside)
        except OSError as error:
            raise InputError(
                f"{self.path}: cannot write {name} ({error.strerror or error}); free space or name another folder; "
                "the trace is not finished"
            ) from error
        first_us, last_us, until_us = _range_us(table, rows, times_us)
        self._parts.append(
            Part(name, table, region, day, rows.num_rows, num_bytes, sha256, first_us, last_us, until_us)
        )


def _times_us(table: str, rows: pa.Table) -> pa.ChunkedArray | None:
    names = DAY_COLUMNS[table]
    return pc.coalesce(*(rows.column(name) for name in names)) if names else None


def _split_days(table: str, rows: pa.Table) -> list[tuple[int | None, pa.Table]]:
    if rows.num_rows == 0:
        return []
    times_us = _times_us(table, rows)
    if times_us is None:
        return [(None, rows)]
    days = np.floor_divide(pc.fill_null(times_us, 0).to_numpy(), DAY_US)
    if days.min() == days.max():
        return [(int(days[0]), rows)]
    order = np.argsort(days, kind="stable")
    grouped, days = rows.take(pa.array(order)), days[order]
    starts = np.flatnonzero(np.r_[True, days[1:] != days[:-1]])
    ends = np.r_[starts[1:], len(days)]
    return [(int(days[i]), grouped.slice(i, j - i)) for i, j in zip(starts.tolist(), ends.tolist(), strict=True)]


def _in_order(table: str, rows: pa.Table) -> tuple[pa.Table, pa.ChunkedArray | None]:
    times_us = _times_us(table, rows)
    if times_us is None:
        return rows, None
    values = pc.fill_null(times_us, -(2**63)).to_numpy()
    if np.any(values[1:] < values[:-1]):
        order = pa.array(np.argsort(values, kind="stable"))
        rows, times_us = rows.take(order), times_us.take(order)
    return rows, times_us


def _range_us(
    table: str, rows: pa.Table, times_us: pa.ChunkedArray | None
) -> tuple[int | None, int | None, int | None]:
    if times_us is None:
        return None, None, None
    bounds = pc.min_max(times_us).as_py()
    ends = [bounds["max"]]
    ends += [pc.max(rows.column(f.name)).as_py() for f in TABLES[table] if f.name in ("start_us", "end_us", "ready_us")]
    return bounds["min"], bounds["max"], max((end for end in ends if end is not None), default=None)


def _locked_folder(path: Path) -> int:
    try:
        path.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise InputError(f"{path}: cannot make this folder ({error.strerror}); name another one") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise InputError(f"{path}: another conversion is writing there; wait for it or name another folder") from None
    return handle


def _begin(path: Path, overwrite: bool, job: str) -> Journal:
    if (path / MANIFEST_NAME).exists():
        if not overwrite:
            raise InputError(f"{path}: holds a trace already; pass overwrite to replace it, or name another folder")
        Journal("").save(path)
        _clear(path)
    journal = load_journal(path)
    if journal is None and any(path.iterdir()):
        raise InputError(f"{path}: is not empty and holds no trace; name a new folder")
    if journal is not None and job and journal.job == job and journal.done:
        _keep_only(path, journal)
        return journal
    if journal is not None:
        _clear(path)
    journal = Journal(job)
    journal.save(path)
    return journal


def _clear(path: Path) -> None:
    # The mark of the unfinished goes last: a kill in between leaves a folder that is still known as ours.
    for name in (MANIFEST_NAME, QUARANTINE_NAME, f"{QUARANTINE_NAME}.part", SPOOL_NAME):
        (path / name).unlink(missing_ok=True)
    for table in TABLES:
        shutil.rmtree(path / table, ignore_errors=True)
    with suppress(FileNotFoundError):
        (path / JOURNAL_NAME).unlink()


def _keep_only(path: Path, journal: Journal) -> None:
    kept = {part.path for part in journal.parts}
    for table in TABLES:
        for file in (path / table).rglob("*"):
            if file.is_file() and file.relative_to(path).as_posix() not in kept:
                file.unlink()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
