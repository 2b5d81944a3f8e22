"""HTTP services of the rooms: one FastAPI factory, so that all have the same health checks, metrics, limits and end.

`/healthz` says that the process lives, `/readyz` that it can do its work (503 with the reason when not), and so does
`/health`, where tools made for vLLM and llama.cpp look. `/metrics` speaks to Prometheus (text or OpenMetrics, as
asked). With a token, or several, everything but the checks needs one as a bearer token. A service binds 127.0.0.1
unless told otherwise, and refuses to bind anything wider without a token.
Whatever is refused, and a fault of ours, is answered in one form, and the connection can be used again.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import socket
import threading
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from nonet.common.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from fastapi import FastAPI
    from prometheus_client import CollectorRegistry

_LOG = logging.getLogger(__name__)
MAX_BODY_BYTES = 1 << 20
TOKEN_NUMBER = "nonet.token_number"
"""In an ASGI scope: which of the tokens a request carries; missing where a service has none."""
_OPEN_PATHS = ("/healthz", "/readyz", "/health")
_START_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 5.0


def make_app(
    title: str,
    *,
    registry: CollectorRegistry | None = None,
    ready: Callable[[], str] | None = None,
    token: str | Collection[str] | None = None,
    max_body_bytes: int = MAX_BODY_BYTES,
    error_body: Callable[[int, str], dict[str, Any]] | None = None,
) -> FastAPI:
    """An application with the house's endpoints; a room adds its own routes.

    Args:
        title: of the API.
        registry: what `/metrics` shows; no such endpoint when None.
        ready: answers "" when the service can work, else why not.
        token: bearer token that requests must carry, or several of which one will do (`TOKEN_NUMBER` says which).
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
        from starlette.exceptions import HTTPException
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
    app.add_route("/health", readyz)
    if registry is not None:
        app.add_route("/metrics", metrics)
    shape = error_body or _detail

    def refused(request: Any, error: Any) -> Response:
        reason = _reason(request.method, request.url.path, error)
        return JSONResponse(shape(error.status_code, reason), error.status_code, error.headers)

    app.add_exception_handler(HTTPException, refused)
    tokens = (token,) if isinstance(token, str) else tuple(token or ())
    app.add_middleware(_Gate, tokens=tokens, max_body_bytes=max_body_bytes, error_body=shape)
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


def _reason(method: str, path: str, error: Any) -> str:
    if error.status_code == 404 and error.detail == "Not Found":
        return f"{method} {path}: there is no such address here"
    if error.status_code == 405:
        return f"{method} {path}: this address takes {(error.headers or {}).get('Allow', 'another method')}"
    return str(error.detail)


class _Gate:
    """Token and body limit, before anything of a request is understood; and what is said when a route fails."""

    def __init__(
        self, app: Any, tokens: Collection[str], max_body_bytes: int, error_body: Callable[[int, str], dict[str, Any]]
    ) -> None:
        self._app, self._max_body_bytes, self._error_body = app, max_body_bytes, error_body
        self._expected = [_digest(token.encode()) for token in tokens if token]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if self._expected and scope["path"] not in _OPEN_PATHS:
            scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
            is_given = scheme.lower() == b"bearer" and bool(given.strip())
            number = self._number(given.strip()) if is_given else None
            if number is None:
                needed = "this needs the header Authorization: Bearer <key>"
                text = "the bearer token that was sent is not a key of this server" if is_given else needed
                await _answer(send, 401, self._error_body(401, text), ((b"www-authenticate", b"Bearer"),))
                return
            scope[TOKEN_NUMBER] = number
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._max_body_bytes:
            await _answer(send, 413, self._error_body(413, f"the body may have {self._max_body_bytes} bytes"))
            return
        await self._passed_on(scope, receive, send)

    def _number(self, given: bytes) -> int | None:
        # All are compared, digests of one length each, so that the time tells nothing of any of them.
        digest = _digest(given)
        same = [hmac.compare_digest(digest, expected) for expected in self._expected]
        return same.index(True) if any(same) else None

    async def _passed_on(self, scope: Any, receive: Any, send: Any) -> None:
        taken = 0
        has_begun = False

        async def limited() -> Any:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._max_body_bytes:
                from fastapi import HTTPException

                raise HTTPException(413, f"the body may have {self._max_body_bytes} bytes")
            return message

        async def watched(message: Any) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, limited, watched)
        except Exception:
            if has_begun:
                raise  # the client must see that the answer is not whole
            # Raised further, it would close the connection behind the client's back.
            _LOG.exception("%s %s failed", scope["method"], scope["path"])
            await _answer(send, 500, self._error_body(500, "this failed on the server; its log says why"))


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


async def _answer(
    send: Any, status: int, answer: dict[str, Any], headers: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    body = json.dumps(answer).encode()
    start = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})
