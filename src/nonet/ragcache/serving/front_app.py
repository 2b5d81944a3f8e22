"""The front of several replicas: the same API, each request passed on to the replica that the router chooses.

What concerns all of them (metrics, explanations, deletions) is asked of all. Retrieval is done here, so that the router
sees the chunks. When a replica dies, what has not been answered yet is asked of another one.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from pydantic import ValidationError

from nonet.common.errors import InputError
from nonet.common.service import make_app
from nonet.ragcache.serving.answers import error_body
from nonet.ragcache.serving.app import gate_error, tenant_of, wrong_input
from nonet.ragcache.serving.calls import Call, Head, Piece, Whole, whole
from nonet.ragcache.serving.hints import chat_hint, completion_hint
from nonet.ragcache.serving.merging import merged_metrics
from nonet.ragcache.serving.openai_types import ChatBody, ChunkIn, CompletionBody
from nonet.ragcache.serving.page import page_html
from nonet.ragcache.serving.routing import RequestHint, RoutingStats
from nonet.ragcache.serving.tenants import NO_KEYS, KeyRing

if TYPE_CHECKING:
    from nonet.ragcache.front.index import ChunkIndex

_ATTEMPTS = 3
_POLL_S = 0.2
_DROPPED_HEADERS = {b"host", b"connection", b"content-length", b"transfer-encoding", b"expect"}


class ReplicaLostError(Exception):
    """The replica that was asked is gone, before the end of its answer."""


class Replicas(Protocol):
    """What the front asks."""

    def ask(self, call: Call, hint: RequestHint) -> AsyncIterator[Piece]:
        """Ask the replica that suits a request best.

        Args:
            call: the request.
            hint: what the router goes by.

        Yields:
            The head, then the body as it comes.

        Raises:
            ReplicaLostError: it is gone.
        """

    async def ask_all(self, call: Call) -> dict[str, Whole]:
        """Ask all that live.

        Args:
            call: the request.

        Returns:
            Their answers by name.
        """

    def why_not_ready(self) -> str:
        """Why no request can be answered, "" when they can."""

    def routing(self) -> RoutingStats:
        """What the router has done."""


@dataclass(frozen=True, slots=True)
class FrontConfig:
    """What the front allows.

    Args:
        keys: that clients may send, the same as the replicas'.
        max_body_bytes: of a request.
    """

    keys: KeyRing = NO_KEYS
    max_body_bytes: int = 8 << 20


def build_front(replicas: Replicas, config: FrontConfig, *, index: ChunkIndex | None = None) -> FastAPI:
    """The application.

    Args:
        replicas: that answer.
        config: what it allows.
        index: chunks for requests with `retrieve`.
    """
    app = make_app(
        "nonet ragcache",
        ready=replicas.why_not_ready,
        token=config.keys.secrets,
        max_body_bytes=config.max_body_bytes,
        error_body=gate_error,
    )
    front = _Front(replicas, config.keys, index)
    app.add_api_route("/v1/chat/completions", front.chat, methods=["POST"], response_model=None)
    app.add_api_route("/v1/completions", front.completions, methods=["POST"], response_model=None)
    app.add_api_route("/v1/embeddings", front.any_replica, methods=["POST"], response_model=None)
    app.add_api_route("/v1/models", front.any_replica, methods=["GET"], response_model=None)
    app.add_api_route("/v1/cache/explain", front.explain, methods=["GET"], response_model=None)
    app.add_api_route("/v1/cache/stats", front.stats, methods=["GET"], response_model=None)
    app.add_api_route("/v1/cache/chunks/{name:path}", front.forget, methods=["DELETE"], response_model=None)
    app.add_api_route("/metrics", front.metrics, methods=["GET"], response_model=None, include_in_schema=False)
    app.add_api_route("/", front.page, methods=["GET"], response_model=None, include_in_schema=False)
    app.add_exception_handler(InputError, wrong_input)
    return app


class _Front:
    def __init__(self, replicas: Replicas, keys: KeyRing, index: ChunkIndex | None) -> None:
        self._replicas, self._keys, self._index = replicas, keys, index
        self._searching = asyncio.Lock()

    async def chat(self, request: Request) -> Response:
        """Pass a conversation on, with the chunks that it retrieves."""
        call = await _call_of(request)
        try:
            body = ChatBody.model_validate_json(call.body)
        except ValidationError:  # the replica says what is wrong, in the API's own shape
            return await self._passed_on(request, call, RequestHint())
        if body.retrieve and self._index is not None:
            call, body = await self._retrieved(call, body)
        hint = chat_hint(body, tenant_of(request, self._keys, body.cache_salt))
        return await self._passed_on(request, call, hint)

    async def completions(self, request: Request) -> Response:
        """Pass a plain prompt on."""
        call = await _call_of(request)
        try:
            body = CompletionBody.model_validate_json(call.body)
            hint = completion_hint(body, tenant_of(request, self._keys, body.cache_salt))
        except ValidationError:
            hint = RequestHint()
        return await self._passed_on(request, call, hint)

    async def any_replica(self, request: Request) -> Response:
        """Pass on what every replica answers alike."""
        return await self._passed_on(request, await _call_of(request), RequestHint())

    async def explain(self, request: Request) -> Response:
        """Ask all replicas, since the one that had the request knows it."""
        answers = list((await self._replicas.ask_all(await _call_of(request))).values())
        found = [one for one in answers if one.status == 200] or answers
        return _response(found[0]) if found else _lost()

    async def stats(self, request: Request) -> Response:
        """What each replica's store holds."""
        answers = await self._replicas.ask_all(await _call_of(request))
        return JSONResponse({"replicas": {name: json.loads(one.body) for name, one in answers.items()}})

    async def forget(self, name: str, request: Request) -> Response:
        """Drop the caller's stored KV of a document on every replica."""
        answers = await self._replicas.ask_all(await _call_of(request))
        if not answers:
            return _lost()
        refused = [one for one in answers.values() if one.status != 200]
        if refused:
            return _response(refused[0])
        num = max(int(json.loads(one.body).get("variants", 0)) for one in answers.values())
        return JSONResponse({"id": name, "object": "cache.chunks", "deleted": num > 0, "variants": num})

    async def metrics(self, request: Request) -> Response:
        """The metrics of all replicas, told apart by a label, and the router's own."""
        answers = await self._replicas.ask_all(replace(await _call_of(request), headers=_plain(request)))
        texts = {name: one.body.decode() for name, one in answers.items() if one.status == 200}
        body, content_type = merged_metrics(texts, self._replicas.routing(), request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type})

    async def page(self, request: Request) -> Response:
        """The chat page."""
        call = replace(await _call_of(request), path="/v1/models")
        answer = await self._answer(request, call, RequestHint())
        if not isinstance(answer, Whole) or answer.status != 200:
            return _lost()
        name = json.loads(answer.body)["data"][0]["id"]
        return HTMLResponse(page_html(name, can_retrieve=self._index is not None))

    async def _retrieved(self, call: Call, body: ChatBody) -> tuple[Call, ChatBody]:
        if self._index is None:
            return call, body
        async with self._searching:
            hits = await asyncio.to_thread(self._index.search, body.parts()[2], body.retrieve)
        found = [ChunkIn(text=hit.chunk.text, id=hit.chunk.chunk_id, document=hit.chunk.document_id) for hit in hits]
        chunks = [one.model_dump() for one in (*body.chunk_list(), *found)]
        changed = {**json.loads(call.body), "chunks": chunks, "retrieve": 0}
        call = replace(call, body=json.dumps(changed).encode())
        return call, ChatBody.model_validate(changed)

    async def _passed_on(self, request: Request, call: Call, hint: RequestHint) -> Response:
        answer = await self._answer(request, call, hint)
        if answer is None:
            return _lost()
        if isinstance(answer, Whole):
            return _response(answer)
        head, stream = answer
        return StreamingResponse(stream, head.status, {name.decode(): value.decode() for name, value in head.headers})

    async def _answer(
        self, request: Request, call: Call, hint: RequestHint
    ) -> Whole | tuple[Head, AsyncIterator[bytes]] | None:
        """An answer, or its head and the events to come; None when no replica could give one."""
        for _ in range(_ATTEMPTS):
            pieces = self._replicas.ask(call, hint)
            try:
                head = await anext(pieces)
                if not isinstance(head, Head):
                    raise ReplicaLostError("an answer without a head")
                if not head.is_stream:
                    return await _while_connected(request, whole(pieces, head))
                first = await anext(pieces, b"")
                return head, _relayed(first if isinstance(first, bytes) else b"", pieces)
            except (ReplicaLostError, StopAsyncIteration):
                continue
        return None


async def _relayed(first: bytes, pieces: AsyncIterator[Piece]) -> AsyncIterator[bytes]:
    async with aclosing(pieces) as rest:  # type: ignore[type-var]
        try:
            yield first
            async for piece in rest:
                if isinstance(piece, bytes):
                    yield piece
        except ReplicaLostError:
            # Part of the answer is with the client already, and another replica need not say the same again.
            text = "the replica that answered was lost; ask again"
            yield f"data: {json.dumps(error_body(text, 'server_error', 'replica_lost'))}\n\ndata: [DONE]\n\n".encode()


async def _while_connected(request: Request, waiting: Any) -> Whole:
    """Wait, and give up when the client has."""
    task = asyncio.ensure_future(waiting)
    try:
        while not (await asyncio.wait([task], timeout=_POLL_S))[0]:
            if await request.is_disconnected():
                break
        if not task.done():
            return Whole(499, (), b"")
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _call_of(request: Request) -> Call:
    headers = tuple((name, value) for name, value in request.headers.raw if name not in _DROPPED_HEADERS)
    body = await request.body()
    length = ((b"content-length", str(len(body)).encode()),) if body else ()
    return Call(request.method, request.scope["path"], request.scope["query_string"], (*headers, *length), body)


def _plain(request: Request) -> tuple[tuple[bytes, bytes], ...]:
    """Without what would ask for another format than the one that is merged."""
    return tuple((name, value) for name, value in request.headers.raw if name == b"authorization")


def _response(answer: Whole) -> Response:
    headers = {name.decode(): value.decode() for name, value in answer.headers}
    return Response(answer.body, answer.status, headers)


def _lost() -> Response:
    text = "no replica could answer; try again in a moment"
    return JSONResponse(error_body(text, "server_error", "no_replica"), 503, {"Retry-After": "2"})
