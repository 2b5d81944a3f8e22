"""Which variant goes first when a tier is full: by value, and the baselines that value is measured against.

A policy gives each variant a priority that changes only when something happens to the variant, so the lowest is found
with a heap (`Victims`) however many there are.
"""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict
from collections.abc import Callable, Container
from typing import Protocol

from nonet.common.registry import Registry

EVICTIONS: Registry[Callable[[], Eviction]] = Registry("eviction")
"""Eviction policies by name."""


class Eviction(Protocol):
    """A policy; called with the store's lock held."""

    def added(self, variant_id: str, chunk_key: str, num_tokens: int, now_s: float) -> float:
        """The priority of a variant that was just computed, or found at the start.

        Args:
            variant_id: which.
            chunk_key: of which chunk it is a variant.
            num_tokens: its rows; computing them anew is the cost of losing it.
            now_s: the time.
        """

    def used(self, variant_id: str, cfo: float, now_s: float) -> float:
        """The new priority of a variant that served a request.

        Args:
            variant_id: which.
            cfo: share of its rows that had to be repaired, in [0, 1].
            now_s: the time.
        """

    def dropped(self, variant_id: str, *, is_victim: bool) -> None:
        """A variant left the store.

        Args:
            variant_id: which.
            is_victim: for want of room, rather than because it became invalid.
        """


@EVICTIONS.register("value")
class ValueEviction:
    """Keep what is used often and needs little repair.

    A use with repair share c counts 1 / max(c, epsilon); counts halve every `half_life_s`. As all counts shrink alike,
    the order of log2(count) + time / half-life does not change between uses, and that is the priority. A variant begins
    with one use at full repair, on top of what its chunk's last variant had when it was evicted: a chunk that keeps
    coming back is not new each time.

    Args:
        half_life_s: of a count.
        epsilon: the least repair share that counts.
        num_remembered: evicted chunks whose count is remembered, the latest ones.

    >>> value = ValueEviction(half_life_s=10)
    >>> _ = value.added("a", "A", 100, 0.0), value.added("b", "B", 100, 0.0)
    >>> value.used("a", 0.5, 0.0) > value.used("b", 1.0, 0.0), value.used("b", 0.02, 50.0) > value.used("a", 0.5, 51.0)
    (True, True)
    """

    def __init__(self, half_life_s: float = 3600.0, epsilon: float = 0.02, num_remembered: int = 100_000) -> None:
        self._half_life_s, self._epsilon, self._num_remembered = half_life_s, epsilon, num_remembered
        self._priority: dict[str, float] = {}
        self._chunk: dict[str, str] = {}
        self._remembered: OrderedDict[str, float] = OrderedDict()

    def added(self, variant_id: str, chunk_key: str, num_tokens: int, now_s: float) -> float:
        """See `Eviction`."""
        self._chunk[variant_id] = chunk_key
        self._priority[variant_id] = self._remembered.pop(chunk_key, -math.inf)
        return self.used(variant_id, 1.0, now_s)

    def used(self, variant_id: str, cfo: float, now_s: float) -> float:
        """See `Eviction`."""
        gain = now_s / self._half_life_s - math.log2(max(cfo, self._epsilon))
        self._priority[variant_id] = _log2_sum(self._priority[variant_id], gain)
        return self._priority[variant_id]

    def dropped(self, variant_id: str, *, is_victim: bool) -> None:
        """See `Eviction`."""
        priority, chunk = self._priority.pop(variant_id), self._chunk.pop(variant_id)
        if is_victim:
            self._remembered[chunk] = max(priority, self._remembered.pop(chunk, -math.inf))
            while len(self._remembered) > self._num_remembered:
                self._remembered.popitem(last=False)


@EVICTIONS.register("lru")
class LruEviction:
    """The longest unused goes first."""

    def __init__(self) -> None:
        self._events = 0

    def added(self, variant_id: str, chunk_key: str, num_tokens: int, now_s: float) -> float:
        """See `Eviction`."""
        return self.used(variant_id, 1.0, now_s)

    def used(self, variant_id: str, cfo: float, now_s: float) -> float:
        """See `Eviction`."""
        self._events += 1
        return float(self._events)

    def dropped(self, variant_id: str, *, is_victim: bool) -> None:
        """See `Eviction`."""


@EVICTIONS.register("lfu")
class LfuEviction:
    """The least used goes first, counted since it came in."""

    def __init__(self) -> None:
        self._uses: dict[str, float] = {}

    def added(self, variant_id: str, chunk_key: str, num_tokens: int, now_s: float) -> float:
        """See `Eviction`."""
        self._uses[variant_id] = 1.0
        return 1.0

    def used(self, variant_id: str, cfo: float, now_s: float) -> float:
        """See `Eviction`."""
        self._uses[variant_id] += 1.0
        return self._uses[variant_id]

    def dropped(self, variant_id: str, *, is_victim: bool) -> None:
        """See `Eviction`."""
        del self._uses[variant_id]


@EVICTIONS.register("pgdsf")
class PgdsfEviction:
    """RAGCache's greedy dual size frequency: clock + uses x cost / size, the clock being the last victim's.

    Cost is the time to compute the chunk's rows, size what they take. Both grow with the rows, except that a row's
    attention costs more the longer the chunk is: cost / size is 1 + tokens / `attention_tokens`.

    Args:
        attention_tokens: the length at which attention costs as much as everything else.
    """

    def __init__(self, attention_tokens: float = 4096.0) -> None:
        self._attention_tokens = attention_tokens
        self._clock = 0.0
        self._weight: dict[str, float] = {}
        self._uses: dict[str, float] = {}
        self._priority: dict[str, float] = {}

    def added(self, variant_id: str, chunk_key: str, num_tokens: int, now_s: float) -> float:
        """See `Eviction`."""
        self._weight[variant_id] = 1.0 + num_tokens / self._attention_tokens
        self._uses[variant_id] = 0.0
        return self.used(variant_id, 1.0, now_s)

    def used(self, variant_id: str, cfo: float, now_s: float) -> float:
        """See `Eviction`."""
        self._uses[variant_id] += 1.0
        self._priority[variant_id] = self._clock + self._uses[variant_id] * self._weight[variant_id]
        return self._priority[variant_id]

    def dropped(self, variant_id: str, *, is_victim: bool) -> None:
        """See `Eviction`."""
        priority = self._priority.pop(variant_id)
        del self._weight[variant_id], self._uses[variant_id]
        if is_victim:
            self._clock = max(self._clock, priority)


class Victims:
    """Finds the lowest priority among what is in a tier; ties go to what came first.

    >>> victims = Victims()
    >>> for name, priority in [("a", 2.0), ("b", 1.0), ("c", 1.0)]:
    ...     victims.set(name, priority)
    >>> victims.set("b", 3.0)
    >>> victims.lowest(), victims.lowest(barred={"c"}), victims.lowest(barred={"a", "b", "c"})
    ('c', 'a', None)
    """

    def __init__(self) -> None:
        self._now: dict[str, tuple[float, int]] = {}
        self._heap: list[tuple[float, int, str]] = []
        self._arrivals = 0

    def __len__(self) -> int:
        return len(self._now)

    def __contains__(self, variant_id: object) -> bool:
        return variant_id in self._now

    def set(self, variant_id: str, priority: float) -> None:
        """Add a variant, or give it another priority.

        Args:
            variant_id: which.
            priority: the lowest goes first.
        """
        arrival = self._now[variant_id][1] if variant_id in self._now else self._arrivals
        self._arrivals += variant_id not in self._now
        self._now[variant_id] = (priority, arrival)
        heapq.heappush(self._heap, (priority, arrival, variant_id))
        if len(self._heap) > 2 * len(self._now) + 64:
            self._heap = [(one, order, name) for name, (one, order) in self._now.items()]
            heapq.heapify(self._heap)

    def remove(self, variant_id: str) -> None:
        """Forget a variant, there or not."""
        self._now.pop(variant_id, None)

    def lowest(self, barred: Container[str] = ()) -> str | None:
        """Who goes first; None when nobody may.

        Args:
            barred: these stay.
        """
        passed = []
        found = None
        while self._heap and found is None:
            priority, arrival, variant_id = self._heap[0]
            if self._now.get(variant_id) != (priority, arrival):
                heapq.heappop(self._heap)
            elif variant_id in barred:
                passed.append(heapq.heappop(self._heap))
            else:
                found = variant_id
        for one in passed:
            heapq.heappush(self._heap, one)
        return found


def _log2_sum(a: float, b: float) -> float:
    """log2(2**a + 2**b), also where the powers would overflow."""
    high, low = max(a, b), min(a, b)
    return high if low == -math.inf else high + math.log1p(2.0 ** (low - high)) / math.log(2.0)
