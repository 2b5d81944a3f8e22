"""Send requests to an engine at given times, and count as `vllm bench serve` does."""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Protocol

import numpy as np

from nonet.common.errors import InputError
from nonet.ragcache.bench.arrivals import Arrival
from nonet.ragcache.reuse.prompt import Prompt
from nonet.ragcache.scheduling.engine import Engine
from nonet.ragcache.scheduling.prompting import ChunkText
from nonet.ragcache.scheduling.request import BusyError, EndEvent, Event, SamplingParams


class Server(Protocol):
    """What requests are sent to; an `Engine` that was started is one."""

    def submit(
        self,
        prompt: Prompt,
        params: SamplingParams,
        *,
        mode: str | None = None,
        recompute: float | None = None,
        timeout_s: float | None = None,
        on_event: Callable[[Event], None],
    ) -> str:
        """As `Engine.submit`."""
        ...


@dataclass(frozen=True, slots=True)
class TimedRequest:
    """A request and when it comes.

    Args:
        arrival_s: seconds after the start.
        prompt: what is asked.
        max_tokens: of the answer, which never ends earlier.
    """

    arrival_s: float
    prompt: Prompt
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Goal:
    """What makes a request count as good; None asks for nothing.

    Args:
        ttft_ms: time to the first token at most.
        tpot_ms: time of each further token at most, on average.
        e2el_ms: time to the end at most.
    """

    ttft_ms: float | None = None
    tpot_ms: float | None = None
    e2el_ms: float | None = None


@dataclass(slots=True)
class Record:
    """What became of a request, in seconds of the replay's clock.

    Args:
        input_tokens: of the prompt.
        sent_s: when it was handed over; it counts from when it should have been, `due_s`.
        due_s: its arrival.
        token_s: when each token came.
        end_s: when it ended, None while it runs.
        error: why it failed, "" when it did not.
    """

    input_tokens: int
    due_s: float
    sent_s: float = 0.0
    token_s: list[float] = field(default_factory=list)
    end_s: float | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class LoadReport:
    """A load run; names, units and definitions are those of `vllm bench serve`'s result file.

    Times of a request count from its arrival, so that waiting before it was taken counts, too. `tpot` is the mean time
    of a token after the first one of a request, `itl` the time between two tokens, `e2el` the time to the end.

    Args:
        duration: seconds from the first arrival to the last end.
        completed, failed: requests.
        total_input_tokens, total_output_tokens: of the completed ones.
        request_throughput: completed requests a second.
        request_goodput: those within the goal, a second; None without a goal.
        output_throughput, total_token_throughput: tokens a second.
    """

    duration: float
    completed: int
    failed: int
    total_input_tokens: int
    total_output_tokens: int
    request_throughput: float
    request_goodput: float | None
    output_throughput: float
    total_token_throughput: float
    mean_ttft_ms: float
    median_ttft_ms: float
    std_ttft_ms: float
    p95_ttft_ms: float
    p99_ttft_ms: float
    mean_tpot_ms: float
    median_tpot_ms: float
    std_tpot_ms: float
    p95_tpot_ms: float
    p99_tpot_ms: float
    mean_itl_ms: float
    median_itl_ms: float
    std_itl_ms: float
    p95_itl_ms: float
    p99_itl_ms: float
    mean_e2el_ms: float
    median_e2el_ms: float
    std_e2el_ms: float
    p95_e2el_ms: float
    p99_e2el_ms: float


def replay(
    server: Server,
    requests: Sequence[TimedRequest],
    *,
    mode: str | None = None,
    recompute: float | None = None,
    speed: float = 1.0,
    timeout_s: float | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Record]:
    """Send requests at their times, whether or not earlier ones are done, and wait for the last end.

    Args:
        server: that was started.
        requests: sorted by arrival.
        mode: of all of them, None for the server's own.
        recompute: likewise.
        speed: 2 sends a trace in half its time.
        timeout_s: of each request.
        clock: seconds that only grow.
        sleep: waits.

    Raises:
        InputError: no requests, a speed that is not above 0, or a prompt that the server refuses for its length.
    """
    if not requests or not speed > 0:
        raise InputError(f"a replay needs requests and a speed above 0, not {len(requests)} and {speed:g}")
    ended = threading.Semaphore(0)
    records = []
    begun = clock()

    def collect(record: Record, event: Event) -> None:
        if not isinstance(event, EndEvent):
            record.token_s.append(clock() - begun)
            return
        if event.finish_reason not in ("stop", "length"):
            record.error = event.error or event.finish_reason
        record.end_s = clock() - begun
        ended.release()

    for request in requests:
        due_s = request.arrival_s / speed
        while (left_s := due_s - (clock() - begun)) > 0:
            sleep(left_s)
        record = Record(len(request.prompt.ids), due_s, clock() - begun)
        records.append(record)
        params = SamplingParams(max_tokens=request.max_tokens, ignore_eos=True)
        told = partial(collect, record)
        try:
            server.submit(request.prompt, params, mode=mode, recompute=recompute, timeout_s=timeout_s, on_event=told)
        except BusyError as error:
            record.error, record.end_s = str(error), clock() - begun
            ended.release()
    for _ in requests:
        ended.acquire()
    return records


def load_report(records: Sequence[Record], goal: Goal | None = None) -> LoadReport:
    """Count a replay.

    Args:
        records: all ended.
        goal: for the goodput.

    Raises:
        InputError: no request was completed.
    """
    done = [one for one in records if not one.error and one.token_s and one.end_s is not None]
    if not done:
        failed = next((one.error for one in records if one.error), "no tokens came")
        raise InputError(f"none of {len(records)} requests was completed: {failed}")
    ttft = [1e3 * (one.token_s[0] - one.due_s) for one in done]
    tpot = [1e3 * (one.token_s[-1] - one.token_s[0]) / (len(one.token_s) - 1) for one in done if len(one.token_s) > 1]
    itl = [1e3 * gap for one in done for gap in np.diff(one.token_s).tolist()]
    e2el = [1e3 * (one.token_s[-1] - one.due_s) for one in done]
    duration = max(one.end_s or 0.0 for one in records) - min(one.due_s for one in records)
    num_input, num_output = sum(one.input_tokens for one in done), sum(len(one.token_s) for one in done)
    num_good = sum(_is_good(one, goal) for one in done) if goal is not None else None
    spread = {"ttft": ttft, "tpot": tpot, "itl": itl, "e2el": e2el}
    return LoadReport(
        duration=duration,
        completed=len(done),
        failed=len(records) - len(done),
        total_input_tokens=num_input,
        total_output_tokens=num_output,
        request_throughput=len(done) / duration,
        request_goodput=None if num_good is None else num_good / duration,
        output_throughput=num_output / duration,
        total_token_throughput=(num_input + num_output) / duration,
        **{key: value for name, values in spread.items() for key, value in _spread(name, values).items()},
    )


def median_report(reports: Sequence[LoadReport]) -> LoadReport:
    """Several runs of the same requests as one: the median of each measured number; counts are the first run's.

    Args:
        reports: of at least one run.
    """
    first = reports[0]
    measured = [one.name for one in fields(first) if isinstance(getattr(first, one.name), float)]
    return replace(first, **{name: statistics.median(getattr(one, name) for one in reports) for name in measured})


def sized_requests(
    engine: Engine,
    arrivals: Sequence[Arrival],
    texts: Mapping[str, str],
    *,
    system: str = "",
    max_input_tokens: int | None = None,
    max_output_tokens: int | None = None,
    skew: float = 1.0,
    seed: int = 0,
) -> list[TimedRequest]:
    """Requests with a trace's times and lengths, made of chunks of which some are asked for more often than others.

    A trace's own text is asked as it stands. Where it has only lengths, chunks are added while they fit; where it names
    its blocks, each block is always the same chunk.

    Args:
        engine: that makes the prompts.
        arrivals: of the trace.
        texts: chunks by id.
        system: prompt of all.
        max_input_tokens: longer prompts are made this long; None for what the model's context leaves beside the answer.
        max_output_tokens: likewise of answers; None for what the trace says.
        skew: of the chunks' popularity, 1 / rank ** skew.
        seed: of the draws.
    """
    draws = random.Random(seed)
    names = list(texts)
    draws.shuffle(names)
    sizes = {name: len(engine.model.tokenizer.encode(texts[name])) + 2 for name in names}
    weights = [1 / (rank + 1) ** skew for rank in range(len(names))]
    requests = []
    for number, arrival in enumerate(arrivals):
        output = min(arrival.output_tokens, max_output_tokens or arrival.output_tokens, engine.max_model_len // 2)
        room = min(max_input_tokens or engine.max_model_len, engine.max_model_len - output - 1)
        if arrival.text:
            ids = engine.model.tokenizer.encode(arrival.text)[:room]
            requests.append(TimedRequest(arrival.arrival_s, engine.text_prompt(ids), output))
            continue
        question = f"Question {number}: what are these passages about?"
        left = min(arrival.input_tokens, room) - len(engine.prompt(system, [""], question).ids)
        chunks: list[ChunkText] = []
        drawn = [names[block % len(names)] for block in arrival.blocks]
        for name in dict.fromkeys(drawn or draws.choices(names, weights, k=2 * len(names))):
            if sizes[name] <= left:
                chunks.append(ChunkText(texts[name], name))
                left -= sizes[name]
        requests.append(TimedRequest(arrival.arrival_s, engine.prompt(system, chunks, question), output))
    return requests


def _is_good(record: Record, goal: Goal) -> bool:
    ttft = 1e3 * (record.token_s[0] - record.due_s)
    e2el = 1e3 * (record.token_s[-1] - record.due_s)
    tpot = (e2el - ttft) / max(1, len(record.token_s) - 1)
    limits = ((ttft, goal.ttft_ms), (tpot, goal.tpot_ms), (e2el, goal.e2el_ms))
    return all(limit is None or value <= limit for value, limit in limits)


def _spread(name: str, values: Sequence[float]) -> dict[str, float]:
    # As in vllm: an empty list counts as one zero (answers of one token have no times between tokens).
    given = np.asarray(values or [0.0])
    return {
        f"mean_{name}_ms": float(given.mean()),
        f"median_{name}_ms": float(np.median(given)),
        f"std_{name}_ms": float(given.std()),
        f"p95_{name}_ms": float(np.percentile(given, 95)),
        f"p99_{name}_ms": float(np.percentile(given, 99)),
    }
