"""Keep-alive as caching: pods stay until their memory is needed (FaasCache, Fuerst and Sharma, ASPLOS 2021; CIDRE,
ASPLOS 2025).

Sections A6.4 and A6.5. A pod that does not fit makes idle pods go, lowest priority first (`Eviction`); pods with
requests and starting ones stay, and when the idle ones would not be enough nothing is evicted and the request is
dropped. The frequency of a function is the number of uses of its live pods. Landlord is implemented as Young's rent
with an
offset: the credit of a pod is set to its cost at each use, and the rent that all pods have paid is `clock`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nonet.coldstart.simulating.policies import parse_memory_mb, parse_seconds_us, register
from nonet.coldstart.simulating.policies.base import NEVER_US, Eviction, RulePolicy, Setup
from nonet.common.errors import InputError


@dataclass
class CachePolicy(RulePolicy):
    """Pods stay until evicted, or for `keep_alive_us`.

    Args:
        eviction: the order in which idle pods go.
        memory_cap_mb: memory of all pods; None = the platform's.
        keep_alive_us: idle pods go after this even when there is room.
        cost_us: the same cost for all functions; None = their mean cold start time.
        race: CIDRE's scaling: an arrival without a free slot waits for a busy pod and starts one too, and takes the
            first.
    """

    eviction: Eviction
    memory_cap_mb: int | None = None
    keep_alive_us: int = NEVER_US
    cost_us: float | None = None
    race: bool = False

    def prepare(self, setup: Setup) -> None:
        """See `RulePolicy`."""
        rules = setup.rules
        rules.eviction = self.eviction
        rules.keep_alive_us[:] = self.keep_alive_us
        if self.memory_cap_mb is not None:
            rules.memory_cap_mb = self.memory_cap_mb
        if rules.memory_cap_mb is None:
            raise InputError(f"policy {self.name!r} needs a memory cap: write it after the name, for example gd:8GB")
        if self.cost_us is not None:
            rules.eviction_cost_us = np.full(len(setup.functions), self.cost_us)
        if self.race:
            rules.scale_rule = "race"


def _options(value: str, what: str) -> tuple[int | None, float | None]:
    """`8GB`, `8GB,cost=1` or nothing -> (memory in MB, cost)."""
    memory, cost = None, None
    for piece in filter(None, value.split(",")):
        if piece.startswith("cost="):
            cost = float(parse_seconds_us(piece[5:], what))
        else:
            memory = parse_memory_mb(piece, what)
    return memory, cost


def _register(name: str, eviction: Eviction, help: str, race: bool = False) -> None:
    @register(name, help, f"{name}:8GB")
    def _make(value: str) -> RulePolicy:
        memory_mb, cost_us = _options(value, f"policy {name}")
        return CachePolicy(eviction, memory_mb, cost_us=cost_us, race=race)


_register("gd", Eviction.GREEDY_DUAL, "greedy-dual under a memory cap (FaasCache); cost=SECONDS makes costs equal")
_register("lru", Eviction.LRU, "least recently used under a memory cap")
_register("lfu", Eviction.LFU, "fewest uses first under a memory cap (FREQ)")
_register("size", Eviction.SIZE, "largest first under a memory cap")
_register("landlord", Eviction.LANDLORD, "landlord under a memory cap; cost=SECONDS makes costs equal")
_register(
    "cidre", Eviction.CIDRE, "CIDRE: race of a busy and a new pod, eviction by share of the function's pods", race=True
)


@register("ttl", "fixed keep-alive (10 minutes without a value) and LRU under a memory cap", "ttl:600,8GB")
def _ttl(value: str) -> RulePolicy:
    pieces = [piece for piece in value.split(",") if piece]
    seconds = [piece for piece in pieces if not piece.upper().endswith("B")]
    if len(seconds) > 1 or len(pieces) - len(seconds) > 1:
        raise InputError(f"policy ttl: {value!r} should be SECONDS,MEMORY, for example ttl:600,8GB")
    memory = [piece for piece in pieces if piece not in seconds]
    keep_us = parse_seconds_us(seconds[0], "policy ttl") if seconds else 600_000_000
    return CachePolicy(Eviction.LRU, parse_memory_mb(memory[0], "policy ttl") if memory else None, keep_us)
