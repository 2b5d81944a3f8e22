"""Bodies of requests as OpenAI's API has them, with vLLM's further settings and the fields for chunks beside them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, PlainValidator, field_validator, model_validator

from nonet.ragcache.reuse.modes import MODES
from nonet.ragcache.scheduling.request import REPETITION_RANGE, SamplingParams
from nonet.ragcache.serving.fields import IGNORED, MESSAGE_IGNORED, MESSAGE_NEUTRAL, NEUTRAL, cleaned, refused

MAX_CHUNKS = 512
MAX_PROMPTS = 128
_MAX_STOPS = 4
_MAX_STOP_IDS = 1024


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("half of a character pair (a lone surrogate) is no text") from error
    return text


def _content(value: Any) -> Any:
    """Parts of a message's content as one text."""
    if not isinstance(value, list):
        return value
    texts = []
    for part in value:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind != "text":
            raise ValueError(f'a part of the content must have the type "text", not {kind!r}')
        if not isinstance(part.get("text"), str):
            raise ValueError('a part of the type "text" must have a text')
        texts.append(part["text"])
    return "".join(texts)


def _prompts(value: Any) -> list[str | list[int]]:
    """One prompt or several, as several."""
    found: list[str | list[int]] = []
    if isinstance(value, str):
        found = [value]
    elif isinstance(value, list) and (all(isinstance(one, str) for one in value) or all(map(_is_ids, value))):
        found = value
    elif _is_ids(value):
        found = [value]
    if not found:
        raise ValueError("must be a text or token ids, or a list of texts or of lists of token ids, and not empty")
    if len(found) > MAX_PROMPTS:
        raise ValueError(f"at most {MAX_PROMPTS} prompts a request, not {len(found)}")
    return found


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(one) is int for one in value)


def _texts(value: Any) -> Any:
    value = [value] if isinstance(value, str) else value
    if isinstance(value, list) and value and not all(isinstance(one, str) for one in value):
        raise ValueError("must be a text or a list of texts; token ids are not taken")
    if isinstance(value, list) and "" in value:
        raise ValueError("an empty text has no meaning to embed")
    return value


Name = Annotated[str, AfterValidator(_encodable)]


class _Body(BaseModel):
    """An object of a request."""

    @model_validator(mode="before")
    @classmethod
    def _clean(cls, body: Any) -> Any:
        return cleaned(body, cls.model_fields, IGNORED, NEUTRAL)


class Message(BaseModel):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, BeforeValidator(_content)]

    @model_validator(mode="before")
    @classmethod
    def _clean(cls, body: Any) -> Any:
        message = cleaned(body, cls.model_fields, MESSAGE_IGNORED, MESSAGE_NEUTRAL)
        is_silent = isinstance(message, dict) and message.get("role") == "assistant" and "content" not in message
        return {**message, "content": ""} if is_silent else message


class ChunkIn(BaseModel):
    """A retrieved chunk: its text, and a name by which it is reported and can be deleted."""

    text: str
    id: Name = ""
    document: Name = ""

    @model_validator(mode="before")
    @classmethod
    def _clean(cls, chunk: Any) -> Any:
        return cleaned({"text": chunk} if isinstance(chunk, str) else chunk, cls.model_fields)


class StreamOptions(BaseModel):
    """Options of a stream; as with vLLM, usage comes with every event only where it comes at the end, too."""

    include_usage: bool = False
    continuous_usage_stats: bool = False

    @model_validator(mode="before")
    @classmethod
    def _clean(cls, options: Any) -> Any:
        return cleaned(options, cls.model_fields, {"include_obfuscation"})


class GenerateBody(_Body):
    """What both routes share."""

    model: str = ""
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int | None, Field(ge=1)] = None
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=-1)] = 0
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    repetition_penalty: Annotated[float, Field(ge=REPETITION_RANGE[0], le=REPETITION_RANGE[1])] = 1.0
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    seed: Annotated[int | None, Field(ge=-(2**63), lt=2**63)] = None
    stop: Annotated[list[str], BeforeValidator(lambda stop: [stop] if isinstance(stop, str) else stop)] = []
    stop_token_ids: Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=_MAX_STOP_IDS)] = []
    min_tokens: Annotated[int, Field(ge=0)] = 0
    n: int = 1
    ignore_eos: bool = False
    cache_salt: Annotated[Name | None, Field(min_length=1)] = None
    chunks: Annotated[list[ChunkIn], Field(max_length=MAX_CHUNKS)] = []
    retrieve: Annotated[int, Field(ge=0, le=MAX_CHUNKS)] = 0
    mode: str | None = None
    recompute: Annotated[float | None, Field(ge=0, le=1)] = None

    @field_validator("n")
    @classmethod
    def _one(cls, n: int) -> int:
        if n != 1:
            raise ValueError("n must be 1: this server gives one answer to a prompt")
        return n

    @field_validator("stop")
    @classmethod
    def _few(cls, stop: list[str]) -> list[str]:
        if len(stop) > _MAX_STOPS:
            raise ValueError(f"stop takes at most {_MAX_STOPS} texts")
        return stop

    @field_validator("mode")
    @classmethod
    def _known(cls, mode: str | None) -> str | None:
        if mode is not None:
            MODES[mode]
        return mode

    def sampling(self, default_max_tokens: int, max_tokens: int | None = None) -> SamplingParams:
        """How tokens are chosen; the temperature is 0 unless asked for, since answers from documents want no dice."""
        return SamplingParams(
            max_tokens=max_tokens or self.max_tokens or max(default_max_tokens, self.min_tokens),
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.seed,
            stop=tuple(text for text in self.stop if text),
            ignore_eos=self.ignore_eos,
            top_k=max(0, self.top_k),
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            frequency_penalty=self.frequency_penalty,
            presence_penalty=self.presence_penalty,
            stop_token_ids=tuple(self.stop_token_ids),
            min_tokens=self.min_tokens,
        )

    def chunk_list(self) -> list[ChunkIn]:
        """The chunks, each with a name."""
        named = enumerate(self.chunks)
        return [chunk if chunk.id else chunk.model_copy(update={"id": f"chunk-{n}"}) for n, chunk in named]


class ChatBody(GenerateBody):
    """Body of `/v1/chat/completions`."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Annotated[int | None, Field(ge=1)] = None
    question: str | None = None
    chunk_texts: bool = False

    @model_validator(mode="after")
    def _ends_with_user(self) -> ChatBody:
        if self.question is None and self.messages[-1].role != "user":
            raise refused("messages", 'the last message must be from "user", or give the field question')
        return self

    def parts(self) -> tuple[str | None, list[tuple[str, str]], str]:
        """The system text, the turns before, and the question."""
        system = [one.content for one in self.messages if one.role in ("system", "developer")]
        turns: list[tuple[str, str]] = [
            (one.role, one.content) for one in self.messages if one.role in ("user", "assistant")
        ]
        question = self.question if self.question is not None else turns.pop()[1]
        return ("\n\n".join(system) if system else None), turns, question


class CompletionBody(GenerateBody):
    """Body of `/v1/completions`: texts, or token ids; one prompt is a list of one here."""

    prompt: Annotated[list[str | list[int]], PlainValidator(_prompts)]


class EmbeddingBody(_Body):
    """Body of `/v1/embeddings`."""

    model: str = ""
    input: Annotated[list[str], BeforeValidator(_texts), Field(min_length=1, max_length=2048)]
    encoding_format: Literal["float", "base64"] = "float"
