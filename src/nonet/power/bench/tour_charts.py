"""Charts for the tour: the fitted base row beside the published statistics, and four policies at 30 % more servers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import altair as alt
import numpy as np
import polars as pl

from nonet.power.bench.headline import ADDED, POLICY_NAMES, PRESET, RELEASE
from nonet.power.load.base_row import BaseRow, load_base_row
from nonet.power.load.fit import PUBLISHED
from nonet.power.load.rises import rise
from nonet.power.policies.protocol import Priority
from nonet.power.policies.registry import build_policy
from nonet.power.simulating.engine import simulate
from nonet.power.simulating.impact import impact
from nonet.power.simulating.result import Result

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DAYS = 7.0
_SEED = 1
_STRIP_TICKS = 150  # five minutes
_WINDOWS_S = (2, 4, 6, 10, 14, 20, 30, 40)
_CURVE_ADDED = (0.0, 0.1, 0.2, 0.25, 0.3, 0.35, 0.4)
_CURVE_DAYS = 2.0
_QUANTILES = (0.5, 0.9, 0.99)


def charts() -> list[tuple[str, alt.TopLevelMixin]]:
    """Title and chart of each; a week of the row is simulated anew, under the findings' rule of release."""
    base = load_base_row(PRESET)
    row, load = base.row(ADDED), base.load(days=_DAYS, seed=_SEED, added=ADDED)
    uncapped = simulate(row, load)
    results = {name: simulate(row, load, policy=build_policy(name, release=RELEASE)) for name in POLICY_NAMES}
    return [
        ("Base row of 40 servers: largest rise within a time, beside the published row", _rises(base)),
        (f"{row.num_servers} servers under the same budget: row power over a week", _ribbon(results)),
        ("What each policy costs: latency against no budget, and brakes", _impacts(results, uncapped)),
        ("POLCA with more and more servers: latency against no budget", _planner_curve(base)),
    ]


def _rises(base: BaseRow) -> alt.TopLevelMixin:
    """Largest rise by window over a week; the published points are of six weeks."""
    power_w = simulate(base.row(), base.load(days=_DAYS, seed=_SEED), drain_s=0.0).row_w[300:]
    u = power_w.astype(np.float64) / base.budget_w
    ours = [{"window s": w, "share of the budget": rise(u, w), "row": "fitted, one week"} for w in _WINDOWS_S]
    published = [
        {"window s": 2, "share of the budget": PUBLISHED.rise_2s, "row": "published, six weeks"},
        {"window s": 40, "share of the budget": PUBLISHED.rise_40s, "row": "published, six weeks"},
    ]
    axes = {
        "x": alt.X("window s:Q", title="within, seconds"),
        "y": alt.Y("share of the budget:Q", title="largest rise, share of the budget", axis=alt.Axis(format="%")),
        "color": alt.Color("row:N", title=None),
    }
    lines = alt.Chart(alt.Data(values=ours)).mark_line(point=True).encode(**axes)
    points = alt.Chart(alt.Data(values=published)).mark_point(size=140, shape="diamond", filled=True).encode(**axes)
    return alt.layer(lines, points).properties(width=420, height=240)


def _ribbon(results: dict[str, Result]) -> alt.TopLevelMixin:
    """Lowest and highest sample of every five minutes, by policy, with budget and thresholds."""
    frames = [_strips(name, results[name]) for name in ("no-cap", "polca")]
    values = pl.concat(frames).to_dicts()
    ribbon = (
        alt.Chart(alt.Data(values=values))
        .mark_area(opacity=0.6)
        .encode(
            x=alt.X("day:Q", title="day"),
            y=alt.Y("low:Q", title="row power / budget", scale=alt.Scale(zero=False), axis=alt.Axis(format="%")),
            y2="high:Q",
            color=alt.Color("policy:N", title=None),
        )
    )
    lines = [{"at": 1.0, "line": "breaker: 100 %"}, {"at": 0.89, "line": "T2"}, {"at": 0.80, "line": "T1"}]
    rules = alt.Chart(alt.Data(values=lines)).mark_rule(strokeDash=[5, 4]).encode(y="at:Q")
    names = alt.Chart(alt.Data(values=lines)).mark_text(align="left", dx=4, dy=-6, x=0).encode(y="at:Q", text="line:N")
    return alt.layer(ribbon, rules, names).properties(width=720, height=260)


def _strips(name: str, result: Result) -> pl.DataFrame:
    u: NDArray[np.float64] = result.utilization[300 : int(_DAYS * 43_200)].astype(np.float64)
    strips = u[: len(u) // _STRIP_TICKS * _STRIP_TICKS].reshape(-1, _STRIP_TICKS)
    days = (300 + np.arange(len(strips)) * _STRIP_TICKS) * result.period_s / 86_400
    return pl.DataFrame({"day": days, "low": strips.min(axis=1), "high": strips.max(axis=1), "policy": name})


def _impacts(results: dict[str, Result], uncapped: Result) -> alt.TopLevelMixin:
    values = []
    for name, result in results.items():
        for priority, cost in impact(result, uncapped).items():
            for q, value in zip(_QUANTILES, (cost.p50, cost.p90, cost.p99), strict=True):
                label = f"{name} ({result.brakes} brakes)"
                values.append(_cost(label, priority, value) | {"quantile": f"p{round(q * 100)}"})
    return (
        alt.Chart(alt.Data(values=values))
        .mark_bar()
        .encode(
            x=alt.X("more latency:Q", title="more latency", axis=alt.Axis(format="+%")),
            y=alt.Y("policy:N", title=None, sort=None),
            color=alt.Color("class:N", title=None),
            yOffset="class:N",
            column=alt.Column("quantile:N", title=None),
        )
        .properties(width=190, height=170)
    )


def _planner_curve(base: BaseRow) -> alt.TopLevelMixin:
    """What more servers cost, two days each."""
    values = []
    for added in _CURVE_ADDED:
        row, load = base.row(added), base.load(days=_CURVE_DAYS, seed=_SEED, added=added)
        result = simulate(row, load, policy=build_policy("polca", release=RELEASE))
        for priority, cost in impact(result, simulate(row, load)).items():
            for name, value in (("p50", cost.p50), ("p99", cost.p99)):
                values.append({"added": added, "brakes": result.brakes, "quantile": name, **_cost("", priority, value)})
    return (
        alt.Chart(alt.Data(values=values))
        .mark_line(point=True)
        .encode(
            x=alt.X("added:Q", title="servers added under the same budget", axis=alt.Axis(format="%")),
            y=alt.Y("more latency:Q", title="more latency", axis=alt.Axis(format="+%")),
            color=alt.Color("class:N", title=None),
            strokeDash=alt.StrokeDash("quantile:N", title=None),
            tooltip=["added:Q", "class:N", "quantile:N", "more latency:Q", "brakes:Q"],
        )
        .properties(width=420, height=240)
    )


def _cost(policy: str, priority: Priority, value: float) -> dict[str, str | float]:
    return {"policy": policy, "class": f"{priority.name.lower()} priority", "more latency": value}
