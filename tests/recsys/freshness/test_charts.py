"""The charts hold the numbers of the simulation and are drawn by Vega."""

import numpy as np
import pytest
import vl_convert

from nonet.common.plots import chart_spec
from nonet.recsys.freshness.charts import cost_chart, epoch_chart, shard_chart
from nonet.recsys.freshness.collisions import collisions
from nonet.recsys.freshness.drift import Drift
from nonet.recsys.freshness.setup import Setup
from nonet.recsys.freshness.simulate import simulate


def test_charts():
    data = Drift(rows=2000, users=50, items=30, seed=1).log().examples
    simulation = simulate(data, shards=[4, 10], seeds=[0, 1], setup=Setup("lr", 1))
    spec = chart_spec(shard_chart(simulation))
    rows = spec["data"]["values"]
    assert len(rows) == 4 + 10 + 10
    mine = [row for row in rows if row["model"] == "4 syncs"]
    expected = [
        np.mean([s.online_auc for s in simulation.shards if (s.num_shards, s.number) == (4, n)]) for n in range(4)
    ]
    assert [row["auc"] for row in mine] == pytest.approx(expected)
    costs = chart_spec(cost_chart(simulation))
    assert [row["auc"] for row in costs["data"]["values"]] == [line.pooled_online_auc for line in simulation.table()]
    for one in (spec, costs):
        assert "<svg" in vl_convert.vegalite_to_svg(one)


def test_the_chart_of_collisions():
    seen = collisions(Drift(rows=1500, users=50, items=30).log().examples, seeds=[0], epochs=3, setup=Setup("lr", 1))
    spec = chart_spec(epoch_chart(seen))
    rows = spec["data"]["values"]
    assert [row["auc"] for row in rows if row["ids"] == "hashed"] == pytest.approx(list(seen.arms["hashed"].auc[0]))
    assert {row["ids"] for row in rows} == set(seen.arms) and len(rows) == 9
    assert "<svg" in vl_convert.vegalite_to_svg(spec)
