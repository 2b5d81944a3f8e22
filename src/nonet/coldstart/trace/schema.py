"""The tables of a trace, as Arrow schemas, and how their rows are divided into days.

Times are int64 microseconds since the epoch of the trace; durations int64 microseconds; memory in MB (2**20 bytes);
CPU in thousandths of a core. A function is named by a text that is unique within its region. The tables are those of
the Huawei release of 2025 (sir-lab/data-release), with what other platforms do not tell left null.
"""

from __future__ import annotations

import pyarrow as pa

from nonet.common.errors import InputError

DAY_US = 86_400_000_000

REQUEST = pa.schema(
    [
        pa.field("arrive_us", pa.int64(), nullable=False),
        pa.field("start_us", pa.int64()),
        pa.field("end_us", pa.int64()),
        pa.field("function", pa.string(), nullable=False),
        pa.field("pod", pa.string()),
        pa.field("cold", pa.bool_()),
        pa.field("request", pa.string()),
        pa.field("cpu_cores", pa.float32()),
        pa.field("memory_mb", pa.float32()),
    ]
)
"""One call. `start_us` is when it began to run (later than `arrive_us` when it waited); `cold` whether it triggered a
cold start, null when nobody knows (the first call of a log window: left-censored)."""

COLDSTART = pa.schema(
    [
        pa.field("at_us", pa.int64(), nullable=False),
        pa.field("function", pa.string(), nullable=False),
        pa.field("pod", pa.string()),
        pa.field("request", pa.string()),
        pa.field("total_us", pa.int64(), nullable=False),
        pa.field("allocation_us", pa.int64()),
        pa.field("code_us", pa.int64()),
        pa.field("dependency_us", pa.int64()),
        pa.field("scheduling_us", pa.int64()),
        pa.field("detail", pa.string()),
    ]
)
"""One start of a pod, `at_us` its beginning. The four components are null where the source does not split them;
`detail` is a JSON object of source-specific parts or null; its keys, as far as the source tells: kind ("on-demand",
"restore", "provisioned"), low_us and high_us (bounds of the total), pull_us, image, image_bytes, image_cached,
node_scale_up, num_failed_scheduling, num_unhealthy, init_us, failed_init_us, restore_us, wait_us, sandbox_us, revision,
node, memory_mb."""

POD = pa.schema(
    [
        pa.field("pod", pa.string(), nullable=False),
        pa.field("function", pa.string()),
        pa.field("create_us", pa.int64()),
        pa.field("ready_us", pa.int64()),
        pa.field("end_us", pa.int64()),
        pa.field("cpu_millicores", pa.int32()),
        pa.field("memory_mb", pa.int32()),
        pa.field("node", pa.string()),
    ]
)
"""One pod. A pod that lives over midnight lies in the day it was created on."""

FUNCTION = pa.schema(
    [
        pa.field("function", pa.string(), nullable=False),
        pa.field("user", pa.string()),
        pa.field("runtime", pa.string()),
        pa.field("trigger", pa.string()),
        pa.field("cpu_millicores", pa.int32()),
        pa.field("memory_mb", pa.int32()),
        pa.field("concurrency", pa.int32()),
        pa.field("min_scale", pa.int32()),
    ]
)
"""One function of a region; not divided into days."""

SERIES = pa.schema(
    [
        pa.field("at_us", pa.int64(), nullable=False),
        pa.field("function", pa.string(), nullable=False),
        pa.field("metric", pa.string(), nullable=False),
        pa.field("statistic", pa.string(), nullable=False),
        pa.field("step_us", pa.int64(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),
    ]
)
"""A number of one function in one step of time (`at_us` its beginning, `step_us` its length), of sources that publish
series instead of events; what is missing there has no row. `metric` and `statistic` ("" or e.g. "avg",
"quantile_050") have the names of the source, values its units (Huawei: seconds, cores, MB, counts)."""

TABLES: dict[str, pa.Schema] = {
    "request": REQUEST,
    "coldstart": COLDSTART,
    "pod": POD,
    "function": FUNCTION,
    "series": SERIES,
}

DAY_COLUMNS: dict[str, tuple[str, ...]] = {
    "request": ("arrive_us",),
    "coldstart": ("at_us",),
    "pod": ("create_us", "ready_us", "end_us"),
    "function": (),
    "series": ("at_us",),
}
"""The first of these columns that is not null says which day a row lies in; a row without any lies in day 0."""


def conform(table: str, rows: pa.Table) -> pa.Table:
    """The rows with exactly the columns, order and types of a table's schema.

    Columns that may be null and are missing are filled with nulls; values are cast where nothing is lost.

    Raises:
        InputError: an unknown table or column, a missing or null value where there must be one, a value that does not
            fit the type.

    >>> conform("function", pa.table({"function": ["f"], "memory_mb": [128]})).column_names[:2]
    ['function', 'user']
    """
    if table not in TABLES:
        raise InputError(f"unknown table {table!r}; a trace has {', '.join(TABLES)}")
    schema = TABLES[table]
    unknown = [name for name in rows.column_names if name not in schema.names]
    if unknown:
        raise InputError(f"table {table}: unknown column {unknown[0]!r}; its columns are {', '.join(schema.names)}")
    columns = [_column(table, field, rows) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def _column(table: str, field: pa.Field, rows: pa.Table) -> pa.ChunkedArray:
    if field.name not in rows.column_names:
        if not field.nullable:
            raise InputError(f"table {table}: the column {field.name} is missing")
        return pa.chunked_array([pa.nulls(rows.num_rows, field.type)])
    column = rows.column(field.name)
    if column.type != field.type:
        try:
            column = column.cast(field.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"table {table}: {field.name} cannot be stored as {field.type}: {reason}") from None
    if not field.nullable and column.null_count:
        raise InputError(f"table {table}: {field.name} is null in {column.null_count:,} of {rows.num_rows:,} rows")
    return column
