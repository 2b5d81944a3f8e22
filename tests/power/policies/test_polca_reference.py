"""POLCA against a state machine written from the published algorithm alone, on 10,000 random power series."""

from __future__ import annotations

import numpy as np

from nonet.power.policies import Action, Polca, Priority, RowView, Sample

LOW_MHZ, HIGH_MHZ = (1410, 1275, 1110, 1110), (1410, 1410, 1410, 1305)


def reference(us, fresh, period=2.0, latency=40.0):
    """The published table with immediate release; caps land `latency` later, the brake after 5 s."""
    mode, braked, brake_since, changed, busy_until = 0, False, 0.0, -1e9, -1e9
    desired, log, seen, seen_at = [1410, 1410], [], None, 0.0
    for tick, u_now in enumerate(us):
        now = period * tick
        if fresh[tick]:
            seen, seen_at = u_now, now
        settled = now >= busy_until and now - changed > latency + period
        blind = now - seen_at > 3 * period
        if blind and not braked:
            new = 3 if settled and mode == 2 else max(mode, 2)
        elif blind or seen is None:
            continue
        else:
            if seen > 1.0 and not braked:
                braked, brake_since, busy_until = True, now, max(busy_until, now + 5.0)
                log.append((now, "brake"))
            elif braked and seen < 0.89 - 0.05 and now - brake_since > 60.0:
                braked, busy_until = False, max(busy_until, now + 5.0)
                log.append((now, "release"))
            if braked:
                continue
            new = mode
            if seen > 0.89:
                new = 2 if mode < 2 else 3 if mode == 2 and settled else mode
            elif seen > 0.80:
                new = max(mode, 1)
            if settled and new >= 2 and seen < 0.89 - 0.05:
                new -= 1
            elif settled and new == 1 and seen < 0.80 - 0.05:
                new = 0
        if new != mode:
            mode, changed = new, now
        for index, mhz in enumerate((LOW_MHZ[mode], HIGH_MHZ[mode])):
            if mhz != desired[index]:
                desired[index], busy_until = mhz, max(busy_until, now + latency)
                log.append((now, index, mhz))
    return log


def ours(us, fresh):
    policy, view = Polca(release="immediate"), RowView.uniform(4, 0.5, budget_w=1.0)
    log, sample, busy_until = [], None, -1e9
    for tick, u_now in enumerate(us):
        now = 2.0 * tick
        if fresh[tick]:
            sample = Sample(float(u_now), now)
        view.in_flight = now < busy_until
        for command in policy.decide(now, sample, view):
            cap = command.action is Action.CAP
            busy_until = max(busy_until, now + (40.0 if cap else 5.0))
            if cap:
                log.append((now, 0 if command.servers is Priority.LOW else 1, round(command.level * 1410)))
            else:
                log.append((now, str(command.action)))
    return log


def test_ten_thousand_series():
    random = np.random.default_rng(7)
    kinds = set()
    for _ in range(10_000):
        num = 120
        steps = np.repeat(random.uniform(0.6, 1.08, 12), 10)
        us = np.clip(steps + random.normal(0, random.choice([0.0, 0.01, 0.05]), num), 0.05, 1.9)
        fresh = random.random(num) > random.choice([0.0, 0.1, 0.6])
        expected = reference(us, fresh)
        assert ours(us, fresh) == expected
        kinds |= {entry[1:] for entry in expected}
    assert {("brake",), ("release",), (0, 1275), (0, 1110), (1, 1305), (0, 1410), (1, 1410)} <= kinds
