"""A request's prompts on their way through the engine, and their answers on the way to the client.

The engine works in a thread of its own; events come back through a queue. A client that goes away cancels its prompts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from fastapi import Request
from fastapi.responses import Response

from nonet.common.errors import InputError
from nonet.ragcache.reuse.prompt import Prompt
from nonet.ragcache.scheduling.engine import Engine
from nonet.ragcache.scheduling.request import BusyError, EndEvent, Event, SamplingParams
from nonet.ragcache.serving.answers import JsonAnswer, Shape, cut_error, encoded, token_counts
from nonet.ragcache.serving.openai_types import StreamOptions

_POLL_S = 0.2
"""How often a request without a stream looks whether its client is still there."""


class Asked:
    """Prompts that the engine was given; made in the event loop.

    Args:
        engine: that answers.
        prompts: of one request.
        params: how tokens are chosen.
        mode: how they are served.
        recompute: share of the reused rows to compute anew.
        timeout_s: then they end with what they have.

    Raises:
        BusyError: not all of them may wait.
        InputError: one of them cannot be served; then none is.

    Attributes:
        request_ids: one a prompt.
    """

    def __init__(
        self,
        engine: Engine,
        prompts: Sequence[Prompt],
        params: SamplingParams,
        *,
        mode: str | None,
        recompute: float | None,
        timeout_s: float,
    ) -> None:
        self._engine = engine
        self._events: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
        self._ends: dict[int, EndEvent] = {}
        self._prompt_tokens = [len(prompt.ids) for prompt in prompts]
        self.request_ids: list[str] = []
        loop = asyncio.get_running_loop()
        limit = engine.config.max_waiting
        if len(prompts) > limit:
            raise InputError(f"prompt: this server takes at most {limit} prompts a request, not {len(prompts)}")
        if engine.num_waiting + len(prompts) > limit:
            raise BusyError(f"{engine.num_waiting} requests wait, and {limit} may; try again later")
        try:
            for index, prompt in enumerate(prompts):
                on_event = self._into(loop, index)
                self.request_ids.append(
                    engine.submit(
                        prompt, params, mode=mode, recompute=recompute, timeout_s=timeout_s, on_event=on_event
                    )
                )
        except InputError:
            self._cancel()
            raise

    async def whole(self, request: Request, shape: Shape) -> Response:
        """All answers in one object.

        Args:
            request: of the client, who may go away.
            shape: of the object.
        """
        texts = [""] * len(self.request_ids)
        look_s = time.monotonic() + _POLL_S
        while len(self._ends) < len(texts):
            # By the clock: tokens that come without a pause must not keep an answer going that nobody waits for.
            if time.monotonic() >= look_s:
                look_s = time.monotonic() + _POLL_S
                if await request.is_disconnected():
                    self._cancel()
            try:
                index, event = await asyncio.wait_for(self._events.get(), _POLL_S)
            except TimeoutError:
                continue
            texts[index] += event.text
            if not isinstance(event, EndEvent):
                continue
            self._ends[index] = event
            if (cut := cut_error(event)) is not None:
                self._cancel()
                status, body = cut
                return JsonAnswer(body, status)
        return JsonAnswer(shape.whole(texts, self._in_order()))

    async def stream(self, shape: Shape, options: StreamOptions) -> AsyncIterator[bytes]:
        """The answers as server-sent events, each piece when it comes.

        Args:
            shape: of the events.
            options: which of them tell what it cost.
        """
        told = options.include_usage and options.continuous_usage_stats
        tokens = [0] * len(self.request_ids)

        def sent(index: int, event: dict[str, Any]) -> bytes:
            return _sent(event | {"usage": token_counts(self._prompt_tokens[index], tokens[index])} if told else event)

        try:
            if opening := shape.opening():
                yield sent(0, opening)
            while len(self._ends) < len(self.request_ids):
                index, event = await self._events.get()
                tokens[index] = event.report.output_tokens if isinstance(event, EndEvent) else tokens[index] + 1
                if event.text:
                    yield sent(index, shape.piece(index, event.text))
                if not isinstance(event, EndEvent):
                    continue
                self._ends[index] = event
                if (cut := cut_error(event)) is not None:
                    yield _sent(cut[1])
                    break
                yield sent(index, shape.closing(index, event))
            else:
                if options.include_usage:
                    yield _sent(shape.usage_event(self._in_order()))
            yield b"data: [DONE]\n\n"
        finally:
            self._cancel()

    def _in_order(self) -> list[EndEvent]:
        return [self._ends[index] for index in range(len(self.request_ids))]

    def _cancel(self) -> None:
        for index, request_id in enumerate(self.request_ids):
            if index not in self._ends:
                self._engine.cancel(request_id)

    def _into(self, loop: asyncio.AbstractEventLoop, index: int) -> Callable[[Event], None]:
        def put(event: Event) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._events.put_nowait, (index, event))

        return put


def _sent(value: dict[str, Any]) -> bytes:
    return b"data: " + encoded(value) + b"\n\n"
