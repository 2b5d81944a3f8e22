"""Traces of planted clusters, made once."""

from __future__ import annotations

import pytest

from nonet.coldstart.trace.store import Trace
from tests.coldstart.advising.planted import Cluster
from tests.coldstart.advising.scenarios import HOUR_S, knative_trace, lambda_services, lambda_trace, planted_cluster

HORIZON_S = 6 * HOUR_S


@pytest.fixture(scope="session", params=[1, 2])
def knative(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Cluster, Trace]:
    cluster = planted_cluster(request.param, HORIZON_S)
    return cluster, knative_trace(cluster, tmp_path_factory.mktemp("knative"))


@pytest.fixture(scope="session")
def on_lambda(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cluster, Trace]:
    cluster = planted_cluster(3, HORIZON_S, lambda_services(3, HORIZON_S))
    return cluster, lambda_trace(cluster, tmp_path_factory.mktemp("lambda"), {"tiny": 128})
