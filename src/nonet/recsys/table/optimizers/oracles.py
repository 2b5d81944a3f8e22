"""The rules once more, as formulas over float64 arrays: what the kernels are measured against.

Written from the published formulas, without the kernels' order of operations: whole arrays, one line a formula, powers
and sums computed from the number of steps where a kernel carries them along.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nonet.recsys.table.optimizers.adam import Adam, AMSGrad
from nonet.recsys.table.optimizers.adaptive import Adadelta, Adagrad, RMSProp
from nonet.recsys.table.optimizers.averaging import BatchSoftmax, MovingAverage
from nonet.recsys.table.optimizers.base import Optimizer
from nonet.recsys.table.optimizers.descent import SGD, Momentum
from nonet.recsys.table.optimizers.proximal import FTRL, GroupAdagrad

Doubles = NDArray[np.float64]


@dataclass
class Rows:
    """Rows that get a gradient now.

    Args:
        weights: float64 (n, dim), before.
        steps: float64 (n, 1), this one included.
        memory: by name float64 (n, dim), changed by the formula.
    """

    weights: Doubles
    steps: Doubles
    memory: dict[str, Doubles]


def _sgd(rule: SGD, rows: Rows, g: Doubles, _step: int) -> Doubles:
    return -rule.lr * g


def _momentum(rule: Momentum, rows: Rows, g: Doubles, _step: int) -> Doubles:
    velocity = rows.memory["u"]
    velocity[:] = rule.momentum * velocity + g
    return -rule.lr * (g + rule.momentum * velocity if rule.nesterov else velocity)


def _adagrad(rule: Adagrad, rows: Rows, g: Doubles, _step: int) -> Doubles:
    n = rows.memory["n"]
    n += g**2
    return -rule.lr * g / np.sqrt(n)


def _rmsprop(rule: RMSProp, rows: Rows, g: Doubles, _step: int) -> Doubles:
    n = rows.memory["n"]
    n += (1 - rule.momentum) * (g**2 - n)
    return -rule.lr * g / (1 + np.sqrt(n))


def _adadelta(rule: Adadelta, rows: Rows, g: Doubles, _step: int) -> Doubles:
    a, b = rows.memory["a"], rows.memory["b"]
    a += (1 - rule.rho) * (g**2 - a)
    d = np.sqrt((b + rule.eps) / (a + rule.eps)) * g
    b += (1 - rule.rho) * (d**2 - b)
    return -rule.lr * d


def _adam(rule: Adam, rows: Rows, g: Doubles, _step: int) -> Doubles:
    m, v = rows.memory["m"], rows.memory["v"]
    m += (1 - rule.beta1) * (g - m)
    v += (1 - rule.beta2) * (g**2 - v)
    square = v
    if isinstance(rule, AMSGrad):
        square = rows.memory["vmax"]
        square[:] = np.maximum(square, v)
    t = rows.steps
    rate = rule.lr * np.sqrt(1 - rule.beta2**t) / (1 - rule.beta1**t)
    return -rate * ((1 - rule.beta1) * g + rule.beta1 * m if rule.nesterov else m) / (np.sqrt(square) + rule.eps)


def _ftrl(rule: FTRL, rows: Rows, g: Doubles, _step: int) -> Doubles:
    z, n = rows.memory["z"], rows.memory["n"]
    w = rows.weights
    z += g - (np.sqrt(n + g**2) - np.sqrt(n)) / rule.lr * w
    n += g**2
    shrunk = np.sign(z) * np.maximum(np.abs(z) - rule.l1, 0.0)
    return -shrunk / ((rule.beta + np.sqrt(n)) / rule.lr + rule.l2) - w


def _group_adagrad(rule: GroupAdagrad, rows: Rows, g: Doubles, _step: int) -> Doubles:
    total = rows.memory["S"]
    total += np.max(g**2, axis=1, keepdims=True)
    rate = rule.lr / (rule.beta + np.sqrt(total))
    w = rows.weights
    z = g - w / rate
    norm = np.linalg.norm(z, axis=1, keepdims=True)
    return -rate * np.maximum(1 - rule.l2 / norm, 0.0) * z - w


def _moving_average(rule: MovingAverage, rows: Rows, g: Doubles, _step: int) -> Doubles:
    return (1 - rule.momentum) * (g - rows.weights)


def _batch_softmax(rule: BatchSoftmax, rows: Rows, g: Doubles, step: int) -> Doubles:
    last = rows.memory["last"]
    change = rule.rate * (step - last - rows.weights)
    last[:] = step
    return change


@dataclass(frozen=True)
class Formula:
    """A rule.

    Args:
        change: (optimizer, rows, gradients with weight decay, step of the table) to the change of the weights.
        memory: names of what it remembers of a row, each with its first value: a number or the optimizer's field.
    """

    change: Callable[..., Doubles]
    memory: dict[str, float | str]


FORMULAS: dict[type[Optimizer], Formula] = {
    SGD: Formula(_sgd, {}),
    Momentum: Formula(_momentum, {"u": 0.0}),
    Adagrad: Formula(_adagrad, {"n": "initial_accumulator"}),
    RMSProp: Formula(_rmsprop, {"n": 0.0}),
    Adadelta: Formula(_adadelta, {"a": 0.0, "b": 0.0}),
    Adam: Formula(_adam, {"m": 0.0, "v": 0.0}),
    AMSGrad: Formula(_adam, {"m": 0.0, "v": 0.0, "vmax": 0.0}),
    FTRL: Formula(_ftrl, {"z": 0.0, "n": "initial_accumulator"}),
    GroupAdagrad: Formula(_group_adagrad, {"S": "initial_accumulator"}),
    MovingAverage: Formula(_moving_average, {}),
    BatchSoftmax: Formula(_batch_softmax, {"last": 0.0}),
}


class Trained:
    """Weights by the formulas: `train` once a batch.

    Args:
        optimizer: one of `FORMULAS`.
        weights: float64 (n, dim), the first ones.
    """

    def __init__(self, optimizer: Optimizer, weights: Doubles) -> None:
        self.weights = weights.copy()
        self._optimizer, self._formula = optimizer, FORMULAS[type(optimizer)]
        self._steps = np.zeros((len(weights), 1))
        self._step = 0
        self._memory = {
            name: np.full(weights.shape, getattr(optimizer, first) if isinstance(first, str) else first)
            for name, first in self._formula.memory.items()
        }

    def train(self, which: NDArray[np.bool_], gradients: Doubles) -> None:
        """One batch.

        Args:
            which: bool (n,), rows with a gradient.
            gradients: float64 (number of these, dim).
        """
        self._step += 1
        self._steps[which] += 1
        rows = Rows(self.weights[which], self._steps[which], {name: a[which] for name, a in self._memory.items()})
        g = gradients + getattr(self._optimizer, "weight_decay", 0.0) * rows.weights
        self.weights[which] += self._formula.change(self._optimizer, rows, g, self._step)
        for name, part in rows.memory.items():
            self._memory[name][which] = part


def largest_error(
    optimizer: Optimizer, *, steps: int = 1_000, num_keys: int = 200, dim: int = 8, seed: int = 0
) -> float:
    """Train a table and the formulas on the same sparse batches; the largest relative error of a weight.

    A weight that is smaller than a hundredth of the largest one is measured against that hundredth: where a weight
    crosses zero, the relative error of any arithmetic is unbounded.

    Args:
        optimizer: one of `FORMULAS`.
        steps: batches; a key is in half of them, in some of those twice.
        num_keys: rows.
        dim: floats a row.
        seed: of keys and gradients.

    >>> largest_error(Adagrad(), steps=50) < 1e-6
    True
    """
    from nonet.recsys.table.embedding_table import EmbeddingTable

    rng = np.random.default_rng(seed)
    keys = rng.choice(1 << 40, num_keys, replace=False)
    first = rng.uniform(-0.05, 0.05, (num_keys, dim)).astype(np.float32)
    table = EmbeddingTable(dim, optimizer=optimizer)
    table.upsert(keys, first)
    trained = Trained(optimizer, first.astype(np.float64))
    for _ in range(steps):
        which = rng.random(num_keys) < 0.5
        lines = np.concatenate([np.flatnonzero(which), np.flatnonzero(which)[: num_keys // 8]])
        gradients = rng.standard_normal((len(lines), dim), np.float32) + np.float32(0.1)
        summed = np.zeros((num_keys, dim))
        np.add.at(summed, lines, gradients.astype(np.float64))
        table.apply_gradients(keys[lines], gradients)
        trained.train(which, summed[which])
    error = np.abs(table.lookup(keys) - trained.weights)
    return float(np.max(error / np.maximum(np.abs(trained.weights), 0.01 * np.abs(trained.weights).max())))


def is_restored_bitwise(optimizer: Optimizer, *, steps: int = 200, num_keys: int = 60, dim: int = 4) -> bool:
    """Stop half way, go on from a snapshot on disk: whether all bytes equal those of the run without a stop.

    Args:
        optimizer: of the table.
        steps: batches, with repeated keys.
        num_keys: to draw from.
        dim: floats a row.

    >>> is_restored_bitwise(Adam(), steps=20)
    True
    """
    from tempfile import TemporaryDirectory

    from nonet.recsys.table.embedding_table import EmbeddingTable

    rng = np.random.default_rng(1)
    whole, half = EmbeddingTable(dim, optimizer=optimizer), EmbeddingTable(dim, optimizer=optimizer)
    for at in range(steps):
        keys = rng.integers(num_keys, size=40)
        gradients = rng.standard_normal((40, dim), np.float32)
        if at == steps // 2:
            with TemporaryDirectory(prefix="nonet-recsys-") as folder:
                half.snapshot(folder)
                half = EmbeddingTable.restore(folder)
        for table in (whole, half):
            table.apply_gradients(keys, gradients, now_s=at)
    pairs = zip(whole.export(), half.export(), strict=True)
    return all(np.asarray(one).tobytes() == np.asarray(other).tobytes() for one, other in pairs)
