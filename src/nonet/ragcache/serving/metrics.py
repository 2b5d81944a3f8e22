"""What `/metrics` shows: our own names always, vLLM's and LMCache's beside them on request."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from nonet.ragcache.scheduling.request import RequestReport
from nonet.ragcache.store.stats import StoreStats
from nonet.ragcache.store.tiers import FAULT_KINDS

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0)
_PREFIX = "nonet_ragcache_"
COMPAT = ("vllm", "lmcache")
"""Whose names can be shown beside ours."""


class Metrics:
    """Counters, gauges and histograms of one server.

    Args:
        model_name: value of the label `model_name`.
        vllm: also under the names that vLLM's dashboards and alerts use.
        lmcache: also under those of LMCache's.
    """

    def __init__(self, model_name: str, *, vllm: bool = False, lmcache: bool = False) -> None:
        self.registry = CollectorRegistry()
        label = ["model_name"]
        self._name = model_name

        def counter(name: str, text: str, *more: str) -> Counter:
            return Counter(_PREFIX + name, text, [*label, *more], registry=self.registry)

        def histogram(name: str, text: str) -> Histogram:
            return Histogram(_PREFIX + name, text, label, registry=self.registry, buckets=_SECONDS)

        self._requests = counter("requests", "Finished requests by the reason of their end.", "finished_reason")
        self._tokens = counter("prompt_tokens", "Prompt tokens by what became of them.", "kind")
        self._rows = counter("active_rows", "Prompt rows that went through the layers, probes included.")
        self._chunks = counter("chunks", "Chunks of prompts by what was decided for them.", "decision")
        self._generated = counter("generation_tokens", "Generated tokens.")
        self._faults = counter("faults", "Stored variants that could not be used, and other mishaps that were mended.")
        self._abstained = counter("abstained_requests", "Requests whose reuse the guard refused.")
        self._ttft = histogram("time_to_first_token_seconds", "From arrival to the first token.")
        self._e2e = histogram("e2e_request_latency_seconds", "From arrival to the end.")
        self._gap = histogram("inter_token_latency_seconds", "Between two tokens of a request.")
        self._vllm = _VllmNames(self.registry, model_name) if vllm else None
        self._lmcache = _LmcacheNames(self.registry, model_name) if lmcache else None

    def watch_store(self, used_bytes: Callable[[], Mapping[str, int]]) -> None:
        """Show how much each tier holds, asked for at each scrape.

        Args:
            used_bytes: by the name of the tier; always the same tiers.
        """
        gauge = Gauge(_PREFIX + "stored_bytes", "KV in the store.", ["model_name", "tier"], registry=self.registry)
        for tier in used_bytes():
            gauge.labels(self._name, tier).set_function(partial(_sum_of, used_bytes, (tier,)))
        if self._lmcache is not None:
            self._lmcache.watch_store(used_bytes)

    def watch_tiers(self, stats: Callable[[], StoreStats]) -> None:
        """Show what each tier may hold (+Inf without a limit) and what failed in it, asked for at each scrape.

        Args:
            stats: of the store; always the same tiers.
        """
        label, text = ["model_name", "tier"], "What a tier may hold now: less than it was given when it was full."
        capacity = Gauge(_PREFIX + "store_capacity_bytes", text, label, registry=self.registry)
        text = "Reads and writes that failed and were done without, by what was wrong."
        faults = Gauge(_PREFIX + "store_faults", text, [*label, "kind"], registry=self.registry)
        for number, tier in enumerate(stats().tiers):
            capacity.labels(self._name, tier.name).set_function(partial(_capacity_of, stats, number))
            for kind in FAULT_KINDS:
                failed = partial(_faults_of, stats, f"{tier.name}: {kind}")
                faults.labels(self._name, tier.name, kind).set_function(failed)

    def watch(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Show a value that is asked for at each scrape."""
        gauge = Gauge(_PREFIX + name, text, ["model_name"], registry=self.registry)
        gauge.labels(self._name).set_function(value)
        if self._vllm is not None:
            self._vllm.watch(name, text, value)

    def token(self, gap_s: float) -> None:
        """Count the time between two tokens."""
        self._gap.labels(self._name).observe(gap_s)
        if self._vllm is not None:
            self._vllm.gap.labels(self._name).observe(gap_s)

    def finished(self, report: RequestReport, reason: str) -> None:
        """Count a request that has ended."""
        name = self._name
        self._requests.labels(name, reason).inc()
        kinds = {
            "prefix": report.prefix_tokens,
            "reused": report.reused_tokens,
            "repaired": report.repaired_tokens,
            "computed": report.computed_tokens,
        }
        for kind, amount in kinds.items():
            self._tokens.labels(name, kind).inc(amount)
        self._rows.labels(name).inc(report.active_rows)
        for chunk in report.chunks:
            self._chunks.labels(name, chunk.decision).inc()
        self._generated.labels(name).inc(report.output_tokens)
        self._faults.labels(name).inc(len(report.notes))
        self._abstained.labels(name).inc(int(report.abstained))
        if report.output_tokens:
            self._ttft.labels(name).observe(report.ttft_s)
        self._e2e.labels(name).observe(report.e2e_s)
        if self._vllm is not None:
            self._vllm.finished(report, reason)
        if self._lmcache is not None:
            self._lmcache.finished(report)


_VLLM_GAUGES = {
    "requests_running": "num_requests_running",
    "requests_waiting": "num_requests_waiting",
    "pages_used_ratio": "kv_cache_usage_perc",
}


class _VllmNames:
    """The same under vLLM's names; its prefix cache counts tokens."""

    def __init__(self, registry: CollectorRegistry, model_name: str) -> None:
        self._registry, self._name = registry, model_name
        self._ttft = self._histogram("time_to_first_token_seconds", "From arrival to the first token.")
        self._e2e = self._histogram("e2e_request_latency_seconds", "From arrival to the end.")
        self.gap = self._histogram("inter_token_latency_seconds", "Between two tokens of a request.")
        self._success = self._counter("request_success", "Finished requests.", "finished_reason")
        self._prompt = self._counter("prompt_tokens", "Prompt tokens.")
        self._generated = self._counter("generation_tokens", "Generated tokens.")
        self._queries = self._counter("prefix_cache_queries", "Prompt tokens that were looked up.")
        self._hits = self._counter("prefix_cache_hits", "Prompt tokens that were cached, at any position.")
        self._counter("num_preemptions", "Requests that were put back; never here.").labels(model_name)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"vllm:{name}", text, ["model_name", *labels], registry=self._registry)

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(f"vllm:{name}", text, ["model_name"], registry=self._registry, buckets=_SECONDS)

    def watch(self, name: str, text: str, value: Callable[[], float]) -> None:
        if name in _VLLM_GAUGES:
            gauge = Gauge(f"vllm:{_VLLM_GAUGES[name]}", text, ["model_name"], registry=self._registry)
            gauge.labels(self._name).set_function(value)

    def finished(self, report: RequestReport, reason: str) -> None:
        name = self._name
        self._success.labels(name, reason).inc()
        self._prompt.labels(name).inc(report.prompt_tokens)
        self._generated.labels(name).inc(report.output_tokens)
        self._queries.labels(name).inc(report.prompt_tokens)
        self._hits.labels(name).inc(report.cached_tokens)
        if report.output_tokens:
            self._ttft.labels(name).observe(report.ttft_s)
        self._e2e.labels(name).observe(report.e2e_s)


_LMCACHE_PLACES = {
    "local_cache_usage": ("KV in memory.", ("ram",)),
    "local_storage_usage": ("KV on the disk.", ("disk",)),
    "remote_cache_usage": ("KV on other machines.", ("redis", "s3")),
}
_RECENT = 100


class _LmcacheNames:
    """The same under LMCache's names, whose hits are tokens that were found, also those that are repaired then."""

    def __init__(self, registry: CollectorRegistry, model_name: str) -> None:
        self._registry, self._name = registry, model_name
        self._requested = self._counter("num_requested_tokens", "Prompt tokens that were looked up.")
        self._hits = self._counter("num_hit_tokens", "Prompt tokens whose KV was found, repaired ones included.")
        self._recent: deque[tuple[int, int]] = deque(maxlen=_RECENT)
        rate = self._gauge("retrieve_hit_rate", f"Of the two, over the last {_RECENT} requests; 0 before the first.")
        rate.labels(model_name).set_function(self._rate)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"lmcache:{name}", text, ["model_name"], registry=self._registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"lmcache:{name}", text, ["model_name"], registry=self._registry)

    def watch_store(self, used_bytes: Callable[[], Mapping[str, int]]) -> None:
        for name, (text, tiers) in _LMCACHE_PLACES.items():
            self._gauge(name, text).labels(self._name).set_function(partial(_sum_of, used_bytes, tiers))

    def finished(self, report: RequestReport) -> None:
        found = report.prefix_tokens + report.reused_tokens + report.repaired_tokens
        self._requested.labels(self._name).inc(report.prompt_tokens)
        self._hits.labels(self._name).inc(found)
        self._recent.append((found, report.prompt_tokens))

    def _rate(self) -> float:
        recent = list(self._recent)
        requested = sum(tokens for _, tokens in recent)
        return sum(found for found, _ in recent) / requested if requested else 0.0


def _capacity_of(stats: Callable[[], StoreStats], tier: int) -> float:
    capacity = stats().tiers[tier].capacity_bytes
    return float("inf") if capacity is None else float(capacity)


def _faults_of(stats: Callable[[], StoreStats], name: str) -> float:
    return float(stats().faults.get(name, 0))


def _sum_of(used_bytes: Callable[[], Mapping[str, int]], tiers: Collection[str]) -> float:
    return float(sum(size for tier, size in used_bytes().items() if tier in tiers))
