"""The platform that a simulation runs on: memory, pools of inactive pods, and how an arrival finds its pod."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from nonet.common.errors import InputError

if TYPE_CHECKING:
    from nonet.coldstart.simulating.calls import Functions

Pick = Literal["mru", "oldest", "newest", "least_loaded"]
PICKS: tuple[Pick, ...] = ("mru", "oldest", "newest", "least_loaded")
ScaleRule = Literal["start", "piggyback", "wait", "race"]
SCALE_RULES: tuple[ScaleRule, ...] = ("start", "piggyback", "wait", "race")


@dataclass(frozen=True)
class Pools:
    """Pools of inactive pods: P classes, each searched in S stages that widen; an empty class makes a pod from scratch.

    A pod taken from a stage is replaced `replenish_us` later. A take at t finds a replacement that is ready at t.

    Args:
        target: int64 (P, S), pods that a stage holds when full; all are full at the beginning.
        latency_us: int64 (P, S), allocation time of a pod from that stage.
        scratch_us: int64 (P,), allocation time when every stage is empty.
        replenish_us: int64 (P,), time until a taken pod is replaced.
        names: P names, for reports.
        memory_mb: int64 (P,), what a waiting pod takes; None = as much as the largest function of the class.

    Functions without a pool (`pool_class` -1) take the allocation time of their own sample.

    Raises:
        InputError: shapes that do not fit, or a negative value.

    >>> Pools([[2, 1]], [[200, 15_000]], [10_200_000], [2_000_000]).target.shape
    (1, 2)
    """

    target: Any
    latency_us: Any
    scratch_us: Any
    replenish_us: Any
    names: Sequence[str] = ()
    memory_mb: Any = None

    def __post_init__(self) -> None:
        for name in ("target", "latency_us", "scratch_us", "replenish_us"):
            column = np.ascontiguousarray(getattr(self, name), dtype=np.int64)
            object.__setattr__(self, name, column)
            if column.size and int(column.min()) < 0:
                raise InputError(f"pools: {name} holds a negative value")
        shape = self.target.shape
        if len(shape) != 2 or self.latency_us.shape != shape:
            raise InputError(
                f"pools: target {shape} and latency_us {self.latency_us.shape} must both be (classes, stages)"
            )
        if self.memory_mb is not None:
            object.__setattr__(self, "memory_mb", np.ascontiguousarray(self.memory_mb, dtype=np.int64))
            if self.memory_mb.shape != shape[:1] or (self.memory_mb < 0).any():
                raise InputError(f"pools: memory_mb needs one value of at least 0 for each of {shape[0]} classes")
        if self.scratch_us.shape != shape[:1] or self.replenish_us.shape != shape[:1]:
            raise InputError(f"pools: scratch_us and replenish_us need one value for each of {shape[0]} classes")

    def pod_memory_mb(self, functions: Functions) -> np.ndarray:
        """Memory of a waiting pod of each class, int64 (P,)."""
        if self.memory_mb is not None:
            return np.asarray(self.memory_mb)
        memory_mb = np.zeros(len(self.target), np.int64)
        known = functions.pool_class >= 0
        np.maximum.at(memory_mb, functions.pool_class[known], functions.memory_mb[known])
        return memory_mb


@dataclass(frozen=True)
class Platform:
    """How the platform treats every policy alike.

    Args:
        keep_alive_us: the keep-alive of policies that do not set one.
        memory_cap_mb: memory of all pods together (starting, busy and idle), None = unlimited. A pod that does not fit
            makes idle pods go, in the policy's order; if that is not enough, the request is dropped.
        pools: pools of inactive pods; None = allocation times come from the functions' samples.
        warm_overhead_us: added before the run of every request that does not start a pod.
        pick: which ready pod with a free slot serves: the most recently used ("mru": last begin or end of a request),
            the oldest, the newest (by creation), or the one with the fewest requests (ties: most recently used).
        scale_rule: an arrival without a free slot
            "start": starts a pod of its own;
            "piggyback": waits for a starting pod that has room for it, else starts one;
            "wait": waits as long as the function has any pod, so that only the policy adds pods, else starts one;
            "race": waits, and starts a pod too unless one that starts has room for it; the first free slot takes it.
        sample_us: pods alive are counted at multiples of this after the start; None = 1 s, or coarser in long windows.

    Raises:
        InputError: an unknown word or a negative value.
    """

    keep_alive_us: int = 60_000_000
    memory_cap_mb: int | None = None
    pools: Pools | None = None
    warm_overhead_us: int = 0
    pick: Pick = "mru"
    scale_rule: ScaleRule = "start"
    regions: Any = None
    sample_us: int | None = None

    def __post_init__(self) -> None:
        if self.pick not in PICKS:
            raise InputError(f"platform: unknown pick {self.pick!r}; known: {', '.join(PICKS)}")
        if self.scale_rule not in SCALE_RULES:
            raise InputError(f"platform: unknown scale_rule {self.scale_rule!r}; known: {', '.join(SCALE_RULES)}")
        if self.keep_alive_us < 0 or self.warm_overhead_us < 0:
            raise InputError("platform: keep_alive_us and warm_overhead_us must be at least 0")
        if self.memory_cap_mb is not None and self.memory_cap_mb < 0:
            raise InputError(f"platform: memory_cap_mb must be at least 0, got {self.memory_cap_mb}")
        if self.sample_us is not None and self.sample_us < 1:
            raise InputError(f"platform: sample_us must be at least 1, got {self.sample_us}")
