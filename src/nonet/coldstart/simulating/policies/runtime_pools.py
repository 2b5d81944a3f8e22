"""Runtime-aware pools, the paper's eighth strategy: pre-warmed (runtime, class) pairs in proportion to their cold
starts.

The pool of a class is divided into one for each runtime among its functions. The memory of all pools together stays
what the platform gives to the stage; it is divided so that the pods of a pair are proportional to the pair's cold
starts on the training days, under the platform's keep-alive. A pair without any gets none. Latencies and replenish
times stay the class's.

Source: the paper, section 5 (idea only); precise form: specification A5.8.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nonet.coldstart.simulating.calls import Functions
from nonet.coldstart.simulating.platform import Pools
from nonet.coldstart.simulating.policies import register
from nonet.coldstart.simulating.policies.base import RulePolicy, Setup
from nonet.coldstart.simulating.policies.drops import pools_of
from nonet.coldstart.simulating.policies.peak_shaving import cold_calls
from nonet.coldstart.simulating.policies.training import Learner, Training
from nonet.common.errors import InputError


@dataclass(frozen=True)
class RuntimeSplit:
    """Pools divided by runtime.

    Attributes:
        pool_class: int32 (F,), pair of each function, -1 where it had no class.
        pair_class: int64 (P,), the class that each pair came from.
        memory_mb: int64 (P,), largest memory among the pair's functions.
        names: P names "class/runtime".
    """

    pool_class: np.ndarray
    pair_class: np.ndarray
    memory_mb: np.ndarray
    names: tuple[str, ...]


def split_by_runtime(functions: Functions) -> RuntimeSplit:
    """The (class, runtime) pairs that occur, ordered by class, then runtime."""
    keys = [(int(c), runtime) for c, runtime in zip(functions.pool_class, functions.runtime, strict=True)]
    pairs = sorted({key for key in keys if key[0] >= 0})
    number = {pair: k for k, pair in enumerate(pairs)}
    new_class = np.array([number.get(key, -1) for key in keys], np.int32)
    memory_mb = np.zeros(len(pairs), np.int64)
    known = new_class >= 0
    np.maximum.at(memory_mb, new_class[known], functions.memory_mb[known])
    names = tuple(f"{c}/{runtime}" for c, runtime in pairs)
    return RuntimeSplit(new_class, np.array([c for c, _ in pairs], np.int64), memory_mb, names)


def divide(pools: Pools, split: RuntimeSplit, weight: np.ndarray) -> Pools:
    """Pools of the pairs, in each stage with pods in proportion to `weight` (P,) within the memory of the stage.

    Whole pods first, then one more for the largest remainders that still fit.
    """
    class_memory = np.zeros(len(pools.target), np.int64)
    np.maximum.at(class_memory, split.pair_class, split.memory_mb)
    target = np.zeros((len(split.names), pools.target.shape[1]), np.int64)
    for stage in range(pools.target.shape[1]):
        budget_mb = int(pools.target[:, stage] @ class_memory)
        target[:, stage] = _apportioned(weight.astype(np.float64), split.memory_mb, budget_mb)
    own = split.pair_class
    memory_mb = split.memory_mb if pools.memory_mb is None else pools.memory_mb[own]
    return Pools(target, pools.latency_us[own], pools.scratch_us[own], pools.replenish_us[own], split.names, memory_mb)


def _apportioned(weight: np.ndarray, memory_mb: np.ndarray, budget_mb: int) -> np.ndarray:
    asked_mb = float(weight @ memory_mb)
    if asked_mb == 0:
        return np.zeros(len(weight), np.int64)
    exact = weight * (budget_mb / asked_mb)
    pods = np.floor(exact + 1e-9).astype(np.int64)
    left_mb = budget_mb - int(pods @ memory_mb)
    for k in np.argsort(pods - exact, kind="stable"):
        if exact[k] > pods[k] and memory_mb[k] <= left_mb:
            pods[k] += 1
            left_mb -= int(memory_mb[k])
    return pods


class RuntimePools(Learner):
    """Learns the cold starts of every function; needs a platform with pools.

    Args:
        keep_alive_us: keep-alive under which cold starts of the training days are counted.
        equal: give every pair the same number instead, the baseline of pools that do not look at demand.
    """

    def __init__(self, keep_alive_us: int = 60_000_000, *, equal: bool = False) -> None:
        self.name = "paper:runtime=equal" if equal else "paper:runtime"
        self._keep_alive_us, self._equal = keep_alive_us, equal
        self.num_cold = np.zeros(0, np.int64)

    def _learn(self, training: Training) -> None:
        _, function = cold_calls(training, self._keep_alive_us)
        self.num_cold = np.bincount(function, minlength=len(training.functions))

    def prepare(self, setup: Setup) -> None:
        """See `RulePolicy.prepare`."""
        self._check_fitted(setup)
        rules = setup.rules
        pools = pools_of(setup, self.name)
        split = split_by_runtime(setup.functions)
        known = split.pool_class >= 0
        weight = np.bincount(split.pool_class[known], self.num_cold[known], len(split.names))
        rules.pools = divide(pools, split, np.ones(len(weight)) if self._equal else weight)
        setup.functions = replace(setup.functions, pool_class=split.pool_class)


@register("paper:runtime", "pools for pairs of runtime and class, by their cold starts; value: equal", "paper:runtime")
def _make(text: str) -> RulePolicy:
    if text not in ("", "equal"):
        raise InputError(f"paper:runtime: {text!r}: expected nothing, or equal")
    return RuntimePools(equal=text == "equal")
