"""The planted clusters of the tests, and their ingestion."""

from __future__ import annotations

from pathlib import Path

from nonet.coldstart.importing.base import ingest
from nonet.coldstart.trace.store import Trace
from tests.coldstart.advising.planted import Cluster, Service, at_random, bursts, ticking, write_lambda

HOUR_S = 3600.0


def knative_services(seed: int, horizon_s: float) -> list[Service]:
    def rare(name: str) -> list[float]:
        return at_random(f"{name}{seed}", 400, horizon_s)

    steady = at_random(f"api{seed}", 1.2, horizon_s)
    return [
        Service("nightly", "timer", ticking(seed, 90, horizon_s, 130), 0.5),
        Service("poller", "timer", ticking(seed + 1, 75, horizon_s, 140), 0.5),
        Service("thumb", "burst", bursts(seed, 900, horizon_s, 12), 2.0),
        Service("bigimage", "image-pull", rare("bigimage"), 0.4, pull=9.0),
        Service("starved", "cpu-starved-init", rare("starved"), 0.4, cpu="100m", init=9.0),
        Service("nodeup", "node-scale-up", rare("nodeup"), 0.4, allocation=45.0, new_node=True),
        Service("api", "burst", steady, 3.0, deploys=[horizon_s * part for part in (0.2, 0.45, 0.7, 0.9)]),
        Service("rare", "scale-from-zero", rare("rare"), 0.3),
        Service("shared", "scale-from-zero", bursts(seed + 5, 700, horizon_s, 3), 0.5, concurrency=10),
    ]


def planted_cluster(seed: int, horizon_s: float, services: list[Service] | None = None) -> Cluster:
    cluster = Cluster(seed)
    for service in services or knative_services(seed, horizon_s):
        cluster.serve(service)
    cluster.finish(horizon_s)
    return cluster


def knative_trace(cluster: Cluster, folder: Path) -> Trace:
    sources = [("k8s", cluster.write_kubernetes(folder)), ("knative", [cluster.write_knative(folder)])]
    return Trace.open(ingest(sources, folder / "trace").path)


def lambda_trace(cluster: Cluster, folder: Path, memory_mb: dict[str, int]) -> Trace:
    return Trace.open(ingest([("lambda", [write_lambda(cluster, folder, memory_mb)])], folder / "trace").path)


def lambda_services(seed: int, horizon_s: float) -> list[Service]:
    return [
        Service("ticker", "timer", ticking(seed, 90, horizon_s, 130), 0.5),
        Service("fan-out", "burst", bursts(seed, 900, horizon_s, 12), 2.0),
        Service("tiny", "cpu-starved-init", at_random(f"tiny{seed}", 400, horizon_s), 0.4, init=6.0),
        Service(
            "orders",
            "burst",
            at_random(f"orders{seed}", 1.2, horizon_s),
            3.0,
            deploys=[horizon_s * 0.4, horizon_s * 0.8],
            replaces_ahead=False,
        ),
        Service("rare", "scale-from-zero", at_random(f"rare{seed}", 500, horizon_s), 0.3),
    ]
