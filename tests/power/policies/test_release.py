"""The release of a brake against a list of braked servers kept by hand, on random rows and series; restarts in it."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest

from nonet.power.policies import Action, Priority, RowView, Sample, build_policy

MARGIN, HOLD_S, WAIT_S, PATIENCE_S, BELOW_U, ROOM_U = 1.1, 60.0, 7.0, 600.0, 0.84, 0.89


def reference(us, priorities, num_groups):
    """Lists of servers instead of counters; written from the description of the release alone."""
    num = len(priorities)
    order = [s for s in range(num) if priorities[s]] + [s for s in range(num) if not priorities[s]]
    ends = {num * k // num_groups for k in range(1, num_groups + 1)} | {num}
    braked, log, pulled_s, step_s, before_u, under_u = [], [], 0.0, -1e9, 0.0, 0.0
    for tick, u in enumerate(us):
        now_s = 2.0 * tick
        if u > 1.0 and len(braked) < num:
            braked, pulled_s, step_s, before_u = list(order), now_s, -1e9, u
            log.append((now_s, "brake", sorted(order)))
            continue
        if not braked or u >= BELOW_U or now_s <= pulled_s + HOLD_S:
            continue
        whole = len(braked) == num
        under_u = u if whole else under_u
        if now_s <= step_s + WAIT_S:
            continue
        group, left = [braked[0]], braked[1:]
        while num - len(left) not in ends:
            group.append(left.pop(0))
        fits = u + len(group) / num * max(0.0, MARGIN * before_u - under_u) < ROOM_U
        if fits or (whole and now_s > pulled_s + HOLD_S + PATIENCE_S):
            braked, step_s = left, now_s
            log.append((now_s, "release", sorted(group)))
    return log


def ours(us, priorities, **values):
    view = RowView(1.0, priorities)
    policy = build_policy("no-cap", **values)
    return [
        (2.0 * tick, str(command.action), sorted(command.servers))
        for tick, u in enumerate(us)
        for command in policy.decide(2.0 * tick, Sample(float(u), 2.0 * tick), view)
    ]


def test_staged_release_equals_the_reference():
    random = np.random.default_rng(3)
    again = patient = whole = 0
    for _ in range(250):
        num, num_groups = int(random.integers(1, 17)), int(random.integers(1, 12))
        priorities = [Priority(int(p)) for p in random.integers(0, 2, num)]
        levels = random.choice([0.2, 0.3, 0.5, 0.7, 0.82, 0.9, 1.02, 1.2], 12)
        us = np.repeat(levels, random.integers(1, 80, 12)) + random.normal(0, 0.01, 1)
        expected = reference(us, priorities, num_groups)
        assert ours(us, priorities, release_groups=num_groups) == expected
        kinds = [kind for _, kind, _ in expected]
        again += kinds[1:].count("brake")
        waits = [b[0] - a[0] for a, b in pairwise(expected) if a[1] == "brake"]
        patient += sum(wait > HOLD_S + PATIENCE_S for wait in waits)
        whole += len({server for _, kind, group in expected if kind == "release" for server in group}) == num
    assert again > 100 and patient > 10 and whole > 100


def test_immediate_release_is_one_step():
    assert ours([1.1] + [0.5] * 40, [0, 1, 0], release="immediate") == [
        (0.0, "brake", [0, 1, 2]),
        (62.0, "release", [0, 1, 2]),
    ]


@pytest.mark.parametrize("changed", [{"release": "immediate"}, {"release_groups": 3}, {"release_groups": 20}])
def test_a_restart_with_another_release_leaves_nobody_braked(changed):
    view, policy, released, now_s = RowView.uniform(10, 0.5, 1.0), build_policy("polca"), [], 0.0
    policy.decide(now_s, Sample(1.05, now_s), view)
    while policy.brake.num_released < 5:
        now_s += 2.0
        released += [s for c in policy.decide(now_s, Sample(0.3, now_s), view) for s in c.servers]
    saved, policy = json.loads(json.dumps(policy.state())), build_policy("polca", **changed)
    policy.restore(saved)
    for _ in range(60):
        now_s += 2.0
        commands = policy.decide(now_s, Sample(0.3, now_s), view)
        released += [s for c in commands if c.action is Action.RELEASE for s in c.servers]
        assert policy.quiet(now_s, view) is not None
    assert sorted(released) == list(range(10)) and not policy.brake.pulled
