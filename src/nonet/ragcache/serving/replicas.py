"""Several engines behind one address, on Ray Serve: replicas that share a store, a front, and the router between them.

Ray Serve starts the replicas on the machines of a cluster (or on this one), restarts those that die, and carries
requests and streams to them; `ray_router` tells it which replica to try first.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from nonet.common.console import note
from nonet.common.errors import InputError, MissingExtraError
from nonet.ragcache.serving.calls import Call, Piece, Whole, respond, whole
from nonet.ragcache.serving.front_app import FrontConfig, ReplicaLostError, build_front
from nonet.ragcache.serving.routing import ROUTERS, Holdings, RequestHint, RoutingConfig, RoutingStats
from nonet.ragcache.serving.server import Address, ServedEngine
from nonet.ragcache.serving.settings import ServeSettings
from nonet.ragcache.store.specs import has_shared_tier
from nonet.ragcache.store.variant import KVLayout

APP = "ragcache"
ENGINES = "engine"
FRONT = "front"
_REPORT_PERIOD_S = 3.0
_MAX_REPORTED = 4096
_ASK_ALL_S = 15.0
_UNLIMITED_TOKENS = 10_000_000
_READY_S, _POLL_S = 60.0, 0.1


@dataclass(frozen=True, slots=True)
class ReplicaSettings:
    """How many engines, and what each is.

    Args:
        serve: settings of each engine.
        num_replicas: how many.
        threads: of each engine's model; as many processors are reserved for it.
        index_folder: chunks for requests with `retrieve`; searched by the front.
        routing: how chunks and load are weighed.

    Raises:
        InputError: no replica, or no tier that all of them reach.
    """

    serve: ServeSettings
    num_replicas: int = 2
    threads: int = 1
    index_folder: Path | None = None
    routing: RoutingConfig = field(default_factory=RoutingConfig)

    def __post_init__(self) -> None:
        if self.num_replicas < 1 or self.threads < 1:
            raise InputError("replicas and threads must be 1 or more")
        if not has_shared_tier(self.serve.store):
            raise InputError(
                f"--store {self.serve.store} keeps every replica's KV to itself; add a tier that all replicas reach: "
                "redis://HOST/0, s3://BUCKET/PREFIX, or disk:FOLDER?shared=1 on a file system that all machines mount"
            )


class EngineReplica:
    """One engine and its routes, asked over Ray instead of HTTP.

    Args:
        settings: of the engine.
        threads: of the model.
    """

    def __init__(self, settings: ServeSettings, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        engine, allowed = settings.open_engine()
        self._served = ServedEngine(engine, allowed, metrics_compat=settings.metrics_compat)
        self._held = Holdings(_memory_tokens(self._served))
        engine.start()

    async def answer(self, call: Call, hint: RequestHint) -> AsyncIterator[Piece]:
        """Answer a request.

        Args:
            call: the request.
            hint: its chunks, which are in this engine's memory afterwards.

        Yields:
            The head, then the body as it comes.
        """
        async with aclosing(respond(self._served.app, call)) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                yield piece
        for chunk in hint.chunks:
            self._held.hold(chunk.key, chunk.num_tokens)

    async def answer_with_name(self, call: Call) -> tuple[str, Whole]:
        """Answer what is asked of all replicas.

        Args:
            call: the request.

        Returns:
            This replica's name, and the answer.
        """
        from ray import serve

        return serve.get_replica_context().replica_id.unique_id, await whole(respond(self._served.app, call))

    def record_routing_stats(self) -> dict[str, Any]:
        """What routers are told from time to time; Ray Serve asks for it."""
        held = self._held.items()[-_MAX_REPORTED:]
        return {"capacity_tokens": self._held.capacity_tokens, "held": held}

    def check_health(self) -> None:
        """Ray Serve asks for this, too, and replaces a replica that raises.

        Raises:
            RuntimeError: the engine has failed.
        """
        reason = self._served.engine.why_not_ready()
        if reason:
            raise RuntimeError(reason)

    def __del__(self) -> None:
        # Ray Serve's end of a replica, after what it had begun is answered.
        served = getattr(self, "_served", None)
        if served is not None:
            served.engine.stop(0.0)
            served.close()


def _memory_tokens(served: ServedEngine) -> int:
    engine = served.engine
    pages = engine.config.pool_tokens or 4 * engine.max_model_len
    first = engine.store.stats().tiers[0]
    if first.name != "ram":
        return pages
    shape = engine.model.config
    layout = KVLayout(engine.model.dtype, shape.num_layers, shape.num_kv_heads, shape.head_dim)
    return pages + (first.capacity_bytes // layout.num_bytes(1) if first.capacity_bytes else _UNLIMITED_TOKENS)


class RayReplicas:
    """The replicas as the front sees them; see `Replicas`.

    Args:
        handle: of the deployment of engines.
    """

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        # A handle looks for its replicas at its first request, and without knowing any, this is not ready for one.
        self._first = handle.check_health.remote()

    async def ask(self, call: Call, hint: RequestHint) -> AsyncIterator[Piece]:
        """See `Replicas`."""
        from ray.exceptions import RayActorError, TaskCancelledError
        from ray.serve.exceptions import DeploymentUnavailableError

        pieces = self._handle.options(stream=True).answer.remote(call, hint=hint)
        is_done = False
        try:
            async for piece in pieces:
                yield piece
            is_done = True
        except (RayActorError, TaskCancelledError, DeploymentUnavailableError) as error:
            raise ReplicaLostError(str(error)) from error
        finally:
            if not is_done:
                pieces.cancel()

    async def ask_all(self, call: Call) -> dict[str, Whole]:
        """See `Replicas`; those that do not answer in time are left out."""
        from ray.serve.exceptions import DeploymentUnavailableError

        try:
            answers = await self._handle.broadcast("answer_with_name", call).results_async(
                timeout_s=_ASK_ALL_S, return_exceptions=True
            )
        except (TimeoutError, DeploymentUnavailableError):
            return {}
        return dict(sorted(one for one in answers if isinstance(one, tuple)))

    def why_not_ready(self) -> str:
        """See `Replicas`."""
        return "" if self.routing().num_replicas else "no replica is running"

    def routing(self) -> RoutingStats:
        """See `Replicas`."""
        router = ROUTERS.get(ENGINES)
        return router.stats if router is not None else RoutingStats(0, 0, 0, 0)


def application(settings: ReplicaSettings) -> Any:
    """The Ray Serve application, for `serve.run` or a cluster's own deployment.

    Args:
        settings: of it.

    Raises:
        MissingExtraError: Ray Serve is not installed.
    """
    serve = _ray_serve()
    from ray.serve.config import RequestRouterConfig

    settings = _anchored(settings)
    waiting = settings.serve.engine.max_running + settings.serve.engine.max_waiting
    router: dict[str, Any] = {
        "request_router_class": "nonet.ragcache.serving.ray_router.ChunkRouter",
        "request_router_kwargs": asdict(settings.routing),
        "request_routing_stats_period_s": _REPORT_PERIOD_S,
    }
    engines = serve.deployment(EngineReplica).options(
        name=ENGINES,
        num_replicas=settings.num_replicas,
        max_ongoing_requests=waiting + 8,  # the engine refuses what is too much, in the API's own shape
        ray_actor_options={"num_cpus": settings.threads},
        health_check_period_s=2.0,
        health_check_timeout_s=20.0,
        request_router_config=RequestRouterConfig(**router),
    )
    server = settings.serve.server

    def front() -> Any:
        handle = serve.get_deployment_handle(ENGINES, app_name=APP)
        config = FrontConfig(server.keys, server.max_body_bytes)
        return build_front(RayReplicas(handle), config, index=_index(settings.index_folder))

    fronts = serve.deployment(serve.ingress(front)()).options(
        name=FRONT, max_ongoing_requests=10_000, ray_actor_options={"num_cpus": 0}
    )
    return fronts.bind(engines.bind(settings.serve, settings.threads))


def _anchored(settings: ReplicaSettings) -> ReplicaSettings:
    """With the paths that are meant from here, since Ray's processes work elsewhere."""
    serve, index = settings.serve, settings.index_folder
    parts = [part.strip() for part in serve.store.split(",")]
    parts = [f"disk:{Path(part[5:]).absolute()}" if part.startswith("disk:") else part for part in parts]
    model = str(Path(serve.model).absolute()) if Path(serve.model).exists() else serve.model
    serve = replace(serve, store=",".join(parts), model=model)
    return replace(settings, serve=serve, index_folder=index.absolute() if index is not None else None)


def _index(folder: Path | None) -> Any:
    if folder is None:
        return None
    from nonet.ragcache.front.embedding import Embedder, packaged_model
    from nonet.ragcache.front.index import ChunkIndex, check_index

    check_index(folder)
    return ChunkIndex(folder, Embedder() if packaged_model() is not None else None)


class ReplicatedServer:
    """Replicas and their front, listening.

    On a cluster that RAY_ADDRESS names, or else on a Ray of its own on this machine.

    Args:
        settings: of the replicas.
        address: where to listen.

    Raises:
        InputError: a wide address without a token, a taken port, or replicas that do not start.
        MissingExtraError: Ray Serve is not installed.
    """

    def __init__(self, settings: ReplicaSettings, address: Address | None = None) -> None:
        _ray_serve()
        place = address or Address()
        if place.host not in ("127.0.0.1", "::1", "localhost") and not settings.serve.server.keys.keys:
            raise InputError(f"service on {place.host}: everybody could reach it; give it a token, or bind 127.0.0.1")
        self._settings, self._host, self._port = settings, place.host, _free_port(place.host, place.port)
        self.address = f"http://{f'[{place.host}]' if ':' in place.host else place.host}:{self._port}"

    def start(self) -> ReplicatedServer:
        """Serve; returns when all replicas have started."""
        import ray
        from ray import serve

        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        if not ray.is_initialized():
            own: dict[str, Any] = {"include_dashboard": False, "num_cpus": self._num_cpus}
            here = {} if os.environ.get("RAY_ADDRESS") else own
            ray.init(log_to_driver=False, logging_level=logging.WARNING, **here)
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        serve.start(http_options={"host": self._host, "port": self._port})
        try:
            serve.run(application(self._settings), name=APP, route_prefix="/")
        except RuntimeError as error:
            reason = _why_not_started(str(error))
            self.stop()
            raise InputError(f"the replicas did not start: {reason}") from error
        self._wait()
        return self

    def _wait(self) -> None:
        deadline = time.monotonic() + _READY_S
        while True:
            with suppress(OSError), urllib.request.urlopen(f"{self.address}/readyz", timeout=5.0):
                return
            if time.monotonic() > deadline:
                self.stop()
                raise InputError(f"{self.address}: not ready within {_READY_S:g} s; see Ray's logs")
            time.sleep(_POLL_S)

    def stop(self) -> None:
        """Finish what is begun, and end; a cluster that was there before stays."""
        import ray
        from ray import serve

        with suppress(KeyboardInterrupt):
            serve.shutdown()
        ray.shutdown()

    def run(self) -> None:
        """Serve until SIGINT or SIGTERM."""
        asked = threading.Event()
        note(f"starting {self._settings.num_replicas} replicas ...")
        self.start()
        for number in (signal.SIGINT, signal.SIGTERM):  # after Ray, which sets its own
            signal.signal(number, lambda *_: asked.set())
        note(f"serving on {self.address} (chat page there; OpenAI's API below /v1)")
        asked.wait()
        note("finishing what is begun ...")
        self.stop()

    @property
    def _num_cpus(self) -> int:
        return self._settings.num_replicas * self._settings.threads


def _why_not_started(text: str) -> str:
    """The last error that Ray Serve tells of the engines, or else what it says of the application."""
    from ray import serve

    found = serve.status().applications.get(APP)
    told = found.deployments[ENGINES].message if found is not None and ENGINES in found.deployments else ""
    errors = [line.strip() for line in told.splitlines() if re.match(r"\s*[\w.]*Error: ", line)]
    return errors[-1].rpartition("InputError: ")[2] if errors else " ".join((told or text).split())[:1000]


def _free_port(host: str, port: int) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InputError(
                f"service on {host}:{port}: {error.strerror}; take another port (0: a free one)"
            ) from error
        return int(probe.getsockname()[1])


def _ray_serve() -> Any:
    try:
        from ray import serve
    except ImportError as error:
        raise MissingExtraError("replicas need Ray Serve: pip install 'nonet[ragcache-ray]'") from error
    return serve
