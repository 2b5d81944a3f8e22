"""A plain simulator, the oracle of the compiled engines: a heap of events, lists of pods, nothing else (section A6.1).

It is written from the specification and from the docstrings of `policies/base.py`, slow and without tables or
kernels. It takes the same policies, since rules are data; what they mean is told here a second time.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import count
from typing import Any

import numpy as np

from nonet.coldstart.bench.plain_view import PlainView
from nonet.coldstart.simulating.calls import Workload
from nonet.coldstart.simulating.engine import policy_of, prepare
from nonet.coldstart.simulating.platform import Platform
from nonet.coldstart.simulating.policies.base import Eviction, IdleRule, Orders, Policy, Prewarm, RulePolicy

READY, FINISH, EXPIRE, TICK, PREWARM, PUT_OFF, ARRIVAL = 0.0, 1.0, 2.0, 3.0, 4.0, 4.5, 5.0
MINUTE_US = 60_000_000
FOREVER_US = 1 << 60
_MASK, _GOLDEN = (1 << 64) - 1, 0x9E3779B97F4A7C15


def _finalise(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def mix64(a: int, b: int, c: int) -> int:
    """SplitMix64's finaliser folded over three integers, in Python integers."""
    h = _finalise(a & _MASK)
    h = _finalise(h ^ _finalise((b + _GOLDEN) & _MASK))
    return _finalise(h ^ _finalise((c + 2 * _GOLDEN) & _MASK))


def histogram_windows(idle_us: Sequence[int]) -> tuple[int, int]:
    """(pre-warm, keep-alive) from all idle times of a function, oldest first (A6.3)."""
    bins = sorted(t // MINUTE_US for t in idle_us if t < 240 * MINUTE_US)
    if idle_us and 2 * (len(idle_us) - len(bins)) >= len(idle_us):
        guess = _autoregression([float(t) for t in idle_us[-10:]])
        return int(0.85 * guess), int(0.30 * guess)
    counts, mean = Counter(bins), Fraction(len(bins), 240)
    if not bins or sum((counts[b] - mean) ** 2 for b in range(240)) / 240 < 4 * mean**2:
        return 0, 240 * MINUTE_US
    head, tail = (bins[-(-p * len(bins) // 100) - 1] for p in (5, 99))
    prewarm_us = 9 * head * MINUTE_US // 10
    return prewarm_us, 11 * (tail + 1) * MINUTE_US // 10 - prewarm_us


def _autoregression(times: list[float]) -> float:
    before, after = times[:-1], times[1:]
    if len(times) < 3:
        return sum(times) / len(times)
    mean_before, mean_after = (sum(times) - times[-1]) / len(before), (sum(times) - times[0]) / len(after)
    spread = sum((x - mean_before) * (x - mean_before) for x in before)
    if not spread:
        return sum(times) / len(times)
    slope = sum((x - mean_before) * (y - mean_after) for x, y in zip(before, after, strict=True)) / spread
    return min(max(mean_after + slope * (times[-1] - mean_before), 0.0), 2 * max(times))


@dataclass
class Request:
    """A call: its number, times, function, and whether it started a pod that it is not bound to."""

    index: int
    arrive_us: int
    run_us: int
    f: int
    own: bool = False
    asked: bool = False
    extra_us: int = 0
    called: int = -1


@dataclass(eq=False)
class Pod:
    """A pod from its creation on; `end_us` None while it lives."""

    f: int
    create_us: int
    ready_us: int
    origin: str
    bound: Request | None = None
    up: bool = False
    idle: bool = False
    inflight: int = 0
    uses: int = 0
    since_us: int = 0
    deadline_us: int = 0
    until_us: int = -FOREVER_US
    hold_us: int = -FOREVER_US
    last_us: int | None = None
    end_us: int | None = None
    seen: int = 0
    order: int = 0
    worth: float = 0.0


@dataclass
class PlainSimulator:
    """Simulates when made; read the fields.

    Attributes:
        outcomes: by number of the request, (kind, begin of execution).
        pods: all pods in order of creation.
        idle_us, busy_us: by function, within the window.
        waits: of all requests served, in the order in which they began to run.
        num_refused, num_put_off: pre-warms that did not fit, cold starts put off.
        cold_at: by function, numbers of pods started.
    """

    workload: Workload
    policy: str | RulePolicy | Policy
    platform: Platform = field(default_factory=Platform)
    seed: int = 0

    def __post_init__(self) -> None:
        rule_policy, self.user = policy_of(self.policy)
        self.rule_policy = rule_policy
        self.setup = prepare(self.workload, rule_policy, self.platform, self.seed)
        rules, functions = self.setup.rules, self.setup.functions
        self.start_us, self.end_us, num = self.workload.start_us, self.workload.end_us, len(functions)
        self.rules, self.memory = rules, functions.memory_mb.tolist()
        self.keep, self.limit = rules.keep_alive_us.copy(), rules.concurrency.copy()
        self.heap: list[tuple[int, float, int, Callable[..., None], tuple[Any, ...]]] = []
        self.numbers, self.clock, self.now_us = count(), 0.0, self.start_us
        self.pods: list[Pod] = []
        self.outcomes: dict[int, tuple[str, int]] = {}
        self.queue: list[list[Request]] = [[] for _ in range(num)]
        self.idle_times: list[list[int]] = [[] for _ in range(num)]
        self.reload: dict[int, tuple[int, int]] = {}
        self.idle_us, self.busy_us = [0] * num, [0] * num
        self.cold_at, self.arrived, self.put_off = Counter[int](), Counter[int](), Counter[int]()
        self.last_arrive, self.last_end, self.active_us = [-1] * num, [-1] * num, [0] * num
        self.active_since = [self.start_us] * num
        self.minute, self.minute_starts, self.num_refused, self.num_put_off, self.num_missed = -1, 0, 0, 0, 0
        self.stock = [[[self.start_us] * int(n) for n in row] for row in rules.pools.target] if rules.pools else []
        self.waits: list[int] = []
        self.pool_idle_us = [[0] * len(row) for row in self.stock]
        self.taken = [[0] * (len(row) + 1) for row in self.stock]
        self.view = PlainView(self)
        self._run()

    def _run(self) -> None:
        calls = [block for block in self.workload.blocks() if len(block)]
        columns = (
            [np.concatenate([getattr(c, name) for c in calls]) for name in ("arrive_us", "run_us", "function")]
            if calls
            else []
        )
        self.calls = [Request(k, int(t), int(run), int(f)) for k, (t, run, f) in enumerate(zip(*columns, strict=True))]
        for request in self.calls:
            request.called = request.f
            self.push(request.arrive_us, ARRIVAL, self.arrive, request)
        if self.rule_policy.tick_us is not None:
            for at in range(self.start_us, self.end_us + 1, self.rule_policy.tick_us):
                self.push(at, TICK, self.tick, at)
        while self.heap:
            self.now_us, _, _, handle, what = heapq.heappop(self.heap)
            handle(*what)
        for pod in self.pods:
            if pod.end_us is None:
                self.delete(pod, FOREVER_US)
        for c, row in enumerate(self.stock):
            for stage, times in enumerate(row):
                self.pool_idle_us[c][stage] += sum(self.end_us - self.cut(t) for t in times)

    def push(self, time_us: int, kind: float, handle: Callable[..., None], *what: Any) -> None:
        """Add an event."""
        heapq.heappush(self.heap, (int(time_us), kind, next(self.numbers), handle, what))

    def cut(self, time_us: int) -> int:
        """The moment of the window nearest to a time."""
        return min(max(time_us, self.start_us), self.end_us)

    def live(self, f: int) -> list[Pod]:
        """Pods of f that are there, oldest first."""
        return [p for p in self.pods if p.f == f and p.end_us is None]

    def free(self, f: int) -> list[Pod]:
        """Ready pods with a free slot, most recently used first."""
        return sorted((p for p in self.live(f) if p.up and p.inflight < self.limit[f]), key=lambda p: -p.seen)

    def active(self, f: int) -> int:
        """Requests of f that run, are bound, wait or are put off."""
        return len(self.queue[f]) + self.put_off[f] + sum(p.inflight + (p.bound is not None) for p in self.live(f))

    def integrate(self, f: int) -> None:
        """Before the number of active requests of f changes."""
        self.active_us[f] += self.active(f) * (self.now_us - self.active_since[f])
        self.active_since[f] = self.now_us

    def value(self, pod: Pod) -> float:
        """Priority of a pod among the victims; see `Eviction`."""
        rules, f = self.rules, pod.f
        size, cost, uses = max(self.memory[f], 1), float(rules.eviction_cost_us[f]), sum(p.uses for p in self.live(f))
        return {
            Eviction.LRU: 0.0,
            Eviction.LFU: float(uses),
            Eviction.SIZE: -float(size),
            Eviction.GREEDY_DUAL: self.clock + uses * cost / size,
            Eviction.LANDLORD: self.clock + cost / size,
            Eviction.CIDRE: self.clock + uses * cost / (size * len(self.live(f))),
        }[rules.eviction]

    def touch(self, pod: Pod) -> None:
        """A pod was used."""
        pod.seen = pod.order = next(self.numbers)
        pod.worth = self.value(pod)

    def delete(self, pod: Pod, time_us: int) -> None:
        """An idle pod goes."""
        self.idle_us[pod.f] += self.cut(time_us) - self.cut(pod.since_us)
        pod.end_us = time_us

    def fits(self, f: int, may_evict: bool) -> bool:
        """Whether a pod of f fits, after evictions where they help."""
        cap = self.rules.memory_cap_mb
        while cap is not None and self.used() + self.memory[f] > cap:
            idle = [p for p in self.pods if p.end_us is None and p.idle]
            if not may_evict or self.used() - sum(self.memory[p.f] for p in idle) + self.memory[f] > cap:
                return False
            victim = min(idle, key=lambda p: (p.worth, p.order))
            self.clock = victim.worth
            self.delete(victim, self.now_us)
        return True

    def used(self) -> int:
        """Memory of all pods, MB."""
        return sum(self.memory[p.f] for p in self.pods if p.end_us is None)

    def start(self, f: int, origin: str, bound: Request | None = None) -> Pod | None:
        """Start a pod; None when there is no room."""
        if not self.fits(f, origin != "prewarm"):
            return None
        cold, k = self.setup.cold_times, self.cold_at[f]
        first, end = int(cold.at[f]), int(cold.at[f + 1])
        sample = first + mix64(self.seed, f, k) % (end - first)
        self.cold_at[f] += 1
        allocation_us = self.allocate(f, int(cold.allocation_us[sample]))
        ready_us = self.now_us + allocation_us + int(cold.rest_us[sample])
        pod = Pod(f, self.now_us, ready_us, origin, bound)
        self.pods.append(pod)
        self.push(ready_us, READY, self.ready, pod)
        return pod

    def allocate(self, f: int, own_us: int) -> int:
        """Time to find or make a pod."""
        pools, c = self.rules.pools, int(self.setup.functions.pool_class[f])
        if pools is None or c < 0:
            return own_us
        for stage, times in enumerate(self.stock[c]):
            if times and min(times) <= self.now_us:
                self.pool_idle_us[c][stage] += self.cut(self.now_us) - self.cut(min(times))
                times.remove(min(times))
                times.append(self.now_us + int(pools.replenish_us[c]))
                self.taken[c][stage] += 1
                return int(pools.latency_us[c][stage])
        self.taken[c][-1] += 1
        return int(pools.scratch_us[c])

    def begin(self, pod: Pod, request: Request, kind: str) -> None:
        """A request begins to run."""
        now = self.now_us
        if pod.idle:
            self.idle_us[pod.f] += self.cut(now) - self.cut(pod.since_us)
            pod.idle, pod.since_us = False, now
        pod.inflight, pod.uses = pod.inflight + 1, pod.uses + 1
        self.touch(pod)
        start, slowdown, run_us = now, float(self.rules.slowdown[pod.f]), request.run_us
        if kind != "cold":
            start += self.platform.warm_overhead_us
        if slowdown and pod.inflight > 1:
            run_us = int(run_us * (1.0 + slowdown * (pod.inflight - 1)))
        self.outcomes[request.index] = (kind, start)
        self.waits.append(start - request.arrive_us + request.extra_us)
        self.num_missed += self.waits[-1] > self.rules.deadline_us[pod.f]
        self.push(start + run_us, FINISH, self.finish, pod)

    def rest(self, pod: Pod) -> None:
        """A pod without requests falls idle."""
        now, f = self.now_us, pod.f
        self.busy_us[f] += self.cut(now) - self.cut(pod.since_us)
        if pod.origin == "prewarm" and not pod.uses:
            deadline = max(now, pod.until_us)
        elif self.rules.idle_rule == IdleRule.HISTOGRAM:
            deadline = now + self.histogram_keep_us(f)
        elif self.user is not None:
            deadline = now + int(self.user.on_idle(f, now, self.view))
        else:
            deadline = now + int(self.keep[f])
        pod.idle, pod.since_us, pod.order = True, now, next(self.numbers)
        self.keep_until(pod, max(deadline, pod.hold_us))

    def histogram_keep_us(self, f: int) -> int:
        """Keep-alive by the hybrid histogram; a reload may be noted."""
        prewarm_us, keep_us = histogram_windows(self.idle_times[f])
        if not prewarm_us or self.active(f):
            return prewarm_us + keep_us
        self.reload[f] = (self.now_us + prewarm_us, self.now_us + prewarm_us + keep_us)
        self.push(self.reload[f][0], PREWARM, self.load_again, f)
        return 0

    def keep_until(self, pod: Pod, deadline_us: int) -> None:
        """Give an idle pod a deadline."""
        pod.deadline_us = deadline_us
        self.push(deadline_us + 1, EXPIRE, self.expire, pod)

    def expire(self, pod: Pod) -> None:
        """A deadline may have passed."""
        if pod.end_us is None and pod.idle and pod.deadline_us + 1 == self.now_us <= self.end_us:
            self.delete(pod, pod.deadline_us)

    def ready(self, pod: Pod) -> None:
        """A pod is ready."""
        f, pod.up, pod.since_us = pod.f, True, self.now_us
        if pod.bound:
            request, pod.bound = pod.bound, None
            self.begin(pod, request, "cold")
        while self.queue[f] and pod.inflight < self.limit[f]:
            request = self.queue[f].pop(0)
            self.begin(pod, request, "cold" if request.own else "piggybacked")
        if not pod.inflight:
            self.touch(pod)
            self.rest(pod)

    def finish(self, pod: Pod) -> None:
        """A request has ended."""
        f = pod.f
        self.integrate(f)
        pod.inflight -= 1
        pod.last_us = self.last_end[f] = self.now_us
        if pod.inflight < self.limit[f]:
            pod.seen = next(self.numbers)
            if self.queue[f]:
                self.begin(pod, self.queue[f].pop(0), "delayed")
        if not pod.inflight:
            self.rest(pod)

    def arrive(self, request: Request) -> None:
        """A request arrives."""
        now, f = self.now_us, request.f
        if self.user is not None and not request.asked:
            request.asked = True
            self.view.now_us = now
            self.give(self.user.on_arrival(f, now, self.view))
            heapq.heappush(self.heap, (now, ARRIVAL, -1, self.arrive, (request,)))
            return
        request.extra_us = int(self.rules.route_extra_us[f])
        f = request.f = int(self.rules.route[f])
        self.arrived[f] += 1
        self.last_arrive[f] = now
        self.reload.pop(f, None)
        self.integrate(f)
        if self.last_end[f] >= 0 and not self.active(f):
            self.idle_times[f].append(now - self.last_end[f])
        chains = self.rules.chains
        if chains:
            for k in range(chains.at[f], chains.at[f + 1]):
                at = now + int(chains.delay_us[k])
                self.give([Prewarm(int(chains.next[k]), at, at + int(chains.hold_us[k]))])
        self.serve(request, "warm")

    def pick(self, f: int) -> Pod | None:
        """The pod that serves."""
        free, rule = self.free(f), self.rules.pick
        if not free or rule == "mru":
            return free[0] if free else None
        if rule == "least_loaded":
            return min(free, key=lambda p: p.inflight)
        ages = sorted(free, key=self.pods.index)
        return ages[0] if rule == "oldest" else ages[-1]

    def serve(self, request: Request, kind: str) -> None:
        """Find a pod for a request, or make it wait, or start one, or drop it."""
        f, scale = request.f, self.rules.scale_rule
        pod = self.pick(f)
        if pod:
            self.begin(pod, request, kind)
            return
        spare = sum(int(self.limit[f]) - (p.bound is not None) for p in self.live(f) if not p.up) - len(self.queue[f])
        if (scale in ("piggyback", "race") and spare > 0) or (scale == "wait" and self.live(f)):
            self.queue[f].append(request)
        elif kind == "warm" and self.shave(request):
            return
        elif scale == "race" and self.live(f):
            request.own = self.start(f, "race") is not None
            self.queue[f].append(request)
        elif not self.start(f, "demand", request):
            self.outcomes[request.index] = ("dropped", -1)

    def shave(self, request: Request) -> bool:
        """Put a cold start off in a minute that has had many."""
        minute, f = (self.now_us - self.start_us) // MINUTE_US, request.f
        self.minute_starts = self.minute_starts + 1 if minute == self.minute else 1
        self.minute = minute
        delay_us = int(self.rules.delay_us[f])
        if not delay_us or self.minute_starts <= self.rules.delay_threshold:
            return False
        self.put_off[f] += 1
        self.num_put_off += 1
        until = min(self.start_us + (minute + 1) * MINUTE_US, self.now_us + delay_us)
        self.push(until, PUT_OFF, self.arrive_late, request)
        return True

    def arrive_late(self, request: Request) -> None:
        """A request that was put off."""
        self.integrate(request.f)
        self.put_off[request.f] -= 1
        self.serve(request, "delayed")

    def tick(self, at_us: int) -> None:
        """Ask the policy."""
        for f in range(len(self.memory)):
            self.integrate(f)
        self.view.begin_tick(at_us)
        self.give(self.rule_policy.on_tick(at_us, self.view))
        self.view.last_us = at_us

    def give(self, orders: Orders | Sequence[Prewarm] | None) -> None:
        """Note the orders of a policy."""
        rows = orders if isinstance(orders, Orders) else Orders.of(orders or [])
        columns = (rows.function, rows.at_us, rows.until_us, rows.pods, rows.hold)
        for f, at_us, until_us, pods, hold in zip(*(c.tolist() for c in columns), strict=True):
            if max(at_us, self.now_us) <= self.end_us and pods > 0:
                self.push(max(at_us, self.now_us), PREWARM, self.hold if hold else self.have_free, f, until_us, pods)

    def load_again(self, f: int) -> None:
        """The histogram's pre-warm."""
        if self.reload.get(f, (None,))[0] == self.now_us <= self.end_us:
            until_us = self.reload.pop(f)[1]
            if not self.live(f):
                self.prewarm(f, until_us)

    def prewarm(self, f: int, until_us: int) -> None:
        """Start a pod for nobody."""
        pod = self.start(f, "prewarm")
        if pod is None:
            self.num_refused += 1
        else:
            pod.until_us = until_us

    def extend(self, pod: Pod, until_us: int) -> None:
        """An idle pod stays until then at least."""
        if pod.idle and pod.deadline_us < until_us:
            self.keep_until(pod, until_us)

    def hold(self, f: int, until_us: int, pods: int) -> None:
        """See `Prewarm`, hold."""
        for _ in range(pods - len(self.live(f))):
            self.prewarm(f, until_us)
        for pod in self.live(f)[:pods]:
            pod.hold_us = max(pod.hold_us, until_us)
            self.extend(pod, until_us)

    def have_free(self, f: int, until_us: int, pods: int) -> None:
        """See `Prewarm`, not hold."""
        free = self.free(f)[:pods]
        for pod in free:
            self.extend(pod, until_us)
        starting = [p for p in self.live(f) if not p.up and p.bound is None][: pods - len(free)]
        for pod in starting:
            pod.until_us = max(pod.until_us, until_us)
        for _ in range(pods - len(free) - len(starting)):
            self.prewarm(f, until_us)
