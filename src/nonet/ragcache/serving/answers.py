"""Bodies of answers: OpenAI's objects, with what was reused, repaired and computed beside them."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from nonet.ragcache.scheduling.request import EndEvent, RequestReport

_FINISH = {"stop": "stop", "length": "length", "cancelled": "stop", "timeout": "length"}


def usage(report: RequestReport) -> dict[str, Any]:
    """Token counts; `cached_tokens` are those that did not go through the layers, at any position."""
    return {
        "prompt_tokens": report.prompt_tokens,
        "completion_tokens": report.output_tokens,
        "total_tokens": report.prompt_tokens + report.output_tokens,
        "prompt_tokens_details": {"cached_tokens": report.cached_tokens},
        "nonet": {
            "prefix": report.prefix_tokens,
            "reused": report.reused_tokens,
            "repaired": report.repaired_tokens,
            "computed": report.computed_tokens,
            "probe_rows": report.probe_rows,
            "queue_s": round(report.queue_s, 6),
            "ttft_s": round(report.ttft_s, 6),
            "mode": report.mode,
            "notes": list(report.notes),
        },
    }


def chunk_list(report: RequestReport) -> list[dict[str, Any]]:
    """One object a chunk, in the order of the prompt."""
    return [asdict(chunk) for chunk in report.chunks]


class Shape:
    """The objects of one route.

    Args:
        request_id: becomes the object's id.
        model: name of the model.
        chat: whether for `/v1/chat/completions`, else `/v1/completions`.
    """

    def __init__(self, request_id: str, model: str, *, chat: bool) -> None:
        self._chat = chat
        self._head = {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-{request_id}",
            "created": int(time.time()),
            "model": model,
        }

    def whole(self, text: str, end: EndEvent) -> dict[str, Any]:
        """The answer to a request without `stream`."""
        reason = _FINISH.get(end.finish_reason, "stop")
        choice: dict[str, Any] = {"index": 0, "finish_reason": reason, "logprobs": None}
        if self._chat:
            choice["message"] = {"role": "assistant", "content": text, "refusal": None}
        else:
            choice["text"] = text
        kind = "chat.completion" if self._chat else "text_completion"
        return {
            **self._head,
            "object": kind,
            "choices": [choice],
            "usage": usage(end.report),
            "chunks": chunk_list(end.report),
        }

    def opening(self) -> dict[str, Any] | None:
        """The first event of a chat stream, which tells the role."""
        return self._event({"role": "assistant", "content": ""}, None) if self._chat else None

    def piece(self, text: str) -> dict[str, Any]:
        """An event with a piece of text."""
        return self._event({"content": text} if self._chat else text, None)

    def closing(self, end: EndEvent) -> dict[str, Any]:
        """The last event with a choice; it carries the chunks."""
        last = self._event({} if self._chat else "", _FINISH.get(end.finish_reason, "stop"))
        return {**last, "chunks": chunk_list(end.report)}

    def usage_event(self, end: EndEvent) -> dict[str, Any]:
        """The event after the last when `stream_options.include_usage` is set."""
        return {**self._stream_head(), "choices": [], "usage": usage(end.report)}

    def _stream_head(self) -> dict[str, Any]:
        return {**self._head, "object": "chat.completion.chunk" if self._chat else "text_completion"}

    def _event(self, content: Any, reason: str | None) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": 0, "finish_reason": reason, "logprobs": None}
        choice["delta" if self._chat else "text"] = content
        return {**self._stream_head(), "choices": [choice]}


def error_body(message: str, kind: str, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    """OpenAI's error object.

    >>> error_body("no", "invalid_request_error")["error"]["type"]
    'invalid_request_error'
    """
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
