"""Joint samples of a cold start's components: pod allocation, code, dependencies, scheduling.

Drawing the four independently gives totals that do not follow the total's curve (KS .03 overall, .13 for `http`),
since a pod made from scratch and one taken from a pool are different cold starts. Here the total comes first: K
equally likely totals are the quantiles of its curve, and each component is K quantiles of its own. What remains free
is which go together. The rearrangement algorithm (Puccetti and Rüschendorf, 2012) finds it: again and again, one
component's values are put in the order of what the others leave over of the totals. Scheduling closes what gap
remains, so each sum is exact.

For the other regions the paper gives the means of the components and their rank correlations, not their laws. Their
laws are Region 2's, scaled; each component's values go, the largest first, to samples that have room for them;
scheduling is the rest.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from nonet.coldstart._random_kernels import mix64, uniforms
from nonet.coldstart.generating.curves import Curve, curve, table

Array = NDArray[np.float64]

RUNTIMES = ("Python3", "Node.js", "Custom", "Java", "Python2", "Go1.x", "PHP7.3", "http", "C#", "unknown")
RUNTIME_COLD_STARTS = (1_190_731, 287_253, 186_452, 165_695, 165_673, 30_045, 25_591, 18_167, 3_105, 111)
"""Cold starts of Region 2 by runtime in 31 days (the paper's section 4.4, exact)."""
STAGES_S = (0.001, 0.05, 8.0)
"""Bounds of the pod-allocation stages: found at once, found after widening the search, slow, made from scratch."""
SCRATCH_S = 10.2
NUM_SAMPLES = 4096
_SWEEPS = 60
_FLOOR_S = 1e-4  # no component of scheduling is drawn smaller: the curves' frames begin at 0.1 ms


@dataclass(frozen=True)
class Joint:
    """Weighted joint samples of one region, each array of length K; the seconds of a sample add up to `total_s`.

    Attributes:
        runtime: index into RUNTIMES, or -1 where the runtimes are not published.
        weight: probabilities, sum 1.
    """

    total_s: Array
    allocation_s: Array
    code_s: Array
    dependency_s: Array
    scheduling_s: Array
    runtime: NDArray[np.int32]
    weight: Array

    def stage(self) -> NDArray[np.int64]:
        """Pod-allocation stage of each sample, 0 (at once) to 3 (from scratch)."""
        return np.searchsorted(np.array(STAGES_S), self.allocation_s, side="left")


@lru_cache(maxsize=8)
def joint(region: str) -> Joint:
    """Joint samples of a region: Region 2 by runtime (Fig 15), others by means (Fig 11) and shapes of Region 2."""
    if region != "R2":
        rows = table("minutes").filter((table("minutes")["region"] == region) & (table("minutes")["index"] >= 18))
        return other_joint(region, rows.sort("index")["value"].to_numpy())
    total = sum(RUNTIME_COLD_STARTS)
    known = [i for i, name in enumerate(RUNTIMES) if name != "unknown"]
    parts = [_runtime(RUNTIMES[i], NUM_SAMPLES // 2 if i else NUM_SAMPLES) for i in known]
    # The 111 cold starts of unknown runtime have no curve of their own and take that of all.
    parts.append(_split(256, curve("15a", "all"), curve("15b", "all"), curve("15c", "all"), (0.3, curve("15d", "all")),
                        curve("15e", "all"), 99))  # fmt: skip
    return _join(parts, [*known, RUNTIMES.index("unknown")], [n / total for n in RUNTIME_COLD_STARTS])


def _join(parts: list[list[Array]], runtimes: list[int], shares: list[float]) -> Joint:
    total, allocation, code, dependency, scheduling = (np.concatenate([part[i] for part in parts]) for i in range(5))
    sizes = [len(part[0]) for part in parts]
    runtime = np.repeat(np.array(runtimes, dtype=np.int32), sizes)
    weight = np.repeat(np.array(shares) / np.array(sizes), sizes)
    return Joint(total, allocation, code, dependency, scheduling, runtime, weight / weight.sum())


def _runtime(name: str, num: int) -> list[Array]:
    total, allocation, code, scheduling = (curve(figure, name) for figure in ("15a", "15b", "15c", "15e"))
    groups = table("curves").filter(pl.col("figure") == "15d")["group"].to_list()
    if name in groups:
        dependency = curve("15d", name)
        # The figure leaves out functions without layers (dependency time 0); their share follows from the means.
        left = total.mean() - allocation.mean() - code.mean() - scheduling.mean()
        share = min(max(left / dependency.mean(), 0.0), 1.0)
    else:
        dependency, share = Curve(np.array([0.01, 0.02]), np.array([0.0, 1.0])), 0.0
    return _split(num, total, allocation, code, (share, dependency), scheduling, RUNTIMES.index(name))


def _region_means(region: str) -> dict[str, float]:
    hours = table("hours").filter(pl.col("region") == region)
    count = hours["cold_starts"].to_numpy()
    names = ("total_s", "code_s", "dependency_s", "scheduling_s", "allocation_s")
    return {name: float(hours[name].to_numpy() @ count / count.sum()) for name in names}


def other_joint(region: str, dependence: Array) -> Joint:
    """Joint samples of a region without published laws of its components.

    Args:
        region: "R1", "R3", "R4" or "R5".
        dependence: of allocation, code and dependency on what is left of the total, each clipped to -0.98 .. 0.98.
    """
    mean = _region_means(region)
    total = curve("10a", region)
    code, layers = curve("15c", "all"), curve("15d", "all")
    share = min(max(0.28 * np.sqrt(mean["dependency_s"] / 0.249), 0.1), 0.7)
    rank = (np.arange(NUM_SAMPLES) + 0.5) / NUM_SAMPLES
    with_layers = np.maximum(rank - (1.0 - share), 0.0) / share
    layers = layers.scaled(mean["dependency_s"] / share / layers.mean())
    columns = [
        _other_allocation(mean["allocation_s"], total).quantile(rank),
        code.scaled(mean["code_s"] / code.mean()).quantile(rank),
        np.where(with_layers > 0.0, layers.quantile(with_layers), 0.0),
    ]
    totals = total.quantile(rank)
    room = totals - _FLOOR_S
    for i, column in enumerate(columns):
        key = np.uint64(mix64(20250330, 100 + int(region[1:]), i))
        columns[i] = _fit_in(column, room, float(np.clip(dependence[i], -0.98, 0.98)), key)
        room = room - columns[i]
    return _join([[totals, *columns, totals - columns[0] - columns[1] - columns[2]]], [-1], [1.0])


def _other_allocation(mean_s: float, total: Curve) -> Curve:
    base = curve("15b", "all")
    scratch = min(0.6 * mean_s / SCRATCH_S, 0.8 * float(1.0 - total.probability(SCRATCH_S)))
    slow = Curve(np.array([STAGES_S[1], 4.0]), np.array([0.0, 1.0]))
    slow_share = max(mean_s - scratch * SCRATCH_S - 0.006, 0.0) / slow.mean()
    at_once = (1.0 - scratch - slow_share) * 0.54
    shares = [at_once, 1.0 - scratch - slow_share - at_once, slow_share, scratch]
    laws = [base.between(1e-4, STAGES_S[0]), base.between(0.005, STAGES_S[1]), slow, base.between(9.5, 11.0)]
    return _mixture(laws, shares)


def _fit_in(values: Array, room: Array, dependence: float, key: np.uint64) -> Array:
    """Give each sample one of the values, none above its room, with a rank dependence between value and room.

    The largest values choose first among the samples with room for them. A value that fits nowhere is cut to the room.
    """
    num = len(values)
    noise = stats.norm.ppf(uniforms(key, 0, num))
    order = np.argsort(room, kind="stable")[::-1]
    score = np.empty(num)
    score[order] = stats.norm.ppf((np.arange(num)[::-1] + 0.5) / num)
    wish = dependence * score + np.sqrt(1.0 - dependence * dependence) * noise
    out = np.empty(num)
    heap: list[tuple[float, int]] = []
    joined = 0
    for value in np.sort(values)[::-1]:
        while joined < num and (room[order[joined]] >= value or not heap):
            heapq.heappush(heap, (-wish[order[joined]], int(order[joined])))
            joined += 1
        _, chosen = heapq.heappop(heap)
        out[chosen] = min(value, max(room[chosen], 0.0))
    return out


def _mixture(laws: list[Curve], shares: list[float]) -> Curve:
    x = np.unique(np.concatenate([law.x for law in laws]))
    return Curve(
        x, sum((share * law.probability(x) for law, share in zip(laws, shares, strict=True)), np.zeros(len(x)))
    )


def _split(
    num: int,
    total: Curve,
    allocation: Curve,
    code: Curve,
    dependency: tuple[float, Curve],
    scheduling: Curve,
    label: int,
) -> list[Array]:
    """`num` joint samples [total, allocation, code, dependency, scheduling] in seconds, totals ascending."""
    rank = (np.arange(num) + 0.5) / num
    share, law = dependency
    with_layers = np.maximum(rank - (1.0 - share), 0.0) / max(share, 1e-12)
    columns = [
        allocation.quantile(rank),
        code.quantile(rank),
        np.where(rank > 1.0 - share, law.quantile(with_layers), 0.0),
        scheduling.quantile(rank),
    ]
    key = np.uint64(mix64(20250330, label, 0))
    for i, column in enumerate(columns):
        columns[i] = column[np.argsort(uniforms(key, i * num, num), kind="stable")]
    return _rearrange(total.quantile(rank), columns)


def _rearrange(total: Array, columns: list[Array]) -> list[Array]:
    sums = np.sum(columns, axis=0)
    for sweep in range(_SWEEPS * len(columns)):
        i = sweep % len(columns)
        others = sums - columns[i]
        order = np.argsort(total - others, kind="stable")
        column = np.empty_like(total)
        column[order] = np.sort(columns[i])
        columns[i] = column
        sums = others + column
    allocation, code, dependency, _ = columns
    # What is too large for the total shrinks in proportion, allocation last, so that stages keep their meaning.
    room = np.maximum(total - _FLOOR_S - code - dependency, 1e-4)
    allocation = np.minimum(allocation, room)
    factor = np.minimum((total - allocation - _FLOOR_S) / np.maximum(code + dependency, 1e-12), 1.0)
    factor = np.maximum(factor, 0.0)
    code, dependency = code * factor, dependency * factor
    return [total, allocation, code, dependency, total - allocation - code - dependency]
