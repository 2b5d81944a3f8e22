"""`explain`: why the cold starts of a trace happened, most frequent cause first, with evidence and an example.

Left-censored first calls (nobody knows whether they were cold) are not counted; pods that were started ahead on purpose
(provisioned concurrency) are counted apart. The rules are those of `causes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from nonet.coldstart.advising.causes import TITLES, Labelled, label
from nonet.coldstart.advising.evidence import Evidence, evidence_of, p50_s, seconds
from nonet.coldstart.advising.history import History, read_history
from nonet.coldstart.advising.keep_alive import KeepAlive, infer_keep_alive
from nonet.coldstart.advising.moments import moment_text
from nonet.coldstart.advising.remedies import remedy_of
from nonet.common.errors import InputError

if TYPE_CHECKING:
    from nonet.coldstart.trace.store import Trace

DAY_US = 86_400_000_000
_NUM_FUNCTIONS = 10


@dataclass(frozen=True)
class Example:
    """One cold start (or waiting request) of a cause.

    Attributes:
        time: ISO time, or day and time of day of a relative trace.
        at_us: the same in microseconds since the epoch of the trace.
        region, function, pod: where; pod None when unknown.
        total_s: how long the start took, None when unknown.
        stages_s: its parts in seconds, as far as the source tells.
    """

    time: str
    at_us: int
    region: str
    function: str
    pod: str | None
    total_s: float | None
    stages_s: dict[str, float]


@dataclass(frozen=True)
class Cause:
    """One cause.

    Attributes:
        name: a key of `causes.TITLES`, or "piggybacked".
        title: what it says.
        remedy: what to do about it, on the platform of the logs.
        num: cold starts; for "piggybacked" requests that only waited for a pod that another one had started.
        share: of all cold starts; for "piggybacked" requests per cold start (not part of the sum of 1).
        num_functions: how many functions it touches.
        functions: the ten that it touches most, with their counts.
        p50_s: median duration of these cold starts (waits), None when unknown.
        wait_s_per_day: what users waited, seconds a day.
        evidence: numbers behind the claim; names carry units.
        example: one of them, of median duration.
    """

    name: str
    title: str
    remedy: str
    num: int
    share: float
    num_functions: int
    functions: tuple[tuple[str, int], ...]
    p50_s: float | None
    wait_s_per_day: float
    evidence: Evidence
    example: Example


@dataclass(frozen=True)
class Explanation:
    """What `explain` found.

    Attributes:
        source: what the trace was made from.
        regions: those looked at.
        days: length of the trace in days.
        num_requests: all requests.
        num_cold: cold starts, left-censored ones and those made ahead not counted.
        num_left_censored, num_ahead: those.
        keep_alives: by region.
        causes: most cold starts first; "piggybacked" last.
    """

    source: str
    regions: tuple[str, ...]
    days: float
    num_requests: int
    num_cold: int
    num_left_censored: int
    num_ahead: int
    keep_alives: dict[str, KeepAlive]
    causes: tuple[Cause, ...]


def explain(trace: Trace, *, regions: Sequence[str] | None = None, keep_alive_us: int | None = None) -> Explanation:
    """Rank the causes of a trace's cold starts.

    Args:
        trace: from logs, published or generated. Memory: see `history`.
        regions: only these.
        keep_alive_us: how long the platform keeps idle pods; inferred region by region by default.

    Raises:
        InputError: an unknown region, or nothing to explain.
    """
    chosen = tuple(regions or trace.regions)
    if not chosen:
        raise InputError(f"{trace.path}: the trace has no regions, so no cold starts to explain")
    keep_alives, labelled, piggybacked = {}, [], []
    num_requests, num_ahead = 0, 0
    for region in chosen:
        history = read_history(trace, region)
        keep_alives[region] = infer_keep_alive(history, keep_alive_us)
        found = label(history, keep_alives[region].keep_alive_us)
        labelled.append(_with_region(found, region))
        piggybacked.append(history.piggybacked.with_columns(region=pl.lit(region)))
        num_requests, num_ahead = num_requests + history.num_requests, num_ahead + history.num_ahead
    starts, waits = pl.concat(labelled, how="diagonal_relaxed"), pl.concat(piggybacked)
    if not starts.height and not trace.sql("select count(cold) as known from request").to_pylist()[0]["known"]:
        raise InputError(
            f"{trace.path}: it does not tell which requests were cold, so there is nothing to explain; "
            "simulate it: nonet coldstart simulate --cold-seconds 1"
        )
    days = max(((trace.end_us or 0) - (trace.start_us or 0)) / DAY_US, 1e-9)
    causes = [_cause(trace, str(name), part, starts.height, days) for (name,), part in starts.group_by(["cause"])]
    causes.sort(key=lambda cause: (-cause.num, list(TITLES).index(cause.name)))
    if waits.height:
        causes.append(_piggybacked(trace, waits, starts.height, days))
    return Explanation(
        source=trace.source,
        regions=chosen,
        days=days,
        num_requests=num_requests,
        num_cold=starts.height,
        num_left_censored=int(trace.notes.get("num_left_censored") or 0),
        num_ahead=num_ahead,
        keep_alives=keep_alives,
        causes=tuple(causes),
    )


def main_causes(trace: Trace, region: str, keep_alive_us: int | None = None) -> pl.DataFrame:
    """Every cold start of a region with its main cause: at_us, function, pod, request, total_us, cause, by time.

    Raises:
        InputError: as `explain`.
    """
    history: History = read_history(trace, region)
    starts = label(history, infer_keep_alive(history, keep_alive_us).keep_alive_us).starts
    return starts.select("at_us", "function", "pod", "request", "total_us", "cause")


def _with_region(labelled: Labelled, region: str) -> pl.DataFrame:
    """The starts with their region, and the period of their function where it has one."""
    periods = pl.DataFrame(
        {"f": list(labelled.periods), "period_us": [period.period_us for period in labelled.periods.values()]},
        {"f": pl.Int32, "period_us": pl.Int64},
    )
    return labelled.starts.with_columns(region=pl.lit(region)).join(periods, on="f", how="left", maintain_order="left")


def _cause(trace: Trace, name: str, part: pl.DataFrame, num_cold: int, days: float) -> Cause:
    counts = part.group_by("function").len().sort("len", "function", descending=[True, False])
    return Cause(
        name=name,
        title=TITLES[name],
        remedy=remedy_of(name, tuple(trace.notes.get("formats") or ())),
        num=part.height,
        share=part.height / num_cold,
        num_functions=counts.height,
        functions=tuple(counts.head(_NUM_FUNCTIONS).rows()),
        p50_s=p50_s(part["total_us"]),
        wait_s_per_day=float(part["wait_us"].sum()) / 1e6 / days,
        evidence=evidence_of(name, part),
        example=_example(trace, part),
    )


_STAGES = (
    "allocation_us", "code_us", "pull_us", "dependency_us", "scheduling_us", "init_us", "restore_us", "failed_init_us",
)  # fmt: skip


def _example(trace: Trace, part: pl.DataFrame) -> Example:
    known = part.filter(pl.col("total_us").is_not_null()).sort("total_us", "at_us")
    row = (known.slice(known.height // 2) if known.height else part).row(0, named=True)
    return Example(
        time=moment_text(trace, row["at_us"]),
        at_us=row["at_us"],
        region=row["region"],
        function=row["function"],
        pod=row["pod"],
        total_s=seconds(row["total_us"]),
        stages_s={name.removesuffix("_us"): row[name] / 1e6 for name in _STAGES if row[name] is not None},
    )


def _piggybacked(trace: Trace, waits: pl.DataFrame, num_cold: int, days: float) -> Cause:
    num, first = int(waits["num"].sum()), waits.row(0, named=True)
    return Cause(
        name="piggybacked",
        title="requests that only waited for a pod that another one had started",
        remedy=remedy_of("piggybacked", tuple(trace.notes.get("formats") or ())),
        num=num,
        share=num / num_cold if num_cold else 0.0,
        num_functions=waits.height,
        functions=tuple(waits.select("function", "num").head(_NUM_FUNCTIONS).rows()),
        p50_s=seconds(first["p50_us"]),
        wait_s_per_day=float(waits["wait_us"].sum()) / 1e6 / days,
        evidence={"mean_wait_s": float(waits["wait_us"].sum()) / 1e6 / num},
        example=Example(
            moment_text(trace, first["at_us"]), first["at_us"], first["region"], first["function"], None, None, {}
        ),
    )
