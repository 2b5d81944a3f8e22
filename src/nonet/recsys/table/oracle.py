"""A second, plain embedding table, and random operations that compare the real one with it number for number.

The model is a dict from key to line number over NumPy arrays: no hash of ours, no kernels, no free list. It is what
the table's tests and the bench hold against `EmbeddingTable`.
"""

from __future__ import annotations

from dataclasses import dataclass
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from nonet.recsys.table.embedding_table import EmbeddingTable
from nonet.recsys.table.expiry import TimeToLive
from nonet.recsys.table.initializers import Constant
from nonet.recsys.table.optimizers import Adagrad

_LR, _FIRST_N, _FIRST_W, _TTL_S = 0.05, 0.1, 0.25, 40
_INVERSE = (0x319642B2D24D8EC3, 0x96DE1B173F119089)  # of the two multipliers of mix64, modulo 2**64
_WORD = (1 << 64) - 1


@dataclass(frozen=True)
class Compared:
    """What the comparison has seen.

    Args:
        operations: keys that went through an operation, all operations together.
        differences: answers (rows, flags, counts, key sets) that were not equal.
        growths: of the index.
        lowest_load_at_growth: 1.0 if it never grew.
        num_keys: in the table at the end.
    """

    operations: int
    differences: int
    growths: int
    lowest_load_at_growth: float
    num_keys: int


class ModelTable:
    """Adagrad embeddings in a dict and NumPy; the same answers as `EmbeddingTable`, without its memory or speed."""

    def __init__(self, dim: int) -> None:
        self.lines: dict[int, int] = {}
        self.weights = np.zeros((0, dim), np.float32)
        self.squares = np.zeros((0, dim), np.float32)
        self.ts = np.zeros(0, np.int64)
        self.clock_s = 0
        self._used = 0

    def _new_line(self, key: int) -> int:
        if self._used == len(self.ts):
            more = max(64, self._used)
            dim = self.weights.shape[1]
            self.weights = np.concatenate([self.weights, np.zeros((more, dim), np.float32)])
            self.squares = np.concatenate([self.squares, np.zeros((more, dim), np.float32)])
            self.ts = np.concatenate([self.ts, np.zeros(more, np.int64)])
        self.lines[key] = self._used
        self._used += 1
        return self._used - 1

    def lookup(self, keys: NDArray[np.int64]) -> NDArray[np.float32]:
        """Rows, zeros for unknown keys."""
        out = np.zeros((len(keys), self.weights.shape[1]), np.float32)
        for i, key in enumerate(keys.tolist()):
            if key in self.lines:
                out[i] = self.weights[self.lines[key]]
        return out

    def upsert(self, keys: NDArray[np.int64], rows: NDArray[np.float32]) -> int:
        """Write weights; returns the number of new keys."""
        before = len(self.lines)
        for key, row in zip(keys.tolist(), rows, strict=True):
            line = self.lines.get(key)
            if line is None:
                line = self._new_line(key)
                self.squares[line], self.ts[line] = _FIRST_N, 0
            self.weights[line] = row
            self.ts[line] = max(self.ts[line], self.clock_s)
        return len(self.lines) - before

    def apply(self, keys: NDArray[np.int64], gradients: NDArray[np.float32], now_s: int) -> None:
        """Sum duplicates in order, create, update."""
        distinct, place = np.unique(keys, return_inverse=True)
        sums = np.zeros((len(distinct), gradients.shape[1]), np.float32)
        np.add.at(sums, place, gradients)
        lines = np.empty(len(distinct), np.int64)
        for i, key in enumerate(distinct.tolist()):
            if key not in self.lines:
                line = self._new_line(key)
                self.weights[line], self.squares[line], self.ts[line] = _FIRST_W, _FIRST_N, 0
            lines[i] = self.lines[key]
        g = sums.astype(np.float64)
        n = self.squares[lines].astype(np.float64) + g * g
        self.weights[lines] = self.weights[lines].astype(np.float64) - _LR * g / np.sqrt(n)
        self.squares[lines] = n
        self.ts[lines] = np.maximum(self.ts[lines], now_s)
        self.clock_s = max(self.clock_s, now_s)

    def erase(self, keys: NDArray[np.int64]) -> int:
        """Forget keys; returns how many there were."""
        return sum(self.lines.pop(key, None) is not None for key in keys.tolist())

    def expire(self) -> NDArray[np.int64]:
        """Erase what is old, ascending."""
        old = np.array(sorted(k for k, line in self.lines.items() if self.clock_s - self.ts[line] >= _TTL_S), np.int64)
        self.erase(old)
        return old


def _unmix(mixed: int) -> int:
    """The key whose `mix64` is this number."""
    x = mixed
    for shift, factor in ((31, _INVERSE[0]), (27, _INVERSE[1])):
        x ^= (x >> shift) ^ (x >> 2 * shift)
        x = x * factor & _WORD
    x ^= (x >> 30) ^ (x >> 60)
    x = (x - 0x9E3779B97F4A7C15) & _WORD
    return x - (1 << 64) if x >> 63 else x


def colliding_keys(count: int, seed: int = 0) -> NDArray[np.int64]:
    """Keys that share both buckets in an index of any size, as long as its hash is not changed.

    Args:
        count: at most 1,024.
        seed: another set for another seed.
    """
    first = int(np.random.default_rng(seed).integers(1 << 53)) << 10
    return np.array([_unmix(first + i) for i in range(count)], np.int64)


def hostile_keys(count: int, seed: int = 0) -> NDArray[np.int64]:
    """Keys that break careless tables: extremes, sequences, equal low halves, and sets that meet in two buckets."""
    rng = np.random.default_rng(seed)
    share = max(1, count // 4)
    return np.concatenate(
        [
            np.array([0, -1, 1, np.iinfo(np.int64).min, np.iinfo(np.int64).max], np.int64),
            colliding_keys(40, seed),
            colliding_keys(40, seed + 1),
            np.arange(-share // 2, share // 2, dtype=np.int64),
            (np.arange(share, dtype=np.int64) << 32) | 0x1234567,
            rng.integers(np.iinfo(np.int64).min, np.iinfo(np.int64).max, 2 * share),
        ]
    )


class _Comparison:
    def __init__(self, pool: NDArray[np.int64], dim: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.pool, self.dim = pool, dim
        self.model = ModelTable(dim)
        self.table = self._empty()
        self.loads: list[float] = []
        self.now_s = 0
        self.differences = 0

    def _empty(self) -> EmbeddingTable:
        return EmbeddingTable(
            self.dim,
            optimizer=Adagrad(_LR, initial_accumulator=_FIRST_N),
            initializer=Constant(_FIRST_W),
            expiry=TimeToLive(_TTL_S),
        )

    def _expect(self, equal: bool) -> None:
        self.differences += not equal

    def lookup(self, keys: NDArray[np.int64]) -> None:
        self._expect(np.array_equal(self.table.lookup(keys), self.model.lookup(keys)))
        self._expect(np.array_equal(self.table.contains(keys), [key in self.model.lines for key in keys.tolist()]))

    def upsert(self, keys: NDArray[np.int64]) -> None:
        rows = self.rng.standard_normal((len(keys), self.dim), np.float32)
        self._expect(self.table.upsert(keys, rows) == self.model.upsert(keys, rows))

    def optimize(self, keys: NDArray[np.int64]) -> None:
        gradients = self.rng.standard_normal((len(keys), self.dim), np.float32)
        self.now_s += int(self.rng.integers(3))
        self.table.apply_gradients(keys, gradients, now_s=self.now_s)
        self.model.apply(keys, gradients, self.now_s)

    def erase(self, keys: NDArray[np.int64]) -> None:
        self._expect(self.table.erase(keys) == self.model.erase(keys))

    def expire(self, _keys: NDArray[np.int64]) -> None:
        self._expect(np.array_equal(self.table.expire(), self.model.expire()))

    def reload(self, _keys: NDArray[np.int64]) -> None:
        self.loads += self.table.loads_at_growth
        with TemporaryDirectory() as folder:
            self.table.snapshot(folder)
            self.table = EmbeddingTable.restore(folder)
        self.check()

    def check(self) -> None:
        """Everything, state and times included."""
        self.table.check_integrity()
        exported = self.table.export()
        lines = np.array([self.model.lines[key] for key in sorted(self.model.lines)], np.int64)
        self._expect(exported.keys.tolist() == sorted(self.model.lines))
        self._expect(np.array_equal(exported.rows, self.model.weights[lines]))
        self._expect(np.array_equal(exported.state, self.model.squares[lines]))
        self._expect(np.array_equal(exported.ts, self.model.ts[lines]))

    def run(self, num_operations: int) -> int:
        steps = (self.lookup, self.upsert, self.optimize, self.erase, self.expire, self.reload)
        odds = np.array([0.3, 0.25, 0.3, 0.13, 0.015, 0.005])
        done = 0
        while done < num_operations:
            size = int(2 ** self.rng.uniform(0, 11.5))
            hot = self.rng.random() < 0.5
            picks = self.rng.integers(len(self.pool) // 50 if hot else len(self.pool), size=size)
            steps[self.rng.choice(len(steps), p=odds)](self.pool[picks])
            done += size
        self.check()
        return done


def compare_with_model(num_operations: int, *, num_keys: int = 100_000, dim: int = 4, seed: int = 0) -> Compared:
    """Run mixed operations on a table and on the model.

    Batches of 1 to 2,896 keys, half of them from a hot fiftieth with many repetitions: lookup, upsert, optimise,
    delete, expire, and go on with what a snapshot restores; the index grows as it must.

    Args:
        num_operations: keys through operations, at least.
        num_keys: about how many distinct keys; hostile ones are among them.
        dim: floats a row.
        seed: of everything.

    >>> compare_with_model(5_000, num_keys=2_000).differences
    0
    """
    pool = hostile_keys(num_keys, seed)
    np.random.default_rng(seed).shuffle(pool)
    comparison = _Comparison(pool, dim, seed)
    done = comparison.run(num_operations)
    loads = comparison.loads + comparison.table.loads_at_growth
    return Compared(done, comparison.differences, len(loads), min(loads, default=1.0), len(comparison.table))
