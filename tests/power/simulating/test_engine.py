"""The event loop against closed forms, balances, a plain SimPy model and Erlang's formula."""

import math
import os
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

from nonet.common.errors import InputError
from nonet.power.bench.plain_row import PlainRow
from nonet.power.load.requests import RequestLoad
from nonet.power.policies.protocol import Priority
from nonet.power.simulating.engine import simulate
from nonet.power.simulating.row import Row, Server
from nonet.power.simulating.state import RowState
from tests.conftest import needs
from tests.power.simulating.parts import poisson_load, profile

BUDGET_W = 300_000.0


def test_one_request_alone_takes_prompt_plus_tokens():
    row = Row.uniform(1, profile(), budget_w=6000, low_priority_share=0.0)
    result = simulate(row, RequestLoad.of([1.0], [1024], [101]))
    assert result.ttft_s[0] == pytest.approx(0.4, abs=1e-12)
    assert result.e2e_s[0] == pytest.approx(0.4 + 100 * 0.05, abs=1e-12)


def test_clock_changes_in_mid_phase_leave_the_work_as_it_is():
    """Completion under piecewise levels against the integral of the rate, worked out here by hand."""
    p = profile()
    row = Row.uniform(1, p, budget_w=6000, low_priority_share=0.0)
    steps = [(0.1, 0.5), (0.9, 0.8), (2.0, 288 / 1410), (3.5, 1.0), (4.0, 0.7)]
    state = RowState(row, RequestLoad.of([0.0], [1024], [101]), 100)
    for at_s, level in steps:
        state.set_level(0, level, at_s)
    state.run_until(100.0)

    def through(start_s, work, rate_at):
        edges = [t for t, _ in steps if t > start_s]
        now_s, level = start_s, ([1.0] + [x for t, x in steps if t <= start_s])[-1]
        for edge_s in [*edges, math.inf]:
            rate = rate_at(level)
            if work <= rate * (edge_s - now_s):
                return now_s + work / rate
            work -= rate * (edge_s - now_s)
            now_s, level = edge_s, dict(steps).get(edge_s)
        raise AssertionError

    first_s = through(0.0, 0.4, lambda x: x)
    last_s = through(first_s, 100.0, lambda x: (0.705 + 0.269) / (0.705 + 0.269 / x) / 0.05)
    assert state.arrays.first_token_s[0] == pytest.approx(first_s, abs=1e-9)
    assert state.arrays.finish_s[0] == pytest.approx(last_s, abs=1e-9)


def test_a_prompt_stops_the_others_or_shares_with_them():
    # The second prompt (0.4 s) comes when the first request has 99 of 100 steps before it.
    load = RequestLoad.of([0.0, 0.45], [1024, 1024], [101, 1])
    row = Row.uniform(1, profile(), budget_w=6000, low_priority_share=0.0)
    alone = simulate(row, load)
    assert alone.e2e_s == pytest.approx([0.4 + 5.0 + 0.4, 0.4], abs=1e-9)
    half = simulate(Row.uniform(1, profile(), budget_w=6000, low_priority_share=0.0, prefill_share=0.5), load)
    # The prompt takes 0.8 s at half an instance, in which the other makes 8 of its steps instead of 16.
    assert half.e2e_s == pytest.approx([0.4 + 5.0 + 0.4, 0.8], abs=1e-9)


def _mixed_row(seed, share):
    rng = np.random.default_rng(seed)
    two, eight = profile(2, name="two"), profile(8, decode_s=(0.03, 0.05, 0.09), name="eight")
    servers = []
    for i in range(6):
        p = two if rng.random() < 0.5 else eight
        instances = int(rng.integers(1, 9 - p.tensor_parallel // 2 * 2 + 1)) if p is two else 1
        servers.append(Server(f"s{i}", Priority(i % 2), p, min(instances, 4), int(rng.integers(1, 7))))
    row = Row.uniform(1, two, budget_w=BUDGET_W)
    return Row(tuple(servers), row.budget, prefill_share=share)


@pytest.mark.parametrize(("seed", "share"), [(1, 1.0), (2, 0.6), (3, 1.0)])
def test_equals_a_plain_simpy_model(seed, share):
    needs(find_spec("simpy") is not None, "SimPy")
    row = _mixed_row(seed, share)
    load = poisson_load(5000 if seed == 1 else 1500, 1.1, seed, outputs=(1, 200))
    rng = np.random.default_rng(seed)
    times = np.sort(rng.uniform(0, load.duration_s, 200))
    levels = [(float(t), int(rng.integers(6)), float(rng.choice([1.0, 0.9, 0.75, 0.2]))) for t in times]
    state = RowState(row, load, 20_000)
    end_s = load.duration_s + 20_000.0
    state.run_until(end_s, landings=[(t, (s,), x) for t, s, x in levels])
    state.settle(end_s)
    plain = PlainRow(load, [(int(s.priority), s.profile, s.instances, s.max_batch) for s in row.servers], share, levels)
    first, done = plain.run(end_s)
    assert len(done) == len(load) == state.num_done
    for ours, theirs in ((state.arrays.first_token_s, first), (state.arrays.finish_s, done)):
        assert np.abs(ours - [theirs[r] for r in range(len(load))]).max() < 1e-9
    servers = state.arrays.servers
    joules = servers["idle_j"] + servers["prefill_j"] + servers["decode_j"]
    assert joules == pytest.approx(np.array(plain.joules), rel=1e-9)


@pytest.mark.parametrize("options", [{}, {"prefill_share": 0.5}, {"telemetry_period_s": 0.7}])
def test_energy_and_work_balance(options):
    load = poisson_load(20_000, 3.0, 5)
    row = Row.uniform(5, profile(2), budget_w=BUDGET_W, instances_per_server=3, max_batch=4, **options)
    result = simulate(row, load, levels={Priority.LOW: 0.8})
    total_j = sum(energy.sum() for energy in result.energy_j.values())
    assert total_j == pytest.approx(result.row_energy_j, rel=1e-9)
    assert result.row_w.sum(dtype=np.float64) * result.period_s == pytest.approx(total_j, rel=1e-6)
    assert result.tokens_done.sum() == pytest.approx((load.output_tokens - 1).sum(), rel=1e-9)
    prompts = [row.servers[0].profile.prefill_seconds(int(n)) for n in load.prompt_tokens]
    assert result.prefill_done_s.sum() == pytest.approx(sum(prompts), rel=1e-9)


def test_low_caps_leave_high_priority_bit_for_bit_unchanged():
    load = poisson_load(20_000, 3.0, 6)
    row = Row.uniform(6, profile(2), budget_w=BUDGET_W, instances_per_server=2, max_batch=4)
    free, capped = simulate(row, load), simulate(row, load, levels={Priority.LOW: 0.7})
    high = load.priority == int(Priority.HIGH)
    assert np.array_equal(free.e2e_s[high], capped.e2e_s[high])
    assert np.array_equal(free.ttft_s[high], capped.ttft_s[high])
    assert (capped.e2e_s[~high] > free.e2e_s[~high]).mean() > 0.9


def test_interruptions_change_nothing():
    load = poisson_load(3000, 3.0, 7)
    row = Row.uniform(4, profile(2), budget_w=BUDGET_W, instances_per_server=2, max_batch=4)
    whole, pieces = RowState(row, load, 3000), RowState(row, load, 3000)
    whole.run_until(1200.0)
    for until_s in np.sort(np.random.default_rng(1).uniform(0, 1200, 5000)):
        pieces.run_until(float(until_s))
    pieces.run_until(1200.0)
    assert np.array_equal(whole.arrays.finish_s, pieces.arrays.finish_s, equal_nan=True)
    assert np.array_equal(whole.arrays.row_w[:600], pieces.arrays.row_w[:600])


def _erlang_c_wait(servers, offered, service_s):
    """Mean wait of M/M/c, by the recursion of Erlang's B."""
    b = 1.0
    for k in range(1, servers + 1):
        b = offered * b / (k + offered * b)
    c = b / (1 - offered / servers * (1 - b))
    return c * service_s / (servers - offered)


@pytest.mark.parametrize(("servers", "use"), [(4, 0.8), (12, 0.9)])
def test_mean_wait_is_erlangs(servers, use):
    """Exponential service: an exponential number of tokens (finely divided) at constant speed, one at a time."""
    rng, num, mean_tokens, step_s = np.random.default_rng(11), 1_000_000, 20_000.0, 1e-4
    p = profile(8, decode_s=(step_s, step_s, step_s), prefill=_instant())
    service_s = mean_tokens * step_s
    arrival_s = np.cumsum(rng.exponential(service_s / (servers * use), num))
    outputs = 1 + np.ceil(rng.exponential(mean_tokens, num)).astype(np.int64)
    load = RequestLoad.of(arrival_s, np.full(num, 128), outputs)
    row = Row.uniform(servers, p, budget_w=BUDGET_W, low_priority_share=0.0, max_batch=1)
    result = simulate(row, load)
    wait_s = float((result.ttft_s).mean())
    assert wait_s == pytest.approx(_erlang_c_wait(servers, servers * use, service_s), rel=0.02)


def _instant():
    from nonet.power.profiles.tables import PrefillTable

    return PrefillTable(tokens=(128, 256), seconds=(1e-9, 1e-9), watts=(300, 300), range_tokens=(128, 256))


def test_overload_prefers_nobody_and_ends_with_a_queue():
    load = RequestLoad.of(np.arange(2000) * 0.01, [1024] * 2000, [50] * 2000)
    row = Row.uniform(1, profile(), budget_w=6000, low_priority_share=0.0, max_batch=2)
    result = simulate(row, load, drain_s=60.0)
    assert result.unfinished() > 1500
    assert math.isinf(result.latency_s(0.99))
    done = np.flatnonzero(~np.isnan(result.ttft_s))
    assert np.array_equal(done, np.arange(len(done)))  # first come, first served


def test_power_is_that_of_the_phases():
    p = profile(2)  # 3 instances: 6 GPUs used, 2 idle
    row = Row.uniform(1, p, budget_w=6000, low_priority_share=0.0, instances_per_server=3)
    load = RequestLoad.of([0.0], [8192], [1 + 2000])
    result = simulate(row, load)
    base, factor = 450.0, 1.64
    idle = base + factor * 8 * 80.0
    assert result.row_w[0] == pytest.approx(base + factor * (6 * 80.0 + 2 * 410.0), rel=1e-6)
    assert result.row_w[5] == pytest.approx(base + factor * (6 * 80.0 + 2 * 300.0), rel=1e-6)
    assert result.row_w[-1] == pytest.approx(idle, rel=1e-6)


def test_refuses_requests_that_nobody_serves():
    row = Row.uniform(2, profile(), budget_w=6000, low_priority_share=0.0)
    with pytest.raises(InputError, match="no server of the row serves"):
        simulate(row, poisson_load(10, 1.0, low_share=1.0))


def test_long_prompts_and_odd_numbers_are_flagged():
    row = Row.uniform(1, profile(), budget_w=6000, low_priority_share=0.0)
    result = simulate(row, RequestLoad.of([0.0, 1.0], [3_000_000, 64], [2, 2]), drain_s=1e5)
    assert result.extrapolation.prompts == 2
    assert bool(result.extrapolation)
    assert result.ttft_s[0] == pytest.approx(3.6 + (3_000_000 - 8192) * 3.2 / 7168, rel=1e-9)


def test_same_seed_same_bytes_and_interpreted_equals_compiled():
    code = (
        "import numpy as np, sys\n"
        "from tests.power.simulating.parts import poisson_load, profile\n"
        "from nonet.power.simulating.engine import simulate\n"
        "from nonet.power.simulating.row import Row\n"
        "from nonet.power.policies.protocol import Priority\n"
        "row = Row.uniform(3, profile(2), budget_w=9e4, instances_per_server=2, max_batch=3)\n"
        "r = simulate(row, poisson_load(2000, 2.0, 9, outputs=(1, 60)), levels={Priority.LOW: 0.8})\n"
        "np.save(sys.stdout.buffer, np.concatenate([r.e2e_s, r.row_w.astype(float)]))\n"
    )
    found = []
    for disabled in ("0", "0", "1"):
        environment = {**os.environ, "NUMBA_DISABLE_JIT": disabled}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
        found.append(done.stdout)
    assert found[0] == found[1]
    compiled, plain = (np.frombuffer(out[128:], np.float64) for out in found[1:])
    assert compiled == pytest.approx(plain, abs=1e-9)


def test_nothing_to_do():
    row = Row.uniform(2, profile(), budget_w=6000)
    nothing = RequestLoad.of([], [], [])
    assert simulate(row, nothing).duration_s == 0.0
    idle = simulate(row, nothing, duration_s=10.0)
    assert idle.row_w == pytest.approx([2 * (450 + 1.64 * 640)] * 5, rel=1e-6)
    assert idle.summary()["high"]["requests"] == 0


def test_profiles_of_one_name_are_told_apart():
    quick, slow = profile(), profile(decode_s=(0.5, 0.6, 1.0))
    row = Row.uniform(2, quick, budget_w=6000)
    mixed = Row((row.servers[0], Server("slow", row.servers[1].priority, slow)), row.budget)
    load = RequestLoad.of([0.0, 0.0], [128, 128], [11, 11], priority=[0, 1])
    found = sorted(simulate(mixed, load).e2e_s)
    assert found == pytest.approx([0.1 + 0.5, 0.1 + 5.0])
