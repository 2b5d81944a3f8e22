"""What an analysis gives: one small table in a form that depends on its kind, the same for ours and for the published.

| kind | columns of `rows` |
|---|---|
| law | facet, group, x, cdf: the vertices of a `Curve` each |
| series | facet, group, x, y |
| points | facet, group, x, y (Figure 1 also: size) |
| bars | facet, group, series, y |
| matrix | facet, a, b, y, p |
| spread | facet, metric, pool, p25, median, p75, num |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from nonet.coldstart.analytics.curve import Curve
from nonet.common.errors import InputError

if TYPE_CHECKING:
    import polars as pl

Kind = Literal["law", "series", "points", "bars", "matrix", "spread"]
COLUMNS: dict[Kind, tuple[str, ...]] = {
    "law": ("facet", "group", "x", "cdf"),
    "series": ("facet", "group", "x", "y"),
    "points": ("facet", "group", "x", "y"),
    "bars": ("facet", "group", "series", "y"),
    "matrix": ("facet", "a", "b", "y", "p"),
    "spread": ("facet", "metric", "pool", "p25", "median", "p75", "num"),
}


@dataclass(frozen=True, slots=True)
class FigureResult:
    """One figure of the paper, from a trace or as published.

    Attributes:
        name: e.g. "10a".
        kind: the form of `rows`.
        rows: the numbers (see the module).
        curves: for laws, by (facet, group); `rows` holds their vertices.
        notes: what a reader must know (a detector's choice, days that were left out).
        extra: further numbers, JSON-ready (parameters of a fit, marked peaks).
    """

    name: str
    kind: Kind
    rows: pl.DataFrame
    curves: Mapping[tuple[str, str], Curve] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    def curve(self, group: str, facet: str | None = None) -> Curve:
        """The law of a group; the facet may be left out when the group is in one facet only.

        Raises:
            InputError: there is no such group, or it is in several facets.
        """
        found = [curve for (place, name), curve in self.curves.items() if name == group and facet in (None, place)]
        if len(found) != 1:
            known = ", ".join(sorted({name for _, name in self.curves}))
            raise InputError(f"figure {self.name}: {len(found)} curves are named {group!r} (there are {known})")
        return found[0]

    def xy(self, group: str, facet: str | None = None) -> tuple[np.ndarray, np.ndarray]:
        """x and y of a group of a series or of points, in the order of the rows."""
        import polars as pl

        rows = self.rows.filter(pl.col("group") == group)
        rows = rows if facet is None else rows.filter(pl.col("facet") == facet)
        return rows["x"].to_numpy(), rows["y"].to_numpy()


def law_result(name: str, curves: Mapping[tuple[str, str], Curve], **more: Any) -> FigureResult:
    """A result of kind "law" from its curves."""
    import polars as pl

    parts = [
        pl.DataFrame({"x": curve.x, "cdf": curve.cdf}).select(
            pl.lit(facet).alias("facet"), pl.lit(group).alias("group"), pl.all()
        )
        for (facet, group), curve in curves.items()
    ]
    empty = pl.DataFrame(schema={"facet": pl.String, "group": pl.String, "x": pl.Float64, "cdf": pl.Float64})
    return FigureResult(name, "law", pl.concat([empty, *parts]), dict(curves), **more)
