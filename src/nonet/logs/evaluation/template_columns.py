"""One column of a Parquet or CSV file as a stream of Arrow chunks, and two such streams side by side.

Memory: one batch of each file, whatever their size. In CSV files an empty field of the label file means "no ground
truth"; `null`, `NA` and `nan` are templates like any other (tools that read them as missing lose them).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from nonet.common.errors import InputError

BATCH_LINES = 1 << 18
_CSV_BLOCK_BYTES = 16 << 20  # a row may not be longer than a block
_PARQUET_SUFFIXES = (".parquet", ".pq")
_CSV_SUFFIXES = (".csv", ".csv.gz", ".csv.zst", ".csv.bz2")


def read_column(path: Path | str, column: str = "EventTemplate", *, empty_is_null: bool = False) -> Iterator[pa.Array]:
    """Stream a column of texts.

    Args:
        path: a `.parquet` or `.csv` file, the latter also compressed (.gz, .zst, .bz2).
        column: its name.
        empty_is_null: turn empty texts of a CSV file into nulls (label files).

    Yields:
        Arrays of strings, binaries or dictionaries of them.

    Raises:
        InputError: no such file, another kind of file, a damaged file, or no such column of texts.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    name = path.name.lower()
    if name.endswith(_PARQUET_SUFFIXES):
        return _read_parquet(path, column)
    if name.endswith(_CSV_SUFFIXES):
        return _read_csv(path, column, empty_is_null)
    raise InputError(f"{path}: expected a file named {', '.join('*' + s for s in _PARQUET_SUFFIXES + _CSV_SUFFIXES)}")


def column_names(path: Path | str) -> list[str]:
    """The column names of a Parquet or CSV file; `InputError` as in `read_column`."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        if path.name.lower().endswith(_PARQUET_SUFFIXES):
            return list(pq.read_schema(path).names)
        with pa.input_stream(str(path)) as stream:
            return _csv_header(stream)
    except (pa.ArrowException, OSError, EOFError) as error:
        raise InputError(f"{path}: not readable: {_first_line(error)}") from error


def zip_columns(
    left: Iterator[pa.Array], right: Iterator[pa.Array], names: tuple[str, str]
) -> Iterator[tuple[pa.Array, pa.Array]]:
    """Cut two streams into chunks of equal length; `InputError` naming both when one has more rows than the other.

    >>> left, right = iter([pa.array(["x"] * 3)]), iter([pa.array(["y"]), pa.array(["y"] * 2)])
    >>> [(len(a), len(b)) for a, b in zip_columns(left, right, ("l", "r"))]
    [(1, 1), (2, 2)]
    """
    a, b = pa.nulls(0), pa.nulls(0)
    num_rows = 0
    while True:
        a = _next_filled(left) if not len(a) else a
        b = _next_filled(right) if not len(b) else b
        if a is None or b is None:
            break
        n = min(len(a), len(b))
        yield a[:n], b[:n]
        a, b = a[n:], b[n:]
        num_rows += n
    rest_a = (len(a) if a is not None else 0) + sum(map(len, left))
    rest_b = (len(b) if b is not None else 0) + sum(map(len, right))
    if rest_a or rest_b:
        sizes = f"{names[0]} has {num_rows + rest_a:,} rows and {names[1]} has {num_rows + rest_b:,}"
        raise InputError(f"{sizes}: both need one row a line, in the same order")


def _next_filled(stream: Iterator[pa.Array]) -> pa.Array | None:
    return next((chunk for chunk in stream if len(chunk)), None)


def _read_parquet(path: Path, column: str) -> Iterator[pa.Array]:
    try:
        file = pq.ParquetFile(path, read_dictionary=[column])
        _check_column(path, column, file.schema_arrow.names)
        for batch in file.iter_batches(BATCH_LINES, columns=[column]):
            yield batch.column(0)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: not a readable Parquet file: {_first_line(error)}") from error


def _read_csv(path: Path, column: str, empty_is_null: bool) -> Iterator[pa.Array]:
    try:
        _check_column(path, column, column_names(path))
        reader = pa_csv.open_csv(
            pa.input_stream(str(path)),
            read_options=pa_csv.ReadOptions(block_size=_CSV_BLOCK_BYTES, use_threads=False),
            parse_options=pa_csv.ParseOptions(newlines_in_values=True),
            convert_options=pa_csv.ConvertOptions(
                include_columns=[column], column_types={column: pa.binary()}, null_values=[], strings_can_be_null=False
            ),
        )
        for batch in reader:
            encoded = batch.column(0).dictionary_encode()
            yield _empty_to_null(encoded) if empty_is_null else encoded
    except (pa.ArrowException, OSError, EOFError) as error:
        raise InputError(f"{path}: not a readable CSV file: {_first_line(error)}") from error


def _csv_header(stream: pa.NativeFile) -> list[str]:
    """The column names: the first row of the file."""
    first_line = bytes(stream.read(1 << 16)).split(b"\n", 1)[0].rstrip(b"\r") + b"\n"
    if not first_line.strip():
        return []
    options = pa_csv.ReadOptions(encoding="utf-8", use_threads=False)
    return list(pa_csv.read_csv(pa.BufferReader(first_line), read_options=options).column_names)


def _check_column(path: Path, column: str, found: list[str]) -> None:
    if column not in found:
        shown = ", ".join(found[:12]) + (", ..." if len(found) > 12 else "")
        raise InputError(f"{path}: no column {column!r}; it has {shown or 'no columns'}")


def _empty_to_null(array: pa.DictionaryArray) -> pa.Array:
    empty = pc.index(array.dictionary, pa.scalar(b"", array.dictionary.type)).as_py()
    if empty < 0:
        return array
    codes = pc.if_else(pc.equal(array.indices, empty), pa.scalar(None, array.indices.type), array.indices)
    return pa.DictionaryArray.from_arrays(codes, array.dictionary)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
