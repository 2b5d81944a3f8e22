"""Quantities over single functions (Figures 6 and 14) and regions (Figure 1)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nonet.coldstart.analytics.quantities import QUANTITIES, FigureSource, Measured
from nonet.common.errors import InputError

_MINUTES = 31 * 1440


@QUANTITIES.register("region_value")
def region_value(source: FigureSource, axis: str, group: str | None = None) -> Measured:
    """Figure 1: functions, requests or pods of a region, or of all regions together."""
    import polars as pl

    columns = {"functions": "x", "requests": "y", "pods": "size"}
    if axis not in columns:
        raise InputError(f"region_value: axis must be one of {', '.join(columns)}, got {axis!r}")
    rows = source.figure("1").rows
    rows = rows if group is None else rows.filter(pl.col("group") == group)
    if len(rows) == 0:
        raise InputError(f"figure 1 has no region {group!r}")
    return Measured(float(rows[columns[axis]].sum()), dict(rows.select("group", columns[axis]).iter_rows()))


@QUANTITIES.register("share_of_points")
def share_of_points(
    source: FigureSource,
    figure: str,
    facet: str | None = None,
    group: str | None = None,
    y_at_most: float | None = None,
    y_at_least: float | None = None,
) -> Measured:
    """The share of functions whose y lies within bounds (Figures 6, 14)."""
    _, y = _points(source, figure, facet, group)
    inside = (y >= (-np.inf if y_at_least is None else y_at_least)) & (
        y <= (np.inf if y_at_most is None else y_at_most)
    )
    return Measured(float(inside.mean()), {"functions": len(y), "inside": int(inside.sum())})


@QUANTITIES.register("one_cold_start_per_request")
def one_cold_start_per_request(source: FigureSource, facet: str) -> Measured:
    """Figure 14: the share of functions with as many cold starts as requests."""
    requests, colds = _points(source, "14", facet, None)
    called = requests > 0
    equal = np.isclose(colds[called], requests[called], rtol=1e-3)
    return Measured(float(equal.mean()), {"functions": int(called.sum()), "on the diagonal": int(equal.sum())})


@QUANTITIES.register("cold_starts_per_request")
def cold_starts_per_request(source: FigureSource, facet: str) -> Measured:
    """Figure 14: all cold starts over all requests of a region."""
    requests, colds = _points(source, "14", facet, None)
    return Measured(
        float(colds.sum() / requests.sum()), {"requests": float(requests.sum()), "cold starts": float(colds.sum())}
    )


@QUANTITIES.register("top_functions_share")
def top_functions_share(source: FigureSource, facet: str, num: int) -> Measured:
    """Figure 14: the share of the `num` functions with the most cold starts in all cold starts."""
    _, colds = _points(source, "14", facet, None)
    top = np.sort(colds)[::-1][:num]
    return Measured(float(top.sum() / colds.sum()), {"cold starts": float(colds.sum()), "of the top": float(top.sum())})


@QUANTITIES.register("rare_functions_share")
def rare_functions_share(source: FigureSource, facet: str, of: str, minutes: float = _MINUTES) -> Measured:
    """Figure 14: what functions called less than once a minute make of all functions, requests or cold starts.

    Args:
        source: where the figure comes from.
        facet: the region.
        of: "functions", "requests" or "cold_starts".
        minutes: length of the trace; 31 days by default.
    """
    requests, colds = _points(source, "14", facet, None)
    weights = {"functions": np.ones(len(requests)), "requests": requests, "cold_starts": colds}
    if of not in weights:
        raise InputError(f"rare_functions_share: of must be one of {', '.join(weights)}, got {of!r}")
    rare = requests < minutes
    return Measured(float(weights[of][rare].sum() / weights[of].sum()), {"rare functions": int(rare.sum())})


@QUANTITIES.register("busy_functions_share")
def busy_functions_share(source: FigureSource, facet: str, requests: float) -> Measured:
    """Figure 14: the share of cold starts that functions with more than `requests` requests have."""
    calls, colds = _points(source, "14", facet, None)
    busy = calls > requests
    return Measured(float(colds[busy].sum() / colds.sum()), {"functions": int(busy.sum())})


def _points(
    source: FigureSource, figure: str, facet: str | None, group: str | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    import polars as pl

    rows = source.figure(figure).rows
    for column, wanted in (("facet", facet), ("group", group)):
        rows = rows if wanted is None else rows.filter(pl.col(column) == wanted)
    if len(rows) == 0:
        raise InputError(f"figure {figure} shows nothing for {facet or group}")
    return rows["x"].to_numpy().astype(np.float64), rows["y"].to_numpy().astype(np.float64)
