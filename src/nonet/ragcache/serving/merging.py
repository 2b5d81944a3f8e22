"""Metrics of several replicas as one page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from nonet.ragcache.serving.routing import RoutingStats


def merged_metrics(texts: Mapping[str, str], routing: RoutingStats, accept: str) -> tuple[bytes, str]:
    """One exposition of all replicas.

    Args:
        texts: what each shows, in Prometheus' text format, by name.
        routing: the router's own counts.
        accept: formats that the asker understands.

    Returns:
        The page, and its content type.

    >>> page, _ = merged_metrics({"a": "# TYPE up gauge\\nup 1\\n", "b": "up 2\\n"}, RoutingStats(2, 5, 90, 60), "")
    >>> 'up{replica="a"} 1.0' in page.decode() and 'up{replica="b"} 2.0' in page.decode()
    True
    """
    encode, content_type = choose_encoder(accept)
    registry = CollectorRegistry()
    registry.register(_Shown([*_routing(routing), *_families(texts)]))
    return encode(registry), content_type


class _Shown(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


def _families(texts: Mapping[str, str]) -> Iterator[Metric]:
    found: dict[str, Metric] = {}
    for replica, text in texts.items():
        for family in text_string_to_metric_families(text):
            if family.name.endswith("_created"):
                continue  # when a counter began says nothing of several processes
            merged = found.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            for one in family.samples:
                merged.samples.append(Sample(one.name, {**one.labels, "replica": replica}, one.value))
    yield from found.values()


def _routing(stats: RoutingStats) -> Iterator[Metric]:
    yield GaugeMetricFamily("nonet_ragcache_replicas", "Replicas that can be asked.", stats.num_replicas)
    yield CounterMetricFamily("nonet_ragcache_routed_requests", "Requests sent to replicas.", stats.num_routed)
    text = "Tokens of their chunks."
    yield CounterMetricFamily("nonet_ragcache_routed_chunk_tokens", text, stats.chunk_tokens)
    text = "Of these, tokens that the chosen replica had in memory."
    yield CounterMetricFamily("nonet_ragcache_routed_known_tokens", text, stats.known_tokens)
