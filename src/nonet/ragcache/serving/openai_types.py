"""Bodies of requests as OpenAI's API has them, with the fields for chunks beside them.

What the API knows and this server does not do is refused with the field's name, since an ignored field gives an answer
to another question than the one that was asked.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from nonet.ragcache.scheduling.request import SamplingParams

MAX_CHUNKS = 512
_REFUSED = {
    "tools": None,
    "tool_choice": ("none", "auto", None),
    "functions": None,
    "logprobs": (False, None, 0),
    "top_logprobs": (0, None),
    "logit_bias": ({}, None),
    "response_format": ({"type": "text"}, None),
    "frequency_penalty": (0, None),
    "presence_penalty": (0, None),
    "best_of": (1, None),
    "suffix": (None, ""),
    "echo": (False, None),
    "audio": None,
}
"""Fields that would change the answer, with the values that ask for nothing."""


class TextPart(BaseModel):
    """A part of a message's content."""

    type: Literal["text"]
    text: str


class Message(BaseModel):
    """One message of a conversation."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]

    @property
    def text(self) -> str:
        """The content as one text."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class ChunkIn(BaseModel):
    """A retrieved chunk: its text, and a name by which it is reported and can be deleted."""

    model_config = ConfigDict(extra="forbid")

    text: str
    id: str = ""
    document: str = ""


class StreamOptions(BaseModel):
    """Options of a stream."""

    model_config = ConfigDict(extra="ignore")

    include_usage: bool = False


class GenerateBody(BaseModel):
    """What both routes share."""

    model_config = ConfigDict(extra="ignore")

    model: str = ""
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int | None, Field(ge=1)] = None
    temperature: Annotated[float | None, Field(ge=0, le=2)] = None
    top_p: Annotated[float | None, Field(gt=0, le=1)] = None
    seed: int | None = None
    stop: str | list[str] | None = None
    n: int | None = 1
    ignore_eos: bool = False
    chunks: Annotated[list[ChunkIn | str], Field(max_length=MAX_CHUNKS)] = []
    retrieve: Annotated[int, Field(ge=0, le=MAX_CHUNKS)] = 0
    mode: str | None = None
    recompute: Annotated[float | None, Field(ge=0, le=1)] = None

    @model_validator(mode="before")
    @classmethod
    def _refuse(cls, body: Any) -> Any:
        if isinstance(body, dict):
            for name, harmless in _REFUSED.items():
                if name in body and (harmless is None or body[name] not in harmless):
                    raise ValueError(f"{name} is not supported by this server; leave it out")
        return body

    @field_validator("n")
    @classmethod
    def _one(cls, n: int | None) -> int | None:
        if n not in (None, 1):
            raise ValueError("n must be 1: this server gives one answer a request")
        return n

    @field_validator("stop")
    @classmethod
    def _few(cls, stop: str | list[str] | None) -> str | list[str] | None:
        if isinstance(stop, list) and len(stop) > 4:
            raise ValueError("stop takes at most 4 texts")
        return stop

    def sampling(self, default_max_tokens: int, max_tokens: int | None = None) -> SamplingParams:
        """How tokens are chosen; the temperature is 0 unless asked for, since answers from documents want no dice."""
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return SamplingParams(
            max_tokens=max_tokens or self.max_tokens or default_max_tokens,
            temperature=self.temperature or 0.0,
            top_p=self.top_p or 1.0,
            seed=self.seed,
            stop=tuple(text for text in stops if text),
            ignore_eos=self.ignore_eos,
        )

    def chunk_list(self) -> list[ChunkIn]:
        """The chunks, each with a name."""
        named = [ChunkIn(text=chunk) if isinstance(chunk, str) else chunk for chunk in self.chunks]
        return [chunk if chunk.id else chunk.model_copy(update={"id": f"chunk-{n}"}) for n, chunk in enumerate(named)]


class ChatBody(GenerateBody):
    """Body of `/v1/chat/completions`."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Annotated[int | None, Field(ge=1)] = None
    question: str | None = None

    @model_validator(mode="after")
    def _ends_with_user(self) -> ChatBody:
        if self.question is None and self.messages[-1].role != "user":
            raise ValueError('the last message must be from "user", or give the field question')
        return self

    def parts(self) -> tuple[str | None, list[tuple[str, str]], str]:
        """The system text, the turns before, and the question."""
        system = [one.text for one in self.messages if one.role in ("system", "developer")]
        turns: list[tuple[str, str]] = [
            (one.role, one.text) for one in self.messages if one.role in ("user", "assistant")
        ]
        question = self.question if self.question is not None else turns.pop()[1]
        return ("\n\n".join(system) if system else None), turns, question


class CompletionBody(GenerateBody):
    """Body of `/v1/completions`: a text, or token ids."""

    prompt: str | list[int]


class EmbeddingBody(BaseModel):
    """Body of `/v1/embeddings`."""

    model_config = ConfigDict(extra="ignore")

    model: str = ""
    input: str | Annotated[list[str], Field(min_length=1, max_length=2048)]
    encoding_format: Literal["float", "base64"] = "float"
