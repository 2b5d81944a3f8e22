"""Negatives for streams that hold positives only, such as purchases: other items, drawn from pools of those seen.

There is one pool for each channel. A hard negative comes from the positive's channel, an easy one from the others; each
pool is drawn from evenly and without repetition, so the rate of a draw is known exactly and the log-odds can be
corrected by it.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec
import xxhash

from nonet.common.errors import InputError
from nonet.recsys.example import Example

CORRECTIONS = ("sample_rate", "weight", "none")


@dataclass(frozen=True)
class Generating:
    """How negatives are made.

    Args:
        item_features: that are exchanged with the item; the others stay those of the request.
        channel_feature: whose first id is an item's channel, one of `item_features`; empty: one channel.
        num_negatives: for each positive.
        hard_share: of them, from the same channel; 1 when there is one channel.
        min_pool: items that a pool has before it is drawn from.
        max_pool: items that a pool has at most; then the oldest goes.
        correction: what a negative's rate r = draws / items to draw from is written into: "sample_rate" (the odds are
            corrected by ln r), "weight" (1 / r, and the odds are right as they are), or "none".
        seed: of the draws.

    Raises:
        InputError: a number out of range, or an unknown correction.
    """

    item_features: tuple[str, ...]
    channel_feature: str = ""
    num_negatives: int = 4
    hard_share: float = 0.5
    min_pool: int = 500
    max_pool: int = 100_000
    correction: str = "sample_rate"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.correction not in CORRECTIONS:
            raise InputError(f"unknown correction {self.correction!r} (known: {', '.join(CORRECTIONS)})")
        if self.channel_feature and self.channel_feature not in self.item_features:
            raise InputError(f"the channel {self.channel_feature!r} is not among the items' features")
        if self.num_negatives < 1 or not 0 <= self.hard_share <= 1:
            raise InputError(f"{self.num_negatives} negatives, of them {self.hard_share} hard: at least 1, and 0 to 1")
        if not self.num_negatives < self.min_pool <= self.max_pool:
            raise InputError(f"num_negatives < min_pool <= max_pool does not hold: {self}")


class _Pool:
    """Distinct items in the order in which they came, drawn from evenly."""

    def __init__(self, max_items: int) -> None:
        self._max_items = max_items
        self._ids: list[bytes] = []
        self._next = 0
        self.items: dict[bytes, dict[str, list[int]]] = {}

    def add(self, item_id: bytes, ids: dict[str, list[int]]) -> None:
        """Keep an item's newest features."""
        if item_id not in self.items:
            if len(self._ids) < self._max_items:
                self._ids.append(item_id)
            else:
                del self.items[self._ids[self._next]]
                self._ids[self._next] = item_id
                self._next = (self._next + 1) % self._max_items
        self.items[item_id] = ids

    def draw(self, rng: random.Random, num: int, without: bytes) -> list[bytes]:
        """So many items, or all, each at most once, and not one of them `without`."""
        drawn = rng.sample(self._ids, min(len(self._ids), num + (without in self.items)))
        return [item_id for item_id in drawn if item_id != without][:num]


class NegativeGenerator:
    """Puts negatives behind each positive.

    The pools are in memory and fill from the stream; after a restart there are no negatives until `min_pool` items have
    come by. What is drawn hangs on the seed, the positive's key and the pools.

    Args:
        generating: settings.

    Attributes:
        num_without: positives whose pools were too small for all of their negatives.
    """

    def __init__(self, generating: Generating) -> None:
        self._generating = generating
        self._pools: dict[int, _Pool] = {}
        self.num_without = 0

    def stream(self, positives: Iterable[Example]) -> Iterator[Example]:
        """Each positive, and its negatives behind it."""
        generating = self._generating
        for positive in positives:
            item = {name: positive.ids[name] for name in generating.item_features if name in positive.ids}
            bag = item.get(generating.channel_feature)
            channel = bag[0] if bag else 0
            self._pools.setdefault(channel, _Pool(generating.max_pool)).add(positive.item_id, item)
            yield positive
            yield from self._negatives(positive, channel)

    def _negatives(self, positive: Example, channel: int) -> Iterator[Example]:
        generating = self._generating
        key = b"%d:%b%b" % (len(positive.request_id), positive.request_id, positive.item_id)
        rng = random.Random(xxhash.xxh3_64_intdigest(key, generating.seed))
        others = {at: pool for at, pool in self._pools.items() if at != channel}
        num_hard = round(generating.num_negatives * generating.hard_share) if others else generating.num_negatives
        near = {channel: self._pools[channel]}
        num = 0
        for pools, wanted in ((near, num_hard), (others, generating.num_negatives - num_hard)):
            if not wanted or sum(len(pool.items) for pool in pools.values()) < generating.min_pool:
                continue
            num_items = sum(len(pool.items) - (positive.item_id in pool.items) for pool in pools.values())
            drawn = _drawn(pools, rng, wanted, positive.item_id)
            num += len(drawn)
            for item_id, ids in drawn:
                yield self._negative(positive, item_id, ids, len(drawn) / num_items)
        self.num_without += num < generating.num_negatives

    def _negative(self, positive: Example, item_id: bytes, ids: dict[str, list[int]], rate: float) -> Example:
        generating = self._generating
        kept = {name: bag for name, bag in positive.ids.items() if name not in generating.item_features}
        return msgspec.structs.replace(
            positive,
            item_id=item_id,
            ids=kept | ids,
            label=0.0,
            weight=positive.weight / rate if generating.correction == "weight" else positive.weight,
            sample_rate=rate if generating.correction == "sample_rate" else 1.0,
        )


def _drawn(
    pools: dict[int, _Pool], rng: random.Random, num: int, without: bytes
) -> list[tuple[bytes, dict[str, list[int]]]]:
    """Items drawn evenly from several pools: first how many from each, then which."""
    sizes = {at: len(pool.items) - (without in pool.items) for at, pool in pools.items()}
    num = min(num, sum(sizes.values()))
    shares = rng.sample(list(sizes), num, counts=list(sizes.values())) if len(pools) > 1 else list(pools) * num
    found = []
    for at, pool in pools.items():
        found += [(item_id, pool.items[item_id]) for item_id in pool.draw(rng, shares.count(at), without)]
    return found
