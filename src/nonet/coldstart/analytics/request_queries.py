"""Analyses of the request table: Figures 3, 4, 5, 6 and the CPU half of 7."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nonet.coldstart.analytics.queries import (
    DAY_US,
    MINUTE_US,
    attributes,
    count_by,
    log_histogram,
    slot,
)

if TYPE_CHECKING:
    import ibis.expr.types as ir

    from nonet.coldstart.analytics.engine import Tables

MIN_REQUESTS_PER_DAY = 100
"""Functions below are not drawn in Figure 6."""


def requests_per_region(t: Tables) -> ir.Table:
    """region, num."""
    return count_by(t.request, ["region"])


def median_day(t: Tables) -> ir.Table:
    """Requests of a function on its median day: region, function, median. Days without a call do not count."""
    from ibis import _

    days = count_by(t.request, ["region", "function", "day"])
    return days.group_by(["region", "function"]).agg(median=_.num.median().cast("float64"))


def median_day_histogram(t: Tables) -> ir.Table:
    """Figure 3a: functions by requests on their median day."""
    return log_histogram(median_day(t), "median", ["region"])


def _function_minutes(t: Tables) -> ir.Table:
    from ibis import _

    return (
        t.request.mutate(minute=slot(t.request.arrive_us, MINUTE_US), run_us=_.end_us - _.start_us)
        .group_by(["region", "function", "minute"])
        .agg(run_us=_.run_us.mean(), cpu_cores=_.cpu_cores.cast("float64").mean())
    )


def execution_histogram(t: Tables) -> ir.Table:
    """Figure 3b: function-minutes by their mean execution time in microseconds."""
    return log_histogram(_function_minutes(t), "run_us", ["region"])


def cpu_histogram(t: Tables) -> ir.Table:
    """Figure 3c: function-minutes by their mean CPU use in cores."""
    return log_histogram(_function_minutes(t), "cpu_cores", ["region"])


def functions_per_user(t: Tables) -> ir.Table:
    """Figure 4a: users by number of functions."""
    known = attributes(t)
    users = count_by(known.filter(known.user.notnull()), ["region", "user"])
    return log_histogram(users, "num", ["region"])


def requests_per_user(t: Tables) -> ir.Table:
    """Figure 4b: users by number of requests; users without any are left out."""
    from ibis import _

    calls = count_by(t.request, ["region", "function"])
    known = attributes(t)
    owned = calls.join(known.filter(known.user.notnull()), ["region", "function"])
    users = owned.group_by(["region", "user"]).agg(num=_.num.sum())
    return log_histogram(users, "num", ["region"])


def requests_per_minute(t: Tables) -> ir.Table:
    """Figure 5: region, minute, num."""
    return count_by(t.request.mutate(minute=slot(t.request.arrive_us, MINUTE_US)), ["region", "minute"])


def daily_profile(t: Tables, slot_us: int) -> ir.Table:
    """Figure 6: calls of each busy function by time of day, over all days: region, function, slot, num."""
    busy = busy_functions(t)
    calls = t.request.semi_join(busy, ["region", "function"])
    return count_by(calls.mutate(slot=slot(calls.arrive_us % DAY_US, slot_us)), ["region", "function", "slot"])


def busy_functions(t: Tables) -> ir.Table:
    """Functions with more than 100 requests on their median day: region, function, median, first_day, last_day."""
    from ibis import _

    days = count_by(t.request, ["region", "function", "day"])
    found = days.group_by(["region", "function"]).agg(
        median=_.num.median().cast("float64"), first_day=_.day.min(), last_day=_.day.max()
    )
    return found.filter(found["median"] > MIN_REQUESTS_PER_DAY)


def daily_cpu(t: Tables) -> ir.Table:
    """Figure 7: region, day, cores (mean CPU use over the requests of a day)."""
    from ibis import _

    measured = t.request.filter(t.request.cpu_cores.notnull())
    return measured.group_by(["region", "day"]).agg(cores=_.cpu_cores.cast("float64").mean())
