"""State on disk: one file, versioned and checksummed, read without running any code from it.

Layout: a first line of text `nonet-logs-state <version> <sha256 of the rest>`, then an Arrow IPC stream (zstd) with
one row a shape, whose schema metadata hold the configuration and the lineage as JSON. Written beside and renamed, so a
crash leaves the old file or the new one, never half of one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from nonet.common.atomic import atomic_write
from nonet.common.errors import InputError
from nonet.logs.mining.shape_table import ShapeTable

MAGIC = b"nonet-logs-state"
VERSION = 2
_METADATA_KEY = b"nonet"

SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("masked", pa.binary()),
        ("constants", pa.list_(pa.binary())),
        ("count", pa.int64()),
        ("weight", pa.int64()),
        ("first_seen", pa.int64()),
        ("last_seen", pa.int64()),
        ("sample", pa.binary()),
    ]
)


def write_state(path: str | Path, tables: Mapping[str, ShapeTable], metadata: Mapping[str, Any]) -> None:
    """Write the tables of all sources and `metadata` (JSON-ready) to `path`."""
    rows = pa.concat_tables([SCHEMA.empty_table(), *(_rows(source, table) for source, table in sorted(tables.items()))])
    totals = {s: [t.num_lines, t.num_evicted_lines, t.num_evicted_shapes] for s, t in tables.items()}
    packed = json.dumps({**metadata, "totals": totals}).encode()
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, SCHEMA.with_metadata({_METADATA_KEY: packed}), options=options) as writer:
        writer.write_table(rows)
    body = sink.getvalue().to_pybytes()
    digest = hashlib.sha256(body).hexdigest().encode()
    with atomic_write(Path(path), "wb") as file:
        file.write(b" ".join([MAGIC, str(VERSION).encode(), digest]) + b"\n" + body)


def read_state(path: str | Path, max_shapes: int | None = None) -> tuple[dict[str, ShapeTable], dict[str, Any]]:
    """Tables by source and the metadata of a state file.

    Raises:
        InputError: the file is missing, not a state file, of a newer version, or damaged; the message says which.
    """
    body = _checked_body(Path(path))
    try:
        with pa.ipc.open_stream(body) as reader:
            metadata = json.loads(reader.schema.metadata[_METADATA_KEY])
            rows = reader.read_all().cast(SCHEMA)
    except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: the checksum holds but the content is not a miner state ({error})") from error
    tables = {}
    for source, totals in metadata.pop("totals").items():
        mine = rows.filter(pa.array(np.array(rows["source"].to_pylist()) == source)) if len(rows) else rows
        tables[source] = ShapeTable.from_rows(
            mine.to_pylist(), totals, max_shapes or metadata["max_clusters"], metadata["half_life_lines"]
        )
    return tables, metadata


def _rows(source: str, table: ShapeTable) -> pa.Table:
    rows = table.to_rows()
    return pa.table({"source": [source] * len(table), **rows}, schema=SCHEMA)


def _checked_body(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot read the state ({error.strerror})") from error
    head, newline, body = data.partition(b"\n")
    words = head.split(b" ")
    if not newline or len(words) != 3 or words[0] != MAGIC:
        raise InputError(f"{path}: not a miner state (it does not begin with {MAGIC.decode()!r})")
    if words[1] != str(VERSION).encode():
        raise InputError(
            f"{path}: state of version {words[1].decode('ascii', 'replace')}, this release reads {VERSION}"
        )
    if hashlib.sha256(body).hexdigest().encode() != words[2]:
        raise InputError(f"{path}: the state is damaged (checksum differs); restore a copy or delete it to start anew")
    return body
