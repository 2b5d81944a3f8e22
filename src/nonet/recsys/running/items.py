"""Items and their attributes from a file: CSV, TSV, JSON lines or Parquet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from nonet.common.errors import InputError

Items = dict[str, dict[str, list[str]]]
"""Of each item its attributes."""

_BAG = "|"


def read_items(path: str | Path, item: str, attributes: Iterable[str] = ()) -> Items:
    """The items of a file; several values of an attribute stand in one field with `|` between, or as a list.

    Args:
        path: .csv, .tsv, .jsonl (.ndjson) or .parquet, with a header line where there is none by itself; .gz and .zst
            are unpacked.
        item: column of the name.
        attributes: columns of the attributes.

    Raises:
        InputError: the file cannot be read, lacks a column, or has an item without a name.
    """
    place = Path(path)
    table = _read(place)
    wanted = [item, *attributes]
    missing = [name for name in wanted if name not in table.columns]
    if missing:
        raise InputError(f"{place}: lacks the column {missing[0]!r} (it has {', '.join(table.columns)})")
    unnamed = table[item].is_null().arg_true().to_list()
    if unnamed:
        raise InputError(f"{place}: row {unnamed[0] + 1} has no {item!r}")
    return {str(row[item]): {name: _values(row[name]) for name in wanted[1:]} for row in table.iter_rows(named=True)}


def _values(value: Any) -> list[str]:
    if value is None or value == "":
        return []
    return [str(one) for one in value] if isinstance(value, list) else str(value).split(_BAG)


def _read(place: Path) -> pl.DataFrame:
    kinds = [suffix for suffix in place.suffixes if suffix not in (".gz", ".zst")]
    readers: Mapping[str, Any] = {
        ".csv": lambda: pl.read_csv(place, infer_schema=False),
        ".tsv": lambda: pl.read_csv(place, infer_schema=False, separator="\t"),
        ".jsonl": lambda: pl.read_ndjson(place),
        ".ndjson": lambda: pl.read_ndjson(place),
        ".parquet": lambda: pl.read_parquet(place),
    }
    reader = readers.get(kinds[-1] if kinds else "")
    if reader is None:
        raise InputError(f"{place}: items come as one of {', '.join(readers)}")
    try:
        return reader()
    except OSError as error:
        raise InputError(f"cannot read {place}: {error.strerror or error}") from error
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{place}: cannot be read: {' '.join(str(error).split())[:200]}") from error
