"""What a policy is, in two forms.

`RulePolicy` runs at compiled speed. Before the simulation, `prepare` writes its `Rules`: arrays with one value a
function, and a few words that choose compiled code. During the simulation, if `tick_us` is set, `on_tick` is called at
`start_us, start_us + tick_us, ...`; it sees the state of all functions as arrays (`TickView`), may change some of them,
and orders pods ahead (`Prewarm`). Policies are joined by `Joined`: each writes over the rules of those before it.

`Policy` is the protocol for a user's own Python policy, asked about every arrival and every pod that falls idle. The
same compiled engine runs it, stopping at each question.

Order of events at equal times: pod ready, request finished, pod expired, tick, pre-warm, arrival; then order of
creation. A pod idle exactly its keep-alive is still warm: it is deleted 1 us later, and its idle time counts as the
keep-alive.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

import numpy as np

from nonet.common.errors import InputError

if TYPE_CHECKING:
    from nonet.coldstart.simulating.calls import ColdTimes, Functions
    from nonet.coldstart.simulating.platform import Pick, Platform, Pools, ScaleRule

NEVER_US = 1 << 60
"""A keep-alive or a deadline that does not come."""


class IdleRule(IntEnum):
    """Where the keep-alive of a pod that falls idle comes from."""

    FIXED = 0  # rules.keep_alive_us[f]
    HISTOGRAM = 1  # hybrid histogram of idle times (Shahrad et al., ATC 2020)
    ASK = 2  # the user's Python policy


class Eviction(IntEnum):
    """Which idle pod goes first when memory is short (lowest priority first, then the least recently used).

    Priorities are set when a request begins to run on the pod (a pre-warmed pod: when it gets ready). `clock` is the
    priority of the last evicted pod, `freq` the uses of all live pods of the function, `cost` its `eviction_cost_us`.
    """

    LRU = 0  # 0, so the least recently used
    LFU = 1  # freq
    SIZE = 2  # -memory
    GREEDY_DUAL = 3  # clock + freq * cost / memory (FaasCache)
    LANDLORD = 4  # clock + cost / memory
    CIDRE = 5  # clock + freq * cost / (memory * live pods of the function)


@dataclass(frozen=True)
class Prewarm:
    """An order for pods of one function.

    Not `hold` (a pre-warm): at `at_us`, so many pods are started that `pods` of the function have a free slot or are
    starting without a request; the most recently used idle ones among those that are there stay until `until_us` at
    least. Once used, a pod lives on by the ordinary rule of idle pods.

    `hold`: at `at_us`, so many pods are started that the function has `pods` live ones, whatever they do; the oldest
    `pods` of them are not deleted for idleness before `until_us`, also after use. A pod over that number lives on by
    the ordinary rule, so with `keep_alive_us` 0 repeated holds are a desired number of pods.

    A pod started by an order is deleted when it is idle after `until_us` (exactly then it is still warm), or the
    moment it is ready if that is later. Orders do not evict: what does not fit into the memory is refused and
    counted. An order of the past is carried out at once.
    """

    function: int
    at_us: int
    until_us: int
    pods: int = 1
    hold: bool = False


@dataclass
class Orders:
    """Many `Prewarm`s as arrays of equal length n: int64 each, `hold` bool."""

    function: np.ndarray
    at_us: np.ndarray
    until_us: np.ndarray
    pods: np.ndarray
    hold: np.ndarray

    @classmethod
    def of(cls, orders: Sequence[Prewarm]) -> Orders:
        """The arrays of a list."""
        rows = np.array([(o.function, o.at_us, o.until_us, o.pods, o.hold) for o in orders], np.int64).reshape(-1, 5)
        return cls(rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 3], rows[:, 4] != 0)

    @classmethod
    def join(cls, parts: Sequence[Orders]) -> Orders:
        """All orders of all parts, in this order."""
        names = ("function", "at_us", "until_us", "pods", "hold")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def __len__(self) -> int:
        return len(self.function)


@dataclass
class Chains:
    """When function f is called at t, `Prewarm(next[i], t + delay_us[i], t + delay_us[i] + hold_us[i])` is ordered
    for i in `at[f] : at[f + 1]`.

    `at` is int64 (F + 1,), the others int64 (links,).
    """

    at: np.ndarray
    next: np.ndarray
    delay_us: np.ndarray
    hold_us: np.ndarray


@dataclass
class Rules:
    """What the compiled engine follows. A policy writes what it cares about; the rest keeps the platform's values.

    Attributes:
        keep_alive_us: int64 (F,), for IdleRule.FIXED; changed during the run through `TickView.keep_alive_us`.
        concurrency: int64 (F,), requests a pod runs at once; changed through `TickView.set_concurrency`.
        idle_rule, eviction: see the enums.
        eviction_cost_us: float64 (F,), starts as the mean cold start time of each function.
        memory_cap_mb, pools, pick, scale_rule: as in `Platform`.
        deadline_us: int64 (F,), a request that begins to run later than this after its arrival is a deadline miss.
        delay_us: int64 (F,), how long at most a cold start may be put off (peak shaving); 0 = never.
        delay_threshold: with at least so many on-demand starts in the current minute (counted from `start_us`), a
            start of a function with `delay_us` > 0 begins at the next minute, or `delay_us` later if that is sooner.
            It counts in the minute in which it was asked for.
        slowdown: float64 (F,), a request that is the k-th at once on its pod runs `1 + slowdown * (k - 1)` times as
            long (whole microseconds, rounded down); it keeps that length. 0 = never slower.
        route: int64 (F,), calls of f are served, and counted, as calls of `route[f]`; starts as 0, 1, ..., F - 1.
        route_extra_us: int64 (F,), added to the wait of calls of f (the round trip of another region); pods are not
            busy for it.
        chains: calls that announce other calls (of the function that serves).
    """

    keep_alive_us: np.ndarray
    concurrency: np.ndarray
    eviction_cost_us: np.ndarray
    deadline_us: np.ndarray
    delay_us: np.ndarray
    slowdown: np.ndarray
    route: np.ndarray
    route_extra_us: np.ndarray
    pick: Pick
    scale_rule: ScaleRule
    memory_cap_mb: int | None = None
    pools: Pools | None = None
    idle_rule: IdleRule = IdleRule.FIXED
    eviction: Eviction = Eviction.LRU
    delay_threshold: int = NEVER_US
    chains: Chains | None = None


@dataclass
class Setup:
    """All that a policy may know before the simulation. It does not hold the calls: what a policy learns, it learns
    from ticks, or from an earlier part of a trace that its maker was given."""

    functions: Functions
    cold_times: ColdTimes
    platform: Platform
    start_us: int
    end_us: int
    seed: int
    rules: Rules


class TickView(Protocol):
    """State of all functions at a tick. Arrays are int64 (F,), views into the engine: copy what you keep."""

    now_us: int
    last_us: int
    """The tick before this one (`now_us` at the first)."""
    arrive_us: np.ndarray
    """Arrivals since the last tick, int64 (n,), in order; an arrival exactly at `now_us` belongs to the next tick."""
    function: np.ndarray
    """Their functions, int32 (n,)."""
    run_us: np.ndarray
    """Their pure executions, int64 (n,): for policies that learn them; a request under way is among them, so a policy
    for a real platform must not use the run of a request before it has ended."""

    @property
    def keep_alive_us(self) -> np.ndarray:
        """May be written: holds for pods that fall idle from now on."""

    @property
    def num_requests(self) -> np.ndarray:
        """Arrivals so far."""

    @property
    def num_started(self) -> np.ndarray:
        """Pods started so far, on demand and by orders."""

    @property
    def in_flight(self) -> np.ndarray:
        """Requests that run or are bound to a starting pod."""

    @property
    def queued(self) -> np.ndarray:
        """Requests that wait for any slot."""

    @property
    def live_pods(self) -> np.ndarray:
        """Starting, busy and idle pods."""

    @property
    def starting_pods(self) -> np.ndarray:
        """Pods that are not ready yet."""

    @property
    def idle_pods(self) -> np.ndarray:
        """Ready pods without a request."""

    @property
    def concurrency_us(self) -> np.ndarray:
        """Integral over time of (in flight + queued) until now; its difference over a tick / tick length = mean
        concurrency."""

    @property
    def last_arrive_us(self) -> np.ndarray:
        """Last arrival, -1 before the first."""

    @property
    def last_end_us(self) -> np.ndarray:
        """End of the request that ended last, -1 before the first."""

    @property
    def used_memory_mb(self) -> int:
        """Memory of all live pods."""

    def pool_stock(self) -> np.ndarray:
        """Pods ready in the pools now, int64 (classes, stages)."""

    def pool_taken(self) -> np.ndarray:
        """Pods taken from the pools so far, int64 (classes, stages + 1); the last column: made from scratch."""

    def set_pool_targets(self, target: np.ndarray) -> None:
        """New sizes of the pools, int64 (classes, stages). More: the added pods are ready after the class's replenish
        time. Fewer: the pods that would be ready last go first."""

    def set_concurrency(self, concurrency: np.ndarray) -> None:
        """New concurrency of every function, int64 (F,), at least 1; running requests stay."""


class RulePolicy(ABC):
    """A policy at compiled speed. One object may be used in many simulations, one after the other: `prepare` begins
    anew.

    Attributes:
        name: as written on the command line.
        tick_us: time between ticks, None = no ticks.
        coupled: whether functions depend on each other beyond what the rules say (pools, memory cap); a policy
            without ticks that is not coupled is simulated in shards. Policies with ticks never are.
    """

    name: str = ""
    tick_us: int | None = None

    @abstractmethod
    def prepare(self, setup: Setup) -> None:
        """Begin a simulation: write into `setup.rules`, and forget earlier simulations."""

    def on_tick(self, now_us: int, view: TickView) -> Orders | Sequence[Prewarm] | None:
        """Look at the state, change what may be changed, order pods. Orders for `now_us` are carried out before
        arrivals at `now_us`."""
        return None


class _PartView:
    """The view of a part of a joined policy with longer ticks than the whole: its calls reach back to its own last
    tick.
    """

    def __init__(self) -> None:
        self.last_us = 0
        self._whole: Any = None
        self._calls: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def saw(self, view: TickView) -> None:
        """Keep the calls of one tick of the whole."""
        self._whole = view
        self._calls.append((view.arrive_us, view.function, view.run_us))

    def begin(self, now_us: int) -> None:
        """The part's own tick begins."""
        self.arrive_us, self.function, self.run_us = (np.concatenate(c) for c in zip(*self._calls, strict=True))
        self._calls.clear()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)


@dataclass
class Joined(RulePolicy):
    """Several policies as one: `a+b`. Later ones write over the rules of earlier ones; ticks are called in this
    order.
    """

    parts: Sequence[RulePolicy] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.parts:
            raise InputError("a joined policy needs at least one part")
        self.name = "+".join(part.name for part in self.parts)
        ticks = [part.tick_us for part in self.parts if part.tick_us is not None]
        self.tick_us = int(np.gcd.reduce(ticks)) if ticks else None
        self._start_us = 0
        self._views: list[_PartView] = []

    def prepare(self, setup: Setup) -> None:
        """See `RulePolicy.prepare`."""
        self._start_us = setup.start_us
        self._views = [_PartView() for _ in self.parts]
        for part, view in zip(self.parts, self._views, strict=True):
            view.last_us = setup.start_us
            part.prepare(setup)

    def on_tick(self, now_us: int, view: TickView) -> Orders | None:
        """Call the parts whose tick it is."""
        given = []
        for part, own in zip(self.parts, self._views, strict=True):
            if part.tick_us is None:
                continue
            own.saw(view)
            if (now_us - self._start_us) % part.tick_us:
                continue
            own.begin(now_us)
            orders = part.on_tick(now_us, cast(TickView, own))
            own.last_us = now_us
            if orders is not None and len(orders):
                given.append(orders if isinstance(orders, Orders) else Orders.of(orders))
        return Orders.join(given) if given else None


@runtime_checkable
class Policy(Protocol):
    """A user's own policy in Python; derive from nothing, any object with these methods will do.

    Deterministic policies give the same result for the same calls. `view` is a `TickView` whose arrays `arrive_us`,
    `function`, `run_us` hold what came since the last tick (empty without ticks). An attribute `tick_us` (int or
    None) sets the ticks, an attribute `name` the name in reports; both may be missing.
    """

    def on_arrival(self, f: int, now_us: int, view: TickView) -> Sequence[Prewarm] | None:
        """A request of function f arrives; orders for `now_us` are carried out before it is served."""

    def on_idle(self, f: int, now_us: int, view: TickView) -> int:
        """A pod of function f has just become idle after a request: its keep-alive in us (`NEVER_US` = for ever). The
        pod is not among `view.idle_pods` yet."""

    def on_tick(self, now_us: int, view: TickView) -> Sequence[Prewarm] | None:
        """See `RulePolicy.on_tick`."""
