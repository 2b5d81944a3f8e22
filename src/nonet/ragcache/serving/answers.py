"""Bodies of answers: OpenAI's objects, with what was reused, repaired and computed beside them."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from fastapi.responses import JSONResponse

from nonet.ragcache.scheduling.prompting import ChunkText
from nonet.ragcache.scheduling.request import EndEvent, RequestReport

_FINISH = {"stop": "stop", "length": "length", "timeout": "length"}
"""What the API calls the ends of answers; the other ends are errors, see `cut_error`."""


class JsonAnswer(JSONResponse):
    """JSON in UTF-8; what is half a character in a name is escaped, since UTF-8 has no place for it."""

    def render(self, content: Any) -> bytes:
        """The body."""
        return encoded(content)


def encoded(value: Any) -> bytes:
    """An object as JSON.

    >>> encoded({"a": "\\u00e4\\ud800"}).decode()
    '{"a":"ä\\\\ud800"}'
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")


def usage(reports: Sequence[RequestReport]) -> dict[str, Any]:
    """Token counts of all prompts; `cached_tokens` are those that did not go through the layers, at any position."""
    prompt = sum(one.prompt_tokens for one in reports)
    output = sum(one.output_tokens for one in reports)
    return {
        **token_counts(prompt, output),
        "prompt_tokens_details": {"cached_tokens": sum(one.cached_tokens for one in reports)},
        "nonet": {
            "prefix": sum(one.prefix_tokens for one in reports),
            "reused": sum(one.reused_tokens for one in reports),
            "repaired": sum(one.repaired_tokens for one in reports),
            "computed": sum(one.computed_tokens for one in reports),
            "probe_rows": sum(one.probe_rows for one in reports),
            "queue_s": round(max(one.queue_s for one in reports), 6),
            "ttft_s": round(max(one.ttft_s for one in reports), 6),
            "mode": reports[0].mode,
            "notes": [note for one in reports for note in one.notes],
            "damage_bound": max((one.damage_bound for one in reports if one.damage_bound is not None), default=None),
            "abstained": any(one.abstained for one in reports),
        },
    }


def token_counts(prompt: int, output: int) -> dict[str, Any]:
    """What every `usage` has.

    >>> token_counts(7, 2)
    {'prompt_tokens': 7, 'completion_tokens': 2, 'total_tokens': 9}
    """
    return {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}


def chunk_list(report: RequestReport, given: Sequence[ChunkText] = ()) -> list[dict[str, Any]]:
    """One object a chunk, in the order of the prompt.

    Args:
        report: of the request.
        given: the chunks that it had, where their texts are to be told.
    """
    texts = {number: {"text": chunk.text} for number, chunk in enumerate(given)}
    return [asdict(chunk) | texts.get(chunk.number, {}) for chunk in report.chunks]


class Shape:
    """The objects of one route.

    With several prompts, each choice has its own `chunks` and `request_id` (for an explanation); with one, the object
    has them.

    Args:
        request_ids: one a prompt; the first becomes the object's id.
        model: name of the model.
        chat: whether for `/v1/chat/completions`, else `/v1/completions`.
        given: the chunks of a chat whose texts are to be told.
    """

    def __init__(self, request_ids: Sequence[str], model: str, *, chat: bool, given: Sequence[ChunkText] = ()) -> None:
        self._chat, self._given = chat, given
        self._ids = [f"{'chatcmpl' if chat else 'cmpl'}-{one}" for one in request_ids]
        self._head = {"id": self._ids[0], "created": int(time.time()), "model": model}

    def whole(self, texts: Sequence[str], ends: Sequence[EndEvent]) -> dict[str, Any]:
        """The answer to a request without `stream`; texts and ends in the order of the prompts."""
        choices = []
        for index, (text, end) in enumerate(zip(texts, ends, strict=True)):
            choice = self._choice(index, end)
            if self._chat:
                choice["message"] = {"role": "assistant", "content": text, "refusal": None}
            else:
                choice["text"] = text
            choices.append(choice)
        kind = "chat.completion" if self._chat else "text_completion"
        spent = usage([end.report for end in ends])
        return {**self._head, "object": kind, "choices": choices, "usage": spent, **self._told(ends[0])}

    def opening(self) -> dict[str, Any] | None:
        """The first event of a chat stream, which tells the role."""
        return self._event(0, {"role": "assistant", "content": ""}) if self._chat else None

    def piece(self, index: int, text: str) -> dict[str, Any]:
        """An event with a piece of text of one prompt's answer."""
        return self._event(index, {"content": text} if self._chat else text)

    def closing(self, index: int, end: EndEvent) -> dict[str, Any]:
        """The last event of one prompt's answer; it carries the chunks."""
        return {**self._event(index, {} if self._chat else "", end), **self._told(end)}

    def usage_event(self, ends: Sequence[EndEvent]) -> dict[str, Any]:
        """The event after the last when `stream_options.include_usage` is set."""
        return {**self._stream_head(), "choices": [], "usage": usage([end.report for end in ends])}

    def _told(self, end: EndEvent) -> dict[str, Any]:
        return {"chunks": chunk_list(end.report, self._given)} if len(self._ids) == 1 else {}

    def _choice(self, index: int, end: EndEvent | None) -> dict[str, Any]:
        reason = _FINISH[end.finish_reason] if end is not None else None
        choice: dict[str, Any] = {"index": index, "finish_reason": reason, "logprobs": None}
        if end is not None and len(self._ids) > 1:
            choice |= {"request_id": self._ids[index], "chunks": chunk_list(end.report)}
        return choice

    def _stream_head(self) -> dict[str, Any]:
        return {**self._head, "object": "chat.completion.chunk" if self._chat else "text_completion"}

    def _event(self, index: int, content: Any, end: EndEvent | None = None) -> dict[str, Any]:
        choice = self._choice(index, end)
        choice["delta" if self._chat else "text"] = content
        return {**self._stream_head(), "choices": [choice]}


def cut_error(end: EndEvent) -> tuple[int, dict[str, Any]] | None:
    """Status and body of an answer that was cut short, None for one that has come to its end.

    Args:
        end: of one prompt's answer.
    """
    if end.finish_reason == "error":
        return 500, error_body(end.error, "server_error")
    if end.finish_reason == "cancelled":
        # Of requests that somebody still waits for, a server that stops cancels; the others have no reader.
        num = end.report.output_tokens
        text = f"the server stopped before the end of the answer, after {num} tokens; ask again"
        return 503, error_body(text, "server_error", "not_running")
    return None


def error_body(message: str, kind: str, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    """OpenAI's error object.

    >>> error_body("no", "invalid_request_error")["error"]["type"]
    'invalid_request_error'
    """
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
