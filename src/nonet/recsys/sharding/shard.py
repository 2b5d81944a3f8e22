"""A shard: a table that is born from a snapshot. The same class runs in a thread, a process and a Ray actor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nonet.common.errors import InputError
from nonet.recsys.table import EmbeddingTable
from nonet.recsys.table.snapshot import Saved, load, save

OPERATIONS = frozenset(
    {
        "apply_gradients",
        "check_integrity",
        "contains",
        "describe",
        "erase",
        "expire",
        "export",
        "keys",
        "lookup",
        "restore",
        "snapshot",
        "take_touched",
        "upsert",
    }
)
"""What may be asked of a shard from outside."""


class Shard:
    """The keys of some buckets.

    Args:
        path: snapshot that it starts from, an empty one for a new table.

    Raises:
        InputError: no snapshot there, or a damaged one.
    """

    def __init__(self, path: str) -> None:
        self.table: EmbeddingTable = load(path).to_table()
        self._carried = np.empty(0, np.int64)

    def call(self, operation: str, *args: Any) -> Any:
        """Do something by name.

        Raises:
            InputError: an unknown operation, or what the operation refuses.
        """
        if operation not in OPERATIONS:
            raise InputError(f"a shard has no operation {operation!r} (known: {', '.join(sorted(OPERATIONS))})")
        return getattr(self, operation)(*args)

    def lookup(self, ids: Any) -> Any:
        """Rows."""
        return self.table.lookup(ids)

    def contains(self, ids: Any) -> Any:
        """Which are there."""
        return self.table.contains(ids)

    def apply_gradients(self, ids: Any, grads: Any, now_s: int, counts: Any) -> list[int]:
        """As `EmbeddingTable.apply_gradients`; the fields of `Applied` in order."""
        done = self.table.apply_gradients(ids, grads, now_s=now_s, counts=counts)
        return [done.updated, done.created, done.filtered, done.left_out, done.expired]

    def upsert(self, ids: Any, rows: Any, now_s: int | None) -> int:
        """As of the table."""
        return self.table.upsert(ids, rows, now_s=now_s)

    def erase(self, ids: Any) -> int:
        """As of the table."""
        return self.table.erase(ids)

    def expire(self, now_s: int | None) -> Any:
        """As of the table."""
        return self.table.expire(now_s)

    def keys(self) -> Any:
        """All keys."""
        return self.table.keys()

    def take_touched(self) -> list[Any]:
        """[upserted, erased] since the last call; after `restore` also what differs from before."""
        keys = np.unique(np.concatenate([*self.table.take_touched(), self._carried]))
        self._carried = np.empty(0, np.int64)
        here = self.table.contains(keys)
        return [keys[here], keys[~here]]

    def export(self) -> list[Any]:
        """The columns of `Exported`."""
        return list(self.table.export())

    def describe(self) -> Mapping[str, int]:
        """Numbers of the table."""
        return {"keys": len(self.table), "num_bytes": self.table.num_bytes, "step": self.table.step}

    def snapshot(self, path: str, offsets: Mapping[str, int]) -> None:
        """Write everything into a folder, atomically.

        Args:
            path: the folder.
            offsets: where the example log stands.
        """
        save(Saved.of(self.table, offsets), path)

    def restore(self, path: str) -> dict[str, int]:
        """Go back to a snapshot; where the example log stood.

        All keys that either state has count as touched, since replicas have to hear of them.
        """
        saved = load(path)
        table = saved.to_table()
        self._carried = np.union1d(np.concatenate([*self.table.take_touched(), self.table.keys()]), table.keys())
        self.table = table
        return dict(saved.offsets)

    def check_integrity(self) -> None:
        """As of the table."""
        self.table.check_integrity()
