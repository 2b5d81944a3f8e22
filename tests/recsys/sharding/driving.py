"""The same random calls to a sharded table and to one table."""

from __future__ import annotations

import numpy as np

from nonet.recsys.sharding import ShardedTable
from nonet.recsys.table import Adam, EmbeddingTable

EXTREMES = np.array([0, -1, -(1 << 63), (1 << 63) - 1, 1 << 32])


def make(**options) -> EmbeddingTable:
    return EmbeddingTable(4, optimizer=Adam(), seed=3, **options)


def assert_equal(sharded: ShardedTable, table: EmbeddingTable) -> None:
    for ours, theirs in zip(sharded.export(), table.export(), strict=True):
        assert ours.tobytes() == theirs.tobytes()


def drive(sharded: ShardedTable, table: EmbeddingTable, rng: np.random.Generator, steps: int) -> None:
    """The same random calls to both; their answers are equal."""
    for step in range(steps):
        keys = np.concatenate([EXTREMES, rng.integers(-300, 300, 60)])
        grads = rng.standard_normal((len(keys), 4), np.float32)
        grads[3] = np.nan
        now_s = 1000 + 50 * step
        assert sharded.apply_gradients(keys, grads, now_s=now_s) == table.apply_gradients(keys, grads, now_s=now_s)
        assert sharded.upsert(keys[:9], grads[10:19]) == table.upsert(keys[:9], grads[10:19])
        assert sharded.erase(keys[20:25]) == table.erase(keys[20:25])
        probe = rng.integers(-400, 400, 50)
        assert sharded.lookup(probe).tobytes() == table.lookup(probe).tobytes()
        assert (sharded.contains(probe) == table.contains(probe)).all()
        offsets = [0, 7, 7, 50]
        for mode in ("sum", "mean"):
            bags = sharded.lookup_bags(probe, offsets, mode)
            assert bags.tobytes() == table.lookup_bags(probe, offsets, mode).tobytes()
        assert len(sharded) == len(table)
