"""The bench against Dask: every way of Dask gives the same numbers, and the cheapest is among them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from nonet.coldstart.bench import analytics
from tests.conftest import needs


def test_the_ways_of_dask_agree_with_each_other_and_with_ours(tmp_path: Path) -> None:
    needs(importlib.util.find_spec("dask") is not None, "no Dask")
    path = tmp_path / "r.csv"
    assert analytics.write_requests_csv(path, num_rows=20_000) == 20_000
    two, one = analytics._dask_partitions(path), analytics._dask_one_pass(path)
    assert two[0].equals(one[0]) and two[1].equals(one[1])
    assert (two[1].sum() == 20_000).all()
    ours = analytics._ours(path)
    for column in analytics.COLUMNS:
        np.testing.assert_allclose(ours[column], two[0][column], rtol=0.012)


def test_the_finding_against_one_pass_stands_beside_the_promised_one() -> None:
    needs(importlib.util.find_spec("dask") is not None, "no Dask")
    found = {finding.name: finding for finding in analytics.analytics_vs_dask(5_000)}
    assert found["analytics_vs_dask"].promise == 3.0 and found["analytics_vs_dask_one_pass"].promise is None
    assert len(found["analytics_seconds"].rivals) == 4
