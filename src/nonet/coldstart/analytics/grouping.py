"""From the rows of histogram queries to laws: groups merged into "all", small groups folded into "other"."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nonet.coldstart.analytics.curve import NOT_POSITIVE, Curve, curve_of_bins
from nonet.common.errors import InputError

if TYPE_CHECKING:
    import polars as pl

ALL, OTHER = "all", "other"


def merged(bins: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    """Histograms added up over the columns that are not in `by`."""
    import polars as pl

    return bins.group_by([*by, "bin"]).agg(pl.col("num").sum(), pl.col("low").min(), pl.col("high").max())


def folded(rows: pl.DataFrame, by: str, weight: str, max_groups: int) -> pl.DataFrame:
    """The rows with all groups but the `max_groups` heaviest of each region renamed to "other" (not yet merged)."""
    import polars as pl

    ranks = rows.group_by("region", by).agg(pl.col(weight).sum().alias("_weight"))
    ranks = ranks.sort("_weight", by, descending=[True, False]).with_columns(
        _rank=pl.int_range(pl.len()).over("region"), _groups=pl.len().over("region")
    )
    kept = ranks.filter((pl.col("_rank") < max_groups) | (pl.col("_groups") == max_groups + 1))
    marked = rows.join(kept.select("region", by, _kept=True), on=["region", by], how="left")
    name = pl.when(pl.col("_kept").is_null()).then(pl.lit(OTHER)).otherwise(pl.col(by)).alias(by)
    return marked.with_columns(name).drop("_kept")


def laws_by_region(bins: pl.DataFrame, scale: float = 1.0) -> dict[tuple[str, str], Curve]:
    """One law a region, in one facet; `scale` is what the values are divided by.

    Raises:
        InputError: there is no positive value.
    """
    return _laws(bins, "", "region", scale)


def pooled_law(bins: pl.DataFrame, scale: float = 1.0) -> Curve:
    """The law of all regions together.

    Raises:
        InputError: there is no positive value.
    """
    return _law(merged(bins, []), scale)


def laws_by_attribute(bins: pl.DataFrame, by: str, scale: float, max_groups: int) -> dict[tuple[str, str], Curve]:
    """The laws of an attribute in each region (facet), and "all" of them together.

    A region in which nothing is known of any function is left out.

    Raises:
        InputError: no region knows the attribute, or there is no positive value.
    """
    import polars as pl

    known = bins.filter((pl.col(by) != "unknown").any().over("region"))
    if not len(known):
        raise InputError(f"no function of the trace has a {by}")
    found = {}
    for (region,), rows in known.group_by("region", maintain_order=True):
        found.update(_laws(merged(folded(rows, by, "num", max_groups), [by]), str(region), by, scale))
        found[(str(region), ALL)] = _law(merged(rows, []), scale)
    return dict(sorted(found.items()))


def _laws(bins: pl.DataFrame, facet: str, by: str, scale: float) -> dict[tuple[str, str], Curve]:
    found = {}
    for (group,), rows in bins.group_by(by):
        if (rows["bin"] > NOT_POSITIVE).any():
            found[(facet, str(group))] = _law(rows, scale)
    if not found:
        raise InputError("there is no positive value")
    return dict(sorted(found.items()))


def _law(bins: pl.DataFrame, scale: float) -> Curve:
    import polars as pl

    rest = bins.filter(pl.col("bin") == NOT_POSITIVE)["num"].sum()
    rows = bins.filter(pl.col("bin") > NOT_POSITIVE).sort("bin")
    low, high = (rows[name].cast(pl.Float64).to_numpy() / scale for name in ("low", "high"))
    return curve_of_bins(low, high, rows["num"].to_numpy(), int(rest))
