"""Prometheus metrics of a running job, beside those of its server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

_JOINED = ("features", "actions", "examples", "positives", "corrections", "orphans", "dead_letters")
_MEASURES = {
    "auc": "AUC of progressive validation",
    "normalised_entropy": "Log loss over that of the mean rate",
    "calibration": "Expected over observed positives",
}


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
        saved = status["snapshot"]
        if saved["age_s"] is not None:  # absent until a further arm has its first one
            yield GaugeMetricFamily("nonet_recsys_snapshot_age_seconds", "Of the oldest arm's.", value=saved["age_s"])
        yield CounterMetricFamily(
            "nonet_recsys_snapshot_failures", "Snapshots that could not be written.", value=saved["failures"]
        )
        yield from _of_arms(status["arms"])
        yield CounterMetricFamily("nonet_recsys_recoveries", "Shards that were replaced.", value=status["recoveries"])


def _of_arms(arms: Mapping[str, Mapping[str, Any]]) -> Iterator[Any]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    learned = CounterMetricFamily("nonet_recsys_arm_learned", "Examples learned.", labels=("arm",))
    for name, arm in arms.items():
        learned.add_metric((name,), arm["learned"])
    yield learned
    for measure, text in _MEASURES.items():
        family = GaugeMetricFamily(f"nonet_recsys_arm_{measure}", f"{text}, over the last windows.", labels=("arm",))
        for name, arm in arms.items():
            if arm["validation"][measure] is not None:  # absent until a window is full
                family.add_metric((name,), arm["validation"][measure])
        yield family
