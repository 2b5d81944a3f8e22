"""One chart for each kind of result: ours as lines, bars or points, the published dashed or hollow beside it.

What is drawn is thinned (lines to 250 points, clouds to 2,500), so that a page of forty charts stays a few megabytes;
the numbers of the report's tables are not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nonet.coldstart.analytics.context import FigureSpec
from nonet.coldstart.analytics.result import FigureResult

if TYPE_CHECKING:
    import altair as alt
    import polars as pl

OURS, PUBLISHED = "this trace", "published"
_LINE_POINTS, _CLOUD_POINTS = 250, 2_500
_WIDTH, _HEIGHT = 360, 200
_PERCENT = ".0%"
_DASHES: dict[str, Any] = {"domain": [OURS, PUBLISHED], "range": [[1, 0], [5, 4]]}
_IAT_MARKS = ((24.0, "one an hour"), (1440.0, "one a minute"), (86_400.0, "one a second"))


def figure_chart(spec: FigureSpec, ours: FigureResult, published: FigureResult | None) -> alt.TopLevelMixin:
    """The chart of a figure; `published` is drawn into it where both have the same facet.

    Args:
        spec: what the figure is.
        ours: its result.
        published: the published result, None to leave it out.
    """
    makers = {
        "law": _lines,
        "series": _lines,
        "points": _cloud,
        "bars": _bars,
        "matrix": _matrix,
        "spread": _spread,
    }
    return makers[ours.kind](spec, ours, published)


def _data(rows: pl.DataFrame) -> alt.InlineData:
    """The rows as CSV text inside the chart: a third of the size of objects, and not checked cell by cell."""
    import altair as alt

    kinds = {name: "number" if kind.is_numeric() else "string" for name, kind in rows.schema.items()}
    return alt.InlineData(values=rows.write_csv(), format=alt.CsvDataFormat(type="csv", parse=kinds))


def _both(ours: FigureResult, published: FigureResult | None) -> pl.DataFrame:
    """The rows of both with a column `who`; of the published only facets, and groups that ours has (Figure 1: all)."""
    import polars as pl

    parts = [ours.rows.with_columns(who=pl.lit(OURS))]
    if published is not None:
        theirs = published.rows.join(ours.rows.select("facet").unique(), on="facet", how="semi")
        if "group" in theirs.columns and ours.name != "1":
            theirs = theirs.join(ours.rows.select("group").unique(), on="group", how="semi")
        parts.append(theirs.with_columns(who=pl.lit(PUBLISHED)))
    return pl.concat(parts, how="diagonal_relaxed")


def _lines(spec: FigureSpec, ours: FigureResult, published: FigureResult | None) -> alt.TopLevelMixin:
    import altair as alt

    y_name = "cdf" if ours.kind == "law" else "y"
    rows = _thinned_lines(_both(ours, published), y_name)
    is_log = "x" in spec.log
    scale = alt.Scale(type="log") if is_log else alt.Scale(zero=False)
    axis = alt.Axis(format="~g", labelOverlap="greedy") if is_log else alt.Axis()
    chart = (
        alt.Chart(_data(rows), width=_WIDTH, height=_HEIGHT)
        .mark_line(interpolate="linear", strokeWidth=1.6)
        .encode(
            x=alt.X("x:Q", title=spec.x, scale=scale, axis=axis),
            y=alt.Y(f"{y_name}:Q", title=spec.y, axis=alt.Axis(format=_PERCENT) if y_name == "cdf" else alt.Axis()),
            color=alt.Color("group:N", title=None, legend=alt.Legend(columns=5, symbolLimit=0)),
            strokeDash=alt.StrokeDash("who:N", title=None, scale=alt.Scale(**_DASHES)),
            order=alt.Order("step:Q"),
            tooltip=["group:N", "who:N", "x:Q", f"{y_name}:Q"],
        )
    )
    layered = alt.layer(chart, _iat_rules()) if spec.name == "3a" else chart
    independent = ours.kind == "series"
    if spec.name == "11":
        rows = rows.with_columns(panel=rows["facet"] + ", " + rows["group"])
        layered = chart.properties(data=_data(rows))
        return _faceted(layered, rows, "panel", independent=True)
    return _faceted(layered, rows, "facet", independent=independent)


def _iat_rules() -> alt.Chart:
    import altair as alt

    marks = [{"x": x, "label": label} for x, label in _IAT_MARKS]
    base = alt.Chart(alt.Data(values=marks)).mark_rule(strokeDash=[2, 3], color="#8a929b")
    return base.encode(x="x:Q", tooltip=["label:N"])


def _faceted(chart: Any, rows: pl.DataFrame, by: str, *, independent: bool) -> alt.TopLevelMixin:
    """The chart once a facet, two in a row; a single facet needs no heading."""
    import altair as alt

    facets = rows[by].unique().sort().to_list()
    if len(facets) <= 1:
        return chart.properties(width=560, height=260)
    data = _data(rows)
    faceted = chart.properties(data=data).facet(alt.Facet(f"{by}:N", title=None, sort=facets), columns=2)
    return faceted.resolve_scale(y="independent") if independent else faceted


def _cloud(spec: FigureSpec, ours: FigureResult, published: FigureResult | None) -> alt.TopLevelMixin:
    import altair as alt
    import polars as pl

    rows = _both(ours, published)
    if spec.log == "xy":
        rows = rows.filter((pl.col("x") > 0) & (pl.col("y") > 0))
    rows = _thinned_cloud(rows)
    axis = alt.Axis(format="~g", labelOverlap="greedy")
    size = (
        [alt.Size("size:Q", title="pods", legend=alt.Legend(values=[1e5, 1e6, 7e6]))] if "size" in rows.columns else []
    )
    base = alt.Chart(_data(rows), width=_WIDTH, height=_HEIGHT + 60)
    chart = base.mark_point(filled=False, opacity=0.6, size=40 if size else 14).encode(
        alt.X("x:Q", title=spec.x, scale=alt.Scale(type="log"), axis=axis),
        alt.Y("y:Q", title=spec.y, scale=alt.Scale(type="log"), axis=axis),
        alt.Color("group:N", title=None, legend=alt.Legend(columns=5)),
        alt.Shape("who:N", title=None, scale=alt.Scale(domain=[OURS, PUBLISHED], range=["circle", "cross"])),
        *size,
        tooltip=["group:N", "who:N", "x:Q", "y:Q"],
    )
    if spec.name == "14" and len(rows):
        chart.data = alt.Undefined  # the facets share that of the layer; the diagonal has its own
        layered = alt.layer(chart, _diagonal(rows)).properties(data=_data(rows))
        return _faceted(layered, rows, "facet", independent=False)
    return _faceted(chart, rows, "facet", independent=False)


def _diagonal(rows: pl.DataFrame) -> alt.Chart:
    """One cold start a request."""
    import altair as alt

    low, high = float(rows["y"].min() or 1), float(rows["y"].max() or 1)  # type: ignore[arg-type]
    ends = alt.Data(values=[{"x": low, "y": low}, {"x": high, "y": high}])
    return alt.Chart(ends).mark_line(strokeDash=[2, 3], color="#8a929b", strokeWidth=1).encode(x="x:Q", y="y:Q")


def _bars(spec: FigureSpec, ours: FigureResult, published: FigureResult | None) -> alt.TopLevelMixin:
    import altair as alt

    rows = _both(ours, published)
    is_stack = spec.name == "9"
    values = _data(rows)
    inner = alt.Chart(values, width=220 if not is_stack else 300).mark_bar()
    tooltip = ["facet:N", "group:N", "series:N", "who:N", alt.Tooltip("y:Q", format=".1%")]
    x = alt.X("y:Q", title=spec.x, axis=alt.Axis(format=_PERCENT))
    if is_stack:
        chart = inner.encode(
            x=x, y=alt.Y("group:N", title=None), color=alt.Color("series:N", title=None), tooltip=tooltip
        )
        return chart.facet(row=alt.Row("facet:N", title=None), column=alt.Column("who:N", title=None))
    chart = inner.encode(
        x=x,
        y=alt.Y("group:N", title=None),
        yOffset=alt.YOffset("who:N"),
        color=alt.Color("who:N", title=None, scale=alt.Scale(domain=[OURS, PUBLISHED])),
        tooltip=tooltip,
    )
    return chart.facet(row=alt.Row("facet:N", title=None), column=alt.Column("series:N", title=None))


def _matrix(spec: FigureSpec, ours: FigureResult, published: FigureResult | None) -> alt.TopLevelMixin:
    import altair as alt
    import polars as pl

    rows = _both(ours, published)
    star = pl.when(pl.col("p") < 0.05).then(pl.lit("*")).otherwise(pl.lit(""))
    rows = rows.with_columns(
        panel=pl.col("facet") + ", " + pl.col("who"),
        text=pl.col("y").round(2).cast(pl.String).fill_null("") + star.fill_null(""),
    )
    order = list(dict.fromkeys(ours.rows["a"].to_list()))
    x = alt.X("b:N", title=None, sort=order, axis=alt.Axis(labelAngle=-45))
    y = alt.Y("a:N", title=None, sort=order)
    base = alt.Chart(_data(rows), width=210, height=170).encode(x=x, y=y)
    scale = alt.Scale(scheme="blueorange", domain=[-1, 1])
    cells = base.mark_rect().encode(
        color=alt.Color("y:Q", title=None, scale=scale), tooltip=["panel:N", "a:N", "b:N", "y:Q", "p:Q"]
    )
    text = base.mark_text(fontSize=9, color="black").encode(text="text:N")
    panels = rows["panel"].unique().sort().to_list()
    layered = alt.layer(cells, text).properties(data=_data(rows))
    return layered.facet(alt.Facet("panel:N", title=None, sort=panels), columns=2)


def _spread(spec: FigureSpec, ours: FigureResult, published: FigureResult | None) -> alt.TopLevelMixin:
    import altair as alt
    import polars as pl

    rows = _both(ours, published).filter(pl.col("pool").is_in(["small", "large"]) & (pl.col("median") > 0))
    data = _data(rows)
    base = alt.Chart(data, width=260).encode(
        y=alt.Y("pool:N", title=None, sort=["small", "large"]),
        color=alt.Color("pool:N", title=None),
        tooltip=["facet:N", "metric:N", "pool:N", "who:N", "p25:Q", "median:Q", "p75:Q"],
    )
    x = alt.Scale(type="log")
    span = base.mark_rule(strokeWidth=5, opacity=0.5).encode(x=alt.X("p25:Q", title=spec.x, scale=x), x2="p75:Q")
    marks = base.mark_point(size=70).encode(
        x=alt.X("median:Q", scale=x),
        shape=alt.Shape("who:N", title=None, scale=alt.Scale(domain=[OURS, PUBLISHED], range=["circle", "cross"])),
    )
    layered = alt.layer(span, marks).properties(data=data)
    return layered.facet(row=alt.Row("metric:N", title=None), column=alt.Column("facet:N", title=None))


def _thinned_lines(rows: pl.DataFrame, y_name: str) -> pl.DataFrame:
    """At most 250 vertices a line: laws where their share has moved, series as means of slots."""
    import polars as pl

    parts = []
    for _, line in rows.group_by("facet", "group", "who", maintain_order=True):
        if len(line) > _LINE_POINTS:
            kept = _even_shares(line["cdf"].to_numpy()) if y_name == "cdf" else None
            line = line[kept] if kept is not None else _slot_means(line)  # noqa: PLW2901
        parts.append(line.with_columns(step=pl.int_range(pl.len())))
    shown = pl.concat(parts, how="diagonal_relaxed").select("facet", "group", "who", "step", "x", y_name)
    return shown.with_columns(pl.col(pl.Float64).round_sig_figs(5))


def _even_shares(cdf: Any) -> Any:
    """Indices of vertices: about every 1/200 of the share, and evenly along the line besides."""
    by_share = np.searchsorted(cdf, np.linspace(0.0, 1.0, _LINE_POINTS - 50))
    along = np.linspace(0, len(cdf) - 1, 50).astype(int)
    return np.unique(np.clip(np.concatenate([by_share, along]), 0, len(cdf) - 1))


def _slot_means(line: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    slot = pl.int_range(pl.len()) * _LINE_POINTS // pl.len()
    numbers = [pl.col(name).mean() for name in ("x", "y")]
    names = [pl.col(name).first() for name in ("facet", "group", "who")]
    return line.group_by(slot.alias("slot"), maintain_order=True).agg(*names, *numbers).drop("slot")


def _thinned_cloud(rows: pl.DataFrame) -> pl.DataFrame:
    """Every k-th point by rank of y, so that the extremes stay."""
    parts = []
    for _, cloud in rows.group_by("facet", "who", maintain_order=True):
        step = -(-len(cloud) // _CLOUD_POINTS)
        parts.append(cloud.sort("y", "x", descending=True).gather_every(step))
    import polars as pl

    return pl.concat(parts) if parts else rows
