"""Replaying arrivals: times and counts by a clock that is a number, and by the engine itself."""

import json

import numpy as np
import pytest

from nonet.common.errors import InputError
from nonet.common.jsonable import dumps
from nonet.ragcache.bench.arrivals import Arrival
from nonet.ragcache.bench.replay import Goal, Record, TimedRequest, load_report, median_report, replay, sized_requests
from nonet.ragcache.models.toy import toy_model
from nonet.ragcache.scheduling.engine import Engine
from nonet.ragcache.scheduling.request import BusyError, EndEvent, TokenEvent
from nonet.ragcache.scheduling.settings import EngineConfig
from nonet.ragcache.store.chunk_store import ChunkStore
from tests.ragcache.reuse.parts import make_prompt

PROMPT = make_prompt(("a", 10))  # 4 + 10 + 3 tokens


class FakeServer:
    """Serves at once: the first token after `first_s`, the others after `next_s` each, on a clock of its own."""

    def __init__(self, first_s=0.5, next_s=0.1):
        self.now_s, self.first_s, self.next_s = 100.0, first_s, next_s
        self.seen, self.outcomes = [], {}

    def clock(self):
        return self.now_s

    def sleep(self, seconds):
        assert seconds > 0
        self.now_s += seconds

    def submit(self, prompt, params, *, mode=None, recompute=None, timeout_s=None, on_event):
        number = len(self.seen)
        self.seen.append((self.now_s, params.max_tokens, params.ignore_eos, mode, recompute, timeout_s))
        outcome = self.outcomes.get(number, "length")
        if outcome == "busy":
            raise BusyError("too many wait")
        self.now_s += self.first_s
        for place in range(params.max_tokens):
            self.now_s += self.next_s if place else 0.0
            on_event(TokenEvent("x", 1))
        on_event(EndEvent(outcome, "", None, "broken" if outcome == "error" else ""))
        return str(number)


def test_requests_are_sent_when_they_are_due():
    server = FakeServer()
    requests = [TimedRequest(due_s, PROMPT, tokens) for due_s, tokens in ((0.0, 3), (0.25, 1), (4.0, 2))]
    records = replay(
        server, requests, mode="reuse", recompute=0.3, timeout_s=9.0, clock=server.clock, sleep=server.sleep
    )
    assert [seen[0] - 100 for seen in server.seen] == pytest.approx([0.0, 0.7, 4.0])  # the second is late
    assert [seen[1:] for seen in server.seen] == [(tokens, True, "reuse", 0.3, 9.0) for tokens in (3, 1, 2)]
    assert records[0].token_s == pytest.approx([0.5, 0.6, 0.7]) and records[1].due_s == 0.25
    assert all(record.input_tokens == 17 and not record.error for record in records)


def test_speed_compresses_the_times():
    server = FakeServer(0.0, 0.0)
    requests = [TimedRequest(due_s, PROMPT, 1) for due_s in (0.0, 10.0)]
    records = replay(server, requests, speed=4.0, clock=server.clock, sleep=server.sleep)
    assert server.now_s - 100 == pytest.approx(2.5) and records[1].due_s == 2.5
    with pytest.raises(InputError, match="speed above 0"):
        replay(server, requests, speed=0.0)


def test_refused_and_broken_requests_are_counted_as_failed():
    server = FakeServer()
    server.outcomes = {0: "busy", 2: "error", 3: "timeout"}
    records = replay(server, [TimedRequest(0.0, PROMPT, 2)] * 4, clock=server.clock, sleep=server.sleep)
    assert [record.error for record in records] == ["too many wait", "", "broken", "timeout"]
    report = load_report(records)
    assert (report.completed, report.failed, report.total_output_tokens) == (1, 3, 2)
    with pytest.raises(InputError, match="none of 1 requests was completed: too many wait"):
        load_report(records[:1])


def test_report_by_hand():
    records = [
        Record(100, 0.0, 0.0, [1.0, 1.1, 1.4], 1.4),  # tpot 200 ms
        Record(50, 2.0, 2.5, [2.5], 2.6),  # one token: no tpot
        Record(10, 3.0, 3.0, [6.0, 6.1], 10.0),  # tpot 100 ms
    ]
    report = load_report(records, Goal(ttft_ms=1500, e2el_ms=1400))
    assert report.duration == 10.0 and report.request_throughput == pytest.approx(0.3)
    assert (report.total_input_tokens, report.total_output_tokens) == (160, 6)
    assert report.output_throughput == pytest.approx(0.6) and report.total_token_throughput == pytest.approx(16.6)
    assert report.request_goodput == pytest.approx(0.2)
    assert report.mean_ttft_ms == pytest.approx(1500) and report.median_ttft_ms == pytest.approx(1000)
    assert report.mean_tpot_ms == pytest.approx(150) and report.std_tpot_ms == pytest.approx(50)
    assert report.mean_itl_ms == pytest.approx((100 + 300 + 100) / 3) and report.median_itl_ms == pytest.approx(100)
    assert report.mean_e2el_ms == pytest.approx((1400 + 500 + 3100) / 3)
    assert report.p99_e2el_ms == pytest.approx(1400 + 0.98 * 1700)  # linear between the second and the third
    assert load_report(records).request_goodput is None
    assert load_report(records, Goal(tpot_ms=150)).request_goodput == pytest.approx(0.2)


def test_several_runs_as_one():
    reports = [load_report([Record(10, 0.0, 0.0, [ms / 1e3], ms / 1e3)]) for ms in (100, 900, 300, 500)]
    one = median_report(reports)
    assert one.mean_e2el_ms == pytest.approx(400) and one.p95_ttft_ms == pytest.approx(400)
    assert one.duration == pytest.approx(0.4) and one.request_throughput == pytest.approx((1 / 0.3 + 2) / 2)
    assert (one.completed, one.total_input_tokens, one.request_goodput) == (1, 10, None)


def test_report_has_the_names_of_vllms_result_file():
    report = json.loads(dumps(load_report([Record(1, 0.0, 0.0, [1.0, 2.0], 2.0)])))
    counts = {"duration", "completed", "failed", "total_input_tokens", "total_output_tokens"}
    rates = {"request_throughput", "request_goodput", "output_throughput", "total_token_throughput"}
    times = {
        f"{kind}_{of}_ms" for kind in ("mean", "median", "std", "p95", "p99") for of in ("ttft", "tpot", "itl", "e2el")
    }
    assert set(report) == counts | rates | times


@pytest.fixture
def engine():
    made = Engine(toy_model(), ChunkStore.from_spec("ram:50MB"), EngineConfig(max_model_len=512))
    yield made
    made.stop(0)


def test_the_engine_is_replayed_in_real_time(engine):
    prompts = [engine.prompt("", [f"chunk {n} of some words"], "why?") for n in range(3)]
    requests = [TimedRequest(0.05 * n, prompt, 4) for n, prompt in enumerate(prompts)]
    records = replay(engine.start(), requests, mode="full")
    report = load_report(records)
    assert (report.completed, report.failed, report.total_output_tokens) == (3, 0, 12)
    assert report.total_input_tokens == sum(len(prompt.ids) for prompt in prompts)
    assert all(0 <= record.sent_s - record.due_s < 0.5 for record in records)
    assert all(record.token_s == sorted(record.token_s) for record in records)
    assert 0 < report.mean_ttft_ms <= report.mean_e2el_ms <= 1e3 * report.duration


def test_lengths_and_blocks_of_a_trace_become_prompts(engine):
    texts = {f"c{n}": f"passage {n} " * 4 for n in range(12)}
    arrivals = [Arrival(0.0, 300, 9), Arrival(1.0, 100_000, 2), Arrival(2.0, 5, 3, "a text of its own")]
    requests = sized_requests(engine, arrivals, texts, max_output_tokens=8)
    sizes = [len(one.prompt.ids) for one in requests]
    assert 300 - 60 <= sizes[0] <= 300 and 400 < sizes[1] <= 511 - 2 and sizes[2] == len("a text of its own")
    assert [(one.arrival_s, one.max_tokens) for one in requests] == [(0.0, 8), (1.0, 2), (2.0, 3)]
    blocks = [
        Arrival(0.0, 250, 1, blocks=(0, 1)),
        Arrival(0.0, 250, 1, blocks=(1, 0)),
        Arrival(0.0, 250, 1, blocks=(7,)),
    ]
    chunks = [[one.key for one in request.prompt.chunks] for request in sized_requests(engine, blocks, texts)]
    assert len(chunks[0]) == 2 and chunks[1] == chunks[0][::-1] and not set(chunks[2]) & set(chunks[0])


def test_popular_chunks_come_more_often(engine):
    texts = {f"c{n}": f"passage {n} of twenty" for n in range(20)}
    requests = sized_requests(engine, [Arrival(0.0, 110, 1)] * 200, texts, skew=1.2)
    keys = [chunk.key for request in requests for chunk in request.prompt.chunks]
    shares = sorted(np.unique(keys, return_counts=True)[1] / len(keys), reverse=True)
    assert shares[0] > 0.15 > 0.05 > shares[-1]
