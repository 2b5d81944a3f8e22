"""Charts for the tour: generated Region 2 beside the published curves, and policies by cold starts and idle memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nonet.coldstart.analytics.charts import OURS, PUBLISHED, figure_chart
from nonet.coldstart.analytics.curve import Curve, curve_of_values, published_curve
from nonet.coldstart.analytics.distances import ks
from nonet.coldstart.analytics.figures import FIGURES
from nonet.coldstart.analytics.result import law_result
from nonet.coldstart.bench.generator import cold_events, published_curves, without_busiest
from nonet.coldstart.generating.components import RUNTIMES
from nonet.coldstart.generating.curves import table
from nonet.coldstart.generating.presets import HuaweiWorkload, generate

if TYPE_CHECKING:
    import altair as alt
    import polars as pl

_REGION = "R2"
_SHOWN_RUNTIMES = ("Node.js", "Python3", "Java", "Custom")
_POLICY_SCALE, _POLICY_DAYS = 0.04, 3
_KEEP_ALIVES = ("ka:10", "ka:30", "ka:60", "ka:120", "ka:300", "ka:600", "ka:1800")
_POLICIES = ("hist", "gd:4GB", "spes", "kpa", "paper:timer", "paper:timer+keepalive")
_FUNCTION_SCALE, _WITHOUT_BUSIEST = 0.2, 10


def charts() -> list[tuple[str, alt.TopLevelMixin]]:
    """Title and chart of each; everything is drawn, generated and simulated anew (about 15 seconds on two cores)."""
    workload = generate("huawei2025:R2", events="cold")
    if not isinstance(workload, HuaweiWorkload):
        raise TypeError("huawei2025 makes a HuaweiWorkload")
    events = cold_events(workload, _REGION)
    times, gaps = _times(workload, events), _gaps(events)
    given = f"Generated Region 2, {len(events['at_us']):,} cold starts"
    return [
        (f"{given}: cold-start time (largest distance to the published: KS {times[1]:.3f})", times[0]),
        (f"{given}: time between cold starts (KS {gaps[1]:.3f})", gaps[0]),
        ("Generated Region 2: cold starts by hour, 31 days", _hours(events)),
        ("Region 2, simulated with a keep-alive of 60 s: cold starts of each function", _functions()),
        ("What policies trade on Region 2: cold starts against idle memory", _policies()),
    ]


def _published(figure: str, groups: tuple[str, ...]) -> dict[str, Curve]:
    import polars as pl

    curves = published_curves().filter(pl.col("figure") == figure)
    own = {group: curves.filter(pl.col("group") == group) for group in groups}
    return {group: published_curve(rows["x"].to_list(), rows["cdf"].to_list()) for group, rows in own.items()}


def _beside(figure: str, ours: dict[str, Curve]) -> tuple[alt.TopLevelMixin, float]:
    """The chart of ours over the published laws, and the largest distance of any."""
    theirs = _published(figure, tuple(ours))
    drawn = [law_result(figure, {("", group): curve for group, curve in laws.items()}) for laws in (ours, theirs)]
    largest = max(ks(curve, theirs[group])[0] for group, curve in ours.items())
    return figure_chart(FIGURES[figure], drawn[0], drawn[1]), largest


def _times(workload: HuaweiWorkload, events: dict[str, np.ndarray]) -> tuple[alt.TopLevelMixin, float]:
    import polars as pl

    frame = workload.table.frame.filter(pl.Series(workload.region == workload.regions.index(_REGION)))
    runtime = np.array([RUNTIMES.index(name) for name in frame["runtime"]])[events["function"]]
    total_s = events["total_us"] / 1e6
    laws = {name: curve_of_values(total_s[runtime == RUNTIMES.index(name)]) for name in _SHOWN_RUNTIMES}
    return _beside("15a", {"all": curve_of_values(total_s), **laws})


def _gaps(events: dict[str, np.ndarray]) -> tuple[alt.TopLevelMixin, float]:
    return _beside("10c", {_REGION: curve_of_values(np.diff(events["at_us"]) / 1e6)})


def _hours(events: dict[str, np.ndarray]) -> alt.TopLevelMixin:
    import altair as alt
    import polars as pl

    theirs = table("hours").filter(pl.col("region") == _REGION)["cold_starts"].to_numpy()
    ours = np.bincount(events["at_us"] // 3_600_000_000, minlength=len(theirs))
    rows = [
        {"day": hour / 24, "who": who, "cold starts": float(num)}
        for who, counts in ((OURS, ours), (PUBLISHED, theirs))
        for hour, num in enumerate(counts)
    ]
    return (
        alt.Chart(alt.Data(values=rows), width=640, height=220)
        .mark_line(strokeWidth=1.4)
        .encode(
            x=alt.X("day:Q", scale=alt.Scale(nice=False)),
            y=alt.Y("cold starts:Q", title="cold starts an hour"),
            color=alt.Color("who:N", title=None, scale=alt.Scale(domain=[OURS, PUBLISHED])),
            strokeDash=alt.StrokeDash("who:N", title=None, scale=alt.Scale(domain=[OURS, PUBLISHED])),
            tooltip=["who:N", "day:Q", "cold starts:Q"],
        )
    )


def _functions() -> alt.TopLevelMixin:
    """Published against simulated cold starts; a fifth of the functions, without the ten with the most requests."""
    import altair as alt

    from nonet.coldstart.simulating.engine import simulate

    workload = without_busiest(generate("huawei2025:R2", scale=_FUNCTION_SCALE), _WITHOUT_BUSIEST)
    result = simulate(workload, "ka:60", record="none", shards=2)
    frame = workload.table.frame
    pairs = zip(frame["trigger"], frame["cold_starts"], result.cold_by_function.tolist(), strict=True)
    rows = [{"trigger": name, "published": x, "simulated": y} for name, x, y in pairs if x and y]
    top = max(max(row["published"], row["simulated"]) for row in rows)
    log, axis = alt.Scale(type="log"), alt.Axis(format="~s", labelOverlap="greedy")
    points = (
        alt.Chart(alt.Data(values=rows), width=420, height=300)
        .mark_point(filled=False, opacity=0.7, size=18)
        .encode(
            x=alt.X("published:Q", title="published cold starts of a function, 31 days", scale=log, axis=axis),
            y=alt.Y("simulated:Q", title="simulated", scale=log, axis=axis),
            color=alt.Color("trigger:N", title=None, legend=alt.Legend(columns=4)),
            tooltip=["trigger:N", "published:Q", "simulated:Q"],
        )
    )
    ends = alt.Data(values=[{"x": 1, "y": 1}, {"x": top, "y": top}])
    diagonal = alt.Chart(ends).mark_line(strokeDash=[2, 3], color="#8a929b", strokeWidth=1).encode(x="x:Q", y="y:Q")
    return alt.layer(points, diagonal)


def policy_results() -> pl.DataFrame:
    """Policy, cold rate and idle memory on Region 2; policies that learn do so on the first half of three days."""
    import polars as pl

    from nonet.coldstart.simulating.platform import Platform
    from nonet.coldstart.simulating.scenario import run_policies

    workload = generate("huawei2025:R2", days=_POLICY_DAYS, scale=_POLICY_SCALE)
    results, _ = run_policies(
        workload, [*_KEEP_ALIVES, *_POLICIES], Platform(), train_days=_POLICY_DAYS / 2, seed=0, shards=2
    )
    rows = [(r.policy, r.cold_rate, r.wasted_gb_s) for r in results]
    return pl.DataFrame(rows, {"policy": pl.String, "cold_rate": pl.Float64, "wasted_gb_s": pl.Float64}, orient="row")


def _policies() -> alt.TopLevelMixin:
    import altair as alt

    found = policy_results()
    is_fixed = found["policy"].is_in(_KEEP_ALIVES)
    x = alt.X(
        "wasted_gb_s:Q",
        title="memory of idle pods, GB s",
        scale=alt.Scale(type="log", nice=False, padding=30),
        axis=alt.Axis(format="~s", labelOverlap="greedy"),
    )
    y = alt.Y("cold_rate:Q", title="cold starts of requests", axis=alt.Axis(format=".2%"))
    numbers = (("cold_rate:Q", ".3%"), ("wasted_gb_s:Q", ",.0f"))
    tooltip = [alt.Tooltip("policy:N"), *(alt.Tooltip(name, format=text) for name, text in numbers)]
    kept, others = (
        alt.Chart(alt.Data(values=rows.to_dicts()), width=640, height=320).encode(x=x, y=y, tooltip=tooltip)
        for rows in (found.filter(is_fixed), found.filter(~is_fixed))
    )
    return alt.layer(
        kept.mark_line(point=alt.OverlayMarkDef(filled=True, size=40), strokeWidth=1.2),
        kept.mark_text(dx=-4, dy=12, align="right", fontSize=11).encode(text="policy:N"),
        others.mark_point(filled=True, size=80, color="#e08a3a"),
        others.mark_text(dy=-12, align="center", fontSize=11).encode(text="policy:N"),
    )
