"""What the store says of itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TierStats:
    """What a tier holds.

    Args:
        name: of the tier.
        num_variants: in it.
        used_bytes: by them.
        capacity_bytes: what it may hold now, less than it was given when it was full before that; None for no limit.
        num_opened: readers that began with it.
        read_bytes: read from it in all; not counted where reading costs nothing.
        read_bytes_per_s: moving average.
        is_up: whether it answered when last asked.
    """

    name: str
    num_variants: int
    used_bytes: int
    capacity_bytes: int | None
    num_opened: int
    read_bytes: int
    read_bytes_per_s: float
    is_up: bool


@dataclass(frozen=True, slots=True)
class StoreStats:
    """What the store holds and has done.

    Args:
        num_chunks: with at least one variant.
        num_variants: in all tiers together.
        tiers: the fastest first.
        counts: how often what was done, by the names of `COUNTS`.
        faults: how often what failed where, as "disk: damaged".
        pending_bytes: waiting to be stored.
    """

    num_chunks: int
    num_variants: int
    tiers: tuple[TierStats, ...]
    counts: dict[str, int]
    faults: dict[str, int]
    pending_bytes: int
