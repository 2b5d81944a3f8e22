"""Conversations and plain texts to prompts: token ids in segments, with keys."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.ragcache.models.loading import LoadedModel
from nonet.ragcache.reuse.keys import chunk_key
from nonet.ragcache.reuse.matching import KnownChunks
from nonet.ragcache.reuse.prompt import Kind, Prompt, Segment, joined
from nonet.ragcache.store.names import hash_of
from nonet.ragcache.store.variant import KVLayout

_MAX_TENANTS = 1000
"""Whose chunks are found again in plain prompts; those of the tenant who computed least lately are forgotten."""


class PromptTooLongError(InputError):
    """A prompt that does not fit into the model's context."""


@dataclass(frozen=True, slots=True)
class ChunkText:
    """A retrieved chunk.

    Args:
        text: of the chunk.
        chunk_id: how it is called in reports.
        document: what it is from; its stored KV goes with the document.

    >>> ChunkText("Rows peak at 79 %.", chunk_id="power.md#3", document="power.md").document
    'power.md'
    """

    text: str
    chunk_id: str = ""
    document: str = ""


class PromptMaker:
    """Makes prompts for one model.

    Args:
        model: with tokenizer and template.
        max_model_len: tokens of prompt and answer.

    Attributes:
        layout: of the model's KV.
    """

    def __init__(self, model: LoadedModel, max_model_len: int) -> None:
        self._model, self._max_model_len = model, max_model_len
        self._known: OrderedDict[str, KnownChunks] = OrderedDict()
        self._lock = threading.Lock()
        shape = model.config
        self.layout = KVLayout(model.dtype, shape.num_layers, shape.num_kv_heads, shape.head_dim)

    def conversation(
        self,
        system: str | None,
        chunks: Sequence[ChunkText | str],
        question: str,
        *,
        history: Sequence[tuple[str, str]] = (),
        tenant: str = "",
    ) -> Prompt:
        """A conversation as token ids, each chunk for itself.

        Args:
            system: system prompt, None for the model's own.
            chunks: in their order.
            question: the last turn.
            history: earlier turns, role and text.
            tenant: chunks of different tenants never meet.

        Raises:
            PromptTooLongError: it does not fit into the context.
            InputError: the model's template refuses it.
        """
        named = [ChunkText(one, f"chunk-{n}") if isinstance(one, str) else one for n, one in enumerate(chunks)]
        turns = [{"role": role, "content": text} for role, text in history]
        texts = self._model.template.segments(system, [one.text for one in named], question, turns)
        ids = texts.encode(self._model.tokenizer, self._known_to(tenant).tokenised)
        if not named:
            return self._found(ids.system, ids.question, tenant)
        return self._prompt([ids.system, *ids.chunks, ids.question], named, tenant)

    def learn(self, prompt: Prompt, segment: Segment) -> None:
        """Find a chunk again in prompts that do not say where their chunks are.

        Args:
            prompt: in which it stands.
            segment: its place.
        """
        with self._lock:
            known = self._known.setdefault(prompt.tenant, KnownChunks())
            self._known.move_to_end(prompt.tenant)
            if len(self._known) > _MAX_TENANTS:
                self._known.popitem(last=False)
        ids = prompt.ids[segment.start : segment.stop]
        text = self._model.tokenizer.decode(ids.tolist(), skip_special=False)
        if text != self._model.tokenizer.decode(ids.tolist()):
            text = ""  # a turn mark: the same words in somebody's question must not become one
        known.add(segment.key, ids, text, chunk_id=segment.chunk_id, document=segment.document)

    def forget(self, chunks: Collection[str]) -> None:
        """Look for these chunks no longer in prompts that do not say where their chunks are.

        Args:
            chunks: `hash_of` their keys.
        """
        for known in list(self._known.values()) if chunks else ():
            for key in known.ids.known_keys():
                if hash_of(key) in chunks:
                    known.discard(key)

    def text(self, text: str | Sequence[int], *, tenant: str = "") -> Prompt:
        """A plain text, or its token ids; chunks that were computed before are found in it at any offset.

        Args:
            text: to continue.
            tenant: as for `conversation`.

        Raises:
            PromptTooLongError: it does not fit into the context.
            InputError: it is empty, or an id is none.
        """
        size = self._model.config.vocab_size
        encode = self._model.tokenizer.encode
        ids = (
            self._known_to(tenant).tokenised(text, lambda part, is_first: encode(part, add_special=is_first))
            if isinstance(text, str)
            else list(text)
        )
        if not ids or min(ids) < 0 or max(ids) >= size:
            raise InputError(f"the prompt must be a text or token ids below {size}, not empty")
        return self._found([], ids, tenant)

    def _known_to(self, tenant: str) -> KnownChunks:
        with self._lock:
            return self._known.get(tenant) or KnownChunks()

    def _found(self, head: Sequence[int], rest: Sequence[int], tenant: str) -> Prompt:
        ids = [*head, *rest]
        if len(ids) >= self._max_model_len:
            raise PromptTooLongError(too_long(len(ids), self._max_model_len))
        matcher = self._known_to(tenant).ids
        if not matcher.match(ids):
            return self._prompt([head, rest], [], tenant)
        return matcher.prompt(ids, lambda piece: self._key(piece, tenant), tenant=tenant)

    def _prompt(self, pieces: Sequence[Sequence[int]], named: Sequence[ChunkText], tenant: str) -> Prompt:
        length = sum(len(piece) for piece in pieces)
        if length >= self._max_model_len:
            raise PromptTooLongError(too_long(length, self._max_model_len))
        between: list[Kind] = ["chunk"] * len(named)
        kinds: list[Kind] = ["system", *between, "question"]
        chunks = [ChunkText(""), *named, ChunkText("")]
        numbers = [0, *range(len(named)), 0]
        segments, place = [], 0
        for kind, piece, chunk, number in zip(kinds, pieces, chunks, numbers, strict=True):
            key = self._key(piece, tenant) if kind != "question" else ""
            document = document_name(tenant, chunk.document) if chunk.document else ""
            segments.append(Segment(kind, place, place + len(piece), key, chunk.chunk_id, document, number))
            place += len(piece)
        return Prompt(joined(pieces), tuple(segments), tenant)

    def _key(self, ids: Sequence[int] | NDArray[np.int64], tenant: str) -> str:
        tokenizer = self._model.tokenizer.fingerprint
        return chunk_key(ids, model=self._model.fingerprint, tokenizer=tokenizer, layout=str(self.layout), salt=tenant)


def too_long(length: int, limit: int) -> str:
    """What is said of a prompt that does not fit."""
    return (
        f"This model's maximum context length is {limit} tokens, and the prompt has {length}. "
        "Give fewer or shorter chunks, or a shorter question."
    )


def document_name(tenant: str, name: str) -> str:
    """The name of a tenant's document in the store.

    A tenant's token must not be stored, and two tenants' documents of one name must not meet.
    """
    return name if not tenant else f"{chunk_key([], model='', tokenizer='', layout='', salt=tenant)[:16]}/{name}"


def names_of(prompt: Prompt) -> list[tuple[str, str]]:
    """Keys of a prompt's chunks, each with a name by which it is deleted: its document and, where it has one, its id.

    Args:
        prompt: whose chunks may have names.

    Returns:
        Once or twice each chunk that is from a document; the others cannot be deleted by name.
    """
    return [
        (chunk.key, name)
        for chunk in prompt.chunks
        if chunk.document
        for name in dict.fromkeys((chunk.document, document_name(prompt.tenant, chunk.chunk_id or chunk.document)))
    ]


def shortened(prompt: Prompt, numbers: Sequence[int]) -> Prompt:
    """The system segment, some chunks, and one token of the question: enough to compute those chunks.

    Args:
        prompt: of the chunks.
        numbers: of their segments.
    """
    chosen = [0, *numbers, len(prompt.segments) - 1]
    pieces = [prompt.ids[prompt.segments[n].start : prompt.segments[n].stop] for n in chosen]
    pieces[-1] = pieces[-1][-1:]
    segments, place = [], 0
    for number, piece in zip(chosen, pieces, strict=True):
        old = prompt.segments[number]
        segments.append(Segment(old.kind, place, place + len(piece), old.key, old.chunk_id, old.document))
        place += len(piece)
    return Prompt(joined(pieces), tuple(segments), prompt.tenant)
