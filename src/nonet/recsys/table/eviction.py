"""Expiry by count and by score, as TorchRec's virtual tables name it: keys that are trained too rarely go.

The numbers of trainings fade at every expiry by `decay_rate`, so they say how often a key came lately.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.recsys.features.fid import NUM_SLOTS_V2, slot_v2
from nonet.recsys.table.expiry import EXPIRIES, Expiry, LiveKeys


@dataclass(frozen=True)
class _Fading(Expiry):
    """Goes by how often keys were trained, with decay."""

    @property
    def needs_frequencies(self) -> bool:
        """See `Expiry.needs_frequencies`."""
        return True

    @property
    def decay_rate(self) -> float:
        """See `Expiry.decay_rate`."""
        return float(getattr(self, "decay", 1.0))

    def _check_decay(self) -> None:
        if not 0 < self.decay_rate <= 1:
            raise InputError(f"{type(self).__name__}: decay is {self.decay_rate}; give a number in (0, 1]")

    @abstractmethod
    def victims(self, live: LiveKeys) -> NDArray[np.bool_]:
        """See `Expiry.victims`."""


@EXPIRIES.register("count")
@dataclass(frozen=True)
class BelowCount(_Fading):
    """Keys that were trained less often than a threshold, after fading.

    Args:
        min_count: what a key needs to stay; 0 keeps all.
        decay: of the counts, at every expiry.
    """

    min_count: int = 15
    decay: float = 0.99

    def __post_init__(self) -> None:
        self._check_decay()
        if self.min_count < 0:
            raise InputError(f"BelowCount: min_count is {self.min_count}; give 0 or more")

    def victims(self, live: LiveKeys) -> NDArray[np.bool_]:
        """See `Expiry.victims`."""
        return live.frequencies() < self.min_count


@EXPIRIES.register("score")
@dataclass(frozen=True)
class LowestScore(_Fading):
    """Keeps so many keys, those of the highest score: trainings, after fading, times the worth of the key's slot.

    Args:
        keep: keys that stay, 1 or more; ties go by key.
        decay: of the counts, at every expiry.
        slot_scores: worth of a training of a key of the slot.
        default_score: of slots that are not named.
    """

    keep: int
    decay: float = 0.99
    slot_scores: Mapping[int, float] = field(default_factory=dict)
    default_score: float = 1.0

    def __post_init__(self) -> None:
        self._check_decay()
        if self.keep < 1:
            raise InputError(f"LowestScore: keep is {self.keep}; give 1 or more")
        for slot, score in {0: self.default_score, **self.slot_scores}.items():
            if not 0 <= slot < NUM_SLOTS_V2 or not math.isfinite(score):
                raise InputError(f"LowestScore: slot {slot} with score {score}; give a slot below 2^15, a finite score")

    def victims(self, live: LiveKeys) -> NDArray[np.bool_]:
        """See `Expiry.victims`."""
        chosen = np.zeros(len(live.keys), np.bool_)
        surplus = len(live.keys) - self.keep
        if surplus > 0:
            worth = np.full(NUM_SLOTS_V2, self.default_score)
            for slot, score in self.slot_scores.items():
                worth[slot] = score
            scores = live.frequencies() * worth[slot_v2(live.keys)]
            chosen[np.lexsort((live.keys, scores))[:surplus]] = True
        return chosen


@EXPIRIES.register("above")
@dataclass(frozen=True)
class OnlyAbove(Expiry):
    """Another policy, that has its say only when a table has more than so many keys.

    Args:
        policy: the other one.
        num_keys: 1 or more.
    """

    policy: Expiry
    num_keys: int

    def __post_init__(self) -> None:
        if self.num_keys < 1:
            raise InputError(f"OnlyAbove: num_keys is {self.num_keys}; give 1 or more")

    @property
    def needs_frequencies(self) -> bool:
        """See `Expiry.needs_frequencies`."""
        return self.policy.needs_frequencies

    @property
    def decay_rate(self) -> float:
        """See `Expiry.decay_rate`."""
        return self.policy.decay_rate

    def max_keys_of(self, bytes_per_key: int) -> int | None:
        """See `Expiry.max_keys_of`."""
        return self.policy.max_keys_of(bytes_per_key)

    def victims(self, live: LiveKeys) -> NDArray[np.bool_]:
        """See `Expiry.victims`."""
        if len(live.keys) <= self.num_keys:
            return np.zeros(len(live.keys), np.bool_)
        return self.policy.victims(live)


@EXPIRIES.register("together")
@dataclass(frozen=True)
class Together(Expiry):
    """A key goes only when all of the policies say so: rare and old, say.

    Args:
        policies: at least one.
    """

    policies: tuple[Expiry, ...]

    def __post_init__(self) -> None:
        if not self.policies:
            raise InputError("Together: no policies; give at least one")

    @property
    def needs_frequencies(self) -> bool:
        """See `Expiry.needs_frequencies`."""
        return any(policy.needs_frequencies for policy in self.policies)

    @property
    def decay_rate(self) -> float:
        """See `Several.decay_rate`."""
        return min(policy.decay_rate for policy in self.policies)

    def victims(self, live: LiveKeys) -> NDArray[np.bool_]:
        """See `Expiry.victims`."""
        return np.logical_and.reduce([policy.victims(live) for policy in self.policies])
