"""How many pre-created pods a pool needs: DROPS and the rules that it is compared with.

A pod taken from the pool is replaced after its creation time, so allocation i finds the pool short by the allocations
whose replacements are still under way: `need_i = 1 + #{j < i : a_j + C_j > a_i}`. A pool of s pods serves allocation i
without waiting if and only if `need_i <= s`, so the size for a service level is a quantile of `need`.

Times are int64 microseconds. Source: DROPS (EuroSys 2026), specification A6.8.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from nonet.coldstart.simulating._pool_kernels import pods_needed_kernel
from nonet.common.errors import InputError

Times: TypeAlias = NDArray[np.int64]

HOUR_US = 3_600_000_000
_LEVEL_SLOPE = 0.5959  # DROPS asks a little more than p of its sample, so that the unseen future meets p
REACTIVE_FACTOR = 1.35


def pods_needed(allocate_us: Times, create_us: Times | int) -> NDArray[np.int64]:
    """The pods that a pool must hold for each allocation to be served at once.

    Args:
        allocate_us: (n,) times of the allocations, not falling.
        create_us: (n,) how long the replacement of the pod taken by allocation j takes, or one number for all; >= 0.

    Returns:
        (n,) `need_i`, at least 1. A replacement that is ready at the very moment of an allocation serves it.

    O(n log n) time, O(n) memory.

    >>> pods_needed(np.array([0, 1, 2, 10]), 5).tolist()
    [1, 2, 3, 1]
    """
    arrivals = np.ascontiguousarray(allocate_us, np.int64)
    creation = np.broadcast_to(np.asarray(create_us, np.int64), arrivals.shape)
    if arrivals.ndim != 1 or np.any(np.diff(arrivals) < 0):
        raise InputError(
            "pool sizing: allocate_us must be one-dimensional and not falling; sort the allocations by time"
        )
    if np.any(creation < 0):
        raise InputError("pool sizing: create_us below 0; creation times are durations")
    return pods_needed_kernel(arrivals, creation, np.sort((arrivals + creation)[creation > 0]))


def adjusted_level(level: float) -> float:
    """The share of the sample to serve so that a share `level` < 1 of the future is served: `1 - 0.5959 (1 - level)`.

    >>> round(adjusted_level(0.99), 6), adjusted_level(1.0)
    (0.994041, 1.0)
    """
    if not 0 < level <= 1:
        raise InputError(f"pool sizing: service level {level}: expected a share in (0, 1]")
    return 1.0 if level == 1 else 1 - _LEVEL_SLOPE * (1 - level)


def pool_size(allocate_us: Times, create_us: Times | int, level: float, *, adjust: bool = True) -> int:
    """The smallest pool that serves a share `level` of the allocations without waiting (DROPS).

    0 without allocations. `adjust` applies `adjusted_level`.

    >>> pool_size(np.array([0, 1, 2, 10]), 5, 0.75, adjust=False), pool_size(np.array([0, 1, 2, 10]), 5, 1.0)
    (2, 3)
    """
    wanted = adjusted_level(level) if adjust else level
    need = pods_needed(allocate_us, create_us)
    if not len(need):
        return 0
    served = np.cumsum(np.bincount(need))
    return int(np.searchsorted(served, math.ceil(wanted * len(need) - 1e-9)))


def production_target(
    idle: float, assigned: float, *, low: float = 0.10, high: float = 0.40, target: float = 0.20
) -> float:
    """Idle capacity to have next under the production rule of DROPS, in the unit of the arguments (cores or pods).

    Below `low` idle per assigned the pool grows, above `high` it shrinks, both to `target`; between, it stays.

    >>> production_target(5, 100), production_target(20, 100), production_target(50, 100)
    (20.0, 20, 20.0)
    """
    if low * assigned < idle < high * assigned:
        return idle
    return target * assigned


def reactive_size(allocations_last_window: float, *, factor: float = REACTIVE_FACTOR) -> int:
    """The pool of the reactive rule: the allocations during the last creation window, times 1.35, rounded up.

    >>> reactive_size(10)
    14
    """
    return math.ceil(factor * allocations_last_window - 1e-9)


def poisson_size(rate_per_s: float, create_s: float, epsilon: float) -> int:
    """The smallest N with `P(Poisson(rate * create) <= N) >= 1 - epsilon`.

    >>> poisson_size(2.0, 5.0, 0.01)
    18
    """
    from scipy.stats import poisson

    if rate_per_s < 0 or create_s < 0 or not 0 < epsilon < 1:
        raise InputError(
            f"pool sizing: rate {rate_per_s}/s, creation {create_s} s, epsilon {epsilon}: expected >= 0, >= 0, (0, 1)"
        )
    return int(poisson.ppf(1 - epsilon, rate_per_s * create_s)) if rate_per_s * create_s > 0 else 0


def hourly_forecast_sizes(
    allocate_us: Times, create_us: int, start_us: int, num_hours: int, epsilon: float, *, season_hours: int = 24
) -> NDArray[np.int64]:
    """Pool sizes of the hourly forecast: the count of the same hour one season before, made a size by the Poisson rule.

    Args:
        allocate_us: (n,) allocations from `start_us` on.
        create_us: creation time of a pod.
        start_us: begin of hour 0.
        num_hours: hours to give sizes for.
        epsilon: share of allocations that may wait, for Poisson arrivals within the hour.
        season_hours: the season of the seasonal naive forecast.

    Returns:
        (num_hours,) sizes; an hour of the first season uses the hour before it, and hour 0 has 0. Hour h never looks at
        allocations of hour h or later.
    """
    hours = (np.asarray(allocate_us, np.int64) - start_us) // HOUR_US
    counts = np.bincount(hours[(hours >= 0) & (hours < num_hours)], minlength=num_hours)
    sizes = np.zeros(num_hours, np.int64)
    for hour in range(1, num_hours):
        forecast = counts[hour - season_hours] if hour >= season_hours else counts[hour - 1]
        sizes[hour] = poisson_size(float(forecast) / 3600, create_us / 1e6, epsilon)
    return sizes


def core_demand(
    allocate_us: Times, release_us: Times, cores: NDArray[np.float64], window_us: int
) -> NDArray[np.float64]:
    """Net core demand that the pool of virtual machines must cover: DROPS' rule on the window of creating a machine.

    Args:
        allocate_us: (n,) allocations of pods, not falling.
        release_us: (n,) when each pod gives its cores back.
        cores: (n,) cores of each pod.
        window_us: how long a machine takes to create.

    Returns:
        (n,) for allocation i, cores allocated less cores given back during `(a_i - window, a_i]`, at least 0: what idle
        machines have to supply before new ones arrive. Quantiles of it, over the cores of a machine, size the pool.
    """
    begin = np.asarray(allocate_us, np.int64)
    end = np.asarray(release_us, np.int64)
    taken = np.concatenate([[0.0], np.cumsum(cores)])
    order = np.argsort(end, kind="stable")
    given = np.concatenate([[0.0], np.cumsum(np.asarray(cores)[order])])
    ends = end[order]
    until = np.arange(1, len(begin) + 1)
    allocated = taken[until] - taken[np.searchsorted(begin, begin - window_us, side="right")]
    released = (
        given[np.searchsorted(ends, begin, side="right")]
        - given[np.searchsorted(ends, begin - window_us, side="right")]
    )
    return np.maximum(allocated - released, 0.0)
