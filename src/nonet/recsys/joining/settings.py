"""Settings of a joiner, and what it counts."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from nonet.common.errors import InputError
from nonet.recsys.joining.labels import Label
from nonet.recsys.logs.log import checked_name

_TICKS = 128


@dataclass(frozen=True)
class Joining:
    """How features and actions are joined.

    Args:
        labels: each with its own topic; a shown row makes one example for each.
        features: topic of feature events.
        actions: topic of action events.
        dead_letters: topic of what could not be joined, with the reason.
        name: of this joiner: its consumer group, and its name as a producer.
        allowed_lateness_ms: how far behind the newest event of its partition an event may come. Event time has passed t
            (the watermark) when every partition has seen t + this.
        idle_s: a partition without news for so long (by the clock on the wall) does not hold event time back.
        grace_ms: how long in event time an action waits for a row that was shown after it (by its clock).
        cache_rows: rows in memory; older ones wait on disk.
        max_parked: actions that may wait for their row; beyond it they become dead letters ("parked_full").
        max_actions: of one row; beyond it they become dead letters ("too_many_actions").
        max_id_bytes: of request and item together; beyond it: dead letter ("huge_id").
        max_event_bytes: of an event; beyond it: dead letter ("huge_event"), cut to this (the record is on the log).
            Examples are at most 100 bytes longer; brokers often refuse a record beyond 1 MB.
        max_ahead_ms: how far ahead of the clock on the wall a time may be; beyond it: dead letter ("future_timestamp").
        checkpoint_events: at most so many events are done again after a crash; examples go out at a checkpoint.
        checkpoint_s: one is made after so long, too, once there is nothing left to read.
        max_spill_bytes: size that the store on disk may reach.
        fsync: flush each checkpoint to the disk; without, it survives `kill -9` but not a power cut.
        output_partitions: of the topics that the joiner makes.
        seed: of the sampling.

    Raises:
        InputError: no labels, two with one topic, or a number out of range.

    >>> Joining(labels=(Label("click", wait_ms=600_000), Label("buy", wait_ms=86_400_000, topic="buys"))).horizon_ms
    86400000
    """

    labels: tuple[Label, ...] = (Label(),)
    features: str = "features"
    actions: str = "actions"
    dead_letters: str = "dead-letters"
    name: str = "joiner"
    allowed_lateness_ms: int = 60_000
    idle_s: float = 10.0
    grace_ms: int = 60_000
    cache_rows: int = 100_000
    max_parked: int = 1_000_000
    max_actions: int = 1_000
    max_id_bytes: int = 4_096
    max_event_bytes: int = 512 << 10
    max_ahead_ms: int = 60_000
    checkpoint_events: int = 200_000
    checkpoint_s: float = 0.2
    max_spill_bytes: int = 64 << 30
    fsync: bool = True
    output_partitions: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        topics = [label.topic for label in self.labels] + [self.features, self.actions, self.dead_letters]
        if not self.labels or len(set(topics)) != len(topics):
            raise InputError(f"a joiner needs labels, and a topic of its own for each purpose, not {topics}")
        if len(self.labels) > 30:
            raise InputError(f"{len(self.labels)} labels; a joiner takes at most 30")
        for topic in (*topics, self.name):
            checked_name(topic)
        for name in ("allowed_lateness_ms", "grace_ms", "idle_s", "max_parked", "max_ahead_ms", "checkpoint_s"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is not negative, not {getattr(self, name)}")
        for name in (
            "cache_rows",
            "max_actions",
            "max_id_bytes",
            "max_event_bytes",
            "checkpoint_events",
            "output_partitions",
        ):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is at least 1, not {getattr(self, name)}")
        if self.max_spill_bytes < 1 << 20:
            raise InputError(f"max_spill_bytes is at least 1 MB, not {self.max_spill_bytes}")

    @property
    def horizon_ms(self) -> int:
        """How long after it was shown a row is remembered."""
        return max(label.horizon_ms for label in self.labels)

    @property
    def tick_ms(self) -> int:
        """Deadlines are kept to the next multiple of this, about 1 % of the time that examples wait anyway."""
        return max(1, (min(label.wait_ms for label in self.labels) + self.allowed_lateness_ms) // _TICKS)

    @property
    def batch_rows(self) -> int:
        """Events read at a time, and rows taken from the disk at a time."""
        return max(1, min(4096, self.cache_rows // 4))

    def kinds(self) -> list[str]:
        """Actions that some label or sampling looks at."""
        named = {kind for label in self.labels for kind in (*label.actions, *label.sampling.actions)}
        return sorted(named)

    def fingerprint(self) -> str:
        """What rows on disk hang on; a store made under another one cannot be read on."""
        labels = [(label.name, label.wait_ms, label.late_ms, label.late, label.actions) for label in self.labels]
        return repr((labels, self.kinds(), self.tick_ms, self.features, self.actions))


class JoinCounts(msgspec.Struct):
    """What a joiner has counted since its store was made, exactly, also across crashes.

    Attributes:
        features: feature events read, with those that became duplicates or dead letters.
        actions: action events read, likewise.
        examples: that went out, with corrections.
        positives: of them in time.
        corrections: of them late positives.
        sampled_out: negatives that were not kept.
        late_dropped: rows whose late positive was dropped.
        duplicate_features: of a key that is known.
        duplicate_actions: of a row, kind and time that are known.
        orphans: actions without a row ("no_feature"), each as often as it came.
        late_events: that came behind the watermark; joined as far as their rows are remembered.
        unused_actions: of kinds that no label looks at.
        dead_letters: all of them, orphans too.
        parked: actions that wait for their row now.
    """

    features: int = 0
    actions: int = 0
    examples: int = 0
    positives: int = 0
    corrections: int = 0
    sampled_out: int = 0
    late_dropped: int = 0
    duplicate_features: int = 0
    duplicate_actions: int = 0
    orphans: int = 0
    late_events: int = 0
    unused_actions: int = 0
    dead_letters: int = 0
    parked: int = 0
