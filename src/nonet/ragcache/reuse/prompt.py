"""A prompt as token ids and segments: what comes before the chunks, each chunk, and the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError

Kind = Literal["system", "chunk", "question"]


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a prompt.

    Args:
        kind: "system" (all before the chunks), "chunk" or "question" (all after them).
        start: first row.
        stop: row after the last.
        key: of its token ids.
        chunk_id: the caller's name of a chunk, "" for the others.
        document: what the chunk is from, "" when unknown.
        number: of the chunk among those of its request, from 0; it keeps it where it is moved.
    """

    kind: Kind
    start: int
    stop: int
    key: str
    chunk_id: str = ""
    document: str = ""
    number: int = 0

    @property
    def num_tokens(self) -> int:
        """Rows."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt that is going to be served.

    Args:
        ids: int64 [n].
        segments: without gaps; one system segment, chunks in their order, one question segment. Empty chunks are
            kept, the system segment may be empty, the question has at least one row.
        tenant: to whom what is stored of it belongs.

    Raises:
        InputError: segments that do not cover the ids in this order, an empty question, or ids of another type.

    >>> from nonet.ragcache import ChunkStore, Engine, toy_model
    >>> engine = Engine(toy_model(), ChunkStore.from_spec("ram:10MB"))
    >>> prompt = engine.prompt("Be brief.", ["a chunk", "another"], "a question?")
    >>> [segment.kind for segment in prompt.segments]
    ['system', 'chunk', 'chunk', 'question']
    >>> engine.stop(0)
    """

    ids: NDArray[np.int64]
    segments: tuple[Segment, ...]
    tenant: str = ""

    def __post_init__(self) -> None:
        kinds = [segment.kind for segment in self.segments]
        if kinds != ["system", *["chunk"] * (len(kinds) - 2), "question"]:
            raise InputError("a prompt is a system segment, chunks, and a question segment")
        ends = [0, *(segment.stop for segment in self.segments)]
        if (
            any(segment.stop < segment.start for segment in self.segments)
            or any(segment.start != end for segment, end in zip(self.segments, ends, strict=False))
            or ends[-1] != len(self.ids)
        ):
            raise InputError("the segments of a prompt must follow each other and cover its ids")
        if self.segments[-1].num_tokens < 1:
            raise InputError("a prompt needs at least one token after its chunks")
        if self.ids.dtype != np.int64 or self.ids.ndim != 1:
            raise InputError(f"the ids of a prompt must be int64 in one row, not {self.ids.dtype} {self.ids.shape}")

    @property
    def system(self) -> Segment:
        """The segment before the chunks."""
        return self.segments[0]

    @property
    def chunks(self) -> tuple[Segment, ...]:
        """The chunks in their order."""
        return self.segments[1:-1]

    @property
    def question(self) -> Segment:
        """The segment after the chunks."""
        return self.segments[-1]

    def segment_of_row(self) -> NDArray[np.int64]:
        """int64 [n]: number of the segment of each row."""
        return np.repeat(np.arange(len(self.segments)), [segment.num_tokens for segment in self.segments])


def prefix_before(prompt: Prompt, number: int) -> tuple[str, ...]:
    """Keys of the chunks before a chunk, without empty ones; S_new of the published measures.

    Args:
        prompt: of the chunk.
        number: which chunk, from 0.
    """
    return tuple(chunk.key for chunk in prompt.chunks[:number] if chunk.num_tokens)


def in_order(prompt: Prompt, order: Sequence[Segment]) -> Prompt:
    """The prompt with its chunks in another order.

    Args:
        prompt: whose system segment and question stay where they are.
        order: its chunks, or some of them.
    """
    pieces = [prompt.system, *order, prompt.question]
    place, moved = 0, []
    for piece in pieces:
        moved.append(replace(piece, start=place, stop=place + piece.num_tokens))
        place += piece.num_tokens
    return replace(prompt, ids=joined([prompt.ids[p.start : p.stop] for p in pieces]), segments=tuple(moved))


def joined(ids: Sequence[Sequence[int] | NDArray[np.int64]]) -> NDArray[np.int64]:
    """Token ids of several pieces, one after the other; never joined as text.

    >>> joined([[1], [], [2, 3]]).tolist()
    [1, 2, 3]
    """
    return np.concatenate([np.asarray(piece, np.int64) for piece in ids]) if ids else np.empty(0, np.int64)
