"""Which keys are forgotten: by age, by a ceiling on keys or bytes, by small weights.

The clock of a table is its newest update time, never the wall clock, so a stream that stops does not empty the model.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.common.registry import Registry

EXPIRIES: Registry[type[Expiry]] = Registry("expiry")

NUM_SLOTS = 1 << 15
FOREVER_S = (1 << 32) - 1
_BLOCK = 1 << 16  # keys that are looked at together, so that scratch memory stays small
_AFTER = 0.9  # of a ceiling, what stays when it was passed: so that not every batch has to evict


@dataclass(frozen=True)
class LiveKeys:
    """What a policy may look at; the costly columns are fetched when they are asked for.

    Args:
        keys: int64 (n,).
        ts: uint32 (n,), time of the last update, Unix seconds.
        frequencies: gives uint32 (n,), how often the keys were trained.
        norms: gives float32 (n,), L2 norms of the weights.
        bytes_per_key: upper bound of what a key costs in rows and index.
        clock_s: time of the table.
    """

    keys: NDArray[np.int64]
    ts: NDArray[np.uint32]
    frequencies: Callable[[], NDArray[np.uint32]]
    norms: Callable[[], NDArray[np.float32]]
    bytes_per_key: int
    clock_s: int


class Expiry(ABC):
    """Chooses the keys to erase. Subclasses are frozen dataclasses."""

    @property
    def needs_frequencies(self) -> bool:
        """Whether the table has to count trainings: 4 bytes a key."""
        return False

    @property
    def decay_rate(self) -> float:
        """By which a table multiplies the numbers of trainings before every expiry; 1 leaves them."""
        return 1.0

    def max_keys_of(self, bytes_per_key: int) -> int | None:
        """Keys that a table may hold; it expires by itself when a batch has brought it above. None: no ceiling."""
        return None

    @abstractmethod
    def victims(self, live: LiveKeys) -> NDArray[np.bool_]:
        """Which keys go, bool (n,)."""


@EXPIRIES.register("ttl")
@dataclass(frozen=True)
class TimeToLive(Expiry):
    """Keys that were not updated for a while: clock - ts >= ttl.

    Args:
        default_s: seconds; None keeps keys of slots that are not named for ever.
        by_slot_s: seconds by the slot of the key, bits 62..48 (a v2 feature id); each in [1, 2**32 - 1].
    """

    default_s: int | None = None
    by_slot_s: Mapping[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for slot, ttl_s in self.by_slot_s.items():
            if not 0 <= slot < NUM_SLOTS:
                raise InputError(f"TimeToLive: slot {slot} does not exist; give one in [0, {NUM_SLOTS - 1}]")
            self._check(f"by_slot_s[{slot}]", ttl_s)
        if self.default_s is not None:
            self._check("default_s", self.default_s)

    @staticmethod
    def _check(what: str, ttl_s: int) -> None:
        if not 1 <= ttl_s <= FOREVER_S:
            raise InputError(f"TimeToLive: {what} is {ttl_s}; give seconds in [1, {FOREVER_S}]")

    def victims(self, live: LiveKeys) -> NDArray[np.bool_]:
        """See `Expiry.victims`. A key from the future is as young as one of now."""
        ttl_s = np.full(NUM_SLOTS, FOREVER_S + 1 if self.default_s is None else self.default_s, np.int64)
        for slot, seconds in self.by_slot_s.items():
            ttl_s[slot] = seconds
        old = np.empty(len(live.keys), np.bool_)
        for first in range(0, len(old), _BLOCK):
            block = slice(first, first + _BLOCK)
            age_s = live.clock_s - live.ts[block].astype(np.int64)
            old[block] = age_s >= ttl_s[(live.keys[block] >> 48) & (NUM_SLOTS - 1)]
        return old


@dataclass(frozen=True)
class _Ceiling(Expiry):
    """At most so many keys or bytes; above it, the lowest scores go until nine tenths are left.

    Args:
        max_keys: ceiling in keys.
        max_bytes: ceiling in bytes of rows and index; with both, the lower one.
    """

    max_keys: int | None = None
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        for name in ("max_keys", "max_bytes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{type(self).__name__}: {name} is {value}; give at least 1")
        if self.max_keys is None and self.max_bytes is None:
            self._without_ceiling()

    def _without_ceiling(self) -> None:
        raise InputError(f"{type(self).__name__}: no ceiling; give max_keys or max_bytes")

    def max_keys_of(self, bytes_per_key: int) -> int | None:
        """See `Expiry.max_keys_of`."""
        by_bytes = None if self.max_bytes is None else max(1, self.max_bytes // bytes_per_key)
        return min((n for n in (self.max_keys, by_bytes) if n is not None), default=None)

    @abstractmethod
    def scores(self, live: LiveKeys) -> NDArray:
        """Worth of every key; ties go by key."""

    def victims(self, live: LiveKeys) -> NDArray[np.bool_]:
        """See `Expiry.victims`."""
        chosen = np.zeros(len(live.keys), np.bool_)
        ceiling = self.max_keys_of(live.bytes_per_key)
        if ceiling is not None and len(live.keys) > ceiling:
            surplus = len(live.keys) - max(1, math.floor(_AFTER * ceiling))
            chosen[np.lexsort((live.keys, self.scores(live)))[:surplus]] = True
        return chosen


@EXPIRIES.register("lru")
@dataclass(frozen=True)
class LeastRecent(_Ceiling):
    """The keys that were not updated for longest go first."""

    def scores(self, live: LiveKeys) -> NDArray:
        """Update times."""
        return live.ts


@EXPIRIES.register("lfu")
@dataclass(frozen=True)
class LeastFrequent(_Ceiling):
    """The keys that were trained least often go first."""

    @property
    def needs_frequencies(self) -> bool:
        """See `Expiry.needs_frequencies`."""
        return True

    def scores(self, live: LiveKeys) -> NDArray:
        """Counts of trainings."""
        return live.frequencies()


@EXPIRIES.register("l2")
@dataclass(frozen=True)
class SmallestNorm(_Ceiling):
    """The keys with the smallest weights go first.

    Args:
        max_keys: ceiling in keys.
        max_bytes: ceiling in bytes.
        min_norm: keys with a smaller L2 norm go in any case; alone, without a ceiling, it is enough.
    """

    min_norm: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (math.isfinite(self.min_norm) and self.min_norm >= 0):
            raise InputError(f"SmallestNorm: min_norm is {self.min_norm}; give a finite number >= 0")

    def _without_ceiling(self) -> None:
        if self.min_norm <= 0:
            raise InputError("SmallestNorm: nothing to go by; give max_keys, max_bytes or min_norm > 0")

    def scores(self, live: LiveKeys) -> NDArray:
        """L2 norms."""
        return live.norms()

    def victims(self, live: LiveKeys) -> NDArray[np.bool_]:
        """See `Expiry.victims`."""
        chosen = super().victims(live)
        return chosen | (live.norms() < self.min_norm) if self.min_norm > 0 else chosen


@EXPIRIES.register("several")
@dataclass(frozen=True)
class Several(Expiry):
    """A key goes when one of the policies says so: a time to live under a ceiling of bytes, say.

    Args:
        policies: at least one; each looks at all keys.
    """

    policies: tuple[Expiry, ...] = ()

    def __post_init__(self) -> None:
        if not self.policies:
            raise InputError("Several: no policies; give at least one")

    @property
    def needs_frequencies(self) -> bool:
        """See `Expiry.needs_frequencies`."""
        return any(policy.needs_frequencies for policy in self.policies)

    @property
    def decay_rate(self) -> float:
        """The strongest of the policies: a key has one number of trainings."""
        return min(policy.decay_rate for policy in self.policies)

    def max_keys_of(self, bytes_per_key: int) -> int | None:
        """See `Expiry.max_keys_of`."""
        ceilings = (policy.max_keys_of(bytes_per_key) for policy in self.policies)
        return min((n for n in ceilings if n is not None), default=None)

    def victims(self, live: LiveKeys) -> NDArray[np.bool_]:
        """See `Expiry.victims`."""
        return np.logical_or.reduce([policy.victims(live) for policy in self.policies])
