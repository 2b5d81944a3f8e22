"""One chart for each kind of result: ours as lines, bars or points, the published dashed or hollow beside it.

What is drawn is thinned (lines to 250 points, clouds to 2,500), so that a page of forty charts stays a few megabytes;
the numbers of the report's tables are not.
"""

from __future__ import annotations

from datetime import datetime
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


def figure_chart(
    spec: FigureSpec, ours: FigureResult, published: FigureResult | None, epoch: str | None = None
) -> alt.TopLevelMixin:
    """The chart of a figure; `published` is drawn into it where both have the same facet.

    Args:
        spec: what the figure is.
        ours: its result.
        published: the published result, None to leave it out.
        epoch: ISO time of moment 0 of the trace, so that series have dates; None leaves them numbers.
    """
    rows = _both(ours, published)
    if ours.kind == "series" and epoch is not None:
        return _lines(spec, _dated(_thinned_lines(rows, "y"), spec.x, ours, epoch), "y", is_dated=True)
    if ours.kind in ("law", "series"):
        y_name = "cdf" if ours.kind == "law" else "y"
        return _lines(spec, _thinned_lines(rows, y_name), y_name)
    if ours.kind == "matrix":
        return _matrix(rows, list(dict.fromkeys(ours.rows["a"].to_list())))
    return {"points": _cloud, "bars": _bars, "spread": _spread}[ours.kind](spec, rows)


def _is_beside(rows: pl.DataFrame) -> bool:
    """Whether anything published is among the rows."""
    return PUBLISHED in rows["who"]


_UNIT_US = {"minute": 60_000_000, "hour": 3_600_000_000, "day": 86_400_000_000}


def _dated(rows: pl.DataFrame, unit: str, ours: FigureResult, epoch: str) -> pl.DataFrame:
    """The rows with x as milliseconds since 1970, as Vega counts time; x counts `unit` from `epoch` on."""
    import polars as pl

    start_ms = datetime.fromisoformat(epoch).timestamp() * 1e3
    return rows.with_columns(x=start_ms + (pl.col("x") + ours.extra.get("first_x", 0)) * (_UNIT_US[unit] / 1e3))


def _data(rows: pl.DataFrame) -> alt.InlineData:
    """The rows as CSV text inside the chart: a third of the size of objects, and not checked cell by cell."""
    import altair as alt

    kinds = {name: "number" if kind.is_numeric() else "string" for name, kind in rows.schema.items()}
    return alt.InlineData(values=rows.write_csv(), format=alt.CsvDataFormat(type="csv", parse=kinds))


def _both(ours: FigureResult, published: FigureResult | None) -> pl.DataFrame:
    """The rows of both with a column `who`.

    Of the published only facets and groups that ours has (Figure 1: all), and of a series the time that ours covers.
    """
    import polars as pl

    parts = [ours.rows.with_columns(who=pl.lit(OURS))]
    if published is not None:
        theirs = published.rows.join(ours.rows.select("facet").unique(), on="facet", how="semi")
        if "group" in theirs.columns and ours.name != "1":
            theirs = theirs.join(ours.rows.select("group").unique(), on="group", how="semi")
        if ours.kind == "series":
            theirs = theirs.filter(pl.col("x").is_between(ours.rows["x"].min(), ours.rows["x"].max()))
        parts.append(theirs.with_columns(who=pl.lit(PUBLISHED)))
    return pl.concat(parts, how="diagonal_relaxed")


def _lines(spec: FigureSpec, rows: pl.DataFrame, y_name: str, *, is_dated: bool = False) -> alt.TopLevelMixin:
    import altair as alt

    rows = _with_panel(spec, rows)
    is_sparse = bool(rows.group_by("panel", "group", "who").len()["len"].min() == 1)  # a single vertex has no line
    dashes: dict[str, Any] = {}
    if rows["panel", "who"].unique()["panel"].is_duplicated().any():
        dashes["strokeDash"] = alt.StrokeDash("who:N", title=None, scale=alt.Scale(**_DASHES))
    chart = (
        alt.Chart(_data(rows), width=_WIDTH, height=_HEIGHT)
        .mark_line(interpolate="linear", strokeWidth=1.6, point=is_sparse)
        .encode(
            x=_x_of_lines(spec, is_dated=is_dated),
            y=alt.Y(f"{y_name}:Q", title=spec.y, axis=alt.Axis(format=_PERCENT) if y_name == "cdf" else alt.Axis()),
            color=alt.Color("group:N", title=None, legend=alt.Legend(columns=5, symbolLimit=0)),
            order=alt.Order("step:Q"),
            tooltip=["group:N", "who:N", "x:T" if is_dated else "x:Q", f"{y_name}:Q"],
            **dashes,
        )
    )
    layered = alt.layer(chart, _iat_rules()).properties(data=_data(rows)) if spec.name == "3a" else chart
    return _faceted(layered, rows, independent=y_name == "y")


def _x_of_lines(spec: FigureSpec, *, is_dated: bool) -> alt.X:
    import altair as alt

    if is_dated:
        return alt.X("x:T", title="UTC", scale=alt.Scale(type="utc"), axis=alt.Axis(labelOverlap="greedy"))
    if "x" not in spec.log:
        return alt.X("x:Q", title=spec.x, scale=alt.Scale(zero=False), axis=alt.Axis(format="~r", tickMinStep=1))
    return alt.X("x:Q", title=spec.x, scale=alt.Scale(type="log"), axis=_log_axis())


def _log_axis() -> alt.Axis:
    """Ticks that read 0.01, 100, 10k, 1G."""
    import altair as alt

    label = "datum.label && datum.value >= 10000 ? format(datum.value, '~s') : datum.label"
    return alt.Axis(format="~g", labelExpr=label, labelOverlap="greedy")


_LEVELS = {"8a": None, "8b": None, "8c": None, "11": "cold_starts"}
"""Series of counts, which depend on the size of a trace: the published stand in a panel of their own (11: this one)."""


def _with_panel(spec: FigureSpec, rows: pl.DataFrame) -> pl.DataFrame:
    """A column `panel`: the facet, the part in Figure 11, and who, where ours and the published have own axes."""
    import polars as pl

    panel = pl.col("facet")
    if spec.name == "11":
        panel = panel + ", " + pl.col("group").str.replace_all("_", " ")
    if spec.name in _LEVELS and _is_beside(rows):
        counted = _LEVELS[spec.name]
        apart = pl.lit(True) if counted is None else pl.col("group") == counted
        panel = pl.when(apart).then(panel + ", " + pl.col("who")).otherwise(panel)
    return rows.with_columns(panel=panel)


def _iat_rules() -> alt.Chart:
    import altair as alt

    marks = [{"x": x, "label": label} for x, label in _IAT_MARKS]
    base = alt.Chart(alt.Data(values=marks)).mark_rule(strokeDash=[2, 3], color="#8a929b")
    return base.encode(x="x:Q", tooltip=["label:N"])


def _faceted(chart: Any, rows: pl.DataFrame, *, independent: bool) -> alt.TopLevelMixin:
    """The chart once a panel, two in a row, ours before the published; a single panel needs no heading."""
    import altair as alt

    panels = sorted(rows["panel"].unique().to_list(), key=lambda name: (name.replace(OURS, " "), name))
    if len(panels) <= 1:
        return chart.properties(width=560, height=260)
    data = _data(rows)
    faceted = chart.properties(data=data).facet(alt.Facet("panel:N", title=None, sort=panels), columns=2)
    return faceted.resolve_scale(y="independent") if independent else faceted


def _cloud(spec: FigureSpec, rows: pl.DataFrame) -> alt.TopLevelMixin:
    import altair as alt
    import polars as pl

    if spec.log == "xy":
        rows = rows.filter((pl.col("x") > 0) & (pl.col("y") > 0))
    is_beside, is_bubbles = _is_beside(rows), "size" in rows.columns
    rows = _thinned_cloud(rows)
    panel = pl.when(pl.col("facet") == "").then(pl.col("who")).otherwise(pl.col("facet") + ", " + pl.col("who"))
    rows = rows.with_columns(panel=panel if is_beside and not is_bubbles else pl.col("facet"))
    chart = (
        alt.Chart(_data(rows), width=_WIDTH, height=_HEIGHT + 60)
        .mark_point(filled=False, opacity=0.6, size=14)
        .encode(
            alt.X("x:Q", title=spec.x, scale=alt.Scale(type="log"), axis=_log_axis()),
            alt.Y("y:Q", title=spec.y, scale=alt.Scale(type="log"), axis=_log_axis()),
            alt.Color("group:N", title=None, legend=alt.Legend(columns=5)),
            *(_bubbles(rows, is_beside=is_beside) if is_bubbles else ()),
            tooltip=["group:N", "who:N", "x:Q", "y:Q"],
        )
    )
    if spec.name == "14" and len(rows):
        chart.data = alt.Undefined  # the facets share that of the layer; the diagonal has its own
        layered = alt.layer(chart, _diagonal(rows)).properties(data=_data(rows))
        return _faceted(layered, rows, independent=False)
    return _faceted(chart, rows, independent=False)


def _bubbles(rows: pl.DataFrame, *, is_beside: bool) -> list[Any]:
    """Figure 1: the area tells pods (three round numbers in the legend), the shape who."""
    import altair as alt

    largest = float(rows["size"].max() or 1.0)  # type: ignore[arg-type]
    top = 10.0 ** np.floor(np.log10(max(largest, 1.0)))
    shown = [value for value in (top / 100, top / 10, top) if value >= 1]
    legend = alt.Legend(values=shown, labelExpr="format(datum.value, '~s')")
    size = alt.Size("size:Q", title="pods", legend=legend, scale=alt.Scale(domain=[0, largest], range=[20, 600]))
    shape = alt.Shape("who:N", title=None, scale=alt.Scale(domain=[OURS, PUBLISHED], range=["circle", "cross"]))
    return [size, shape] if is_beside else [size]


def _diagonal(rows: pl.DataFrame) -> alt.Chart:
    """One cold start a request."""
    import altair as alt

    low, high = float(rows["y"].min() or 1), float(rows["y"].max() or 1)  # type: ignore[arg-type]
    ends = alt.Data(values=[{"x": low, "y": low}, {"x": high, "y": high}])
    return alt.Chart(ends).mark_line(strokeDash=[2, 3], color="#8a929b", strokeWidth=1).encode(x="x:Q", y="y:Q")


def _bars(spec: FigureSpec, rows: pl.DataFrame) -> alt.TopLevelMixin:
    import altair as alt
    import polars as pl

    rows = rows.with_columns(pl.col("series").str.replace_all("_", " "))
    is_beside, is_stack = _is_beside(rows), spec.name == "9"
    tooltip = ["facet:N", "group:N", "series:N", "who:N", alt.Tooltip("y:Q", format=".1%")]
    chart = (
        alt.Chart(_data(rows), width=300 if is_stack else 220)
        .mark_bar()
        .encode(
            x=alt.X("y:Q", title=spec.x, axis=alt.Axis(format=_PERCENT)),
            y=alt.Y("group:N", title=None),
            tooltip=tooltip,
        )
    )
    row = alt.Row("facet:N", title=None)
    if is_stack:
        stacked = chart.encode(color=alt.Color("series:N", title=None))
        return stacked.facet(row=row, column=alt.Column("who:N", title=None, sort=[OURS, PUBLISHED]))
    if is_beside:
        colors = alt.Scale(domain=[OURS, PUBLISHED])
        chart = chart.encode(yOffset=alt.YOffset("who:N"), color=alt.Color("who:N", title=None, scale=colors))
    return chart.facet(row=row, column=alt.Column("series:N", title=None))


def _matrix(rows: pl.DataFrame, order: list[str]) -> alt.TopLevelMixin:
    import altair as alt
    import polars as pl

    star = pl.when(pl.col("p") < 0.05).then(pl.lit("*")).otherwise(pl.lit(""))
    rows = rows.with_columns(
        panel=pl.col("facet") + ", " + pl.col("who"),
        text=pl.col("y").round(2).cast(pl.String).fill_null("") + star.fill_null(""),
    )
    x = alt.X("b:N", title=None, sort=order, axis=alt.Axis(labelAngle=-45))
    y = alt.Y("a:N", title=None, sort=order)
    base = alt.Chart(_data(rows), width=210, height=170).encode(x=x, y=y)
    scale = alt.Scale(scheme="blueorange", domain=[-1, 1])
    cells = base.mark_rect().encode(
        color=alt.Color("y:Q", title=None, scale=scale), tooltip=["panel:N", "a:N", "b:N", "y:Q", "p:Q"]
    )
    text = base.mark_text(fontSize=9, color="black").encode(text="text:N")
    panels = rows.sort("facet", pl.col("who") == PUBLISHED)["panel"].unique(maintain_order=True).to_list()
    layered = alt.layer(cells, text).properties(data=_data(rows))
    return layered.facet(alt.Facet("panel:N", title=None, sort=panels), columns=2)


def _spread(spec: FigureSpec, rows: pl.DataFrame) -> alt.TopLevelMixin:
    import altair as alt
    import polars as pl

    rows = rows.filter(pl.col("pool").is_in(["small", "large"]) & (pl.col("median") > 0))
    data = _data(rows)
    base = alt.Chart(data, width=260).encode(
        y=alt.Y("pool:N", title=None, sort=["small", "large"]),
        color=alt.Color("pool:N", title=None),
        tooltip=["facet:N", "metric:N", "pool:N", "who:N", "p25:Q", "median:Q", "p75:Q"],
    )
    x = alt.Scale(type="log")
    span = base.mark_rule(strokeWidth=5, opacity=0.5).encode(x=alt.X("p25:Q", title=spec.x, scale=x), x2="p75:Q")
    marks = base.mark_point(size=70).encode(x=alt.X("median:Q", scale=x))
    if _is_beside(rows):
        shapes = alt.Scale(domain=[OURS, PUBLISHED], range=["circle", "cross"])
        marks = marks.encode(shape=alt.Shape("who:N", title=None, scale=shapes))
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
    # A time stays whole: an hour since 1970 has six digits.
    rounded = ["x", "cdf"] if y_name == "cdf" else ["y"]
    return shown.with_columns(pl.col(rounded).round_sig_figs(5))


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
