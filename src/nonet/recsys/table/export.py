"""A table in files that others read: Parquet and safetensors. For restarts there are snapshots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.numpy
from numpy.typing import NDArray

from nonet.common.atomic import atomic_path
from nonet.recsys.table.embedding_table import EmbeddingTable
from nonet.recsys.table.segments import place


def export_columns(table: EmbeddingTable, *, with_state: bool = False) -> dict[str, NDArray[Any]]:
    """The rows of a table by column, by ascending key.

    Args:
        table: any.
        with_state: add optimizer state.

    Returns:
        `key` int64 [n], `updated_s` uint32 [n], then for each segment its weights float32 [n, dim] under its name,
        or `embedding` (`embedding_1`, ... from the second on) without one; with state `<name>.state`.

    >>> list(export_columns(EmbeddingTable(2)))
    ['key', 'updated_s', 'embedding']
    """
    exported = table.export()
    columns: dict[str, NDArray[Any]] = {"key": exported.keys, "updated_s": exported.ts}
    for n, placed in enumerate(place(table.segments)):
        name = placed.segment.name or ("embedding" if n == 0 else f"embedding_{n}")
        columns[name] = np.ascontiguousarray(exported.rows[:, placed.weights])
        if with_state:
            columns[f"{name}.state"] = np.ascontiguousarray(exported.state[:, placed.state])
    return columns


def to_arrow(table: EmbeddingTable, *, with_state: bool = False) -> pa.Table:
    """The rows as an Arrow table: `export_columns`, with weights as fixed-size lists.

    Args:
        table: any.
        with_state: add optimizer state.
    """
    arrays = {}
    for name, column in export_columns(table, with_state=with_state).items():
        if column.ndim == 1:
            arrays[name] = pa.array(column)
        elif column.shape[1]:
            arrays[name] = pa.FixedSizeListArray.from_arrays(pa.array(column.reshape(-1)), column.shape[1])
    return pa.table(arrays).replace_schema_metadata({"nonet.table": table.name})


def to_parquet(table: EmbeddingTable, path: str | Path, *, with_state: bool = False) -> None:
    """Write the rows as Parquet, one row a key; the file appears as a whole.

    Args:
        table: any.
        path: the file.
        with_state: add optimizer state.

    Raises:
        InputError: the place is a folder, or its folder does not exist.
    """
    with atomic_path(path) as beside:
        pq.write_table(to_arrow(table, with_state=with_state), beside, compression="zstd")


def to_safetensors(table: EmbeddingTable, path: str | Path, *, with_state: bool = False) -> None:
    """Write the rows as tensors of one safetensors file; it appears as a whole.

    Args:
        table: any.
        path: the file.
        with_state: add optimizer state.

    Raises:
        InputError: the place is a folder, or its folder does not exist.
    """
    with atomic_path(path) as beside:
        safetensors.numpy.save_file(
            export_columns(table, with_state=with_state), beside, metadata={"nonet.table": table.name}
        )
