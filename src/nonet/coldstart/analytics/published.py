"""The curves of the paper, read off its vector graphics, in the form that our own analyses have.

They ship with the package, in `published_curves/` (figures of the paper, CC BY 4.0; see `SOURCE.md` there). Figures 2,
13, 16d and 17b are not in it; of Figure 13 a few medians are in `fig13_medians.csv`. The reading error is 0.1 to 0.5 %
of the axis.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nonet.coldstart.analytics.curve import Curve, published_curve
from nonet.coldstart.analytics.result import FigureResult, Kind, law_result
from nonet.common.errors import InputError

if TYPE_CHECKING:
    import polars as pl

_SHIPPED = Path(__file__).parent / "published_curves"
TABLES = (
    *("cdfs", "fig1_regions", "fig5_3day_minute_load", "fig6_peak_to_trough", "fig7_holiday"),
    *("fig8_r2_hourly_pods", "fig8_r2_proportions", "fig9_r2_trigger_by_runtime", "fig11_hourly_cold_starts"),
    *("fig12_spearman", "fig14_r2_functions"),
)
SOURCE = "EuroSys 2025, Serverless Cold Starts and Where to Find Them, figures read off the vector graphics (CC BY 4.0)"
REGIONS = ("R1", "R2", "R3", "R4", "R5")
DAYS = 31

# Names of the components in the published tables, and ours.
COMPONENTS = {
    "total": "total_mean_s",
    "code": "deploy_code_mean_s",
    "dependency": "deploy_dep_mean_s",
    "scheduling": "scheduling_mean_s",
    "allocation": "pod_alloc_mean_s",
}
_SPEARMAN = {
    "cold_start_time": "total",
    "deploy_code": "code",
    "deploy_dep": "dependency",
    "scheduling": "scheduling",
    "pod_alloc": "allocation",
    "num_cold_starts": "count",
}


@dataclass(frozen=True)
class Published:
    """The published figures; a table is read when it is first asked for.

    Args:
        folder: where other CSV files (plain or `.gz`) of these names are; None takes those of the package.
    """

    folder: Path | str | None = None

    @property
    def regions(self) -> tuple[str, ...]:
        """All five."""
        return REGIONS

    @property
    def num_days(self) -> float:
        """The length of the study."""
        return DAYS

    @classmethod
    def load(cls, folder: Path | str | None = None) -> Published:
        """The data set, checked to be there.

        Raises:
            InputError: a file is nowhere.
        """
        published = cls(folder)
        for role in TABLES:
            published.path(role)
        return published

    def path(self, role: str) -> Path:
        """Where a file of the set is.

        Raises:
            InputError: it is nowhere.
        """
        folder = _SHIPPED if self.folder is None else Path(self.folder)
        for name in (f"{role}.csv", f"{role}.csv.gz"):
            if (folder / name).is_file():
                return folder / name
        raise InputError(f"the published curves are not whole: no {role}.csv in {folder}")

    def table(self, role: str) -> pl.DataFrame:
        """A file of the set as it is.

        Raises:
            InputError: it is nowhere, or no such table.
        """
        import polars as pl

        path = self.path(role)
        try:
            return pl.read_csv(path, infer_schema_length=None)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise InputError(f"{path}: not a CSV table ({str(error).splitlines()[0]})") from error

    @cached_property
    def _laws(self) -> dict[str, dict[tuple[str, str], Curve]]:
        found: dict[str, dict[tuple[str, str], Curve]] = {}
        for key, rows in self.table("cdfs").group_by("figure", "group_by", "group", maintain_order=True):
            figure, group_by, group = (str(part) for part in key)
            facet = group_by.partition("_")[0] if group_by.startswith("R2_") else ""
            found.setdefault(figure, {})[(facet, group)] = published_curve(rows["x"].to_list(), rows["cdf"].to_list())
        return found

    def names(self) -> list[str]:
        """The figures that are in the set, e.g. "10a"."""
        return [*self._laws, *_READERS]

    def has(self, name: str) -> bool:
        """Whether a figure is in the set."""
        return name in _READERS or name in self._laws

    def figure(self, name: str) -> FigureResult:
        """A figure as published.

        Raises:
            InputError: the set does not hold it.
        """
        if name in _READERS:
            import polars as pl

            try:
                return _READERS[name](self, name)
            except pl.exceptions.PolarsError as error:
                reason = str(error).splitlines()[0]
                raise InputError(f"figure {name}: a table of the published curves is damaged ({reason})") from error
        if name not in self._laws:
            raise InputError(f"figure {name} is not among the digitised curves (there are {', '.join(self.names())})")
        return law_result(name, self._laws[name])

    def curve(self, name: str, group: str) -> Curve:
        """One published law, e.g. `curve("10a", "R1")`; x in the figure's unit.

        Raises:
            InputError: there is no such figure or group.
        """
        return self.figure(name).curve(group)


def _rows(name: str, kind: Kind, rows: pl.DataFrame, *notes: str) -> FigureResult:
    return FigureResult(name, kind, rows, notes=notes)


def _columns(frame: pl.DataFrame, **named: Any) -> pl.DataFrame:
    """Columns by new name: a text names a column of `frame`, an expression stands for itself."""
    import polars as pl

    return frame.select((pl.col(what) if isinstance(what, str) else what).alias(name) for name, what in named.items())


def _fig1(published: Published, name: str) -> FigureResult:
    import polars as pl

    table = published.table("fig1_regions")
    rows = _columns(
        table, facet=pl.lit(""), group="region", x="functions_fig1", y="requests_31d_fig1", size="pods_31d_legend"
    )
    return _rows(name, "points", rows, "requests and pods of 31 days")


def _fig5(published: Published, name: str) -> FigureResult:
    import polars as pl

    table = published.table("fig5_3day_minute_load")
    return _rows(name, "series", _columns(table, facet=pl.lit(""), group="region", x="minute", y="load_minmax"))


def _fig6(published: Published, name: str) -> FigureResult:
    import polars as pl

    table = published.table("fig6_peak_to_trough").filter(pl.col("figure").str.starts_with(f"{name}_"))
    return _rows(name, "points", _columns(table, facet=pl.lit(""), group="region", x="x", y="ptt"))


def _fig7(published: Published, name: str) -> FigureResult:
    table = published.table("fig7_holiday")
    return _rows(name, "series", _columns(table, facet="metric", group="region", x="day", y="proportion"))


def _fig8_hours(published: Published, name: str) -> FigureResult:
    import polars as pl

    table = published.table("fig8_r2_hourly_pods").filter(pl.col("figure") == name)
    return _rows(name, "series", _columns(table, facet=pl.lit("R2"), group="group", x="hour", y="pods"))


def _fig8_shares(published: Published, name: str) -> FigureResult:
    import polars as pl

    table = published.table("fig8_r2_proportions").filter(pl.col("figure") == name)
    return _rows(name, "bars", _columns(table, facet=pl.lit("R2"), group="group", series="series", y="proportion"))


def _fig9(published: Published, name: str) -> FigureResult:
    import polars as pl

    table = published.table("fig9_r2_trigger_by_runtime")
    rows = _columns(table, facet=pl.lit("R2"), group="runtime", series="trigger", y="share_of_functions")
    return _rows(name, "bars", rows)


def _fig11(published: Published, name: str) -> FigureResult:
    import polars as pl

    table = published.table("fig11_hourly_cold_starts")
    columns = {"cold_starts": "cold_starts", **COMPONENTS}
    parts = [
        _columns(table, facet="region", group=pl.lit(ours), x="hour", y=pl.col(theirs).cast(pl.Float64))
        for ours, theirs in columns.items()
    ]
    return _rows(name, "series", pl.concat(parts))


def _fig12(published: Published, name: str) -> FigureResult:
    import polars as pl

    table = published.table("fig12_spearman").with_columns(pl.col("a", "b").replace(_SPEARMAN))
    rows = _columns(table, facet="region", a="a", b="b", y="spearman", p=pl.lit(None, pl.Float64))
    return _rows(name, "matrix", rows, "printed to one decimal; stars are not in the set")


def _fig13(published: Published, name: str) -> FigureResult:
    import polars as pl

    text = (files("nonet.coldstart.analytics") / "fig13_medians.csv").read_text(encoding="utf-8")
    found = list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
    rows = pl.DataFrame(
        {
            "facet": [row["region"] for row in found],
            "metric": [row["metric"] for row in found],
            "pool": [row["pool"] for row in found],
            "median": [float(row["median"]) for row in found],
        }
    )
    missing = [pl.lit(None, pl.Float64).alias(column) for column in ("p25", "p75")]
    return _rows(name, "spread", rows.with_columns(*missing, pl.lit(0).alias("num")), "a few medians only")


def _fig14(published: Published, name: str) -> FigureResult:
    import polars as pl

    table = published.table("fig14_r2_functions")
    rows = _columns(table, facet=pl.lit("R2"), group="trigger", x="requests_31d", y="cold_starts_31d")
    return _rows(name, "points", rows, "74 of 2,418 functions are hidden under other marks")


_READERS: dict[str, Callable[[Published, str], FigureResult]] = {
    "1": _fig1,
    "5": _fig5,
    "6a": _fig6,
    "6b": _fig6,
    "7": _fig7,
    **dict.fromkeys(("8a", "8b", "8c"), _fig8_hours),
    **dict.fromkeys(("8d", "8e", "8f"), _fig8_shares),
    "9": _fig9,
    "11": _fig11,
    "12": _fig12,
    "13": _fig13,
    "14": _fig14,
}
