"""A trace on disk: Parquet files `TABLE/region=R2/day=0/part-00000.parquet` under one folder with a manifest.

`Trace` reads one: lazily with Polars, by SQL with DuckDB, or batch by batch in bounded memory. `TraceWriter` (from
`writer`) makes one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from nonet.coldstart.trace.manifest import MANIFEST_NAME, Manifest, Part, read_manifest
from nonet.coldstart.trace.schema import DAY_COLUMNS, TABLES
from nonet.coldstart.trace.writer import TraceWriter
from nonet.common.errors import InputError

if TYPE_CHECKING:
    import duckdb
    import polars as pl

__all__ = ["Trace", "TraceWriter"]

_BATCH_ROWS = 131_072
_SQL_MEMORY = "1GB"


class Trace:
    """A finished trace, read only.

    Attributes:
        path: its folder.
        regions: names of its regions, sorted.
        epoch: ISO time of moment 0, None for a relative trace.
        start_us, end_us: first arrival or cold start, last moment of a request or cold start; or the window that the
            writer was given.
        source: what it was made from.
        counts: rows of each table.
        quarantined: refused rows by reason.
        notes: what its maker wanted to keep.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.regions = manifest.regions
        self.epoch = manifest.epoch
        self.start_us, self.end_us = manifest.start_us, manifest.end_us
        self.source = manifest.source
        self.counts = manifest.counts
        self.quarantined = dict(manifest.quarantined)
        self.notes = dict(manifest.notes)
        self._parts = manifest.parts

    @classmethod
    def open(cls, path: str | Path) -> Trace:
        """Open a trace; looks at its manifest and at the sizes of its files, not into them (see `verify`).

        Raises:
            InputError: no finished trace, one of another version, or a damaged one (a file missing or of another size).
        """
        folder = Path(path)
        trace = cls(folder, read_manifest(folder))
        for part in trace._parts:
            file = folder / part.path
            if not file.is_file():
                raise InputError(f"{folder}: damaged trace, {part.path} is missing; convert it again")
            if file.stat().st_size != part.num_bytes:
                raise InputError(
                    f"{folder}: damaged trace, {part.path} has {file.stat().st_size:,} bytes and should have "
                    f"{part.num_bytes:,}; convert it again"
                )
        return trace

    def verify(self) -> list[str]:
        """Compare every file with the manifest, by checksum; what is wrong, a line each, empty when all is well."""
        problems = []
        for part in self._parts:
            file = self.path / part.path
            if not file.is_file():
                problems.append(f"{part.path}: missing")
            elif _sha256(file) != part.sha256:
                problems.append(f"{part.path}: changed since it was written (its checksum differs)")
        known = {part.path for part in self._parts}
        for table in TABLES:
            found = (file.relative_to(self.path).as_posix() for file in (self.path / table).rglob("*.parquet"))
            problems += [f"{name}: not in {MANIFEST_NAME}" for name in sorted(found) if name not in known]
        return problems

    def days(self, table: str, region: str | None = None) -> tuple[int, ...]:
        """The days that a table has rows in, ascending."""
        parts = self._select(table, None if region is None else [region], None)
        return tuple(sorted({part.day for part in parts if part.day is not None}))

    def parquet_glob(self, table: str) -> str:
        """A pattern of the files of a table, for other programs (DuckDB, Spark)."""
        self._select(table, None, None)
        return f"{self.path}/{table}/**/*.parquet"

    def scan(self, table: str, regions: Sequence[str] | None = None, days: Iterable[int] | None = None) -> pl.LazyFrame:
        """A table as a Polars lazy frame, with the columns `region` and (but for functions) `day` (int32).

        Args:
            table: "request", "coldstart", "pod", "function" or "series".
            regions: only these; all by default.
            days: only these days (whole days since moment 0).

        Raises:
            InputError: an unknown table or region.
        """
        import polars as pl

        parts = self._select(table, regions, days)
        hive = {"region": pl.String} if table == "function" else {"region": pl.String, "day": pl.Int32}
        if parts:
            files = [self.path / part.path for part in parts]
            return pl.scan_parquet(files, hive_schema=hive, hive_partitioning=True, glob=False)
        empty = pl.from_arrow(TABLES[table].empty_table())
        return pl.LazyFrame(empty).with_columns(pl.lit(None, kind).alias(name) for name, kind in hive.items())

    def connect(self, *, memory: str = _SQL_MEMORY, threads: int | None = None) -> duckdb.DuckDBPyConnection:
        """A DuckDB connection with the views request, coldstart, pod, function and series.

        Args:
            memory: what DuckDB may hold before it spills to a temporary folder.
            threads: at most so many; DuckDB's choice by default.
        """
        import duckdb

        config: dict[str, Any] = {"memory_limit": memory, "preserve_insertion_order": False}
        connection = duckdb.connect(config=config if threads is None else {**config, "threads": threads})
        for table in TABLES:
            connection.execute(f"create view {table} as {self._select_sql(table)}")
        return connection

    def sql(self, query: str) -> pa.Table:
        """The result of one SQL query over the tables request, coldstart, pod, function and series.

        Raises:
            InputError: DuckDB refuses the query.
        """
        import duckdb

        with self.connect() as connection:
            try:
                return connection.sql(query).to_arrow_table()
            except duckdb.Error as error:
                raise InputError(f"SQL: {str(error).splitlines()[0]}") from None

    def batches(
        self,
        table: str,
        regions: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        *,
        days: Iterable[int] | None = None,
        ordered: bool = False,
    ) -> Iterator[pa.RecordBatch]:
        """A table in batches of at most 131,072 rows, region by region and day by day; memory is bounded.

        Args:
            table: which table.
            regions: only these; all by default.
            columns: only these, in this order; all by default.
            days: only these days.
            ordered: by time within a region (parts of a day that overlap are sorted out of core).

        Raises:
            InputError: an unknown table, region or column.
        """
        parts = self._select(table, regions, days)
        chosen = list(TABLES[table].names if columns is None else columns)
        unknown = [name for name in chosen if name not in TABLES[table].names]
        if unknown:
            raise InputError(f"table {table} has no column {unknown[0]!r}; it has {', '.join(TABLES[table].names)}")
        schema = pa.schema([TABLES[table].field(name) for name in chosen])
        for group in _by_day(parts):
            if ordered and _overlap(group):
                yield from self._sorted_batches(table, group, chosen, schema)
            else:
                for part in group:
                    with pq.ParquetFile(self.path / part.path) as file:
                        for batch in file.iter_batches(_BATCH_ROWS, columns=chosen):
                            yield batch.select(chosen).cast(schema)

    def functions(self, region: str) -> pa.Table:
        """The table of functions of one region, sorted by name.

        Raises:
            InputError: an unknown region.
        """
        batches = list(self.batches("function", [region]))
        return pa.Table.from_batches(batches, TABLES["function"]).sort_by("function")

    def _select(self, table: str, regions: Sequence[str] | None, days: Iterable[int] | None) -> list[Part]:
        if table not in TABLES:
            raise InputError(f"unknown table {table!r}; a trace has {', '.join(TABLES)}")
        unknown = [name for name in regions or () if name not in self.regions]
        if unknown:
            raise InputError(f"{self.path}: no region {unknown[0]!r}; it has {', '.join(self.regions) or 'none'}")
        wanted = None if days is None else set(days)
        chosen = [
            part
            for part in self._parts
            if part.table == table
            and (regions is None or part.region in regions)
            and (wanted is None or part.day is None or part.day in wanted)
        ]
        return sorted(chosen, key=_read_order)

    def _select_sql(self, table: str) -> str:
        parts = self._select(table, None, None)
        hive = "'region': VARCHAR" if table == "function" else "'region': VARCHAR, 'day': INTEGER"
        if parts:
            files = ", ".join(_quoted(self.path / part.path) for part in parts)
            return f"select * from read_parquet([{files}], hive_partitioning = true, hive_types = {{{hive}}})"
        kinds = {pa.int64(): "BIGINT", pa.int32(): "INTEGER", pa.float32(): "FLOAT", pa.float64(): "DOUBLE"}
        kinds[pa.bool_()] = "BOOLEAN"
        columns = [f"null::{kinds.get(field.type, 'VARCHAR')} as {field.name}" for field in TABLES[table]]
        columns += ["null::VARCHAR as region"] + ([] if table == "function" else ["null::INTEGER as day"])
        return f"select {', '.join(columns)} where false"

    def _sorted_batches(
        self, table: str, parts: list[Part], columns: list[str], schema: pa.Schema
    ) -> Iterator[pa.RecordBatch]:
        import duckdb

        key = f"coalesce({', '.join(DAY_COLUMNS[table])})"
        files = ", ".join(_quoted(self.path / part.path) for part in parts)
        source = f"read_parquet([{files}], filename = true, file_row_number = true, hive_partitioning = false)"
        query = f"select {', '.join(columns)} from {source} order by {key} nulls first, filename, file_row_number"
        with duckdb.connect(config={"memory_limit": _SQL_MEMORY}) as connection:
            for batch in connection.sql(query).to_arrow_reader(_BATCH_ROWS):
                yield batch.cast(schema)


def _read_order(part: Part) -> tuple[str, int, int, str]:
    return part.region, part.day or 0, part.first_us if part.first_us is not None else -(2**63), part.path


def _by_day(parts: list[Part]) -> Iterator[list[Part]]:
    group: list[Part] = []
    for part in parts:
        if group and (part.region, part.day) != (group[-1].region, group[-1].day):
            yield group
            group = []
        group.append(part)
    if group:
        yield group


def _overlap(parts: list[Part]) -> bool:
    latest: int | None = None
    for part in parts:
        if part.first_us is None or part.last_us is None:
            continue
        if latest is not None and part.first_us < latest:
            return True
        latest = part.last_us
    return False


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
