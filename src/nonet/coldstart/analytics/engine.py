"""Running a query: an Ibis expression over the tables of a trace, on DuckDB out of core, or as the text of Spark SQL.

An expression (see `queries`) is written once over unbound tables. `Engine.run` compiles it for DuckDB and runs it over
the Parquet files of a trace with a fixed memory limit; what does not fit is spilled to a scratch folder. `spark_sql`
compiles the same expression for Spark, where the tables are views of the same names (`CREATE VIEW request AS SELECT *
FROM parquet.`.../request``, which finds region and day in the folder names as DuckDB does).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from nonet.coldstart.trace.schema import COLDSTART, FUNCTION, POD, REQUEST
from nonet.common.errors import InputError

if TYPE_CHECKING:
    import duckdb
    import ibis.expr.types as ir
    import polars as pl

MEMORY = "1GiB"
"""What DuckDB may hold; with its threads' buffers and Python a process stays below 2 GiB."""

_SCHEMAS = {"request": REQUEST, "coldstart": COLDSTART, "pod": POD, "function": FUNCTION}
_IBIS_TYPES = {"bool": "boolean", "float": "float32", "double": "float64"}


class TraceFiles(Protocol):
    """What the analytics need of a trace (`nonet.coldstart.trace.store.Trace` is one)."""

    path: Path
    regions: tuple[str, ...]
    epoch: str | None
    start_us: int
    end_us: int


@dataclass(frozen=True, slots=True)
class Tables:
    """The four tables as unbound Ibis expressions, with `region` and (not `function`) `day` beside their columns."""

    request: ir.Table
    coldstart: ir.Table
    pod: ir.Table
    function: ir.Table


@cache
def tables() -> Tables:
    """The tables of the schema, without data."""
    import ibis

    return Tables(**{name: ibis.table(_ibis_columns(name), name=name) for name in _SCHEMAS})


def _ibis_columns(table: str) -> dict[str, str]:
    columns = {field.name: _IBIS_TYPES.get(str(field.type), str(field.type)) for field in _SCHEMAS[table]}
    return {**columns, "region": "string", **({} if table == "function" else {"day": "int64"})}


def duckdb_sql(expression: ir.Table) -> str:
    """The expression as DuckDB SQL."""
    import ibis

    return str(ibis.to_sql(expression, dialect="duckdb"))


def spark_sql(expression: ir.Table) -> str:
    """The expression as Spark SQL; Spark itself is not needed."""
    import ibis

    with _spark_options():
        return str(ibis.to_sql(expression, dialect="pyspark"))


@contextmanager
def _spark_options() -> Iterator[None]:
    """Ibis asks for an option that only its Spark backend registers, which wants Spark to be installed."""
    import ibis
    from ibis.config import Config

    if ibis.options.pyspark is not None:
        yield
        return

    class SparkOptions(Config):
        """The one option of Ibis' Spark back end that compiling a query reads."""

        treat_nan_as_null: bool = False

    ibis.options.pyspark = SparkOptions()
    try:
        yield
    finally:
        ibis.options.pyspark = None


class Engine:
    """DuckDB over the files of one trace, within a fixed amount of memory. Use it as a context manager.

    Args:
        trace: whose tables to query.
        memory: DuckDB's limit, e.g. "1GiB".
        threads: its number of threads.
        scratch: where to spill; a new temporary folder by default, removed at the end.
    """

    def __init__(
        self, trace: TraceFiles, *, memory: str = MEMORY, threads: int = 2, scratch: Path | None = None
    ) -> None:
        self.trace = trace
        self._scratch = tempfile.TemporaryDirectory(prefix="nonet-coldstart-", dir=scratch)
        self._connection = connect(self._scratch.name, memory, threads)
        for table in _SCHEMAS:
            self._connection.execute(f'CREATE VIEW "{table}" AS {_source(table, trace)}')

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection and remove what was spilled."""
        self._connection.close()
        self._scratch.cleanup()

    def run(self, expression: ir.Table) -> pl.DataFrame:
        """The rows of an expression.

        Raises:
            InputError: a file of the trace cannot be read, or the query does not fit into memory and scratch space.
        """
        return run_sql(self._connection, duckdb_sql(expression))


def connect(scratch: str, memory: str = MEMORY, threads: int = 2) -> duckdb.DuckDBPyConnection:
    """A DuckDB in memory that holds at most `memory` and spills into `scratch`."""
    import duckdb

    settings: dict[str, Any] = {
        "memory_limit": memory,
        "threads": threads,
        "temp_directory": scratch,
        "preserve_insertion_order": False,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    try:
        return duckdb.connect(config=settings)
    except duckdb.Error as error:
        raise InputError(f"DuckDB does not start with memory {memory!r}: {str(error).splitlines()[0]}") from error


def run_sql(connection: duckdb.DuckDBPyConnection, sql: str) -> pl.DataFrame:
    """The rows of a query as Polars.

    Raises:
        InputError: DuckDB cannot answer it (a damaged file, no space left).
    """
    import duckdb
    import polars as pl

    try:
        table = connection.sql(sql).to_arrow_table()
    except duckdb.Error as error:
        raise InputError(f"the query failed: {str(error).splitlines()[0]}") from error
    frame = pl.DataFrame(table)
    # A sum of int64 is wider in DuckDB; ours fit.
    return frame.with_columns(pl.selectors.decimal().cast(pl.Int64))


def files_of(trace: TraceFiles, table: str) -> list[str]:
    """The Parquet files of a table."""
    return sorted(str(path) for path in (trace.path / table).rglob("*.parquet"))


def _source(table: str, trace: TraceFiles) -> str:
    columns = [*(field.name for field in _SCHEMAS[table]), "region", *([] if table == "function" else ["day"])]
    paths = files_of(trace, table)
    if not paths:
        types = {
            **{field.name: _duckdb_type(field.type) for field in _SCHEMAS[table]},
            "region": "VARCHAR",
            "day": "BIGINT",
        }
        return "SELECT " + ", ".join(f'NULL::{types[name]} AS "{name}"' for name in columns) + " WHERE false"
    files = ", ".join("'" + path.replace("'", "''") + "'" for path in paths)
    types_text = "{'region': VARCHAR}" if table == "function" else "{'region': VARCHAR, 'day': BIGINT}"
    names = ", ".join(f'"{name}"' for name in columns)
    return f"SELECT {names} FROM read_parquet([{files}], hive_partitioning = true, hive_types = {types_text})"


def _duckdb_type(kind: pa.DataType) -> str:
    return {"int64": "BIGINT", "int32": "INTEGER", "string": "VARCHAR", "bool": "BOOLEAN", "float": "FLOAT"}[str(kind)]


def filled_columns(trace: TraceFiles) -> dict[str, frozenset[str]]:
    """Which columns of each table hold a value somewhere, from the footers of the Parquet files alone.

    Raises:
        InputError: a file is damaged.
    """
    return {table: frozenset(_filled(files_of(trace, table), len(_SCHEMAS[table]))) for table in _SCHEMAS}


def _filled(paths: Iterable[str], num_columns: int) -> set[str]:
    import pyarrow.parquet as pq

    found: set[str] = set()
    for path in paths:
        if len(found) == num_columns:
            break
        try:
            footer = pq.read_metadata(path)
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{path}: damaged ({str(error).splitlines()[0]}); convert the trace again") from error
        for group in range(footer.num_row_groups):
            row_group = footer.row_group(group)
            for index in range(row_group.num_columns):
                column = row_group.column(index)
                nulls = column.statistics.null_count if column.statistics is not None else 0
                if (nulls or 0) < column.num_values:
                    found.add(column.path_in_schema)
    return found
