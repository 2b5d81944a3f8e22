"""HTTP services of the rooms: one FastAPI factory, so that all have the same health checks, metrics, limits and end.

`/healthz` says that the process lives, `/readyz` that it can do its work (503 with the reason when not), `/metrics`
speaks to Prometheus (text or OpenMetrics, as asked). With a token, everything but the two checks needs it as a bearer
token. A service binds 127.0.0.1 unless told otherwise, and refuses to bind anything wider without a token.
"""

from __future__ import annotations

import hmac
import json
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nonet.common.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from fastapi import FastAPI
    from prometheus_client import CollectorRegistry

MAX_BODY_BYTES = 1 << 20
_OPEN_PATHS = ("/healthz", "/readyz")
_START_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 5.0


def make_app(
    title: str,
    *,
    registry: CollectorRegistry | None = None,
    ready: Callable[[], str] | None = None,
    token: str | None = None,
    max_body_bytes: int = MAX_BODY_BYTES,
    error_body: Callable[[int, str], dict[str, Any]] | None = None,
) -> FastAPI:
    """An application with the house's endpoints; a room adds its own routes.

    Args:
        title: of the API.
        registry: what `/metrics` shows; no such endpoint when None.
        ready: answers "" when the service can work, else why not.
        token: bearer token that requests must carry.
        max_body_bytes: longer request bodies are answered with 413.
        error_body: status and reason to the JSON of a refusal; `{"detail": reason}` when None.

    Raises:
        MissingExtraError: FastAPI is not installed.

    >>> [route.path for route in make_app("demo").routes if route.path.endswith("z")]
    ['/healthz', '/readyz']
    """
    try:
        from fastapi import FastAPI
        from fastapi.responses import JSONResponse, Response
    except ImportError as error:
        raise MissingExtraError("a service needs FastAPI and uvicorn: pip install 'nonet[power]'") from error
    app = FastAPI(title=title, docs_url=None, redoc_url=None)

    def healthz(_: Any) -> Response:
        return JSONResponse({"status": "ok"})

    def readyz(_: Any) -> Response:
        reason = ready() if ready is not None else ""
        if reason:
            return JSONResponse({"status": "not ready", "reason": reason}, status_code=503)
        return JSONResponse({"status": "ok"})

    def metrics(request: Any, shown: Any = registry) -> Response:
        from prometheus_client.exposition import choose_encoder

        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(shown), headers={"content-type": content_type})

    app.add_route("/healthz", healthz)
    app.add_route("/readyz", readyz)
    if registry is not None:
        app.add_route("/metrics", metrics)
    app.add_middleware(_Gate, token=token, max_body_bytes=max_body_bytes, error_body=error_body or _detail)
    return app


class Service:
    """Serves an application from a thread of its own.

    Args:
        app: an ASGI application.
        host: address to bind.
        port: 0 takes a free one.
        has_token: whether requests need a token.

    Raises:
        InputError: a wide address without a token, or one that cannot be bound.
        MissingExtraError: uvicorn is not installed.
    """

    def __init__(self, app: Any, host: str = "127.0.0.1", port: int = 0, *, has_token: bool = False) -> None:
        if host not in ("127.0.0.1", "::1", "localhost") and not has_token:
            raise InputError(f"service on {host}: everybody could reach it; give it a token, or bind 127.0.0.1")
        try:
            import uvicorn
        except ImportError as error:
            raise MissingExtraError("a service needs FastAPI and uvicorn: pip install 'nonet[power]'") from error
        self._socket = _bound(host, port)
        self.port: int = self._socket.getsockname()[1]
        self.address = f"http://{f'[{host}]' if ':' in host else host}:{self.port}"
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, timeout_keep_alive=5, timeout_graceful_shutdown=3
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="http", daemon=True)

    def start(self) -> Service:
        """Serve; returns when requests are answered."""
        self._thread.start()
        waited = threading.Event()
        for _ in range(int(_START_TIMEOUT_S / 0.02)):
            if self._server.started:
                return self
            waited.wait(0.02)
        raise InputError(f"service on {self.address}: did not start within {_START_TIMEOUT_S:g} s")

    def stop(self) -> None:
        """Finish what is being answered, for a few seconds, then end."""
        self._server.should_exit = True
        self._thread.join(_STOP_TIMEOUT_S)
        self._socket.close()


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise InputError(f"service on {host}:{port}: {error.strerror}; take another port (0: a free one)") from error
    return listener


def _detail(_: int, reason: str) -> dict[str, Any]:
    return {"detail": reason}


class _Gate:
    """Token and body limit, before anything of a request is understood."""

    def __init__(
        self, app: Any, token: str | None, max_body_bytes: int, error_body: Callable[[int, str], dict[str, Any]]
    ) -> None:
        self._app, self._max_body_bytes, self._error_body = app, max_body_bytes, error_body
        self._expected = f"Bearer {token}".encode() if token else None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"authorization", b"")
        if self._expected and scope["path"] not in _OPEN_PATHS and not hmac.compare_digest(given, self._expected):
            body = self._error_body(401, "this needs the header Authorization: Bearer <token>")
            await _answer(send, 401, body, ((b"www-authenticate", b"Bearer"),))
            return
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._max_body_bytes:
            await _answer(send, 413, self._error_body(413, f"the body may have {self._max_body_bytes} bytes"))
            return
        taken = 0

        async def limited() -> Any:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._max_body_bytes:
                from fastapi import HTTPException

                raise HTTPException(413, f"the body may have {self._max_body_bytes} bytes")
            return message

        await self._app(scope, limited, send)


async def _answer(
    send: Any, status: int, answer: dict[str, Any], headers: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    body = json.dumps(answer).encode()
    start = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})
