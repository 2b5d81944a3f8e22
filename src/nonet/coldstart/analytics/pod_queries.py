"""Analyses of pods and of functions: Figures 1, 7, 8, 9, 14 and 17."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nonet.coldstart.analytics.queries import GroupBy, attributes, count_by, log_histogram, slot, with_attributes

if TYPE_CHECKING:
    import ibis.expr.types as ir

    from nonet.coldstart.analytics.engine import Tables

KEEP_ALIVE_US = 60_000_000
"""The platform's keep-alive after the last request."""


def pods_per_region(t: Tables) -> ir.Table:
    """Figure 1: region, num."""
    return count_by(t.pod, ["region"])


def functions_per_region(t: Tables) -> ir.Table:
    """Figure 1: region, num, over the functions that any table names."""
    from ibis import _

    named = t.function.select("region", "function").distinct()
    for facts in (t.request, t.coldstart):
        named = named.union(facts.select("region", "function").distinct())
    return named.distinct().group_by("region").agg(num=_.count())


def pod_lives(t: Tables, end_us: int) -> ir.Table:
    """region, function, create_us, end_us of every pod; one without an end lives to the end of the trace."""
    import ibis
    from ibis import _

    lives = t.pod.select(
        "region",
        "function",
        create_us=ibis.coalesce(t.pod.create_us, t.pod.ready_us),
        end_us=ibis.coalesce(t.pod.end_us, end_us),
    )
    return lives.filter(_.create_us.notnull())


def pod_lives_from_requests(t: Tables) -> ir.Table:
    """The same for a trace without a pod table: from a pod's first request to 60 s after the end of its last."""
    import ibis
    from ibis import _

    calls = t.request.filter(t.request.pod.notnull())
    ends = calls.group_by(["region", "function", "pod"]).agg(
        create_us=_.arrive_us.min(), end_us=ibis.coalesce(_.end_us.max(), _.arrive_us.max()) + KEEP_ALIVE_US
    )
    return ends.select("region", "function", "create_us", "end_us")


def running_changes(t: Tables, lives: ir.Table, by: GroupBy | None, width_us: int) -> ir.Table:
    """Figures 7, 8: how the number of running pods changes: region, [by,] slot, delta, area_us.

    `delta` is pods begun minus pods ended within the slot; `area_us` what these changes add to the pod-microseconds of
    their own slot. With P pods running at its beginning, a slot holds P * width + area pod-microseconds, exactly; the
    running sum of delta gives P (`figures` does that over the few rows left).
    """
    from ibis import _

    facts = lives if by is None else with_attributes(t, lives, [by])
    keys = ["region"] if by is None else ["region", by]
    begun = facts.select(*keys, at_us=facts.create_us, change=1)
    ended = facts.select(*keys, at_us=facts.end_us, change=-1)
    both = begun.union(ended)
    both = both.mutate(slot=slot(both.at_us, width_us))
    rest_us = (both.slot + 1) * width_us - both.at_us
    return (
        both.mutate(area=both.change * rest_us)
        .group_by([*keys, "slot"])
        .agg(delta=_.change.sum(), area_us=_.area.sum())
    )


def functions_by(t: Tables, by: GroupBy) -> ir.Table:
    """Figure 8d-f: functions by region and attribute, over those that are described or started cold."""
    named = t.function.select("region", "function").union(t.coldstart.select("region", "function")).distinct()
    return count_by(with_attributes(t, named, [by]), ["region", by])


def functions_by_runtime_and_trigger(t: Tables) -> ir.Table:
    """Figure 9: region, runtime, trigger, num."""
    return count_by(attributes(t), ["region", "runtime", "trigger"])


def function_points(t: Tables) -> ir.Table:
    """Figure 14: region, function, trigger, requests, cold_starts; a function without one of the two has 0 there."""
    from ibis import _

    requests = t.request.group_by(["region", "function"]).agg(requests=_.count())
    requests = requests.mutate(cold_starts=requests.requests * 0)
    colds = t.coldstart.group_by(["region", "function"]).agg(cold_starts=_.count())
    colds = colds.mutate(requests=colds.cold_starts * 0).select("region", "function", "requests", "cold_starts")
    both = requests.union(colds).group_by(["region", "function"])
    return with_attributes(t, both.agg(requests=_.requests.sum(), cold_starts=_.cold_starts.sum()), ["trigger"])


def utility_histogram(t: Tables, by: GroupBy, *, from_requests: bool) -> ir.Table:
    """Figure 17: pods by (end of last request - ready) / cold-start time, by region and an attribute of the function.

    The paper's lifetime minus keep-alive; deletion logs were not released, and the authors advise the end of the last
    request. A pod is ready when its cold start is over, unless the pod table says otherwise. Pod names that were used
    again count once, by their first cold start.

    Args:
        t: the tables.
        by: "runtime" or "trigger".
        from_requests: take the last end from the requests of a pod; else it is the end of the pod minus 60 s.
    """
    import ibis
    from ibis import _

    keys = ["region", "function", "pod"]
    timed = t.coldstart.filter(t.coldstart.pod.notnull() & (t.coldstart.total_us > 0))
    starts = timed.group_by(keys).agg(total_us=_.total_us.argmin(_.at_us), begun_us=_.at_us.min())
    if from_requests:
        ran = t.request.filter(t.request.pod.notnull() & t.request.end_us.notnull())
        ends = ran.group_by(keys).agg(last_us=_.end_us.max())
    else:
        ends = t.pod.group_by(keys).agg(last_us=_.end_us.max() - KEEP_ALIVE_US)
    ready = t.pod.group_by(keys).agg(ready_us=_.ready_us.min())
    joined = starts.join(ends, keys).left_join(ready, keys, rname="{name}_right")
    spans = joined.select(
        "region",
        "function",
        ratio=(joined.last_us - ibis.coalesce(joined.ready_us, joined.begun_us + joined.total_us)) / joined.total_us,
    )
    return log_histogram(with_attributes(t, spans, [by]), "ratio", ["region", by])
