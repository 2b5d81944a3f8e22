"""From N shards to M: every row, its state, time and count, and the counts of keys that wait for admission."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.recsys.features.fid import NUM_BUCKETS, bucket_of, bucket_owners
from nonet.recsys.table.admission import ADMISSIONS
from nonet.recsys.table.embedding_table import Exported
from nonet.recsys.table.snapshot import Saved, load, save
from nonet.recsys.table.specs import from_spec


def regroup(shards: Sequence[Saved], owners: NDArray[np.int64]) -> Iterator[Saved]:
    """The same rows in other shards; a new shard gets the buckets that it owns.

    Args:
        shards: all shards of one table.
        owners: int64 [1024], shard 0..M-1 of each bucket (`features.bucket_owners`).

    Yields:
        M tables' values.

    Raises:
        InputError: shards of different tables, of different log offsets, or with a key in common.
    """
    if len(owners) != NUM_BUCKETS:
        raise InputError(f"{len(owners)} owners for {NUM_BUCKETS} buckets; see features.bucket_owners")
    options = _common_options(shards)
    parts = [shard.exported for shard in shards]
    joined = Exported(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    order = np.argsort(joined.keys, kind="stable")
    if (np.diff(joined.keys[order]) == 0).any():
        raise InputError(f"table {options['name']!r}: a key lies in two shards; give each shard once")
    shard_of = owners[bucket_of(joined.keys)][order]
    for number in range(int(owners.max()) + 1):
        mine = order[shard_of == number]
        rows = Exported(*(column[mine] for column in joined))
        yield Saved(options, rows, _admission(shards, owners == number), shards[0].offsets)


def reshard(paths: Sequence[str | Path], num_shards: int, out: str | Path) -> list[Path]:
    """Snapshots of N shards to snapshots of M shards, in a folder that appears when all are written.

    Args:
        paths: snapshots of all shards of one table.
        num_shards: M, 1..1,024.
        out: a folder that does not exist; its own folder does.

    Returns:
        The M snapshots, `out/shard-0000` and so on.

    Raises:
        InputError: as for `regroup` and `snapshot.load`, or `out` exists.

    Memory: all rows at once.
    """
    place = Path(out)
    if place.exists():
        raise InputError(f"cannot reshard to {place}: it exists; name a new folder")
    if not place.parent.is_dir():
        raise InputError(f"cannot reshard to {place}: {place.parent} does not exist; create it first")
    owners = bucket_owners(num_shards)
    shards = [load(path) for path in paths]
    beside = Path(tempfile.mkdtemp(prefix=".tmp-reshard-", dir=place.parent))
    try:
        for number, saved in enumerate(regroup(shards, owners)):
            save(saved, beside / f"shard-{number:04d}")
        beside.chmod(0o755)
        beside.rename(place)
    except BaseException:
        shutil.rmtree(beside)
        raise
    return [place / f"shard-{number:04d}" for number in range(num_shards)]


def _common_options(shards: Sequence[Saved]) -> dict[str, Any]:
    if not shards:
        raise InputError("no shards to regroup; give the snapshots of all shards of a table")
    first = shards[0]
    for number, shard in enumerate(shards):
        for option in ("name", "seed", "segments", "admission", "expiry"):
            if shard.options[option] != first.options[option]:
                raise InputError(
                    f"shards 0 and {number} differ in {option}: {first.options[option]!r}, {shard.options[option]!r}; "
                    "give the shards of one table"
                )
        if dict(shard.offsets) != dict(first.offsets):
            raise InputError(
                f"shards 0 and {number} stand at different log offsets, {dict(first.offsets)} and "
                f"{dict(shard.offsets)}; replay them to the same ones and snapshot again"
            )
    newest = {option: max(shard.options[option] for shard in shards) for option in ("step", "clock_s")}
    return {**first.options, **newest}


def _admission(shards: Sequence[Saved], owned: NDArray[np.bool_]) -> dict[str, Any]:
    spec = shards[0].options["admission"]
    if spec is None:
        return {}
    admission = from_spec(spec, ADMISSIONS, f"table {shards[0].options['name']!r}: admission")
    return dict(admission.merged([shard.admission for shard in shards], owned))
