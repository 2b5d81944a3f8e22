"""What a policy may learn from: an earlier part of the calls, never the part that it is tried on."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from nonet.coldstart.simulating.calls import Calls, ColdTimes, Functions, Workload
from nonet.coldstart.simulating.policies.base import Joined, RulePolicy, Setup
from nonet.common.errors import InputError

_COLD_LEVEL = 0.99


@dataclass(frozen=True)
class Training:
    """The calls of a window of time, in memory, and what is known about the functions.

    Attributes:
        calls: ordered by time; all arrive in `start_us <= t < end_us`.
        functions, cold_times: as in the workload.
        start_us, end_us: the training window.
    """

    calls: Calls
    functions: Functions
    cold_times: ColdTimes
    start_us: int
    end_us: int

    @cached_property
    def _by_function(self) -> tuple[np.ndarray, np.ndarray]:
        order = np.argsort(self.calls.function, kind="stable")
        at = np.searchsorted(self.calls.function[order], np.arange(len(self.functions) + 1))
        return order, at

    def of_function(self, f: int) -> tuple[np.ndarray, np.ndarray]:
        """Arrival times and runs of one function, int64 (n,) each, in order."""
        order, at = self._by_function
        rows = order[at[f] : at[f + 1]]
        return self.calls.arrive_us[rows], self.calls.run_us[rows]

    def num_calls(self) -> np.ndarray:
        """Calls of every function, int64 (F,)."""
        return np.bincount(self.calls.function, minlength=len(self.functions)).astype(np.int64)

    @cached_property
    def cold_us(self) -> np.ndarray:
        """99th percentile of the cold start time of every function, int64 (F,)."""
        total = self.cold_times.allocation_us + self.cold_times.rest_us
        at = self.cold_times.at
        return np.array(
            [int(np.quantile(total[at[f] : at[f + 1]], _COLD_LEVEL)) for f in range(len(self.functions))], np.int64
        )


class Learner(RulePolicy):
    """A policy that is fitted on earlier calls before it runs.

    `prepare` refuses to run an unfitted one, one fitted for other functions, and one whose training window reaches
    into the window of the simulation.
    """

    _trained_until_us: int | None = None
    _num_functions = 0

    def fit(self, training: Training) -> Learner:
        """Learn from `training`; returns self."""
        self._learn(training)
        self._trained_until_us, self._num_functions = training.end_us, len(training.functions)
        return self

    @abstractmethod
    def _learn(self, training: Training) -> None:
        """Set what `prepare` needs."""

    def _check_fitted(self, setup: Setup) -> None:
        if self._trained_until_us is None:
            raise InputError(f"policy {self.name} learns from earlier days; fit it on some first (train_days)")
        if self._num_functions != len(setup.functions):
            raise InputError(
                f"policy {self.name} was fitted on {self._num_functions} functions, the workload has "
                f"{len(setup.functions)}; fit it on an earlier part of the same workload"
            )
        if self._trained_until_us > setup.start_us:
            raise InputError(
                f"policy {self.name} was fitted until {self._trained_until_us} us, the simulation begins at "
                f"{setup.start_us} us; a policy may not be tried on what it was fitted on"
            )


@dataclass
class Window(Workload):
    """The calls of a workload that arrive in `start_us <= t < end_us` (`<= end_us` at its end), read on demand."""

    whole: Workload
    start_us: int
    end_us: int
    functions: Functions = field(init=False)
    cold_times: ColdTimes = field(init=False)

    def __post_init__(self) -> None:
        self.functions, self.cold_times = self.whole.functions, self.whole.cold_times

    def blocks(self) -> Iterator[Calls]:
        """See `Workload.blocks`."""
        return self._cut(self.whole.blocks())

    def by_function(self, shard: int, num_shards: int) -> Iterator[Calls]:
        """See `Workload.by_function`."""
        return self._cut(self.whole.by_function(shard, num_shards))

    def _cut(self, blocks: Iterator[Calls]) -> Iterator[Calls]:
        last = self.end_us + (self.end_us == self.whole.end_us)
        for block in blocks:
            begin, end = np.searchsorted(block.arrive_us, [self.start_us, last])
            if begin == len(block):
                continue
            if end > begin:
                chosen: Any = slice(int(begin), int(end))
                yield block.take(chosen)
            if end < len(block):
                return


def split(workload: Workload, train_us: int) -> tuple[Training, Window]:
    """The first `train_us` of a workload to learn from, and the rest to try on.

    Memory: 20 bytes a training call.

    Raises:
        InputError: `train_us` leaves nothing to learn from or nothing to try on.
    """
    if not 0 < train_us < workload.end_us - workload.start_us:
        raise InputError(
            f"training window of {train_us} us: expected more than 0 and less than the workload's "
            f"{workload.end_us - workload.start_us} us"
        )
    middle = workload.start_us + train_us
    parts = list(Window(workload, workload.start_us, middle).blocks())
    calls = Calls(
        np.concatenate([part.arrive_us for part in parts] or [np.zeros(0, np.int64)]),
        np.concatenate([part.run_us for part in parts] or [np.zeros(0, np.int64)]),
        np.concatenate([part.function for part in parts] or [np.zeros(0, np.int32)]),
    )
    training = Training(calls, workload.functions, workload.cold_times, workload.start_us, middle)
    return training, Window(workload, middle, workload.end_us)


def needs_training(policy: RulePolicy) -> bool:
    """Whether a policy, or a part of a joined one, learns from earlier calls."""
    if isinstance(policy, Joined):
        return any(needs_training(part) for part in policy.parts)
    return isinstance(policy, Learner)


def fit(policy: RulePolicy, training: Training) -> None:
    """Fit a policy, or those parts of a joined one that learn."""
    if isinstance(policy, Joined):
        for part in policy.parts:
            fit(part, training)
    elif isinstance(policy, Learner):
        policy.fit(training)
