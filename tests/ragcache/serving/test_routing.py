"""The router: bounds that hold for every sequence of requests, homes of chunks, and what it gains on a trace."""

from collections import Counter, OrderedDict, deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nonet.common.errors import InputError
from nonet.ragcache.bench.eviction import skewed_trace
from nonet.ragcache.serving.routing import ChunkHint, RequestHint, Router, RoutingConfig, RoutingStats

NAMES = ("a", "b", "c", "d")


def make(names=NAMES, **config):
    router = Router(RoutingConfig(**config))
    router.set_replicas(names)
    return router


def hint(*keys, tokens=300, other=10):
    return RequestHint(tuple(ChunkHint(str(key), tokens) for key in keys), other)


events = st.lists(
    st.one_of(
        st.tuples(st.just("request"), st.lists(st.tuples(st.integers(0, 6), st.integers(1, 900)), max_size=5)),
        st.tuples(st.just("end"), st.integers(0, 30)),
        st.tuples(st.just("replicas"), st.sets(st.sampled_from(NAMES), min_size=1)),
        st.tuples(st.just("report"), st.sampled_from(NAMES)),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(events, st.floats(1, 3), st.floats(0, 3000))
def test_load_stays_bounded_whatever_happens(events, max_ratio, slack_tokens):
    router = make(max_ratio=max_ratio, slack_tokens=slack_tokens)
    expected = dict.fromkeys(NAMES, 0.0)
    running = []
    for kind, value in events:
        if kind == "request":
            wanted = RequestHint(tuple(ChunkHint(str(key), tokens) for key, tokens in value), 10)
            choice = router.choose(wanted)
            assert sorted(choice.ranking) == sorted(router.replicas) and choice.ranking[0] == choice.replica
            mean = sum(expected.values()) / len(expected)
            assert expected[choice.replica] <= max_ratio * mean + slack_tokens + 1e-6
            load = router.sent(choice.replica, wanted)
            assert load == pytest.approx(choice.load_tokens) and load >= 10
            expected[choice.replica] += load
            running.append((choice.replica, load))
        elif kind == "end" and running:
            name, load = running.pop(value % len(running))
            router.done(name, load)
            if name in expected:
                expected[name] -= load
        elif kind == "replicas":
            router.set_replicas(sorted(value))
            expected = {name: expected.get(name, 0.0) for name in value}
            running = [(name, load) for name, load in running if name in expected]
        elif kind == "report":
            router.reported(value, 1000, [("1", 400), ("2", 700)])
        assert router.loads == pytest.approx(expected, abs=1e-6)


def test_one_popular_set_of_chunks_starves_nobody():
    router = make()
    given_to = Counter()
    for _ in range(200):
        wanted = hint("x", "y", "z")
        name = router.choose(wanted).replica
        router.sent(name, wanted)  # never done: the load only grows
        given_to[name] += 1
    assert min(given_to.values()) >= 30
    loads = router.loads.values()
    assert max(loads) <= 1.25 * sum(loads) / 4 + 2048 + 910


def test_when_nobody_has_anything_to_do_the_holder_gets_it_however_often():
    router = make()
    first = router.choose(hint("x", "y"))
    for _ in range(5):
        wanted = hint("y", "x")
        assert router.choose(wanted).replica == first.replica
        router.done(first.replica, router.sent(first.replica, wanted))
    assert router.choose(hint("x", "y")).known_tokens == 600
    assert router.stats == RoutingStats(4, 5, chunk_tokens=5 * 600, known_tokens=4 * 600)


def test_requests_without_chunks_go_round():
    router = make()
    given_to = Counter()
    for _ in range(400):
        name = router.choose(hint()).replica
        router.done(name, router.sent(name, hint()))
        given_to[name] += 1
    assert min(given_to.values()) > 60


def test_unknown_chunks_have_a_home_that_all_routers_agree_on():
    homes = {key: make().choose(hint(key)).replica for key in range(2000)}
    assert homes == {key: make(NAMES[::-1]).choose(hint(key)).replica for key in range(2000)}
    assert min(Counter(homes.values()).values()) > 430  # of 500
    without = {key: make(NAMES[:3]).choose(hint(key)).replica for key in range(2000)}
    assert {key for key in homes if homes[key] != without[key]} == {key for key in homes if homes[key] == "d"}


def test_the_most_tokens_in_memory_win_over_the_most_chunks():
    router = make(("a", "b"))
    router.reported("a", 10_000, [("long", 900)])
    router.reported("b", 10_000, [("short", 100), ("shorter", 100)])
    wanted = RequestHint((ChunkHint("short", 100), ChunkHint("long", 900), ChunkHint("shorter", 100)), 10)
    choice = router.choose(wanted)
    assert (choice.replica, choice.known_tokens) == ("a", 900)
    assert choice.load_tokens == pytest.approx(10 + 200 + 0.2 * 900)
    assert router.choose(wanted, among={"b"}).replica == "b"


def test_a_report_replaces_what_was_believed_except_what_was_just_sent():
    router = make(("a",))
    for key in ("old", "older"):
        router.sent("a", hint(key))
    for _ in range(2):  # the second report is younger than all that was sent before the first
        router.reported("a", 5000, [("told", 300)])
    router.sent("a", hint("new"))
    router.reported("a", 5000, [("told", 300)])

    def known(key):
        return router.choose(hint(key)).known_tokens > 0

    assert [known(key) for key in ("old", "older", "told", "new")] == [False, False, True, True]
    router.reported("a", 350, [("told", 300), ("later", 300)])
    assert [known(key) for key in ("told", "later")] == [False, False]  # "new" alone fits beside nothing
    router.set_replicas(["b"])
    router.set_replicas(["a", "b"])
    assert not known("new")


def test_without_a_replica_it_says_so():
    with pytest.raises(InputError, match="no replica is running"):
        Router().choose(hint("x"))
    router = make()
    for name in NAMES:
        router.forget(name)
    router.forget("never there")
    router.done("a", 5.0)
    assert router.sent("a", hint("x")) == 0.0
    with pytest.raises(InputError):
        router.choose(hint("x"))


@pytest.mark.parametrize("wrong", [{"max_ratio": 0.9}, {"slack_tokens": -1}, {"known_cost": 2}, {"load_weight": -1}])
def test_settings_that_would_starve_somebody_are_refused(wrong):
    with pytest.raises(InputError):
        RoutingConfig(**wrong)


def hit_share(trace, pick, capacity, in_flight=8):
    """Share of chunk tokens that are in the replica's memory, which is an LRU of its own here; requests by replica."""
    router = make(default_capacity_tokens=capacity)
    memories = {name: OrderedDict() for name in NAMES}
    running, given_to, hits, total = deque(), Counter(), 0, 0
    for number, request in enumerate(trace.requests):
        wanted = RequestHint(tuple(ChunkHint(str(chunk), trace.num_tokens[chunk]) for chunk in request), 100)
        name = pick(router, wanted, number)
        given_to[name] += 1
        running.append((name, router.sent(name, wanted)))
        if len(running) > in_flight:
            router.done(*running.popleft())
        memory = memories[name]
        for chunk in request:
            tokens = trace.num_tokens[chunk]
            total += tokens
            hits += tokens if chunk in memory else 0
            memory[chunk] = tokens
            memory.move_to_end(chunk)
            while sum(memory.values()) > capacity:
                memory.popitem(last=False)
    return hits / total, given_to


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_finds_more_in_memory_than_round_robin_at_even_load(seed):
    trace = skewed_trace(1000, seed=seed)
    capacity = trace.all_tokens // 10
    routed, given_to = hit_share(trace, lambda router, wanted, _: router.choose(wanted).replica, capacity)
    in_turn, _ = hit_share(trace, lambda router, wanted, number: NAMES[number % 4], capacity)
    print(f"seed {seed}: {routed:.3f} of the chunk tokens in memory, in turn {in_turn:.3f}")
    assert routed >= 1.1 * in_turn
    assert 1 - routed <= 0.85 * (1 - in_turn)
    assert max(given_to.values()) <= 1.25 * 250
