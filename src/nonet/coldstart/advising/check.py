"""The gate for CI: does a trace keep to a cold start rate and a response time?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from nonet.common.errors import InputError

if TYPE_CHECKING:
    from nonet.coldstart.trace.store import Trace


@dataclass(frozen=True)
class Violation:
    """A bound that does not hold.

    Attributes:
        what: "cold rate" or "p99".
        region: where, "all" for the whole trace.
        function: which, None for all functions together.
        value, bound: what was found and what was asked for; shares, or seconds.
        num_requests: how many requests the value is of.
    """

    what: str
    region: str
    function: str | None
    value: float
    bound: float
    num_requests: int


def check(
    trace: Trace,
    *,
    max_cold_rate: float | None = None,
    max_p99_s: float | None = None,
    by_function: bool = False,
    min_requests: int = 100,
) -> list[Violation]:
    """The bounds that a trace breaks, worst first; empty when all hold.

    Args:
        trace: with requests.
        max_cold_rate: bound of cold requests per request, 0 to 1; requests of which nobody knows are left out.
        max_p99_s: bound of the 99th percentile of end - arrival, in seconds.
        by_function: each function with `min_requests` requests must keep to the bounds too.
        min_requests: see `by_function`.

    Raises:
        InputError: no bound, a bound out of range, or a trace that cannot answer.
    """
    if max_cold_rate is None and max_p99_s is None:
        raise InputError("nothing to check; give max_cold_rate, max_p99_s or both")
    if max_cold_rate is not None and not 0 <= max_cold_rate <= 1:
        raise InputError(f"max_cold_rate must lie between 0 and 1, got {max_cold_rate:g}")
    if max_p99_s is not None and not max_p99_s >= 0:
        raise InputError(f"max_p99_s must be at least 0, got {max_p99_s:g}")
    if not trace.counts.get("request"):
        raise InputError(f"{trace.path}: no requests, so neither a rate nor a response time to check")
    groups = [_numbers(trace, [])]
    if by_function:
        numbers = _numbers(trace, ["region", "function"])
        groups.append(numbers.filter(pl.col("requests") >= min_requests))
    whole = groups[0].row(0, named=True)
    if max_cold_rate is not None and not whole["known"]:
        raise InputError(f"{trace.path}: of no request is it known whether it was cold; simulate the trace instead")
    if max_p99_s is not None and not whole["ended"]:
        raise InputError(f"{trace.path}: no request has an end, so there are no response times to check")
    found = []
    for row in pl.concat(groups, how="diagonal").iter_rows(named=True):
        for what, bound, num in (("cold rate", max_cold_rate, "known"), ("p99", max_p99_s, "ended")):
            value = row["cold_rate" if what == "cold rate" else "p99_s"]
            if bound is not None and value is not None and value > bound:
                region = row.get("region") or "all"
                found.append(Violation(what, region, row.get("function"), float(value), bound, row[num]))
    return sorted(found, key=lambda v: (v.function is not None, -v.value / v.bound if v.bound else -v.value))


def _numbers(trace: Trace, keys: list[str]) -> pl.DataFrame:
    """requests, known (whether cold), cold_rate, ended, p99_s of each group, out of core."""
    names = ", ".join(keys)
    query = f"""select {names + "," if keys else ""} count(*) as requests, count(cold) as known,
        avg(cold::int) as cold_rate, count(end_us) as ended,
        quantile_disc(end_us - arrive_us, 0.99) / 1e6 as p99_s
        from request {"group by " + names if keys else ""}"""
    return pl.DataFrame(pl.from_arrow(trace.sql(query)))
