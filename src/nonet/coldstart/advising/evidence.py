"""The numbers that speak for a cause, out of the cold starts that it was given to."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import polars as pl

Evidence: TypeAlias = dict[str, float | int | str | None]


def evidence_of(name: str, part: pl.DataFrame) -> Evidence:
    """Numbers for the cause `name`; names carry units, None is what the source does not tell.

    Args:
        name: a key of `causes.TITLES`.
        part: its starts, as `causes.label` gives them, with `period_us`.
    """
    if name == "timer":
        period = part["period_us"].to_numpy() / 1e6
        periods: Evidence = {"period_min_s": float(period.min()), "period_max_s": float(period.max())}
        return {"num_timers": part["f"].n_unique(), **periods, "idle_p50_s": _p50_s(part, "gap_us")}
    if name == "burst":
        return _burst(part)
    if name == "image-pull":
        failed = int(part["num_failed_pulls"].sum() or 0)
        told: Evidence = {**_stage(part, "pull_us"), "image_mb": _image_mb(part)}
        return {**told, "num_failed_pulls": failed} if failed else told
    if name == "cpu-starved-init":
        reference = {"init_with_twice_the_cpu_p50_s": _p50_s(part, "reference_init_us")}
        return {**_stage(part, "init_us"), "cpu_millicores": _median(part["cpu_millicores"]), **reference}
    if name == "slow-dependencies":
        return {**_stage(part, "dependency_us"), "others_p50_s": _p50_s(part, "reference_dependency_us")}
    if name in ("exhausted-pool", "node-scale-up"):
        unplaced = int(part["num_failed_scheduling"].sum() or 0)
        return {**_stage(part, "allocation_us"), **({"num_failed_scheduling": unplaced} if unplaced else {})}
    if name == "roll-out":
        revisions = part.select("function", "revision").unique()
        return {"num_rollouts": revisions.height, "revision": part["revision"].drop_nulls().first()}  # type: ignore[dict-item]
    return {"idle_p50_s": _p50_s(part.filter(pl.col("gap_us") >= 0), "gap_us"), "num_first_calls": _num_first(part)}


def _burst(part: pl.DataFrame) -> Evidence:
    peak = int(part["in_flight"].to_numpy().max()) + 1
    found: Evidence = {"peak_concurrency": peak, "concurrency": _median(part["concurrency"])}
    pulls = part.filter(pl.col("pull_us") > 0)
    return {**found, **_stage(pulls, "pull_us"), "image_mb": _image_mb(pulls)} if pulls.height else found


def _stage(part: pl.DataFrame, column: str) -> Evidence:
    """Median of a stage, and of its share of the start."""
    name = column.removesuffix("_us")
    share = _median(part.filter(pl.col("total_us") > 0).select(pl.col(column) / pl.col("total_us")).to_series())
    return {f"{name}_p50_s": _p50_s(part, column), f"{name}_share": share}


def _num_first(part: pl.DataFrame) -> int:
    return int((part["gap_us"] < 0).sum())


def _image_mb(part: pl.DataFrame) -> float | None:
    size = _median(part["image_bytes"])
    return None if size is None else round(size / 2**20, 1)


def _p50_s(part: pl.DataFrame, column: str) -> float | None:
    return seconds(_median(part[column]))


def _median(values: pl.Series) -> float | None:
    known = values.drop_nulls().to_numpy()
    return float(np.median(known)) if len(known) else None


def seconds(value_us: float | None) -> float | None:
    """Microseconds as seconds, None as it is."""
    return None if value_us is None else round(value_us / 1e6, 6)


def p50_s(values_us: pl.Series) -> float | None:
    """Median of microseconds in seconds, None without any."""
    return seconds(_median(values_us))
