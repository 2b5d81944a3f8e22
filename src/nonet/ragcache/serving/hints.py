"""What a router can tell from a request's body: which chunks it has, and about how much there is to compute."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from nonet.ragcache.serving.openai_types import ChatBody, CompletionBody, GenerateBody
from nonet.ragcache.serving.routing import ChunkHint, RequestHint

_CHARACTERS_PER_TOKEN = 4
_BLOCK = 1024
_MAX_BLOCKS = 64
_ANSWER_TOKENS = 256


def chat_hint(body: ChatBody, tenant: str) -> RequestHint:
    """The chunks of a conversation; of one without chunks, its beginning in blocks.

    Args:
        body: of the request.
        tenant: chunks of different tenants are different.

    >>> body = ChatBody(messages=[{"role": "user", "content": "why?"}], chunks=["a" * 80, "b" * 40])
    >>> [chunk.num_tokens for chunk in chat_hint(body, "").chunks]
    [21, 11]
    """
    texts = [chunk.text for chunk in body.chunks]
    turns = [f"{one.role}\n{one.content}\n" for one in body.messages]
    asked = "".join(turns) + (body.question or "")
    if not texts:
        return RequestHint(_prefix_chunks(asked, tenant), _answer_tokens(body))
    return RequestHint(_chunks(texts, tenant), _num_tokens(asked) + _answer_tokens(body))


def completion_hint(body: CompletionBody, tenant: str) -> RequestHint:
    """The beginnings of plain prompts, in blocks: two prompts share as many as they are the same from the start.

    Args:
        body: of the request.
        tenant: as for `chat_hint`.
    """
    texts = [one if isinstance(one, str) else "".join(f"{number:<4x}" for number in one) for one in body.prompt]
    found = {chunk.key: chunk for text in texts for chunk in _prefix_chunks(text, tenant)}
    return RequestHint(tuple(found.values()), len(texts) * _answer_tokens(body))


def _answer_tokens(body: GenerateBody) -> int:
    wanted = body.max_tokens or _ANSWER_TOKENS
    return getattr(body, "max_completion_tokens", None) or wanted


def _chunks(texts: Iterable[str], tenant: str) -> tuple[ChunkHint, ...]:
    found = {_key(("chunk", tenant, text)): _num_tokens(text) for text in texts if text}
    return tuple(ChunkHint(key, num_tokens) for key, num_tokens in found.items())


def _prefix_chunks(text: str, tenant: str) -> tuple[ChunkHint, ...]:
    ends = range(_BLOCK, min(len(text), _BLOCK * _MAX_BLOCKS) + 1, _BLOCK)
    return tuple(ChunkHint(_key(("start", tenant, text[:end])), _BLOCK // _CHARACTERS_PER_TOKEN) for end in ends)


def _num_tokens(text: str) -> int:
    return len(text) // _CHARACTERS_PER_TOKEN + 1


def _key(parts: Sequence[str]) -> str:
    hasher = hashlib.blake2b(digest_size=8)
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        hasher.update(len(raw).to_bytes(8, "little"))
        hasher.update(raw)
    return hasher.hexdigest()
