import math

import numpy as np
import pytest

from nonet.common.errors import InputError
from nonet.ragcache.models.toy import toy_decoder, toy_model
from nonet.ragcache.reuse.abstain import EXPOSURE_FLOOR, Guard, calibrated_guard, exposure
from nonet.ragcache.reuse.planner import Planner
from nonet.ragcache.scheduling.engine import Engine
from nonet.ragcache.scheduling.settings import EngineConfig
from nonet.ragcache.store.chunk_store import ChunkStore
from tests.ragcache.reuse.parts import SYSTEM, Index, make_meta, make_prompt

PROMPT = make_prompt(("A", 10), ("B", 20), ("C", 30))
STORE = Index(SYSTEM, make_meta("A"), make_meta("C", ("A", "X"), tokens=30, cci=0.6))


def test_exposure_by_hand():
    # C: half of its attention went to A; of 30 tokens before it now, A's 10 were there: fit 1/2 * 1/3.
    plan = Planner(STORE).plan(PROMPT, "cachecraft", 0.2)
    assert exposure(plan) == pytest.approx((30 - 6) * 0.6 * (1 - 1 / 6) / 64)


def test_rows_that_a_probe_will_choose_count_as_repaired():
    chosen = Planner(STORE).plan(PROMPT, "cachecraft", 0.2)
    assert exposure(Planner(STORE).plan(PROMPT, "guided", 0.2)) == pytest.approx(exposure(chosen))


def test_exact_plans_are_not_exposed():
    plan = Planner(Index(SYSTEM, make_meta("A"))).plan(PROMPT, "guided")
    assert exposure(plan) == 0.0
    assert Guard(0.0, 100.0).checked(plan).damage_bound == 0.0
    assert exposure(Planner(Index()).plan(make_prompt(system=0))) == 0.0


def test_above_the_limit_everything_but_exact_prefixes_is_computed():
    bound = 2.0 * (exposure(Planner(STORE).plan(PROMPT, "guided")) + EXPOSURE_FLOOR)
    served = Planner(STORE, guard=Guard(bound * 1.01, 2.0)).plan(PROMPT, "guided")
    assert (served.segments[3].decision, served.probe) == ("reused", "question")
    assert served.damage_bound == pytest.approx(bound) and not served.abstained
    refused = Planner(STORE, guard=Guard(bound * 0.99, 2.0)).plan(PROMPT, "guided")
    assert [part.decision for part in refused.segments] == ["prefix", "prefix", "computed", "computed", "computed"]
    assert (refused.probe, refused.budget, len(refused.active_rows)) == ("", 0, 53)
    assert refused.damage_bound == pytest.approx(bound) and refused.abstained
    assert refused.segments[3].reason.startswith("abstained")


def test_repairing_all_of_it_is_never_refused_for_more_than_the_floor():
    plan = Planner(STORE, guard=Guard(0.5, 10.0)).plan(PROMPT, "guided", 1.0)
    assert plan.damage_bound == pytest.approx(10 * EXPOSURE_FLOOR)


@pytest.mark.parametrize("miss", [0.05, 0.1, 0.3])
def test_the_bound_holds_as_often_as_it_says(miss):
    draws = np.random.default_rng(1)
    missed, refused_or_fine = [], []
    for _ in range(400):
        x = draws.uniform(0, 0.5, 60)
        y = x * draws.lognormal(0, 1, 60)
        guard = calibrated_guard(x[:59], y[:59], limit=0.3, miss=miss)
        bound = guard.factor * (x[59] + EXPOSURE_FLOOR)
        missed.append(y[59] > bound)
        refused_or_fine.append(bound > 0.3 or y[59] <= 0.3)
    slack = 3 * math.sqrt(miss * (1 - miss) / 400)
    assert miss - 1 / 60 - slack <= np.mean(missed) <= miss + slack
    assert 1 - np.mean(refused_or_fine) <= miss + slack


def test_too_few_requests_and_wrong_values():
    with pytest.raises(InputError, match="at least 19 requests, not 18"):
        calibrated_guard([0.1] * 18, [0.1] * 18, limit=1, miss=0.05)
    assert calibrated_guard([0.1] * 19, [*[0.1] * 18, 9.0], limit=1, miss=0.05).factor == pytest.approx(9 / 0.11)
    assert calibrated_guard([0.1] * 9, [-1e-9] * 9, limit=1).factor == 0.0
    for x, y in (([0.1], [0.1, 0.2]), ([-1.0] * 9, [0.1] * 9), ([0.1] * 9, [math.nan] * 9), ([0.1] * 9, [-1.0] * 9)):
        with pytest.raises(InputError, match="guard"):
            calibrated_guard(x, y, limit=1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"limit": -1},
        {"limit": math.nan},
        {"factor": -1},
        {"factor": math.nan},
        {"factor": math.inf},
        {"miss": 0},
        {"miss": 5},
        {"miss": math.nan},
        {"num_calibrated": -1},
    ],
)
def test_a_guard_has_numbers_within_their_ranges(wrong):
    with pytest.raises(InputError, match="guard: "):
        Guard(**{"limit": 1, "factor": 1, **wrong})


def test_a_guard_is_for_the_model_that_it_was_measured_on():
    model = toy_model()
    measured = calibrated_guard([0.1] * 9, [0.2] * 9, limit=1, fingerprint=model.fingerprint)
    other = toy_model(toy_decoder(seed=1))
    for guard in (measured, Guard(1, 1)):
        Engine(model, ChunkStore.from_spec("ram:10MB"), EngineConfig(guard=guard)).stop(0)
    Engine(other, ChunkStore.from_spec("ram:10MB"), EngineConfig(guard=Guard(1, 1))).stop(0)
    with pytest.raises(InputError, match="measured on another model; serve that one, or calibrate this one"):
        Engine(other, ChunkStore.from_spec("ram:10MB"), EngineConfig(guard=measured))
