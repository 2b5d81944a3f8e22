"""POLCA and the command ledger against the oracle written by hand, on many random power series."""

from __future__ import annotations

import numpy as np
import pytest

from nonet.power.policies import Action, CommandLedger, Polca, Priority, RowView, Sample
from tests.power.policies.polca_by_hand import polca


def ours(us, fresh, fates):
    policy, view = Polca(release="immediate"), RowView(1.0, [Priority.LOW, Priority.HIGH])
    ledger, fates = CommandLedger(view.priorities), [iter(fate) for fate in fates]
    log, sample, post = [], None, []

    def send(writes, now):
        for write in writes:
            late, fate = 40.0 if write.action is Action.CAP else 5.0, next(fates[write.server])
            landing = (int(write.key.rpartition("-")[2]), write.key)
            post.extend([(now + late, landing)] * (fate != "lost") + [(now + 2 * late, landing)] * (fate == "twice"))

    for tick, u_now in enumerate(us):
        now = 2.0 * tick
        if fresh[tick]:
            sample = Sample(u_now, now)
            ledger.note_sample(now)
        while post and min(post)[0] <= now:
            at, landing = min(post)
            post.remove((at, landing))
            send(ledger.confirm(landing[1], at), at)
        send(ledger.advance(now), now)
        view.in_flight = ledger.in_flight
        for command in policy.decide(now, sample, view):
            if command.action is Action.CAP:
                log.append((now, 0 if command.servers is Priority.LOW else 1, round(command.level * 1410)))
            else:
                log.append((now, str(command.action)))
            send(ledger.submit(command, now), now)
    return log, ledger.counts


@pytest.mark.parametrize("num_series", [2000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_random_series(num_series):
    random = np.random.default_rng(8)
    ways = [
        random.choice(["lands", "lost", "twice"], (200, 60), p=chances).tolist()
        for chances in ([1, 0, 0], [0.8, 0.1, 0.1], [0.2, 0.6, 0.2])
    ]
    kinds, counts = set(), dict.fromkeys(("resent", "late", "given_up"), 0)
    for _ in range(num_series):
        num = int(random.integers(40, 125))
        steps = np.repeat(random.uniform(0.6, 1.08, 13), 10)[:num]
        us = np.clip(steps + random.normal(0, random.choice([0.0, 0.01, 0.05]), num), 0.05, 1.9)
        fresh = random.random(num) > random.choice([0.0, 0.1, 0.6])
        way = ways[random.integers(3)]
        fates = way[random.integers(200)], way[random.integers(200)]
        us, fresh = us.tolist(), fresh.tolist()
        expected = polca(us, fresh, fates)
        log, counted = ours(us, fresh, fates)
        assert log == expected
        kinds |= {entry[1:] for entry in expected}
        counts = {name: count + counted[name] for name, count in counts.items()}
    assert {("brake",), ("release",), (0, 1275), (0, 1110), (1, 1305), (0, 1410), (1, 1410)} <= kinds
    assert counts["resent"] > 1000 and counts["late"] > 1000 and counts["given_up"] > 0
