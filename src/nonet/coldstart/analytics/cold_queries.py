"""Analyses of the coldstart table: Figures 10-13, 15, 16 and the cold-start half of 14."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nonet.coldstart.analytics.queries import (
    HOUR_US,
    MINUTE_US,
    GroupBy,
    count_by,
    log_histogram,
    slot,
    with_attributes,
)

if TYPE_CHECKING:
    import ibis.expr.types as ir

    from nonet.coldstart.analytics.engine import Tables

PARTS = ("total", "code", "dependency", "scheduling", "allocation")
"""A cold start's whole and its four components (columns `*_us`)."""


def cold_histogram(t: Tables, part: str) -> ir.Table:
    """Figure 10a: cold starts by the time of `part` in microseconds, by region."""
    return log_histogram(t.coldstart, f"{part}_us", ["region"])


def gap_histogram(t: Tables) -> ir.Table:
    """Figure 10c: times between a cold start and the one before it in its region, in microseconds."""
    import ibis

    order = ibis.window(group_by="region", order_by="at_us")
    gaps = t.coldstart.select("region", gap_us=t.coldstart.at_us - t.coldstart.at_us.lag().over(order))
    return log_histogram(gaps, "gap_us", ["region"])


def cold_histogram_by(t: Tables, part: str, by: GroupBy) -> ir.Table:
    """Figures 13, 15, 16: cold starts by the time of `part`, by region and an attribute of the function.

    A dependency time of 0 (a function without layers) is left out, as in the paper.
    """
    column = f"{part}_us"
    facts = t.coldstart.select("region", "function", column)
    if part == "dependency":
        facts = facts.filter(facts[column] > 0)
    return log_histogram(with_attributes(t, facts, [by]), column, ["region", by])


def cold_per_function(t: Tables) -> ir.Table:
    """Figures 6b, 14: region, function, num."""
    return count_by(t.coldstart, ["region", "function"])


def hourly_parts(t: Tables) -> ir.Table:
    """Figure 11: region, hour, num, and the mean of each part in microseconds."""
    return _part_means(t, "hour", HOUR_US)


def minute_parts(t: Tables) -> ir.Table:
    """Figure 12: region, minute, num, and the mean of each part in microseconds, of minutes with a cold start."""
    return _part_means(t, "minute", MINUTE_US)


def _part_means(t: Tables, name: str, width_us: int) -> ir.Table:
    from ibis import _

    means = {part: _[f"{part}_us"].mean() for part in PARTS}
    return (
        t.coldstart.mutate(**{name: slot(t.coldstart.at_us, width_us)})
        .group_by(["region", name])
        .agg(num=_.count(), **means)
    )


def cold_by(t: Tables, by: GroupBy) -> ir.Table:
    """Figure 8d-f: cold starts by region and an attribute of the function."""
    return count_by(with_attributes(t, t.coldstart.select("region", "function"), [by]), ["region", by])
