"""Connections that are kept: who gets which, and what becomes of those that fail."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nonet.power.controlling.pooling import Deadline, Pool


class Line:
    made: list[Line]

    def __init__(self) -> None:
        self.state, self.busy = "open", False
        Line.made.append(self)

    def close(self, timeout_s: float) -> None:
        assert self.state == "open" and timeout_s > 0
        self.state = "closed"

    def drop(self) -> None:
        assert self.state == "open"
        self.state = "dropped"


class HarmlessError(Exception):
    pass


@settings(deadline=None, max_examples=100)
@given(calls=st.lists(st.sampled_from(["good", "harmless", "bad"]), max_size=12), depth=st.integers(1, 4))
def test_every_connection_ends_once_and_is_lent_to_one_at_a_time(calls, depth):
    Line.made = []
    pool = Pool(Line, (HarmlessError,), keep=2)

    def use(call: str, levels: int) -> None:
        with pool.lent() as line:
            assert not line.busy and line.state == "open"
            line.busy = True
            try:
                if levels > 1:
                    use(call, levels - 1)
                if call != "good":
                    raise HarmlessError if call == "harmless" else ValueError
            finally:
                line.busy = False

    for call in calls:
        try:
            use(call, depth)
        except (HarmlessError, ValueError) as error:
            assert (call == "bad") == isinstance(error, ValueError)
    assert sum(line.state == "open" for line in Line.made) <= 2
    assert sum(line.state == "dropped" for line in Line.made) == depth * calls.count("bad")
    if "bad" not in calls and depth <= 2:
        assert len(Line.made) <= depth
    pool.close(1.0)
    assert not any(line.state == "open" for line in Line.made)


def test_one_that_is_lent_while_the_pool_closes_ends_when_it_comes_back():
    Line.made = []
    pool = Pool(Line)
    with pool.lent() as line:
        pool.close(1.0)
        assert line.state == "open"
    assert line.state == "closed"


def test_a_deadline_is_never_nothing():
    deadline = Deadline(0.05)
    assert not deadline.over and 0 < deadline.left_s() <= 0.05
    time.sleep(0.06)
    assert deadline.over and deadline.left_s() == 0.001


def test_callers_from_many_threads_never_share():
    Line.made = []
    pool = Pool(Line, keep=3)
    wrong = []

    def work() -> None:
        for _ in range(200):
            with pool.lent() as line:
                wrong.extend([line] if line.busy else [])
                line.busy = True
                time.sleep(0)
                line.busy = False

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    with pytest.raises(KeyError), pool.lent():
        raise KeyError
    pool.close(1.0)
    assert {line.state for line in Line.made} == {"closed", "dropped"}
