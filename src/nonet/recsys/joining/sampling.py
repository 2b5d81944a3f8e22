"""Negative sampling: which negatives are kept, with what probability, written into the example.

A decision hangs on the key alone (a hash below rate x 2^64), so a replay decides the same, and a smaller rate keeps
a part of what a larger one keeps. The trainer or the server corrects the odds by `ln sample_rate`, never both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import xxhash

from nonet.common.errors import InputError
from nonet.common.registry import Registry

SAMPLINGS: Registry[type[Sampling]] = Registry("negative sampling")


class Sampling(ABC):
    """Rate at which a negative is kept."""

    reads_features = False
    actions: tuple[str, ...] = ()
    """Kinds of actions that the rate looks at."""

    @abstractmethod
    def rate(self, ids: Mapping[str, list[int]], actions: Collection[str]) -> float:
        """Of one negative, from 0 to 1.

        Args:
            ids: per feature; empty unless `reads_features`.
            actions: kinds that the row has seen.
        """


@SAMPLINGS.register("constant")
@dataclass(frozen=True)
class ConstantRate(Sampling):
    """The same for every negative.

    Args:
        value: rate.

    Raises:
        InputError: not from 0 to 1.
    """

    value: float = 1.0

    def __post_init__(self) -> None:
        _checked(self.value)

    def rate(self, ids: Mapping[str, list[int]], actions: Collection[str]) -> float:
        """See `Sampling`."""
        return self.value


@SAMPLINGS.register("feature")
@dataclass(frozen=True)
class FeatureRate(Sampling):
    """By the first id of a feature, such as the channel.

    Args:
        feature: its name.
        rates: by id.
        default: for other ids, and rows without.

    Raises:
        InputError: a rate is not from 0 to 1.

    >>> FeatureRate("channel", {7: 0.5}, default=0.1).rate({"channel": [7]}, ())
    0.5
    """

    feature: str
    rates: Mapping[int, float]
    default: float = 1.0
    reads_features = True

    def __post_init__(self) -> None:
        for value in (*self.rates.values(), self.default):
            _checked(value)

    def rate(self, ids: Mapping[str, list[int]], actions: Collection[str]) -> float:
        """See `Sampling`."""
        bag = ids.get(self.feature)
        return self.rates.get(bag[0], self.default) if bag else self.default


@SAMPLINGS.register("action")
@dataclass(frozen=True)
class ActionRate(Sampling):
    """By what else was done: the highest rate among the row's actions.

    Args:
        rates: by kind of action, such as `{"click": 1.0}` for a label "purchase".
        default: for rows without any of them.

    Raises:
        InputError: a rate is not from 0 to 1.

    >>> ActionRate({"click": 1.0}, default=0.1).rate({}, {"click", "like"})
    1.0
    """

    rates: Mapping[str, float]
    default: float = 1.0
    actions: tuple[str, ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        for value in (*self.rates.values(), self.default):
            _checked(value)
        object.__setattr__(self, "actions", tuple(sorted(self.rates)))

    def rate(self, ids: Mapping[str, list[int]], actions: Collection[str]) -> float:
        """See `Sampling`."""
        return max((self.rates[kind] for kind in actions if kind in self.rates), default=self.default)


def is_kept(key: bytes, rate: float, seed: int) -> bool:
    """Whether a negative is kept: xxh3_64(key, seed) < rate 2^64.

    >>> kept = sum(is_kept(str(n).encode(), 0.25, seed=1) for n in range(10_000))
    >>> 2_300 < kept < 2_700
    True
    """
    return xxhash.xxh3_64_intdigest(key, seed) < rate * 18446744073709551616.0


def _checked(rate: float) -> None:
    if not 0 <= rate <= 1:
        raise InputError(f"a sampling rate is from 0 to 1, not {rate}")
