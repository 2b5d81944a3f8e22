"""Learning is done on an earlier part of the calls, and on nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from nonet.coldstart.simulating.calls import Calls
from nonet.coldstart.simulating.engine import simulate
from nonet.coldstart.simulating.policies.base import Joined
from nonet.coldstart.simulating.policies.dynamic_keep_alive import DynamicKeepAlive
from nonet.coldstart.simulating.policies.fixed import KeepAlive
from nonet.coldstart.simulating.policies.icebreaker import IceBreaker
from nonet.coldstart.simulating.policies.timer_prewarm import TimerPrewarm
from nonet.coldstart.simulating.policies.training import Window, fit, needs_training, split
from nonet.common.errors import InputError
from tests.coldstart.simulating.crafted import DAY_S, HOUR_S, SECOND, poisson, workload


def test_a_split_divides_the_calls() -> None:
    whole = workload([poisson(0.01, 1), poisson(0.02, 2)])
    training, rest = split(whole, DAY_S * SECOND)
    later = list(rest.blocks())
    arrive = np.concatenate([training.calls.arrive_us, *(block.arrive_us for block in later)])
    function = np.concatenate([training.calls.function, *(block.function for block in later)])
    all_calls = list(whole.blocks())
    assert arrive.tolist() == np.concatenate([block.arrive_us for block in all_calls]).tolist()
    assert function.tolist() == np.concatenate([block.function for block in all_calls]).tolist()
    assert training.calls.arrive_us.max() < DAY_S * SECOND <= min(block.arrive_us[0] for block in later)
    sharded = np.concatenate([block.arrive_us for shard in range(2) for block in rest.by_function(shard, 2)])
    assert sorted(sharded.tolist()) == arrive[len(training.calls) :].tolist()


def test_a_window_over_many_blocks_reads_no_further_than_it_must() -> None:
    arrive = np.arange(100, dtype=np.int64)
    whole = workload([arrive / SECOND], end_s=1.0)
    read = []

    class Counting(type(whole)):  # type: ignore[misc]
        def blocks(self):  # type: ignore[no-untyped-def]
            for begin in range(0, 100, 10):
                read.append(begin)
                part = arrive[begin : begin + 10]
                yield Calls(part, np.zeros(10, np.int64), np.zeros(10, np.int32))

    whole.__class__ = Counting
    got = np.concatenate([block.arrive_us for block in Window(whole, 25, 52).blocks()])
    assert got.tolist() == list(range(25, 52))
    assert read == [0, 10, 20, 30, 40, 50]


@pytest.mark.parametrize("train_us", [0, -5, 2 * DAY_S * SECOND])
def test_windows_that_leave_nothing_are_refused(train_us: int) -> None:
    with pytest.raises(InputError, match="training window"):
        split(workload([poisson(0.01, 1)]), train_us)


def test_an_unfitted_policy_does_not_run() -> None:
    with pytest.raises(InputError, match="fit it on some first"):
        simulate(workload([poisson(0.01, 1)]), TimerPrewarm())


def test_a_policy_is_not_tried_on_what_it_was_fitted_on() -> None:
    whole = workload([poisson(0.01, 1)])
    training, rest = split(whole, HOUR_S * SECOND)
    policy = TimerPrewarm()
    fit(policy, training)
    simulate(rest, policy)
    with pytest.raises(InputError, match="may not be tried"):
        simulate(whole, policy)
    with pytest.raises(InputError, match="1 functions, the workload has 2"):
        simulate(split(workload([poisson(0.01, 1)] * 2), HOUR_S * SECOND)[1], policy)


def test_parts_of_a_joined_policy_are_fitted() -> None:
    joined = Joined([KeepAlive(60 * SECOND), TimerPrewarm(), DynamicKeepAlive()])
    assert needs_training(joined)
    assert not needs_training(IceBreaker())
    training, rest = split(workload([poisson(0.01, 1)]), DAY_S * SECOND)
    fit(joined, training)
    assert simulate(rest, joined).num_requests > 0


def test_later_calls_change_nothing_that_was_learnt() -> None:
    times = poisson(0.005, 3)
    one = workload([times, np.arange(10, 2 * DAY_S, 600)])
    other = workload([np.concatenate([times[times < DAY_S], [DAY_S + 5.0]]), np.arange(10, DAY_S, 600)])
    learnt = []
    for whole in (one, other):
        policy = DynamicKeepAlive()
        fit(policy, split(whole, DAY_S * SECOND)[0])
        learnt.append(policy.keep_alive_us.tolist())
    assert learnt[0] == learnt[1]
