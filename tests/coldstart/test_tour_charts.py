"""The charts of the tour: drawn from what was generated and simulated, beside the published."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from nonet.coldstart import bench
from nonet.coldstart.bench import tour_charts
from nonet.common.plots import chart_spec

if TYPE_CHECKING:
    import altair as alt
    import polars as pl


@pytest.fixture(scope="module")
def drawn_and_found() -> tuple[list[tuple[str, alt.TopLevelMixin]], pl.DataFrame]:
    """The charts, drawn once, that of functions from fewer of them; and what the chart of policies shows."""
    found: list[pl.DataFrame] = []
    policy_results = tour_charts.policy_results

    def kept() -> pl.DataFrame:
        found.append(policy_results())
        return found[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tour_charts, "_FUNCTION_SCALE", 0.02)
        patch.setattr(tour_charts, "policy_results", kept)
        drawn = bench.plots()
    (results,) = found
    return drawn, results


def test_the_tour_shows_region_2_beside_the_published_and_policies(
    drawn_and_found: tuple[list[tuple[str, alt.TopLevelMixin]], pl.DataFrame],
) -> None:
    drawn, _ = drawn_and_found
    assert callable(bench.plots)  # no module of the bench may take its name
    assert ["Region 2" in title for title, _ in drawn] == [True] * 5
    distances = [float(found) for title, _ in drawn for found in re.findall(r"KS ([0-9.]+)", title)]
    assert len(distances) == 2 and 0 < max(distances) <= 0.03
    for _, chart in drawn[:3]:
        assert "published" in str(chart_spec(chart)) and "this trace" in str(chart_spec(chart))


def test_policies_trade_cold_starts_for_memory(
    drawn_and_found: tuple[list[tuple[str, alt.TopLevelMixin]], pl.DataFrame],
) -> None:
    _, found = drawn_and_found
    fixed = found.filter(found["policy"].str.starts_with("ka:"))
    assert fixed["cold_rate"].is_sorted(descending=True) and fixed["wasted_gb_s"].is_sorted()
    assert found["policy"].n_unique() == len(found) == 13
    assert found["cold_rate"].n_unique() == 13
