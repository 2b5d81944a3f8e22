"""What the bench of the planner measures, in small; theory is worked out here anew."""

from math import comb

import numpy as np

from nonet.power.bench import planner


def test_search_equals_scan_on_random_scenarios():
    for seed in (0, 1):
        searched, scanned = planner.both_answers(planner.random_scenario(seed, hours=0.3))
        assert dict(searched.by_seed) == dict(scanned.by_seed) and len(scanned.steps) == 21


def test_intervals_cover_known_limits():
    assert planner.ci_covered(100, seed=3) >= 90


def test_overload_is_the_binomial_tail():
    for added, share, z in planner.overload_z(2000):
        n = 20 + added
        tail = sum(comb(n, k) * 0.4**k * 0.6 ** (n - k) for k in range(14, n + 1))
        assert abs(share - tail) <= 3 * np.sqrt(tail * (1 - tail) / 2000) + 1e-12
        assert abs(z) <= 3
