"""Snapshots of a table: a folder with a manifest and one file of arrays, which is there as a whole or not at all.

    manifest.json           version, options of the table, log offsets, size and checksum of the arrays
    rows-<number>.safetensors   keys, weights, state, times, counts, admission

The arrays are written beside the old ones; replacing the manifest, in one step, makes them the snapshot. A crash or a
full disk before that leaves the snapshot that was there. What a manifest and its predecessor do not name is removed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
import xxhash
from numpy.typing import NDArray

from nonet.common.atomic import atomic_path, atomic_write
from nonet.common.errors import InputError, NonetError
from nonet.recsys.table.admission import ADMISSIONS
from nonet.recsys.table.compressors import COMPRESSORS
from nonet.recsys.table.embedding_table import EmbeddingTable, Exported
from nonet.recsys.table.eviction import EXPIRIES
from nonet.recsys.table.expiry import Expiry
from nonet.recsys.table.initializers import INITIALIZERS
from nonet.recsys.table.interfaces import Admission
from nonet.recsys.table.optimizers import OPTIMIZERS
from nonet.recsys.table.segments import Segment
from nonet.recsys.table.specs import from_spec, to_spec

VERSION = 1
MANIFEST = "manifest.json"
_ROWS_FILE = re.compile(r"rows-(\d{8})\.safetensors")
_HASH_BYTES = 1 << 22
_DTYPES = {"keys": np.int64, "rows": np.float32, "state": np.float32, "ts": np.uint32, "counts": np.uint32}


@dataclass(frozen=True)
class Saved:
    """A table as values.

    Args:
        options: JSON values: name, seed, step, clock_s, segments, admission, expiry.
        exported: all rows.
        admission: state of the admission filter; empty without one.
        offsets: where the logs stood, by name.
    """

    options: Mapping[str, Any]
    exported: Exported
    admission: Mapping[str, Any]
    offsets: Mapping[str, int]

    @classmethod
    def of(cls, table: EmbeddingTable, offsets: Mapping[str, int]) -> Saved:
        """The values of a table; the writer calls it."""
        options = {
            "name": table.name,
            "seed": table.seed,
            "step": table.step,
            "clock_s": table.clock_s,
            "segments": [_segment_spec(segment) for segment in table.segments],
            "admission": None if table.admission is None else to_spec(table.admission, ADMISSIONS),
            "expiry": None if table.expiry is None else to_spec(table.expiry, EXPIRIES),
        }
        admission = {} if table.admission is None else dict(table.admission.state())
        return cls(options, table.export(), admission, dict(offsets))

    def to_table(
        self,
        *,
        segments: Sequence[Segment] | None = None,
        admission: Admission | None = None,
        expiry: Expiry | None = None,
        track_touched: bool = True,
    ) -> EmbeddingTable:
        """A table with these values, which has touched nothing.

        Args:
            segments: instead of those that are named; needed for classes that no registry knows.
            admission: likewise; it takes over the state.
            expiry: likewise.
            track_touched: as for `EmbeddingTable`.

        Raises:
            InputError: a class that no registry knows, or values that do not fit the segments.
        """
        options = self.options
        where = f"table {options['name']!r}"
        if admission is None and options["admission"] is not None:
            admission = from_spec(options["admission"], ADMISSIONS, f"{where}: admission")
        if expiry is None and options["expiry"] is not None:
            expiry = from_spec(options["expiry"], EXPIRIES, f"{where}: expiry")
        table = EmbeddingTable(
            segments=segments or [_segment(spec, where) for spec in options["segments"]],
            admission=admission,
            expiry=expiry,
            capacity=len(self.exported.keys),
            seed=options["seed"],
            name=options["name"],
            track_touched=track_touched,
        )
        table.load(self.exported, step=options["step"], clock_s=options["clock_s"])
        if admission is not None and self.admission:
            admission.load_state(self.admission)
        return table


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Say where a file of arrays could not be written, and what to do.

    Raises:
        NonetError: it could not, mostly as the disk is full.
    """
    try:
        yield
    except safetensors.SafetensorError as error:
        raise NonetError(
            f"{folder}: cannot write a snapshot ({error}); make room and start again: the one before stays"
        ) from error


def save(saved: Saved, path: str | Path) -> None:
    """Write a snapshot; the folder holds the old one until it holds the new one.

    Args:
        saved: a table's values.
        path: a folder, made if need be; its own folder must exist.

    Raises:
        InputError: the place is a file, or its folder does not exist.
        NonetError: the disk is full; the old snapshot stays.
        OSError: likewise.
    """
    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"cannot write a snapshot to {folder}: it is a file; name a folder")
    if not folder.parent.is_dir():
        raise InputError(f"cannot write a snapshot to {folder}: {folder.parent} does not exist; create it first")
    folder.mkdir(exist_ok=True)
    previous = _named_in_manifest(folder)
    name = f"rows-{_next_number(folder):08d}.safetensors"
    arrays, numbers = _split(saved.admission)
    tensors = {**saved.exported._asdict(), **{f"admission.{key}": array for key, array in arrays.items()}}
    with writing(folder), atomic_path(folder / name) as beside:
        safetensors.numpy.save_file({key: np.ascontiguousarray(array) for key, array in tensors.items()}, beside)
        rows = {"file": name, "bytes": beside.stat().st_size, "xxh3_128": _checksum(beside)}
    body = {
        "format": "nonet-table",
        "version": VERSION,
        "table": dict(saved.options),
        "num_keys": len(saved.exported.keys),
        "rows": rows,
        "admission_numbers": numbers,
        "offsets": dict(saved.offsets),
    }
    with atomic_write(folder / MANIFEST) as file:
        json.dump({**body, "xxh3_128": _checksum_of(body)}, file, indent=1)
    for old in folder.iterdir():
        if _ROWS_FILE.fullmatch(old.name) and old.name not in (name, previous):
            old.unlink()


def read_manifest(path: str | Path) -> dict[str, Any]:
    """The manifest of a snapshot, checked; `["offsets"]` says where the logs stood.

    Args:
        path: folder of the snapshot.

    Raises:
        InputError: there is none, it is damaged, or of another version.
    """
    place = Path(path) / MANIFEST
    try:
        body = json.loads(place.read_text())
        checksum = body.pop("xxh3_128")
    except FileNotFoundError:
        raise InputError(f"no snapshot at {path}: there is no {MANIFEST}, so none was ever finished there") from None
    except (ValueError, KeyError, AttributeError, NotADirectoryError) as error:
        raise InputError(f"{place}: damaged: {error}; restore an older snapshot") from error
    if body.get("format") != "nonet-table":
        raise InputError(f"{place}: not the manifest of a table")
    if body.get("version") != VERSION:
        raise InputError(f"{place}: version {body.get('version')}, this program reads version {VERSION}")
    if checksum != _checksum_of(body):
        raise InputError(f"{place}: damaged: wrong checksum; restore an older snapshot")
    return dict(body)


def load(path: str | Path) -> Saved:
    """Read a snapshot.

    Args:
        path: folder of the snapshot.

    Raises:
        InputError: there is none, it is damaged, or of another version.
    """
    manifest = read_manifest(path)
    place = Path(path) / manifest["rows"]["file"]
    if not place.is_file():
        raise InputError(f"{place}: missing, though the manifest names it; restore an older snapshot")
    size = place.stat().st_size
    if size != manifest["rows"]["bytes"]:
        raise InputError(f"{place}: damaged: {size} bytes instead of {manifest['rows']['bytes']}")
    if _checksum(place) != manifest["rows"]["xxh3_128"]:
        raise InputError(f"{place}: damaged: wrong checksum; restore an older snapshot")
    try:
        tensors = safetensors.numpy.load_file(place)
    except safetensors.SafetensorError as error:
        raise InputError(f"{place}: damaged: {error}") from error
    missing = [name for name, dtype in _DTYPES.items() if name not in tensors or tensors[name].dtype != dtype]
    if missing:
        raise InputError(f"{place}: {missing[0]!r} is missing or of another type")
    arrays = {key.removeprefix("admission."): array for key, array in tensors.items() if key.startswith("admission.")}
    return Saved(
        manifest["table"],
        Exported(*(tensors[name] for name in Exported._fields)),
        {**arrays, **manifest["admission_numbers"]},
        manifest["offsets"],
    )


def _segment_spec(segment: Segment) -> dict[str, Any]:
    return {
        "dim": segment.dim,
        "name": segment.name,
        "optimizer": to_spec(segment.optimizer, OPTIMIZERS),
        "initializer": to_spec(segment.initializer, INITIALIZERS),
        "compressor": to_spec(segment.compressor, COMPRESSORS),
    }


def _segment(spec: Mapping[str, Any], where: str) -> Segment:
    return Segment(
        spec["dim"],
        from_spec(spec["optimizer"], OPTIMIZERS, f"{where}: optimizer"),
        from_spec(spec["initializer"], INITIALIZERS, f"{where}: initializer"),
        spec["name"],
        from_spec(spec["compressor"], COMPRESSORS, f"{where}: compressor"),
    )


def _split(state: Mapping[str, Any]) -> tuple[dict[str, NDArray[Any]], dict[str, int | float | str]]:
    """Arrays, and what JSON holds."""
    arrays = {key: value for key, value in state.items() if isinstance(value, np.ndarray)}
    return arrays, {key: value for key, value in state.items() if key not in arrays}


def _named_in_manifest(folder: Path) -> str | None:
    try:
        return str(read_manifest(folder)["rows"]["file"])
    except InputError:
        return None  # nothing to keep


def _next_number(folder: Path) -> int:
    numbers = [int(found[1]) for entry in folder.iterdir() if (found := _ROWS_FILE.fullmatch(entry.name))]
    return max(numbers, default=0) + 1


def _checksum_of(body: Mapping[str, Any]) -> str:
    return xxhash.xxh3_128_hexdigest(json.dumps(body, sort_keys=True).encode())


def _checksum(path: Path) -> str:
    hasher = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(_HASH_BYTES):
            hasher.update(block)
    return hasher.hexdigest()
