"""A server from settings to its end: engine, index, metrics, routes, graceful stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from nonet.common.console import note
from nonet.common.service import Service
from nonet.ragcache.front.embedding import Embedder, packaged_model
from nonet.ragcache.front.index import ChunkIndex, check_index
from nonet.ragcache.scheduling.engine import Engine
from nonet.ragcache.serving.app import ServerConfig, build_app
from nonet.ragcache.serving.metrics import Metrics

DRAIN_S = 20.0


@dataclass(frozen=True)
class Address:
    """Where to listen.

    Args:
        host: address.
        port: 0 takes a free one.

    >>> Address(port=0).host
    '127.0.0.1'
    """

    host: str = "127.0.0.1"
    port: int = 8000


class ServedEngine:
    """An engine with its routes and metrics, not yet listening anywhere.

    Args:
        engine: not started.
        config: what is allowed.
        index_folder: chunks for requests with `retrieve`.
        metrics_compat: whose metric names are shown beside ours, of `COMPAT`.

    Raises:
        InputError: no index in that folder.

    Attributes:
        app: the ASGI application.
        metrics: what it shows.
    """

    def __init__(
        self,
        engine: Engine,
        config: ServerConfig,
        *,
        index_folder: str | Path | None = None,
        metrics_compat: Collection[str] = (),
    ) -> None:
        if index_folder is not None:
            check_index(index_folder)
        self.engine = engine
        embedder = Embedder() if packaged_model() is not None else None
        self._index = ChunkIndex(index_folder, embedder) if index_folder is not None else None
        name = config.served_model_name
        self.metrics = Metrics(name, vllm="vllm" in metrics_compat, lmcache="lmcache" in metrics_compat)
        self._watch()
        engine.on_report(self.metrics.finished)
        engine.on_gap = self.metrics.token
        self.app = build_app(engine, config, metrics=self.metrics, index=self._index, embedder=embedder)

    def close(self) -> None:
        """Let go of the index; the engine is stopped on its own, while answers are still sent."""
        if self._index is not None:
            self._index.close()

    def _watch(self) -> None:
        engine, metrics = self.engine, self.metrics
        metrics.watch("requests_running", "Requests that are computed now.", lambda: engine.num_running)
        metrics.watch("requests_waiting", "Requests that wait.", lambda: engine.num_waiting)
        metrics.watch("pages_used_ratio", "Share of the pages that is taken.", lambda: engine.pages_used)
        metrics.watch("stored_variants", "Variants in the store.", lambda: engine.store_stats()["num_variants"])
        metrics.watch_store(lambda: {tier.name: tier.used_bytes for tier in engine.store.stats().tiers})
        metrics.watch_tiers(engine.store.stats)
        metrics.watch("shadow_kl_nats", "Mean KL of full recomputation and service.", lambda: engine.shadow.mean)
        metrics.watch("shadow_checks", "Shadow checks so far.", lambda: engine.shadow.num_checks)
        metrics.watch("shadow_alarm", "1 while that mean is above its limit.", lambda: float(engine.shadow.is_alarmed))


class RagServer:
    """An engine behind HTTP.

    Args:
        engine: not started; stopped with the server.
        config: what is allowed.
        address: where to listen.
        index_folder: chunks for requests with `retrieve`.
        metrics_compat: whose metric names are shown beside ours, of `COMPAT`.

    Raises:
        InputError: the address cannot be bound, or is wide without a token; or no index in that folder.

    >>> import urllib.request
    >>> from nonet.ragcache import ChunkStore, ServerConfig, toy_model
    >>> engine = Engine(toy_model(), ChunkStore.from_spec("ram:10MB"))
    >>> server = RagServer(engine, ServerConfig("toy"), Address(port=0)).start()
    >>> urllib.request.urlopen(server.address + "/healthz").status
    200
    >>> server.stop(0)
    """

    def __init__(
        self,
        engine: Engine,
        config: ServerConfig,
        address: Address | None = None,
        *,
        index_folder: str | Path | None = None,
        metrics_compat: Collection[str] = (),
    ) -> None:
        place = address or Address()
        self._served = ServedEngine(engine, config, index_folder=index_folder, metrics_compat=metrics_compat)
        self._service = Service(self._served.app, place.host, place.port, has_token=bool(config.keys.keys))
        self.address = self._service.address

    def start(self) -> RagServer:
        """Serve; returns when requests are answered."""
        self._served.engine.start()
        self._service.start()
        return self

    def stop(self, drain_s: float = DRAIN_S) -> None:
        """Take no more requests, finish what is begun, and end.

        Args:
            drain_s: how long answers may go on.
        """
        self._served.engine.stop(drain_s)
        self._service.stop()
        self._served.close()

    def run(self) -> None:
        """Serve until SIGINT or SIGTERM."""
        asked = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: asked.set())
        self.start()
        note(f"serving on {self.address} (chat page there; OpenAI's API below /v1)")
        asked.wait()
        note("finishing what is begun ...")
        self.stop()
