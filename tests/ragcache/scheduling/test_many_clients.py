"""A hundred clients at once on one engine: the answers that each gets alone, nobody left behind, memory bounded."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from nonet.ragcache.scheduling.request import BusyError, Listener, SamplingParams
from tests.ragcache.scheduling.parts import CHUNKS, pages_left, text_of

NUM_CLIENTS = 100
FEW = SamplingParams(max_tokens=3, ignore_eos=True)
LIMIT_S = 120.0


class Client:
    """Asks one question in a thread of its own, when all others do."""

    def __init__(self, engine, prompt, mode, barrier):
        self.prompt, self.mode, self.heard = prompt, mode, Listener()
        self._engine, self._barrier = engine, barrier
        self.error = None
        self.thread = threading.Thread(target=self._ask)
        self.thread.start()

    def _ask(self):
        try:
            self._barrier.wait(30)
            self.request_id = self._engine.submit(self.prompt, FEW, mode=self.mode, recompute=0.2, on_event=self.heard)
            assert self.heard.done.wait(LIMIT_S)
        except BaseException as error:
            self.error = error


def prompts(engine, seed, modes, num=NUM_CLIENTS):
    """Half of all ask about the same chunk; prompts of 1 to 3 chunks, each question another one."""
    draws = random.Random(seed)
    cases = []
    for number in range(num):
        group = draws.sample(CHUNKS, draws.randint(1, 3))
        if number % 2 and CHUNKS[0] not in group:
            group[0] = CHUNKS[0]
        prompt = engine.prompt("Be brief.", group, text_of(seed + number + 100, 5))
        cases.append((prompt, modes[number % len(modes)]))
    return cases


def asked_at_once(engine, cases):
    barrier = threading.Barrier(len(cases))
    clients = [Client(engine, prompt, mode, barrier) for prompt, mode in cases]
    most = 0
    while any(client.thread.is_alive() for client in clients):
        most = max(most, engine.num_running)
        time.sleep(0.002)
    assert [client.error for client in clients if client.error] == []
    return clients, most


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# Reuse goes by what is stored, which exact modes add to: each kind is asked for itself.
@pytest.mark.parametrize("modes", [["guided", "cachecraft", "random", "reuse", "blend", "epic"], ["full", "prefix"]])
def test_everybody_gets_the_answer_that_he_gets_alone(make_engine, modes):
    engine = make_engine(max_running=8, step_tokens=96, pool_tokens=2048, background=False)
    for group in (CHUNKS[:4], CHUNKS[4:], CHUNKS[6:2:-1]):
        engine.generate("Be brief.", group, "why?", "full", params=FEW)
    engine.finish_background()
    cases = prompts(engine, 0, modes)
    alone = [engine.complete(prompt, mode=mode, recompute=0.2, params=FEW, keep=False) for prompt, mode in cases]
    engine.drop_pages()
    variants = engine.store.stats().num_variants
    engine.start()
    clients, most = asked_at_once(engine, cases)
    assert [tuple(client.heard.end.token_ids) for client in clients] == [one.token_ids for one in alone]
    assert [client.heard.text for client in clients] == [one.text for one in alone]
    assert {client.heard.end.finish_reason for client in clients} == {"length"}
    assert 1 < most <= 8
    if modes != ["full", "prefix"]:
        assert engine.store.stats().num_variants == variants
        for client, one in zip(clients, alone, strict=True):
            assert client.heard.end.report.active_rows == one.report.active_rows
    assert len({one.token_ids for one in alone}) > NUM_CLIENTS // 4  # or equality would mean little
    engine.finish_background()
    assert pages_left(engine) == 0 and engine.num_waiting == 0
    engine.store.check_integrity()


def test_memory_stays_bounded_while_hundreds_come_and_go(make_engine):
    capacity_bytes = 300_000  # about ten chunks
    engine = make_engine(f"ram:{capacity_bytes}", max_running=8, step_tokens=96, pool_tokens=2048)
    engine.remembered.capacity = 50
    engine.start()
    sizes = []
    for number in range(3):
        asked_at_once(engine, prompts(engine, 1000 * number, ["guided", "prefix", "full"], num=70))
        engine.finish_background()
        stats = engine.store.stats()
        assert stats.tiers[0].used_bytes <= capacity_bytes and stats.pending_bytes == 0
        assert len(engine.remembered) <= 50 and len(engine._scheduler.idle) == 0
        engine.store.check_integrity()
        sizes.append(resident_bytes())
    assert engine.store.stats().counts["evicted"] > 0
    assert sizes[-1] - sizes[0] < 20e6
    assert pages_left(engine) == 0


def test_nobody_is_left_behind(make_engine):
    """Who comes first begins first; long prompts stop no answer that has begun, and end in good time themselves."""
    engine = make_engine(max_running=4, step_tokens=32, pool_tokens=2048, background=False)
    begun, ids, heard, rows = [], [], [Listener() for _ in range(40)], []
    begin = engine._scheduler._prepare
    engine._scheduler._prepare = lambda running: (begun.append(running.request.request_id), begin(running))
    for number, one in enumerate(heard):
        chunks = CHUNKS[:3] if number % 10 == 0 else [CHUNKS[number % 8]]
        prompt = engine.prompt("Be brief.", chunks, text_of(number, 4))
        rows.append(len(prompt.ids))
        ids.append(engine.submit(prompt, FEW, mode="full", on_event=one))
    steps = Counter()
    while not all(one.done.is_set() for one in heard):
        before = {one: len(one.token_ids) for one in engine._scheduler._running if one.token_ids}
        engine._scheduler.step()
        # Every answer that has begun goes on in every step.
        assert all(len(one.token_ids) == tokens + 1 for one, tokens in before.items())
        steps.update(one.request.request_id for one in engine._scheduler._running)
    assert begun == ids
    assert all(one.end.finish_reason == "length" for one in heard)
    # At worst three others who came before are computed first, 29 rows in each step beside three answers.
    assert max(steps.values()) <= sum(sorted(rows)[-4:]) / 29 + 4 + FEW.max_tokens


def test_too_many_are_told_so_at_once_and_the_others_are_served(make_engine):
    engine = make_engine(max_waiting=20, max_running=4, background=False)
    prompt = engine.prompt("Be brief.", CHUNKS[:2], "why?")
    heard, refused = [Listener() for _ in range(NUM_CLIENTS)], 0
    for one in heard:
        try:
            engine.submit(prompt, FEW, on_event=one)
        except BusyError:
            refused += 1
    assert refused == NUM_CLIENTS - 20
    engine.start()
    assert all(one.done.wait(LIMIT_S) for one in heard[:20])
    assert not any(one.done.is_set() for one in heard[20:])


def test_callers_without_the_engines_thread_take_turns(make_engine):
    engine, alone = make_engine(background=False), make_engine(background=False)
    groups = [CHUNKS[number : number + 3] for number in range(6)]
    expected = [alone.generate("Be brief.", group, "why?", "full", params=FEW).token_ids for group in groups]
    barrier, answers = threading.Barrier(len(groups)), {}

    def ask(number):
        barrier.wait(30)
        answers[number] = [
            engine.generate("Be brief.", groups[number], "why?", "full", params=FEW).token_ids for _ in range(4)
        ]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(groups))]
    for one in threads:
        one.start()
    for one in threads:
        one.join(LIMIT_S)
    assert answers == {number: [ids] * 4 for number, ids in enumerate(expected)}
    assert engine.num_running == engine.num_waiting == 0 and pages_left(engine) == 0
