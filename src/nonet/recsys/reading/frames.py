"""Blocks of a file as typed tables: every field checked, every bad line named."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from nonet.common.errors import InputError
from nonet.recsys.reading.blocks import BLOCK_BYTES, BadLines, first_line, read_blocks
from nonet.recsys.reading.formats import FORMATS, ROW, Format, detect_format
from nonet.recsys.reading.quoting import UNIT, fields_of, unquoted

_LINE = "line_number"
_PARQUET_ROWS = 1 << 17
_LAST_MS = (1 << 32) * 1000 - 1  # tables keep times as 32 bits of seconds


def open_format(path: Path, kind: Format | str | None = None) -> Format:
    """The format of a file: as given, or by looking at it.

    Raises:
        InputError: no such file, or unknown format.
    """
    if isinstance(kind, Format):
        return kind
    if isinstance(kind, str):
        return FORMATS[kind]
    if path.suffix == ".parquet":
        return detect_format(path, _names_in_parquet(path))
    line = first_line(path)
    return detect_format(path, ",".join(fields_of(line, ",")) if '"' in line else line)


def read_frames(
    path: str | Path,
    kind: Format | str | None = None,
    *,
    bad: BadLines | None = None,
    block_bytes: int = BLOCK_BYTES,
    max_rows: int | None = None,
) -> Iterator[pl.DataFrame]:
    """The rows of a file, in its order, block by block.

    Args:
        path: `.gz` and `.zst` are unpacked on the way.
        kind: format or its name; found by looking at the file when None.
        bad: what to do with bad lines; raises by default.
        block_bytes: of text at a time; memory is a few times that.
        max_rows: stop after as many.

    Yields:
        Tables with the features as text under their names, dense numbers (float32), `label` (float32), `ts_ms` (int64).

    Raises:
        InputError: the file cannot be read or is of another format; by `bad`, a bad line.
    """
    file = Path(path)
    form = open_format(file, kind)
    bad = BadLines() if bad is None else bad
    raw = _parquet(file, form) if file.suffix == ".parquet" else _lines(file, form, bad, block_bytes)
    left = max_rows
    for table in raw:
        rows = table if left is None else table.head(left)
        if rows.height:
            yield _typed(file, form, rows, bad)
        if left is not None:
            left -= rows.height
            if left <= 0:
                return


def _names_in_parquet(path: Path) -> str:
    """The columns as a header line would have them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return ",".join(pq.read_schema(path).names)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error


def _parquet(path: Path, form: Format) -> Iterator[pl.DataFrame]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = 0
    try:
        with pq.ParquetFile(path) as file:
            names = {form.aliases.get(name, name): name for name in file.schema_arrow.names}
            _require(path, form, list(names))
            wanted = [names[name] for name in form.columns]
            for batch in file.iter_batches(_PARQUET_ROWS, columns=wanted):
                columns = {name: batch.column(names[name]).cast("string") for name in form.columns}
                table = pl.DataFrame(pl.from_arrow(pa.table(columns))).fill_null("")
                yield table.with_columns(_counted(table.height, row, ROW), _counted(table.height, row + 1, _LINE))
                row += table.height
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error


def _lines(path: Path, form: Format, bad: BadLines, block_bytes: int) -> Iterator[pl.DataFrame]:
    columns: list[str] = []
    line, row = 1, 0
    for text in read_blocks(path, block_bytes):
        block = text
        if not columns:
            columns, used = _header(path, form, block)
            block = block[used:]
            line += used > 0
        if not block:
            continue
        table = _split(path, form, columns, block, line, bad)
        yield table.with_columns(_counted(table.height, row, ROW))
        row += table.height
        line += block.count(b"\n")


def _header(path: Path, form: Format, block: bytes) -> tuple[list[str], int]:
    """Names of the columns of the file, and the bytes of its header line."""
    end = block.index(b"\n") + 1
    first = block[:end].decode("utf-8-sig", "replace").rstrip("\n")
    names = [form.aliases.get(name, name) for name in (part.split(":")[0] for part in fields_of(first, form.separator))]
    if form.header == "never" or (form.header == "maybe" and not set(form.columns) <= set(names)):
        return list(form.columns), 0
    _require(path, form, names)
    return names, end


def _require(path: Path, form: Format, names: list[str]) -> None:
    missing = [name for name in form.columns if name not in names]
    if missing:
        raise InputError(f"{path}, line 1: {form.name} needs the columns {missing}; the file has {names[:50]}")


def _split(path: Path, form: Format, columns: list[str], block: bytes, line: int, bad: BadLines) -> pl.DataFrame:
    """A block as columns of text with the numbers of its lines; lines of another shape go to `bad`."""
    parted = form.separator
    if parted == "," and b'"' in block:
        block, parted = unquoted(block), UNIT
    separator = parted.encode()
    lines, width = block.count(b"\n"), len(columns)
    numbers: list[int] | range = range(line, line + lines)
    if block.count(separator) != lines * (width - 1) or not _is_text(block):
        block, numbers = _repaired(path, block, separator, width, line, bad)
    try:
        table = _parsed(block, parted, columns)
    except pl.exceptions.PolarsError:
        table = None
    if table is None or table.height != len(numbers):
        # As many separators as should be, in the wrong lines.
        block, numbers = _repaired(path, block, separator, width, line, bad)
        table = _parsed(block, parted, columns)
    used = [name for name in columns if name in form.columns]
    return table.select(used).with_columns(pl.Series(_LINE, numbers, pl.Int64))


def _parsed(block: bytes, separator: str, columns: list[str]) -> pl.DataFrame:
    if len(separator) > 1:
        block, separator = block.replace(separator.encode(), b"\t"), "\t"
    schema = dict.fromkeys(columns, pl.String)
    if not block:
        return pl.DataFrame(schema=schema)
    table = pl.read_csv(
        io.BytesIO(block),
        separator=separator,
        has_header=False,
        schema=schema,
        quote_char=None,
    )
    return table.fill_null("")


def _is_text(block: bytes) -> bool:
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return True


def _repaired(
    path: Path, block: bytes, separator: bytes, width: int, line: int, bad: BadLines
) -> tuple[bytes, list[int]]:
    """The good lines of a block and their numbers."""
    kept, numbers = [], []
    for number, text in enumerate(block.split(b"\n")[:-1], line):
        fields = text.count(separator) + 1
        if fields != width:
            bad.add(path, number, f"{fields} fields, {width} are expected")
        elif not _is_text(text):
            bad.add(path, number, "no UTF-8 text")
        else:
            kept.append(text + b"\n")
            numbers.append(number)
    return b"".join(kept), numbers


def _typed(path: Path, form: Format, table: pl.DataFrame, bad: BadLines) -> pl.DataFrame:
    casts = [pl.col(name).cast(pl.Float64, strict=False).alias(name) for name in form.numbers]
    numbers = table.with_columns(casts)
    good = pl.repeat(True, table.height, eager=True)
    for name in form.numbers:
        unread = numbers[name].is_null() | ~numbers[name].fill_null(math.nan).is_finite()
        if name in form.optional:
            unread &= table[name] != ""
        for at in unread.arg_true().to_list():
            bad.add(path, table[_LINE][at], f"{name} is no number: {table[name][at][:80]!r}")
        good &= ~unread
    numbers = numbers.filter(good)
    label = pl.sql_expr(form.label).cast(pl.Float64)
    try:
        typed = numbers.select(
            *(pl.col(column).alias(name) for name, column in form.features.items()),
            *(expression.fill_null(0).cast(pl.Float32).alias(name) for name, expression in form.dense.items()),
            (pl.lit(0.0) + label > 0).cast(pl.Float32).alias("label"),
            form.ts_ms.alias("ts_ms"),
            pl.col(_LINE),
        )
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{path}: the label rule {form.label!r} does not fit the columns: {error}") from error
    timeless = typed["ts_ms"].is_null()
    for at in timeless.arg_true().to_list():
        bad.add(path, typed[_LINE][at], "its time cannot be read")
    beyond = (typed["ts_ms"] > _LAST_MS).fill_null(False)
    for at in beyond.arg_true().to_list():
        year = "its time lies beyond the year 2106; are these milliseconds (`unit: ms` under `data` in the job)?"
        bad.add(path, typed[_LINE][at], year)
    return typed.filter(~(timeless | beyond)).drop(_LINE)


def _counted(rows: int, start: int, name: str) -> pl.Series:
    return pl.int_range(start, start + rows, dtype=pl.Int64, eager=True).alias(name)
