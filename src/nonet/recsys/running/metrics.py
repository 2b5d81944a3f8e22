"""Prometheus metrics of a running job, beside those of its server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_JOINED = ("features", "actions", "examples", "positives", "corrections", "orphans", "dead_letters")


class LoopMetrics:
    """Reads the job when it is scraped.

    Args:
        status: of the job, see `Loop.status`.
    """

    def __init__(self, status: Callable[[], Mapping[str, Any]]) -> None:
        self._status = status

    def describe(self) -> list[Any]:
        """Nothing is read at registration: the job is not whole yet."""
        return []

    def collect(self) -> Any:
        """All of it, now."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        status = self._status()
        lag = GaugeMetricFamily("nonet_recsys_lag_records", "Records not read yet.", labels=("reader",))
        for reader, records in (status["lag"] or {}).items():  # absent while the log does not answer
            lag.add_metric((reader,), records)
        yield lag
        joined = CounterMetricFamily("nonet_recsys_joined", "Events and examples of the joiner.", labels=("kind",))
        for kind in _JOINED:
            joined.add_metric((kind,), status["joined"][kind])
        yield joined
        yield CounterMetricFamily("nonet_recsys_learned", "Examples learned.", value=status["learned"])
        yield CounterMetricFamily("nonet_recsys_expired", "Keys expired.", value=status["expired"])
        yield CounterMetricFamily("nonet_recsys_recoveries", "Shards that were replaced.", value=status["recoveries"])
