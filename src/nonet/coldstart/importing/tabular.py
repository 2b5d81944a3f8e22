"""CSV and Parquet as Polars frames of bounded size, every row with its line number.

CSV cells stay texts until an importer says what they are (`number`, `whole_us`), so that a bad cell costs one row,
which goes to the quarantine, and never the file. Lines end with LF, CRLF or a mixture; columns are found by name, in
any order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import polars as pl
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from nonet.coldstart.importing.sources import SourceFile, UnusableFileError
from nonet.common.errors import InputError

LINE = "_line"
_BLOCK_BYTES = 24 << 20
_PARQUET_ROWS = 65_536

UNUSABLE = "the file is empty, not text in UTF-8, or damaged from its first line on"

Reject = Callable[[int | None, str, str], None]
"""Refuses a row: its line, the reason, what stood there."""


def read_frames(
    file: SourceFile,
    reject: Reject,
    *,
    columns: Sequence[str] | None = None,
    optional: Sequence[str] = (),
    delimiter: str = ",",
) -> Iterator[pl.DataFrame]:
    """The rows of a CSV (with a header line) or Parquet file, some ten thousand at a time.

    Args:
        file: what to read; its name says whether it is Parquet.
        reject: told of rows with the wrong number of cells and of a file that ends in damage.
        columns: columns that must be there; only these and `optional` ones are given, all by default.
        optional: columns that are given as nulls when the file has none.
        delimiter: between cells.

    Yields:
        frames with the columns asked for (texts, from Parquet as stored) and `_line` (int64, from 1; the row of a
        Parquet file).

    Raises:
        InputError: no such file, no header, a column is missing, or a Parquet file is damaged.
    """
    frames = _parquet_frames(file) if file.is_parquet else _csv_frames(file, reject, delimiter)
    for frame in frames:
        if columns is None:
            yield frame
            continue
        missing = [name for name in columns if name not in frame.columns]
        if missing:
            found = ", ".join(name for name in frame.columns[:12] if name != LINE)
            raise InputError(f"{file.name}: no column {missing[0]!r} in its header; found {found}")
        extra = [name for name in optional if name not in frame.columns]
        filled = frame.with_columns(pl.lit(None, pl.String).alias(name) for name in extra)
        yield filled.select(*columns, *optional, LINE)


def _csv_frames(file: SourceFile, reject: Reject, delimiter: str) -> Iterator[pl.DataFrame]:
    skipped: list[int] = []
    try:
        names = header_of(file, delimiter)
    except UnusableFileError as error:
        reject(None, UNUSABLE, str(error))
        return

    def wrong_width(row: pa_csv.InvalidRow) -> str:
        skipped.append(row.number)
        reject(row.number, f"{row.actual_columns} cells instead of {row.expected_columns}", row.text)
        return "skip"

    with file.open() as stream:
        line = 2
        try:
            reader = pa_csv.open_csv(
                pa.PythonFile(stream, "r"),
                read_options=pa_csv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES),
                parse_options=pa_csv.ParseOptions(delimiter=delimiter, invalid_row_handler=wrong_width),
                convert_options=pa_csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string()), check_utf8=False, strings_can_be_null=False
                ),
            )
            for batch in reader:
                frame = pl.DataFrame(pl.from_arrow(batch))
                lines, line = _line_numbers(line, frame.height, skipped)
                yield frame.with_columns(pl.Series(LINE, lines, pl.Int64))
        except pa.ArrowInvalid as error:
            reject(line, f"not readable as CSV: {str(error).splitlines()[0][:160]}", "")
        if stream.failure:
            reject(
                stream.num_lines + 1, f"the file ends in damaged data: {stream.failure[:160]}", repr(stream.lost)[:200]
            )


def header_of(file: SourceFile, delimiter: str = ",") -> list[str]:
    """The names of the columns of a CSV or Parquet file.

    Raises:
        UnusableFileError: it is empty, not text in UTF-8, or damaged from its beginning on.
        InputError: the names are not distinct, or a Parquet file is damaged.
    """
    import csv

    if file.is_parquet:
        return list(_parquet_schema(file).names)
    with file.open() as stream:
        first = next((line for _, line in stream.lines()), b"")
        if not first and stream.failure:
            raise UnusableFileError(f"{file.name}: damaged from its first line on ({stream.failure}); get it again")
    try:
        names = next(csv.reader([first.decode("utf-8-sig")], delimiter=delimiter), [])
    except (UnicodeDecodeError, csv.Error):
        raise UnusableFileError(f"{file.name}: not text in UTF-8; unpack or convert it (iconv -t UTF-8)") from None
    if not names:
        raise UnusableFileError(f"{file.name}: empty; expected a line with the names of the columns")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{file.name}: the column {twice!r} stands twice in its header")
    return names


def _line_numbers(line: int, num_rows: int, skipped: list[int]) -> tuple[list[int], int]:
    """Lines of the next rows, leaving out those that were skipped; and the line after them."""
    lines: list[int] = []
    gaps = set(skipped)
    while len(lines) < num_rows:
        if line not in gaps:
            lines.append(line)
        line += 1
    skipped[:] = [number for number in skipped if number >= line]
    return lines, line


def _parquet_schema(file: SourceFile) -> pa.Schema:
    if file.member:
        raise InputError(f"{file.name}: Parquet inside a zip; unpack it first: unzip {file.path}")
    try:
        return pq.read_schema(file.path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{file.name}: no readable Parquet file ({str(error).splitlines()[0]})") from None


def _parquet_frames(file: SourceFile) -> Iterator[pl.DataFrame]:
    has_lists = any(pa.types.is_list(kind) or pa.types.is_large_list(kind) for kind in _parquet_schema(file).types)
    # A cell with a list may hold millions of values.
    num_rows = 1 if has_lists else _PARQUET_ROWS
    first = 1
    with pq.ParquetFile(file.path) as parquet:
        for batch in parquet.iter_batches(num_rows):
            frame = pl.DataFrame(pl.from_arrow(batch))
            yield frame.with_columns(pl.int_range(first, first + frame.height, dtype=pl.Int64).alias(LINE))
            first += frame.height


def number(name: str) -> pl.Expr:
    """A column of texts or numbers as float64; null where it is empty, NaN, or no finite number."""
    value = pl.col(name).cast(pl.String).str.strip_chars().cast(pl.Float64, strict=False)
    return pl.when(value.is_finite()).then(value)


def whole_us(name: str, unit_us: float) -> pl.Expr:
    """A column in some unit as int64 microseconds, rounded; null where it is no finite number or out of range."""
    value = number(name) * unit_us
    return pl.when(value.abs() < 2.0**62).then(value.round()).cast(pl.Int64, strict=False)


def text(name: str) -> pl.Expr:
    """A column as text without blanks around; null where it is empty."""
    value = pl.col(name).cast(pl.String).str.strip_chars()
    return pl.when(value != "").then(value)


def is_given(name: str) -> pl.Expr:
    """Whether a cell holds something: not null, not empty, not NaN."""
    value = pl.col(name).cast(pl.String).str.strip_chars().str.to_lowercase()
    return value.is_not_null() & ~value.is_in(["", "nan", "null", "none", "na"])


def screen(frame: pl.DataFrame, rules: Sequence[tuple[str, pl.Expr]], reject: Reject) -> pl.DataFrame:
    """The rows that no rule refuses; the others go to `reject` with the first reason that holds.

    Args:
        frame: rows with the column `_line`.
        rules: reason and a Boolean expression that is true for bad rows (null counts as false).
        reject: told of each bad row.
    """
    reason = pl.lit(None, pl.String)
    for name, is_bad in reversed(rules):
        reason = pl.when(is_bad.fill_null(value=False)).then(pl.lit(name)).otherwise(reason)
    judged = frame.with_columns(reason.alias("_reason"))
    bad = judged.filter(pl.col("_reason").is_not_null())
    for row in bad.iter_rows(named=True):
        cells = ",".join(str(value) for name, value in row.items() if not name.startswith("_"))
        reject(row[LINE], row["_reason"], cells)
    return frame if bad.is_empty() else judged.filter(pl.col("_reason").is_null()).drop("_reason")
