"""The planner's charts, as functions from results to Altair charts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import altair as alt

from nonet.common.plots import PALETTE
from nonet.power.planning.answers import PolicyPlan
from nonet.power.planning.outcome import LATENCY_QS, Outcome
from nonet.power.planning.ribbon import LEVELS
from nonet.power.planning.slo import LATENCIES, Slo, name_of
from nonet.power.planning.sweep import Sweep, label

_COLORS = dict(zip(LATENCIES, (PALETTE[0], PALETTE[7], PALETTE[1], PALETTE[6]), strict=True))
_CLASS_COLORS = {"high priority": PALETTE[0], "low priority": PALETTE[1]}
_MOST = 10.0
"""Impacts beyond 1,000 % (and runs that never ended) are drawn at the top."""
_RED, _GREY = "#c0392b", "#8a929b"


def pareto_chart(found: PolicyPlan, slo: Slo) -> alt.LayerChart | alt.FacetChart:
    """Added servers against the latency impact of the worst seed, by class and quantile; sizes that brake are crossed.

    The axis is linear up to 1 % and logarithmic above; dashed lines are the limits.

    Args:
        found: the plan of one policy.
        slo: its limits.
    """
    points = [
        {
            "added": step.fraction,
            "impact": _drawn(step.impact[name]),
            "limit": name_of(name),
            "brakes": step.brakes,
            "kind": "brakes" if step.brakes else "no brake",
        }
        for step in found.steps
        for name in LATENCIES
        if name in step.impact
    ]
    names = [name_of(name) for name in LATENCIES]
    color = alt.Color(
        "limit:N", title=None, sort=names, scale=alt.Scale(domain=names, range=[_COLORS[name] for name in LATENCIES])
    )
    x = alt.X("added:Q", title="added servers", axis=alt.Axis(format="%"))
    shown = [value for name, value in slo.limits.items() if name in LATENCIES]
    scale = alt.Scale(type="symlog", constant=0.01, domain=[0, max([0.1, *shown, *(p["impact"] for p in points)])])
    ticks = [0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10]
    y = alt.Y("impact:Q", title="latency impact, worst seed", scale=scale, axis=alt.Axis(format="%", values=ticks))
    base = alt.Chart(alt.Data(values=points), width=600, height=300).encode(x=x, y=y, color=color)
    shape = alt.Shape(
        "kind:N", title=None, scale=alt.Scale(domain=["no brake", "brakes"], range=["circle", "cross"]), sort=None
    )
    tips = ["limit:N", alt.Tooltip("added:Q", format=".1%"), alt.Tooltip("impact:Q", format=".2%"), "brakes:Q"]
    marks = base.mark_point(size=70).encode(shape=shape, tooltip=tips)
    limits = [
        {"impact": value, "limit": name_of(name)} for name, value in slo.limits.items() if name in LATENCIES and points
    ]
    rules = alt.Chart(alt.Data(values=limits)).mark_rule(strokeDash=[4, 3], opacity=0.7).encode(y=y, color=color)
    return alt.layer(rules, base.mark_line(), marks, _answer_rule(found))


def _answer_rule(found: PolicyPlan) -> alt.Chart:
    values = [{"added": found.fraction, "what": "the answer"}] if found.base_holds else []
    return alt.Chart(alt.Data(values=values)).mark_rule(color=_GREY).encode(x="added:Q", tooltip="what:N")


def _drawn(impact: float) -> float:
    return _MOST if not math.isfinite(impact) else min(max(impact, 0.0), _MOST)


def policies_chart(plans: Iterable[PolicyPlan]) -> alt.Chart:
    """Brakes of the worst seed by added servers and policy; no brake is drawn at 0."""
    points = [
        {"added": step.fraction, "brakes": step.brakes, "policy": plan.policy} for plan in plans for step in plan.steps
    ]
    y = alt.Y(
        "brakes:Q",
        title="brakes, worst seed",
        scale=alt.Scale(type="symlog"),
        axis=alt.Axis(format="~s", tickMinStep=1),
    )
    x = alt.X("added:Q", title="added servers", axis=alt.Axis(format="%"))
    tips = ["policy:N", alt.Tooltip("added:Q", format=".1%"), "brakes:Q"]
    base = alt.Chart(alt.Data(values=points), width=600, height=240)
    return base.mark_line(point=True).encode(x=x, y=y, color=alt.Color("policy:N", title=None), tooltip=tips)


def heat_map(sweep: Sweep) -> alt.LayerChart | alt.FacetChart:
    """Thresholds against added servers: colour is the part of the latency limits used, the number counts brakes."""
    cells = [_cell(row) for row in sweep.rows()]
    pairs = [label(pair) for pair in sweep.pairs]
    x = alt.X("added:O", title="added servers", axis=alt.Axis(labelAngle=0), sort=None)
    y = alt.Y("thresholds:N", title="T1-T2, percent of the budget", sort=pairs)
    return _cells(alt.Chart(alt.Data(values=cells), width=600, height=36 * len(pairs)), x, y)


def threshold_map(sweep: Sweep, added: int | None = None) -> alt.LayerChart | alt.FacetChart:
    """T1 against T2 at one number of added servers, the largest by default; colours and numbers as in `heat_map`."""
    number = sweep.added[-1] if added is None else added
    cells = [_cell(row) for row in sweep.rows() if row["added"] == number]
    x = alt.X("t1:O", title="T1", axis=alt.Axis(format=".3~%", labelAngle=0))
    y = alt.Y("t2:O", title="T2", axis=alt.Axis(format=".3~%"), sort="descending")
    return _cells(alt.Chart(alt.Data(values=cells), width=480, height=300), x, y)


def _cell(row: Mapping[str, Any]) -> dict[str, Any]:
    names = ("t1", "t2", "thresholds", "brakes")
    used = row["slo_used"]
    return {
        **{name: row[name] for name in names},
        "added": f"+{row['fraction']:.1%}",
        "used": min(used, 2.0) if math.isfinite(used) else 2.0,
        "text": f"{row['brakes']:,}" if row["brakes"] else "",
        "verdict": "holds" if row["holds"] else "breaks a limit",
        **{name: _drawn(row[name]) for name in LATENCIES if name in row},
    }


def _cells(chart: alt.Chart, x: alt.X, y: alt.Y) -> alt.LayerChart | alt.FacetChart:
    scale = alt.Scale(domain=[0, 1, 2], range=["#dcebdc", "#f0d9a8", "#c9605a"])
    impacts = [alt.Tooltip(f"{name}:Q", format=".2%", title=name_of(name)) for name in LATENCIES]
    tips = ["thresholds:N", "added:N", "verdict:N", "brakes:Q", *impacts]
    color = alt.Color("used:Q", title="part of the latency limit used", scale=scale, legend=alt.Legend(format="%"))
    rects = chart.mark_rect().encode(x=x, y=y, color=color, tooltip=tips)
    # Dark on every cell colour, whatever the page's background.
    texts = chart.mark_text(fontWeight="bold").encode(x=x, y=y, text="text:N", color=alt.value("#5a1410"))
    return alt.layer(rects, texts)


def ribbon_chart(outcome: Outcome, thresholds: Mapping[str, float]) -> alt.VConcatChart:
    """Row power over budget by hour (extremes, 5 % to 95 %, median), and minute by minute on the worst day.

    Args:
        outcome: the run to show.
        thresholds: by name; drawn as dashed lines, the budget as a full one.
    """
    found = outcome.ribbon
    hours = [
        {"x": hour / 24, **{f"q{i}": round(float(value), 4) for i, value in enumerate(row)}}
        for hour, row in enumerate(found.hours)
    ]
    x = alt.X("x:Q", title="day", scale=alt.Scale(nice=False))
    low = min([float(found.hours.min()), *thresholds.values()])
    high = max([1.0, float(found.hours.max()), *thresholds.values()])
    scale = alt.Scale(domain=[max(0.0, low - 0.02), high + 0.02], nice=False)
    base = alt.Chart(alt.Data(values=hours), width=600, height=220).encode(x=x)
    bands = [
        base.mark_area(opacity=opacity).encode(y=_power(f"q{a}", scale), y2=f"q{b}:Q")
        for a, b, opacity in ((0, len(LEVELS) - 1, 0.25), (1, len(LEVELS) - 2, 0.45))
    ]
    median = base.mark_line(strokeWidth=1.2).encode(y=_power("q2", scale))
    week = alt.layer(*bands, median, *_lines(thresholds, scale))
    return alt.vconcat(week, _worst_day(outcome, thresholds, scale), spacing=20)


def _worst_day(outcome: Outcome, thresholds: Mapping[str, float], scale: alt.Scale) -> alt.LayerChart | alt.FacetChart:
    found = outcome.ribbon
    minutes = [
        {"x": minute / 60, "mean": round(float(mean), 4), "most": round(float(most), 4)}
        for minute, (mean, most) in enumerate(found.minutes)
    ]
    title = f"day {found.worst_day}, hour"
    base = alt.Chart(alt.Data(values=minutes), width=600, height=220).encode(
        x=alt.X("x:Q", title=title, scale=alt.Scale(nice=False))
    )
    most = base.mark_line(strokeWidth=0.8, color=PALETTE[1]).encode(y=_power("most", scale))
    mean = base.mark_line(strokeWidth=0.8).encode(y=_power("mean", scale))
    return alt.layer(most, mean, *_lines(thresholds, scale))


def _power(name: str, scale: alt.Scale) -> alt.Y:
    return alt.Y(f"{name}:Q", title="power over budget", scale=scale, axis=alt.Axis(format="%"))


def _lines(thresholds: Mapping[str, float], scale: alt.Scale) -> list[alt.Chart]:
    dashed = [{"u": value, "name": name} for name, value in thresholds.items() if name != "brake_at"]
    rules = alt.Chart(alt.Data(values=dashed)).mark_rule(strokeDash=[4, 3], color=_GREY)
    budget = alt.Chart(alt.Data(values=[{"u": 1.0, "name": "budget"}])).mark_rule(color=_RED)
    return [rule.encode(y=_power("u", scale), tooltip=["name:N", "u:Q"]) for rule in (rules, budget)]


def latency_chart(outcome: Outcome) -> alt.Chart:
    """Quantiles of the end-to-end latency by class, under the policy (full) and without a budget (dashed).

    What never ended is left out.
    """
    names = {"hp": "high priority", "lp": "low priority"}
    runs = (outcome.policy, "without a budget")
    points = [
        {"q": q, "seconds": round(float(value), 4), "class": names[name], "run": run}
        for name, both in outcome.latency_s.items()
        for run, row in zip(runs, both, strict=True)
        for q, value in zip(LATENCY_QS, row, strict=True)
        if math.isfinite(value)
    ]
    scale = alt.Scale(domain=list(_CLASS_COLORS), range=list(_CLASS_COLORS.values()))
    dash = alt.Scale(domain=list(runs), range=[[1, 0], [5, 4]])
    base = alt.Chart(alt.Data(values=points), width=600, height=260)
    return base.mark_line().encode(
        x=alt.X("q:Q", title="quantile of the requests", axis=alt.Axis(format="%")),
        y=alt.Y("seconds:Q", title="arrival to last token, s", scale=alt.Scale(type="log", nice=False)),
        color=alt.Color("class:N", title=None, scale=scale),
        strokeDash=alt.StrokeDash("run:N", title=None, scale=dash),
        tooltip=["class:N", "run:N", alt.Tooltip("q:Q", format=".1%"), "seconds:Q"],
    )


def seeds_chart(plans: Sequence[PolicyPlan]) -> alt.LayerChart | alt.FacetChart:
    """Servers that fit by policy: each seed a point, the answer a tick, the interval of the mean limit a bar."""
    points = [
        {"policy": plan.policy, "added": max(0, added) / plan.num_servers, "seed": seed}
        for plan in plans
        for seed, added in plan.by_seed.items()
    ]
    bars = [
        {"policy": p.policy, "low": max(0.0, p.interval.low), "high": p.interval.high}
        for p in plans
        if p.interval is not None and math.isfinite(p.interval.high)
    ]
    answers = [{"policy": plan.policy, "added": plan.fraction} for plan in plans]
    y = alt.Y("policy:N", title=None, sort=[plan.policy for plan in plans])
    x = alt.X("added:Q", title="added servers", axis=alt.Axis(format="%"))
    spans = alt.Chart(alt.Data(values=bars), width=600).mark_bar(height=6, opacity=0.35)
    dots = alt.Chart(alt.Data(values=points)).mark_point(size=60).encode(x=x, y=y, tooltip=["policy:N", "seed:Q"])
    ticks = alt.Chart(alt.Data(values=answers)).mark_tick(thickness=3, color=_RED).encode(x=x, y=y)
    return alt.layer(spans.encode(x=alt.X("low:Q", title="added servers"), x2="high:Q", y=y), dots, ticks)
