"""The HTTP service: recommend, rank, actions, and the way in for publishers."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from nonet.common.errors import InputError
from nonet.common.service import Service, make_app
from nonet.recsys.logs import LogUnavailableError
from nonet.recsys.serving import bodies
from nonet.recsys.serving.metrics import ServingMetrics
from nonet.recsys.serving.recommender import Answer, Recommender
from nonet.recsys.syncing.links import MAX_FRAME_BYTES, SYNC_PATH, add_sync_route

if TYPE_CHECKING:
    from fastapi import FastAPI


def make_serving_app(recommender: Recommender, *, token: str | None = None) -> FastAPI:
    """The application: /v1/recommend, /v1/rank, /v1/actions, /v1/sync/{arm}, /healthz, /readyz, /metrics.

    Args:
        recommender: that answers.
        token: bearer token of all but the health checks.

    Raises:
        MissingExtraError: FastAPI is not installed.
    """
    arms = list(recommender.arms.values())
    metrics = ServingMetrics(arms, recommender.clock)

    def ready() -> str:
        empty = [arm.name for arm in arms if arm.epoch == 0]
        refused = [arm.refusal for arm in arms if arm.refusal]
        return f"no sync has reached the arms {empty} yet" if empty else "; ".join(refused)

    app = make_app("nonet recsys", registry=metrics.registry, ready=ready, token=token, max_body_bytes=MAX_FRAME_BYTES)
    app.state.registry = metrics.registry  # for further collectors
    for arm in arms:
        add_sync_route(app, arm.replica, f"{SYNC_PATH}/{arm.name}")
    _add_routes(app, recommender, metrics)
    _add_errors(app)
    return app


def serve(recommender: Recommender, host: str = "127.0.0.1", port: int = 0, *, token: str | None = None) -> Service:
    """Serve from a thread of its own; `.stop()` ends it.

    Args:
        recommender: that answers.
        host: to bind; all but this machine's needs a token.
        port: 0 takes a free one.
        token: bearer token.

    >>> from urllib.request import urlopen
    >>> from nonet.recsys import Arm, Catalogue, FeatureEncoder, Features, Replica, Trainer, preset_table
    >>> catalogue = Catalogue(Features({name: FeatureEncoder(name, n) for n, name in enumerate(("user", "item"))}))
    >>> trainer = Trainer("fm", preset_table("fm", 4, name="ids"), features=("user", "item"))
    >>> service = serve(Recommender([Arm("main", trainer.model, Replica({"ids": 5}), catalogue)]))
    >>> urlopen(f"{service.address}/healthz").status
    200
    >>> service.stop()
    """
    return Service(make_serving_app(recommender, token=token), host, port, has_token=token is not None).start()


def _add_routes(app: FastAPI, recommender: Recommender, metrics: ServingMetrics) -> None:
    def answered(route: str, answer: Answer, started_s: float) -> dict[str, Any]:
        arm = answer.arm
        metrics.requests.labels(route, arm.name).inc()
        metrics.latency.labels(route).observe(time.perf_counter() - started_s)
        staleness_s = arm.replica.staleness_s(recommender.clock())
        return {
            "request_id": answer.request_id,
            "arm": arm.name,
            "model_epoch": arm.epoch,
            "staleness_s": staleness_s if math.isfinite(staleness_s) else None,
            "source": answer.source,
            "logged": answer.logged,
            "items": [{"id": item, "score": score} for item, score in zip(answer.items, answer.scores, strict=True)],
        }

    def recommend(body: bodies.Recommend) -> dict[str, Any]:
        started_s = time.perf_counter()
        answer = recommender.recommend(
            body.user,
            body.k,
            context=body.context,
            dense=body.dense,
            request_id=body.request_id,
            exclude=body.exclude,
        )
        if answer.source == "default":
            metrics.defaults.labels(answer.arm.name).inc()
        if not answer.logged:
            metrics.unlogged.labels(answer.arm.name).inc()
        return answered("recommend", answer, started_s)

    def rank(body: bodies.Rank) -> dict[str, Any]:
        started_s = time.perf_counter()
        answer = recommender.rank(
            body.user,
            body.items,
            context=body.context,
            dense=body.dense,
            request_id=body.request_id,
            shown=body.shown,
        )
        return answered("rank", answer, started_s)

    def actions(body: bodies.Action | list[bodies.Action]) -> dict[str, int]:
        listed = body if isinstance(body, list) else [body]
        for one in listed:
            ts_ms = None if one.ts is None else int(one.ts * 1000)
            recommender.act(one.request_id, one.item, one.action, one.value, ts_ms)
            metrics.actions.labels(one.action if one.action in bodies.KNOWN_ACTIONS else "other").inc()
        return {"accepted": len(listed)}

    app.post("/v1/recommend")(recommend)
    app.post("/v1/rank")(rank)
    app.post("/v1/actions", status_code=202)(actions)


def _add_errors(app: FastAPI) -> None:
    from fastapi import Request
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse

    def invalid(_: Request, error: Exception) -> JSONResponse:
        # Without the input: it may hold what JSON cannot say, such as a NaN.
        listed = error.errors() if isinstance(error, RequestValidationError) else []
        said = [".".join(map(str, one["loc"][1:])) + ": " + one["msg"] for one in listed]
        safe = "; ".join(said).encode("utf-8", "replace").decode()
        return JSONResponse({"detail": safe}, status_code=422)

    def refused(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": str(error).encode("utf-8", "replace").decode()}, status_code=422)

    def unavailable(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": f"{error}"}, status_code=503, headers={"retry-after": "1"})

    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(InputError, refused)
    app.add_exception_handler(LogUnavailableError, unavailable)
