"""A request as data, and its answer in pieces: what goes between the front and a replica's own routes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

_LOG = logging.getLogger(__name__)
_END_WAIT_S = 5.0
_OWN_HEADERS = {b"connection", b"date", b"keep-alive", b"server", b"transfer-encoding"}
"""What belongs to a connection, or is said by every server for itself."""

Headers = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Call:
    """A request.

    Args:
        method: as "POST".
        path: decoded, from the root.
        query: as in the address, without "?".
        headers: names in small letters.
        body: as sent.
    """

    method: str
    path: str
    query: bytes = b""
    headers: Headers = ()
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Head:
    """The beginning of an answer.

    Args:
        status: as 200.
        headers: names in small letters.
    """

    status: int
    headers: Headers

    @property
    def is_stream(self) -> bool:
        """Whether the body is events that are sent as they come."""
        return any(name == b"content-type" and b"event-stream" in value for name, value in self.headers)


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole answer.

    Args:
        status: as 200.
        headers: names in small letters.
        body: all of it.
    """

    status: int
    headers: Headers
    body: bytes


Piece = Head | bytes


async def respond(app: Any, call: Call) -> AsyncIterator[Piece]:
    """Let an application answer, in this process.

    To close this generator early is to the application what a client is that goes away.

    Args:
        app: an ASGI application.
        call: what is asked.

    Yields:
        The head, then the body's pieces as they come, none of them empty.

    Raises:
        Exception: what the application raised before it had begun to answer; later ones go to the log.
    """
    pieces: asyncio.Queue[Piece | None] = asyncio.Queue()
    is_gone = asyncio.Event()
    task = asyncio.create_task(_run(app, call, pieces, is_gone))
    has_begun = False
    try:
        while (piece := await pieces.get()) is not None:
            has_begun = True
            yield piece
        error = (await asyncio.gather(task, return_exceptions=True))[0]
        if isinstance(error, BaseException):
            if not has_begun:
                raise error
            _LOG.error("%s %s: after the answer had begun", call.method, call.path, exc_info=error)
    finally:
        is_gone.set()
        if not task.done():
            await _ended(task)


async def whole(pieces: AsyncIterator[Piece], head: Head | None = None) -> Whole:
    """Wait for the end of an answer.

    Args:
        pieces: of `respond`, or of a replica.
        head: when it was taken from the pieces already.
    """
    body = []
    async for piece in pieces:
        if isinstance(piece, Head):
            head = piece
        else:
            body.append(piece)
    if head is None:
        return Whole(500, (), b"")
    return Whole(head.status, head.headers, b"".join(body))


async def _run(app: Any, call: Call, pieces: asyncio.Queue[Piece | None], is_gone: asyncio.Event) -> None:
    is_read = False

    async def receive() -> dict[str, Any]:
        nonlocal is_read
        if not is_read:
            is_read = True
            return {"type": "http.request", "body": call.body, "more_body": False}
        await is_gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            headers = tuple((bytes(name).lower(), bytes(value)) for name, value in message.get("headers", ()))
            pieces.put_nowait(Head(message["status"], tuple(one for one in headers if one[0] not in _OWN_HEADERS)))
        elif message["type"] == "http.response.body" and message.get("body"):
            pieces.put_nowait(bytes(message["body"]))

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": call.method,
        "scheme": "http",
        "path": call.path,
        "raw_path": call.path.encode(),
        "query_string": call.query,
        "root_path": "",
        "headers": [*call.headers],
        "client": None,
        "server": None,
    }
    try:
        await app(scope, receive, send)
    finally:
        pieces.put_nowait(None)


async def _ended(task: asyncio.Task[None]) -> None:
    """Give an application that was told of a client's leaving a while to end by itself, then cancel it."""
    _, waiting = await asyncio.wait([task], timeout=_END_WAIT_S)
    for one in waiting:
        one.cancel()
    await asyncio.gather(task, return_exceptions=True)
