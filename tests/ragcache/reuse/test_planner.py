import itertools
import math
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nonet.common.errors import InputError
from nonet.ragcache.reuse.modes import DEFAULT_MODE, MODES
from nonet.ragcache.reuse.planner import Planner
from nonet.ragcache.reuse.variants import ReceivedTable
from tests.ragcache.reuse.parts import SYSTEM, Index, make_meta, make_prompt

ABC = make_prompt(("A", 10), ("B", 20), ("C", 30))


def decisions(plan):
    return [part.decision for part in plan.segments]


def done(planner, plan, seed=0):
    """The plan with a probe answered at random."""
    if plan.probe == "question":
        return planner.choose(plan, np.random.default_rng(seed).random((3, len(plan.prompt.ids))))
    if plan.probe == "deviation":
        return plan.with_chosen(np.random.default_rng(seed).permutation(plan.candidates)[: plan.budget])
    return plan


def chain(*names, tokens=None):
    sizes = tokens or {"A": 10, "B": 20, "C": 30}
    return [make_meta(name, names[:n], tokens=sizes[name]) for n, name in enumerate(names)]


@pytest.mark.parametrize("mode", list(MODES))
def test_nothing_stored_computes_everything(mode):
    plan = Planner(Index()).plan(ABC, mode)
    assert decisions(plan) == ["computed"] * 5
    assert plan.active_rows.tolist() == list(range(67))
    assert (plan.probe, plan.budget, plan.computed_tokens) == ("", 0, 67)


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "full"])
def test_the_same_prefix_is_exact_and_only_the_question_is_computed(mode):
    plan = Planner(Index(SYSTEM, *chain("A", "B", "C"))).plan(ABC, mode)
    assert decisions(plan) == ["prefix"] * 4 + ["computed"]
    assert plan.active_rows.tolist() == [64, 65, 66]
    assert plan.prefix_tokens == 64


def test_full_looks_nothing_up():
    plan = Planner(Index(SYSTEM, *chain("A", "B", "C"))).plan(ABC, "full")
    assert len(plan.active_rows) == 67


def test_an_exact_chunk_behind_computed_ones_is_exact_too():
    plan = Planner(Index(*chain("A", "B", "C")[1:])).plan(ABC, "cachecraft")
    assert decisions(plan) == ["computed", "computed", "prefix", "prefix", "computed"]


def test_an_exact_chunk_behind_a_reused_one_is_not_a_prefix():
    store = Index(SYSTEM, make_meta("A", ("X",)), make_meta("B", ("A",), tokens=20))
    plan = Planner(store).plan(ABC, "reuse")
    assert decisions(plan) == ["prefix", "reused", "reused", "computed", "computed"]
    assert plan.segments[2].overlap.cfo == 0.0
    assert plan.reused_tokens == 30
    # Computed instead, A leaves B exact.
    assert decisions(Planner(store).plan(ABC, "prefix")) == ["prefix", "computed", "prefix", "computed", "computed"]


def test_the_papers_rows_are_those_that_leant_most_on_old_neighbours():
    tau = [0, 9, 1, 8, 2, 7, 3, 6, 4, 5]
    store = Index(SYSTEM, make_meta("A", ("X",), tau=tau, cci=0.6))
    plan = Planner(store, alpha=0.5).plan(make_prompt(("A", 10)), "cachecraft")
    # Nothing of X is there: CFO = 0.5 * 0.6 * 1 = 0.3, three rows.
    assert plan.segments[1].rows.tolist() == [4 + 1, 4 + 3, 4 + 5]
    assert plan.segments[1].decision == "repaired"
    assert (plan.repaired_tokens, plan.reused_tokens) == (3, 7)


def test_the_variant_with_the_least_overhead_is_taken():
    good, bad = make_meta("C", ("A",), tokens=30), make_meta("C", ("X",), tokens=30, variant_id="0")
    foreign = make_meta("C", ("A",), tokens=30, system="other", variant_id="00")
    plan = Planner(Index(bad, foreign, good)).plan(ABC, "cachecraft")
    assert plan.segments[3].variant is good
    assert [meta for meta, _ in dict(plan.considered)["id-3"]] == [bad, foreign, good]


def test_of_equal_overheads_own_system_then_symmetric_fit_then_id():
    one, both = make_meta("C", ("A",), tokens=30), make_meta("C", ("A", "B"), tokens=30)
    more = make_prompt(("A", 10), ("B", 20), ("D", 5), ("C", 30))  # neither is an exact prefix
    for ids in (("1", "2"), ("2", "1")):
        met = [replace(variant, variant_id=name) for variant, name in zip((one, both), ids, strict=True)]
        for order in (met, met[::-1]):
            part = Planner(Index(*order)).plan(more, "reuse").segments[4]
            assert part.decision == "reused" and part.variant is met[1]
    store = [
        make_meta("C", ("A",), tokens=30, system="other", variant_id="0"),
        replace(one, variant_id="2"),
        replace(one, variant_id="1"),
    ]
    for order in itertools.permutations(store):
        assert Planner(Index(*order), alpha=0.0).plan(ABC, "reuse").segments[3].variant.variant_id == "1"


def test_of_variants_that_do_not_fit_at_all_that_of_the_same_system_is_taken():
    own, foreign = make_meta("C", ("X",), variant_id="1"), make_meta("C", ("X",), variant_id="0", system="other")
    prompt = make_prompt(("A", 10), ("C", 10))
    for store in ([own, foreign], [foreign, own]):
        assert Planner(Index(*store)).plan(prompt, "reuse").segments[2].variant is own


@pytest.mark.parametrize(
    ("variant", "why"),
    [
        (make_meta("C", ("A",), system="other"), "stored under another system text behind 1 chunk, which is before it"),
        (make_meta("C", system="other"), "stored under another system text with no chunk before it; 2 chunks before"),
        (make_meta("C"), "stored with no chunk before it; 2 chunks before it now are new to it; fit 0.00"),
        (make_meta("C", ("A",)), "stored behind 1 chunk, which is before it now; 1 chunk before it now is new to it;"),
        (make_meta("C", ("X",)), "stored behind 1 chunk, which is not before it now; 2 chunks before it now are new"),
        (make_meta("C", ("B", "A")), "stored behind 2 chunks, 2 of which are before it now in another order; fit 0.00"),
        (make_meta("C", ("A", "X")), "stored behind 2 chunks, 1 of which is before it now; 1 chunk before it now is"),
        (make_meta("C", ("X", "Y")), "stored behind 2 chunks, none of which is before it now; 2 chunks before it now"),
    ],
)
def test_the_reason_names_what_a_variant_does_not_fit(variant, why):
    prompt = make_prompt(("A", 10), ("B", 20), ("C", 10))
    assert Planner(Index(variant)).plan(prompt, "reuse").segments[3].reason.startswith(why)


def test_an_overhead_at_the_threshold_computes_everything():
    store = Index(make_meta("A", ("X",), cci=0.6))
    plan = Planner(store, theta_full=0.6, alpha=1.0).plan(ABC, "cachecraft")
    assert decisions(plan)[1] == "computed"
    assert "60%" in plan.segments[1].reason
    assert decisions(Planner(store, theta_full=0.61, alpha=1.0).plan(ABC, "cachecraft"))[1] == "repaired"


def test_the_second_of_two_equal_chunks_is_computed():
    prompt = make_prompt(("A", 10), ("A", 10), ("B", 20))
    store = Index(SYSTEM, make_meta("A"), make_meta("A", ("X",)), make_meta("B", ("A",), tokens=20))
    plan = Planner(store).plan(prompt, "reuse")
    assert decisions(plan) == ["prefix", "prefix", "computed", "reused", "computed"]


def test_empty_and_one_token_chunks():
    prompt = make_prompt(("E", 0), ("A", 1), ("F", 0), system=0)
    for mode in MODES:
        planner = Planner(Index(make_meta("A", ("X",), tokens=1), make_meta("E", tokens=0)))
        plan = done(planner, planner.plan(prompt, mode, recompute=1.0))
        assert plan.active_rows.tolist() == ([0, 1, 2, 3] if mode != "reuse" else [1, 2, 3])


def test_no_chunks():
    plan = Planner(Index(SYSTEM)).plan(make_prompt(), DEFAULT_MODE)
    assert decisions(plan) == ["prefix", "computed"]


@pytest.mark.parametrize(
    "damaged", [{"exact": False}, {"num_tokens": 9}, {"tau": np.zeros(3, np.float16)}], ids=["repaired", "rows", "tau"]
)
def test_variants_that_cannot_be_right_are_not_used(damaged):
    plan = Planner(Index(replace(make_meta("A"), **damaged))).plan(ABC, "reuse")
    assert decisions(plan)[1] == "computed"
    assert dict(plan.considered)["id-1"] == ()


def test_set_mode_finds_the_order_with_the_longest_stored_prefix():
    # Greedily A first would end after 10 tokens; C, B are 50.
    store = Index(SYSTEM, make_meta("A"), *chain("C", "B"))
    plan = Planner(store).plan(ABC, "set")
    assert [chunk.key for chunk in plan.prompt.chunks] == ["C", "B", "A"]
    assert decisions(plan) == ["prefix", "prefix", "prefix", "computed", "computed"]
    assert plan.prompt.ids[4:34].tolist() == list(range(34, 64))
    assert Planner(Index()).plan(ABC, "set").prompt.ids.tolist() == ABC.ids.tolist()


def test_set_mode_stays_near_the_given_order():
    prompt = make_prompt(("A", 10), ("B", 10))
    store = Index(*chain("A", "B", tokens={"A": 10, "B": 10}), *chain("B", "A", tokens={"A": 10, "B": 10}))
    assert [chunk.key for chunk in Planner(store).plan(prompt, "set").prompt.chunks] == ["A", "B"]


def test_set_mode_ends_with_many_chunks_in_any_order():
    names = [f"{n}" for n in range(12)]

    class All:
        def variants(self, key):
            others = [name for name in names if name != key]
            return [make_meta(key, order) for size in range(3) for order in itertools.permutations(others[:4], size)]

    plan = Planner(All()).plan(make_prompt(*((name, 10) for name in names)), "set")
    assert sorted(chunk.key for chunk in plan.prompt.chunks) == sorted(names)


def test_a_chunk_with_the_text_of_the_system_segment_is_no_start():
    plan = Planner(Index(make_meta("sys", system="other", tokens=4))).plan(ABC, "reuse")
    assert decisions(plan)[0] == "computed"


def test_a_given_budget_is_shared_by_overhead_whatever_alpha_is():
    # B: half of its attention went to A, which is there; C: nothing fits. 0.6 * 0.5 * 20 : 0.6 * 1 * 30 = 1 : 3.
    store = Index(make_meta("B", ("A", "X"), tokens=20, cci=0.6), make_meta("C", ("X",), tokens=30, cci=0.6))
    for alpha in (0.0, 0.5, 1.2):
        plan = Planner(store, alpha=alpha).plan(ABC, "cachecraft", 0.4)
        assert [len(part.rows) for part in plan.segments[2:4]] == [5, 15]


def test_epic_takes_the_head_of_each_chunk():
    store = Index(*(make_meta(name, ("X",), tokens=size) for name, size in (("A", 10), ("B", 20), ("C", 30))))
    plan = Planner(store).plan(ABC, "epic", 0.3)
    assert [part.rows.tolist() for part in plan.segments[1:4]] == [
        list(range(4, 7)),
        list(range(14, 20)),
        list(range(34, 43)),
    ]


def test_h2o_takes_what_received_most_and_says_when_that_is_not_known():
    meta = make_meta("A", ("X",))
    known = ReceivedTable(max_variants=2)
    for variant_id in ("old", meta.variant_id, "new"):
        known.add(variant_id, np.array([0, 5, 0, 4, 0, 3, 0, 0, 0, 0]))
    assert known.get("old") is None
    plan = Planner(Index(meta), received=known.get).plan(ABC, "h2o", 0.2)
    assert plan.segments[1].rows.tolist() == [5, 7]
    plan = Planner(Index(meta)).plan(ABC, "h2o", 0.2)
    assert plan.segments[1].rows.tolist() == [12, 13]
    assert "by tau" in plan.segments[1].reason


def test_random_differs_by_seed_and_repeats():
    store = Index(make_meta("C", ("X",), tokens=30))
    rows = [Planner(store, seed=seed).plan(ABC, "random", 0.3).active_rows.tolist() for seed in (1, 1, 2)]
    assert rows[0] == rows[1] != rows[2]


def test_a_chunk_without_tau_is_left_to_the_deviation_of_its_keys():
    store = Index(make_meta("A", ("X",)), make_meta("C", tokens=30))
    plan = Planner(store).plan(ABC, "cachecraft", 0.5)
    assert (plan.probe, plan.candidates.tolist()) == ("deviation", list(range(34, 64)))
    assert plan.budget + plan.repaired_tokens == 20
    chosen = plan.with_chosen(plan.candidates[: plan.budget])
    assert chosen.repaired_tokens == 20
    assert chosen.segments[1].rows.tolist() == plan.segments[1].rows.tolist()
    assert (chosen.probe, chosen.budget) == ("", 0)
    assert len(chosen.active_rows) == 20 + 4 + 20 + 3


def test_the_question_chooses_in_qsel_and_guided():
    store = Index(make_meta("A", ("X",)), make_meta("C", ("X",), tokens=30, tau=np.ones(30)))
    asked = np.zeros((2, 67))
    asked[:, [5, 40, 41, 42, 43]] = [0.1, 3.0, 2.0, 0.5, 0.4]
    planner = Planner(store, tau_power=0.0, guided_split="request")
    for mode in ("qsel", "guided"):
        plan = planner.plan(ABC, mode, 0.05)
        assert (plan.probe, plan.budget) == ("question", 2)
        assert len(plan.active_rows) == 4 + 20 + 3
        assert planner.choose(plan, asked).segments[3].rows.tolist() == [40, 41]
    kept = Planner(store, tau_power=0.0)
    plan = kept.choose(kept.plan(ABC, "guided", 0.1), asked)
    assert [len(plan.segments[n].rows) for n in (1, 3)] == [1, 3]
    plan = planner.choose(planner.plan(ABC, "guided", 0.1), asked)
    assert [len(plan.segments[n].rows) for n in (1, 3)] == [0, 4]


def test_guided_listens_to_the_later_layers_and_qsel_to_all():
    store = Index(make_meta("C", ("X",), tokens=30, tau=np.ones(30)))
    asked = np.zeros((10, 67))
    asked[:4, 40] = 10.0
    asked[4:, 41] = 1.0
    planner = Planner(store, tau_power=0.0)
    chosen = {
        mode: planner.choose(planner.plan(ABC, mode, 0.03), asked).segments[3].rows for mode in ("qsel", "guided")
    }
    assert chosen["qsel"].tolist() == [40]
    assert chosen["guided"].tolist() == [41]


def test_a_budget_of_nothing_needs_no_probe():
    store = Index(make_meta("C", ("X",), tokens=30))
    for mode in ("qsel", "guided", "blend"):
        plan = Planner(store).plan(ABC, mode, 0.0)
        assert (plan.probe, decisions(plan)[3]) == ("", "reused")


def test_a_variant_that_cannot_be_read_is_computed():
    store = Index(SYSTEM, make_meta("A", ("X",)), make_meta("C", ("X",), tokens=30))
    plan = Planner(store).plan(ABC, "guided", 0.5)
    left = plan.without_variant(3, "gone")
    assert decisions(left)[3] == "computed"
    assert left.budget == plan.budget - plan.segments[3].budget <= 10
    assert (left.without_variant(1, "gone").probe, left.segments[3].reason) == ("", "gone")


def test_rows_that_are_no_candidates_are_refused():
    plan = Planner(Index(make_meta("A", ("X",)))).plan(ABC, "blend", 0.5)
    for rows in ([0], [4, 4]):
        with pytest.raises(InputError, match="candidates"):
            plan.with_chosen(np.array(rows))


@pytest.mark.parametrize(
    "wrong",
    [
        {"alpha": -1},
        {"alpha": math.nan},
        {"theta_full": 0},
        {"theta_full": 2},
        {"tau_power": -1},
        {"asked_from": 1},
        {"overlap": "?"},
        {"guided_split": "even"},
    ],
)
def test_numbers_outside_their_range(wrong):
    with pytest.raises(InputError, match="planner"):
        Planner(Index(), **wrong)


def test_unknown_modes_and_shares():
    with pytest.raises(InputError, match="did you mean 'blend'"):
        Planner(Index()).plan(ABC, "blnd")
    for share in (-0.1, 1.1, math.nan):
        with pytest.raises(InputError, match="recompute"):
            Planner(Index()).plan(ABC, "blend", share)


NAMES = "ABCDE"


@st.composite
def stores_and_prompts(draw):
    sizes = {name: draw(st.integers(0, 25)) for name in NAMES}
    metas = []
    for name in NAMES:
        others = [other for other in NAMES if other != name and sizes[other]]
        for _ in range(draw(st.integers(0, 3))):
            prefix = draw(st.permutations(others))[: draw(st.integers(0, len(others)))]
            inter = [draw(st.sampled_from([0.0, 0.5, 2.0])) for _ in prefix]
            system = draw(st.sampled_from(["sys", "sys", "other"]))
            tau = draw(st.sampled_from([None, np.ones(sizes[name])])) if prefix else None
            metas.append(make_meta(name, prefix, tokens=sizes[name], inter=inter, system=system, tau=tau))
    if draw(st.booleans()):
        metas.append(SYSTEM)
    names = draw(st.lists(st.sampled_from(NAMES), max_size=6))
    return Index(*metas), make_prompt(*((name, sizes[name]) for name in names))


# Drawing takes most of the time, more on a busy machine.
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    stores_and_prompts(),
    st.sampled_from(list(MODES)),
    st.none() | st.sampled_from([0.0, 0.15, 0.5, 1.0]),
    st.sampled_from(["published", "symmetric"]),
    st.sampled_from([0.0, 0.4, 1.0, 3.0]),
)
def test_promises(given_, mode, recompute, rule, alpha):
    store, prompt = given_
    planner = Planner(store, overlap=rule, alpha=alpha)
    first = planner.plan(prompt, mode, recompute)
    plan = done(planner, first)
    rows = plan.active_rows
    assert (np.diff(rows) > 0).all()
    assert (plan.probe, plan.budget) == ("", 0)
    active = set(rows.tolist())
    for part in plan.segments:
        mine = set(range(part.segment.start, part.segment.stop))
        here = active & mine
        assert here == set(part.rows.tolist())
        expected = {"computed": len(mine), "prefix": 0, "reused": 0}.get(part.decision, len(here))
        assert len(here) == expected
        assert (part.variant is None) == (part.decision == "computed")
        assert part.decision != "repaired" or here
        assert part.reason
    assert plan.segments[-1].decision == "computed"
    counts = plan.prefix_tokens, plan.reused_tokens, plan.repaired_tokens, plan.computed_tokens
    assert sum(counts) == len(prompt.ids)
    assert plan.repaired_tokens + plan.computed_tokens == len(rows)
    taken = plan.reused_tokens + plan.repaired_tokens
    fits = [
        (part.overlap.cfo, part.segment.num_tokens) for part in plan.segments if part.decision in ("reused", "repaired")
    ]
    wanted = 0
    if MODES[mode].choice != "none":
        wanted = (
            math.ceil(recompute * taken - 1e-9)
            if recompute is not None
            else sum(math.ceil(cfo * size - 1e-9) for cfo, size in fits)
        )
    assert plan.repaired_tokens == wanted == first.budget + first.repaired_tokens
    if mode == "cachecraft" and recompute is None and not first.probe:
        assert all(
            len(part.rows) == math.ceil(part.overlap.cfo * part.segment.num_tokens - 1e-9)
            for part in plan.segments
            if part.decision in ("reused", "repaired")
        )


@given(stores_and_prompts())
def test_prefixes_are_what_a_walk_over_all_stored_orders_finds(given_):
    store, prompt = given_
    plan = Planner(store).plan(prompt, "prefix")
    stored = {(meta.chunk_key, meta.prefix_keys) for meta in store.metas if meta.system_key == "sys"}
    before = ()
    for part in plan.segments[1:-1]:
        key, size = part.segment.key, part.segment.num_tokens
        expected = size > 0 and key not in before and (key, before) in stored
        assert (part.decision == "prefix") == expected
        before += (key,) * (size > 0)


def test_planning_takes_less_than_a_millisecond():
    names = [f"{n}" for n in range(5)]
    metas = [
        make_meta(name, [o for o in names[k:] + names[:k] if o != name], tokens=500, variant_id=f"{name}{k}")
        for name in names
        for k in range(5)
    ]
    tables = {name: [meta for meta in metas if meta.chunk_key == name] for name in names}

    class Table:
        def variants(self, key):
            return tables.get(key, [])

    prompt = make_prompt(*((name, 500) for name in names))
    planner = Planner(Table())
    times = []
    for _ in range(50):
        started = time.perf_counter()
        planner.plan(prompt, "cachecraft")
        times.append(time.perf_counter() - started)
    assert min(times) < 1e-3
