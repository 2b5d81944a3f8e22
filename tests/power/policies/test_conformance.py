"""What the protocol promises, held over every registered policy: restart, and quiet honoured as good as ignored."""

from __future__ import annotations

import json
import math
import random

import pytest

from nonet.common.errors import InputError
from nonet.power.policies import POLICIES, Action, CommandLedger, RowView, Sample, build_policy

BUDGET_W = 200e3


def series(seed: int, num: int = 600) -> list[float]:
    random_ = random.Random(seed)
    u, drift, powers = 0.7, 0.0, []
    for _ in range(num):
        if random_.random() < 0.02:
            drift = random_.uniform(-0.02, 0.02)
        u = min(1.15, max(0.2, u + drift + random_.gauss(0, 0.01)))
        lie = random_.random()
        powers.append(
            math.nan if lie < 0.01 else -5.0 if lie < 0.02 else 10 * u * BUDGET_W if lie < 0.03 else u * BUDGET_W
        )
    return powers


def run(policy, powers, *, honour=False, restart_at=None, gap=range(0)):
    view = RowView.uniform(10, 0.5, BUDGET_W)
    ledger = CommandLedger(view.priorities)
    landings, log, promise, calls = [], [], None, 0
    for tick, power in enumerate(powers):
        now = 2.0 * tick
        landed = False
        if tick - 1 not in gap and tick and 0 < powers[tick - 1] < 2 * BUDGET_W:
            ledger.note_sample(now - 2.0)
        for landing in sorted(one for one in landings if one[0] <= now):
            landings.remove(landing)
            landings += [(now + 40.0, write.key) for write in ledger.confirm(landing[1], landing[0])]
            landed = True
        ledger.check_integrity()
        view.in_flight, view.cap_levels, view.last_landed_s = ledger.in_flight, ledger.cap_levels, ledger.last_landed_s
        missing = tick in gap
        inside = promise is not None and promise.low_w < power < promise.high_w and now < promise.until_s
        if honour and inside and not landed and not missing:
            continue
        sample = Sample(power, now)
        if missing:
            sample = Sample(powers[gap.start - 1], 2.0 * (gap.start - 1))
        if tick == restart_at:
            saved = json.loads(json.dumps(policy.state()))
            policy = build_policy(policy.name)
            policy.restore(saved)
        calls += 1
        commands = policy.decide(now, sample, view)
        if 0 < power < 2 * BUDGET_W and not missing:
            ledger.note_sample(now)
        for command in commands:
            log.append((now, command.action, command.servers, command.level))
            latency = 40.0 if command.action is Action.CAP else 5.0
            landings += [(now + latency, write.key) for write in ledger.submit(command, now)]
        view.in_flight = ledger.in_flight
        promise = policy.quiet(now, view) if honour else None
    return log, calls


@pytest.mark.parametrize("name", list(POLICIES))
@pytest.mark.parametrize("seed", range(40))
def test_quiet_and_restart_change_nothing(name, seed):
    powers, gap = series(seed), range(300, 310)
    plain, calls = run(build_policy(name), powers, gap=gap)
    quiet, fewer = run(build_policy(name), powers, honour=True, gap=gap)
    assert quiet == plain
    assert fewer < calls
    restarted, _ = run(build_policy(name), powers, restart_at=100 + 10 * seed, gap=gap)
    assert restarted == plain


@pytest.mark.parametrize("name", list(POLICIES))
def test_blind_and_lying_sensors_never_raise_a_level(name):
    for lie in (math.nan, -1.0, 0.0, math.inf):
        log, _ = run(build_policy(name), [0.95 * BUDGET_W] * 100 + [lie] * 400)
        late = [entry for entry in log if entry[0] >= 200.0]
        assert not any(action is Action.RELEASE for _, action, _, _ in late)
        levels = {}
        for _, action, servers, level in log:
            if action is Action.CAP:
                assert level <= levels.get(servers, 1.0)
                levels[servers] = level


def test_the_brake_falls_while_caps_are_in_flight_and_once():
    log, _ = run(build_policy("polca"), [0.5 * BUDGET_W] * 5 + [0.95 * BUDGET_W] * 2 + [1.05 * BUDGET_W] * 20)
    assert [action for _, action, _, _ in log] == [Action.CAP, Action.BRAKE]


@pytest.mark.parametrize("name", sorted(set(POLICIES) - {"null"}))
def test_an_outlier_seen_twice_does_not_confirm_itself(name):
    view, policy = RowView.uniform(10, 0.5, BUDGET_W), build_policy(name)
    policy.decide(0.0, Sample(0.7 * BUDGET_W, 0.0), view)
    for now_s in (2.0, 4.0, 6.0):
        assert not policy.decide(now_s, Sample(7.0 * BUDGET_W, 2.0), view)
    [first, *_] = policy.decide(8.0, Sample(7.0 * BUDGET_W, 8.0), view)
    assert first.action is Action.BRAKE


@pytest.mark.parametrize("name", sorted(set(POLICIES) - {"null"}))
def test_a_damaged_state_is_refused_in_one_line(name):
    good = json.loads(json.dumps(build_policy(name).state()))
    for damage in ({}, {**good, "brake": {}}, {**good, "last_change_s": "soon"}, {**good, "brake": 3}):
        with pytest.raises(InputError, match="start afresh"):
            build_policy(name).restore({**damage, "policy": name})
    if "mode" in good:
        with pytest.raises(InputError, match="mode 9"):
            build_policy(name).restore({**good, "mode": 9})
