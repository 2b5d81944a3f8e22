"""The charts of the tour: drawn from what was generated and simulated, beside the published."""

from __future__ import annotations

import re

from nonet.coldstart import bench
from nonet.coldstart.bench.tour_charts import policy_results
from nonet.common.plots import chart_spec


def test_the_tour_shows_region_2_beside_the_published_and_policies() -> None:
    drawn = bench.plots()
    assert callable(bench.plots)  # no module of the bench may take its name
    assert ["Region 2" in title for title, _ in drawn] == [True] * 5
    distances = [float(found) for title, _ in drawn for found in re.findall(r"KS ([0-9.]+)", title)]
    assert len(distances) == 2 and 0 < max(distances) <= 0.03
    for _, chart in drawn[:3]:
        assert "published" in str(chart_spec(chart)) and "this trace" in str(chart_spec(chart))


def test_policies_trade_cold_starts_for_memory() -> None:
    found = policy_results()
    fixed = found.filter(found["policy"].str.starts_with("ka:"))
    assert fixed["cold_rate"].is_sorted(descending=True) and fixed["wasted_gb_s"].is_sorted()
    assert found["policy"].n_unique() == len(found) == 13
    assert found["cold_rate"].n_unique() == 13
