"""The parts of every analysis: tables joined with what is known of a function, histograms over the logarithm, counts.

Every function takes the unbound tables of `engine.tables()` and gives an Ibis expression whose result is small: groups
times bins, minutes or hours, never rows of the trace. Nothing here runs; the same expression is compiled for DuckDB
and for Spark. `request_queries`, `cold_queries` and `pod_queries` build the figures from these.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from nonet.coldstart.analytics.curve import BINS_PER_DECADE, NOT_POSITIVE

if TYPE_CHECKING:
    import ibis.expr.types as ir

    from nonet.coldstart.analytics.engine import Tables

MINUTE_US = 60_000_000
HOUR_US = 3_600_000_000
DAY_US = 86_400_000_000

KEPT_TRIGGERS = ("TIMER-A", "OBS-A", "APIG-S", "workflow-S")
"""Trigger names that the paper shows; its others are folded into "other S" and "other A" by their ending."""

UNKNOWN = "unknown"
SMALL_MILLICORES, SMALL_MB = 400, 256

GroupBy = Literal["trigger", "runtime", "size_class", "pool"]


def attributes(t: Tables) -> ir.Table:
    """One row a function: region, function, user, trigger (folded), runtime, size_class ("300-128"), pool.

    Triggers are folded as in the paper; names of other platforms stay as they are.
    A function with several triggers ("APIG-S, TIMER-A") goes by the ending of the last. `pool` is "small" up
    to 400 millicores and 256 MB, else "large" (Figure 13).
    """
    import ibis
    from ibis import _

    known = t.function.group_by(["region", "function"]).agg(
        user=_.user.max(),
        raw_trigger=_.trigger.max(),
        raw_runtime=_.runtime.max(),
        cpu=_.cpu_millicores.max(),
        memory=_.memory_mb.max(),
    )
    is_small = (known.cpu <= SMALL_MILLICORES) & (known.memory <= SMALL_MB)
    is_sized = known.cpu.notnull() & known.memory.notnull()
    name = known.cpu.cast("string").concat("-").concat(known.memory.cast("string"))
    return known.select(
        "region",
        "function",
        "user",
        trigger=_folded_trigger(known.raw_trigger),
        runtime=ibis.coalesce(known.raw_runtime, UNKNOWN),
        size_class=ibis.ifelse(is_sized, name, UNKNOWN),
        pool=ibis.cases((~is_sized, UNKNOWN), (is_small, "small"), else_="large"),
    )


def _folded_trigger(trigger: ir.StringValue) -> ir.StringValue:
    import ibis

    return ibis.cases(
        (trigger.isnull() | trigger.startswith("unknown") | (trigger == ""), UNKNOWN),
        (trigger.isin(KEPT_TRIGGERS), trigger),
        (trigger.endswith("-S"), "other S"),
        (trigger.endswith("-A"), "other A"),
        else_=trigger,
    )


def with_attributes(t: Tables, facts: ir.Table, by: Sequence[str]) -> ir.Table:
    """The facts with attributes of their function; "unknown" for a function that the trace does not describe."""
    import ibis

    known = attributes(t).select("region", "function", *by)
    joined = facts.left_join(known, ["region", "function"])
    return joined.select(
        *[facts[name] for name in facts.columns],
        **{name: ibis.coalesce(known[name], UNKNOWN) for name in by},
    )


def log_histogram(facts: ir.Table, value: str, by: Sequence[str]) -> ir.Table:
    """Bins of width 1/200 decade a group: by, bin, num, low, high (smallest and largest value of the bin).

    Cumulative shares at `low` and `high` are exact; quantiles are off by less than a bin, 1.16 %. Values <= 0 share
    one bin. Nulls are left out.
    """
    from ibis import _

    present = facts.filter(facts[value].notnull())
    return (
        present.mutate(bin=log_bin(present[value]))
        .group_by([*by, "bin"])
        .agg(num=_.count(), low=_[value].min(), high=_[value].max())
    )


def log_bin(value: ir.NumericValue) -> ir.IntegerValue:
    """The bin of a value."""
    import ibis

    number = value.cast("float64")
    inside = (ibis.greatest(number, ibis.literal(1e-12)).log10() * BINS_PER_DECADE).floor().cast("int64")
    return ibis.ifelse(number > 0, inside, NOT_POSITIVE)


def slot(time_us: ir.IntegerValue, width_us: int) -> ir.IntegerValue:
    """The number of the slot of `width_us` that a moment lies in."""
    return (time_us / width_us).floor().cast("int64")


def count_by(facts: ir.Table, by: Sequence[str]) -> ir.Table:
    """Rows of each group: by, num."""
    from ibis import _

    return facts.group_by(list(by)).agg(num=_.count())
