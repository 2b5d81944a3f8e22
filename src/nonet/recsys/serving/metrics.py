"""Prometheus metrics of the server, all `nonet_recsys_*`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from nonet.recsys.serving.arms import Arm

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

_LATENCY_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)


class ServingMetrics:
    """Gauges read the arms when they are scraped; counters and histograms are fed by the routes.

    Args:
        arms: that serve.
        clock: seconds since 1970.
    """

    def __init__(self, arms: Sequence[Arm], clock: Callable[[], float] = time.time) -> None:
        from prometheus_client import CollectorRegistry, Counter, Histogram

        self.registry: CollectorRegistry = CollectorRegistry()
        self._arms, self._clock = arms, clock
        self.registry.register(self)
        self.requests = Counter("nonet_recsys_requests", "Requests answered.", ("route", "arm"), registry=self.registry)
        self.latency = Histogram(
            "nonet_recsys_request_seconds", "Time to an answer.", ("route",), registry=self.registry, buckets=_LATENCY_S
        )
        self.defaults = Counter(
            "nonet_recsys_defaults", "Answers from the default list.", ("arm",), registry=self.registry
        )
        self.unlogged = Counter(
            "nonet_recsys_unlogged",
            "Answers whose events are not on the log.",
            ("arm",),
            registry=self.registry,
        )
        self.actions = Counter("nonet_recsys_actions", "Actions taken.", ("action",), registry=self.registry)

    def collect(self) -> Any:
        """Gauges of the arms, now."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        now_s = self._clock()
        gauges = {
            "staleness_seconds": ("Now less the newest applied event time; +Inf before the first.", _staleness_s),
            "epoch": ("Highest epoch applied.", lambda arm, _: arm.epoch),
            "index_items": ("Items in the retrieval index.", lambda arm, _: len(arm.index)),
            "keys": ("Rows in the replica.", lambda arm, _: sum(len(t) for t in arm.replica.tables.values())),
        }
        for name, (text, value_of) in gauges.items():
            family = GaugeMetricFamily(f"nonet_recsys_{name}", text, labels=("arm",))
            for arm in self._arms:
                family.add_metric((arm.name,), value_of(arm, now_s))
            yield family
        counts = CounterMetricFamily("nonet_recsys_sync_messages", "Messages by outcome.", labels=("arm", "outcome"))
        for arm in self._arms:
            for outcome, count in arm.replica.counts.items():
                counts.add_metric((arm.name, outcome), count)
        yield counts


def _staleness_s(arm: Arm, now_s: float) -> float:
    return arm.replica.staleness_s(now_s)
