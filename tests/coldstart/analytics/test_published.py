"""The published curves: checks that the digitised set passed when it was made, and distances to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from nonet.coldstart.analytics.curve import Curve
from nonet.coldstart.analytics.distances import compare, ks, ks_within
from nonet.coldstart.analytics.figures import FIGURES
from nonet.coldstart.analytics.published import REGIONS, TABLES, Published
from nonet.coldstart.analytics.result import COLUMNS, FigureResult, law_result
from nonet.common.errors import InputError

RUNTIME_COUNTS = {"Python3": 1190731, "Node.js": 287253, "Custom": 186452, "Java": 165695, "Python2": 165673}
RUNTIME_COUNTS |= {"Go1.x": 30045, "PHP7.3": 25591, "http": 18167, "C#": 3105}


def test_every_published_figure_has_the_form_of_ours(published: Published) -> None:
    assert set(FIGURES) - set(published.names()) == {"16d", "17b"}
    for name in published.names():
        result = published.figure(name)
        assert result.kind == FIGURES[name].kind
        assert set(COLUMNS[result.kind]) <= set(result.rows.columns), name


def test_the_regions_mixed_by_their_cold_starts_give_the_pooled_curve(published: Published) -> None:
    counts = {region: published.figure("11").xy("cold_starts", region)[1].sum() for region in REGIONS}
    pooled = published.curve("10b", "all")
    mixed = sum(published.curve("10a", r).at(pooled.x) * n for r, n in counts.items()) / sum(counts.values())
    assert np.nanmax(np.abs(mixed - pooled.at(pooled.x))) <= 0.0015


def test_the_runtimes_mixed_by_their_true_counts_give_the_curve_of_region_2(published: Published) -> None:
    whole = published.curve("15a", "all")
    mixed = sum(published.curve("15a", r).at(whole.x) * n for r, n in RUNTIME_COUNTS.items()) / sum(
        RUNTIME_COUNTS.values()
    )
    assert np.nanmax(np.abs(mixed - whole.at(whole.x))) <= 0.005


def test_the_three_stacks_of_pods_agree(published: Published) -> None:
    totals = [
        published.figure(n).rows.group_by("x").agg(pl.col("y").sum()).sort("x")["y"].to_numpy()
        for n in ("8a", "8b", "8c")
    ]
    assert np.abs(totals[0] / totals[1] - 1).max() < 1e-3
    assert np.abs(totals[0] / totals[2] - 1).max() < 1e-3


def test_quantiles_are_those_of_the_table_that_came_with_the_curves(published: Published) -> None:
    table = pl.read_csv(published.path("cdfs").with_name("quantiles.csv"))
    num = 0
    for row in table.filter(pl.col("figure").is_in(["10a", "10c", "15a", "16a"])).to_dicts():
        for share in (0.25, 0.5, 0.75, 0.9):
            stated = row[f"p{share * 100:02.0f}"]
            found = published.curve(row["figure"], row["group"]).quantile(share)[0]
            assert found == pytest.approx(stated, rel=0.01), row
            num += 1
    assert num > 100


def test_a_cut_curve_has_no_quantile_beyond_the_plot(published: Published) -> None:
    curve = published.curve("16e", "OBS-A")
    assert curve.is_cut_right and curve.cdf[-1] < 0.94
    assert np.isnan(curve.quantile(0.95)[0]) and not np.isnan(curve.quantile(0.9)[0])
    assert np.isnan(curve.at(5.0)[0])


def test_a_sample_of_a_published_law_is_close_to_it(published: Published) -> None:
    from nonet.coldstart.analytics.curve import curve_of_values

    for region in REGIONS:
        law = published.curve("10a", region)
        sample = curve_of_values(law.sample(100_000))
        assert ks_within(sample, law)[0] < 0.001
        assert ks(curve_of_values(law.sample(100_000) * 1.5), law)[0] > 0.05


def test_comparing_a_figure_with_itself_gives_no_distance(published: Published) -> None:
    for name in published.names():
        result = published.figure(name)
        distances = compare(result, result)
        assert distances, name
        for d in distances:
            perfect = 1.0 if d.measure == "Pearson" else 0.0
            assert d.value == pytest.approx(perfect, abs=1e-9) or np.isnan(d.value), d


def test_comparing_two_figures_is_refused(published: Published) -> None:
    with pytest.raises(InputError, match="figure 10a cannot be compared with figure 10c"):
        compare(published.figure("10a"), published.figure("10c"))


def test_distances_of_known_size() -> None:
    law = Curve(np.array([1.0, 10.0]), np.array([0.0, 1.0]))
    moved = Curve(np.array([10**0.3, 10**1.3]), np.array([0.0, 1.0]))
    ours, theirs = (law_result("10a", {("", "R1"): curve}) for curve in (law, moved))
    found = {d.measure: d for d in compare(ours, theirs)}
    assert found["KS"].value == pytest.approx(0.3)
    assert found["KS within reading error"].value == pytest.approx(0.3 - np.log10(1.005), abs=1e-6)
    series = pl.DataFrame({"facet": [""] * 4, "group": ["g"] * 4, "x": [0, 1, 2, 3], "y": [1.0, 2.0, 3.0, 5.0]})
    other = series.with_columns(y=pl.Series([2.0, 1.0, 3.0, 4.0]))
    distance = compare(FigureResult("5", "series", series), FigureResult("5", "series", other))[0]
    assert distance.value == pytest.approx(np.corrcoef([1, 2, 3, 5], [2, 1, 3, 4])[0, 1])


def test_the_package_holds_the_curves(published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NONET_MIRROR", raising=False)
    shipped = Published.load()
    assert all(shipped.table(name).equals(published.table(name)) for name in TABLES)


def test_what_is_not_there_is_said(published: Published, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="figure 16d is not among the digitised curves"):
        published.figure("16d")
    with pytest.raises(InputError, match="0 curves are named 'R6'"):
        published.curve("10a", "R6")
    with pytest.raises(InputError, match=r"not whole: no cdfs\.csv in "):
        Published.load(tmp_path)
    (tmp_path / "fig7_holiday.csv").write_bytes(b"\xff\xfe\x00not a table")
    with pytest.raises(InputError, match=r"figure 7: a table of the published curves is damaged|not a CSV table"):
        Published(tmp_path).figure("7")
