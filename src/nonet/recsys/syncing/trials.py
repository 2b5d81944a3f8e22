"""What the bench measures of the sync: equality under faults, payload, torn reads."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nonet.common.errors import InputError
from nonet.recsys.syncing.frames import Ints
from nonet.recsys.syncing.links import InProcessLink
from nonet.recsys.syncing.messages import Delta, decode
from nonet.recsys.syncing.publisher import DeltaPublisher, LinkDownError
from nonet.recsys.syncing.replica import Replica
from nonet.recsys.table import SGD, EmbeddingTable, Uniform

_LEAST_VERSIONS = 20


class FaultyLink:
    """A network as bad as one likes in front of a replica.

    Args:
        replica: behind it.
        rate: probability of each fault for a message: lost, its answer lost, damaged, sent twice, held back behind
            the next messages.
        seed: of the faults.

    Raises:
        InputError: a rate out of [0, 0.2], since the five exclude each other.
    """

    def __init__(self, replica: Replica, rate: float = 0.0, seed: int = 0) -> None:
        if not 0 <= rate <= 0.2:
            raise InputError(f"rate of faults must be in [0, 0.2], got {rate}")
        self.replica, self.rate, self.is_down = replica, rate, False
        self.payload_bytes = self.num_rows = self.num_tombstones = 0
        self.table_bytes: Counter[str] = Counter()
        self.faults = 0
        self._random = random.Random(seed)
        self._held: list[bytes] = []

    def send(self, frame: bytes) -> bytes | None:
        """See `Link`."""
        if self.is_down:
            raise LinkDownError("the replica is down")
        self.payload_bytes += len(frame)
        message = decode(frame)
        if isinstance(message, Delta):
            self.table_bytes[message.table] += len(frame)
            self.num_rows += len(message.keys)
            self.num_tombstones += len(message.tombstones)
        fault = int(self._random.random() / self.rate) if self.rate else 5
        self.faults += fault < 5
        if fault == 0:
            return None
        if fault == 1:
            self.replica.receive(frame)
            return None
        if fault == 2:
            damaged = bytearray(frame)
            damaged[self._random.randrange(len(frame))] ^= 1 << self._random.randrange(8)
            return self.replica.receive(bytes(damaged))
        if fault == 3:
            self.replica.receive(frame)
        if fault == 4:
            self._held.append(frame)
            return None
        answer = self.replica.receive(frame)
        self.release()
        return answer

    def bare_bytes(self, dim: int) -> int:
        """Of the keys, rows and tombstones that were sent, were there nothing else."""
        return self.num_rows * (8 + 4 * dim) + self.num_tombstones * 8

    def release(self) -> None:
        """Let what was held back arrive, newest first."""
        while self._held:
            self.replica.receive(self._held.pop())


def is_equal(table: EmbeddingTable, replica: Replica, name: str = "") -> bool:
    """Whether a replica has the keys of a table, no other, and their rows bit for bit."""
    keys = table.keys()
    same_keys = np.array_equal(keys, replica.table(name).keys())
    return same_keys and table.lookup(keys).tobytes() == replica.lookup(keys, name).tobytes()


@dataclass(frozen=True, slots=True)
class SyncTrial:
    """What `sync_trial` saw.

    Args:
        bitwise: share of the checks in which a replica equalled the table bit for bit, keys and rows.
        payload_ratio: bytes sent over 8 + 4 dim for each key that changed and 8 for each that went, to the sound
            replica, after the first interval.
        idle_bytes: sent for a table that was not touched.
        intervals_to_converge: most intervals that a replica needed after its faults had ended.
        faults: that were injected.
        missed_keys: that a replica got which was down for three intervals, over those that were touched meanwhile.
        keys_per_s: touched keys published, encoded and applied in a second, in the process.
    """

    bitwise: float
    payload_ratio: float
    idle_bytes: int
    intervals_to_converge: int
    faults: int
    missed_keys: float
    keys_per_s: float


def sync_trial(
    num_keys: int = 100_000, touched: int = 5_000, dim: int = 16, rounds: int = 20, seed: int = 0
) -> SyncTrial:
    """Random training, inserts and deletes; three replicas: sound, faulty, down for three intervals.

    Args:
        num_keys: at the start, any int64.
        touched: keys trained an interval; a tenth as many are erased and inserted.
        dim: of the rows.
        rounds: intervals with faults, at least 5.
        seed: of all of it.

    Raises:
        InputError: fewer rounds.
    """
    if rounds < 5:
        raise InputError(f"a sync trial needs 5 rounds, got {rounds}")
    rng = np.random.default_rng(seed)
    table, idle = (EmbeddingTable(dim, optimizer=SGD(lr=0.1), initializer=Uniform(), seed=seed, name=n) for n in "ab")
    keys = np.unique(rng.integers(-(1 << 63), (1 << 63) - 1, num_keys))
    table.upsert(keys, rng.standard_normal((len(keys), dim), np.float32))
    idle.upsert(keys[:10], np.ones((10, dim), np.float32))
    publisher = DeltaPublisher({"a": table, "b": idle}, incarnation=1, max_message_bytes=1 << 16)
    links = {name: FaultyLink(Replica({"a": dim, "b": dim}, name), seed=seed) for name in ("sound", "faulty", "away")}
    for name, link in links.items():
        publisher.attach(name, link)
    publisher.publish()
    sound_from, bare_from = links["sound"].payload_bytes, links["sound"].bare_bytes(dim)
    idle_from = links["sound"].table_bytes["b"]
    total, seconds, checks = 0, 0.0, []
    for interval in range(rounds):
        links["faulty"].rate = 0.15
        links["away"].is_down = 1 <= interval <= 3
        _train(table, touched, rng)
        started = time.perf_counter()
        total += publisher.publish(event_ts_ms=1000 * interval).touched["a"]
        seconds += time.perf_counter() - started
        checks.append(is_equal(table, links["sound"].replica, "a"))
    bare_bytes = links["sound"].bare_bytes(dim) - bare_from
    ratio = (links["sound"].payload_bytes - sound_from) / bare_bytes
    links["faulty"].rate = 0.0
    needed = _converge(table, publisher, links["faulty"])
    for link in links.values():
        checks += [is_equal(table, link.replica, "a"), is_equal(idle, link.replica, "b")]
    return SyncTrial(
        float(np.mean(checks)),
        ratio,
        links["sound"].table_bytes["b"] - idle_from,
        needed,
        links["faulty"].faults,
        _missed(table, publisher, links["away"], touched, rng),
        len(links) * total / seconds,
    )


def _train(table: EmbeddingTable, touched: int, rng: np.random.Generator) -> Ints:
    """Train, erase and insert; the keys of it."""
    keys = table.keys()
    chosen = rng.choice(keys, min(touched, len(keys)), replace=False)
    table.apply_gradients(chosen, rng.standard_normal((len(chosen), table.dim), np.float32), now_s=1)
    erased = rng.choice(keys, touched // 10, replace=False)
    table.erase(erased)
    new = rng.integers(-(1 << 63), (1 << 63) - 1, touched // 10)
    table.apply_gradients(new, rng.standard_normal((len(new), table.dim), np.float32), now_s=2)
    return np.concatenate([chosen, erased, new])


def _converge(table: EmbeddingTable, publisher: DeltaPublisher, link: FaultyLink) -> int:
    for interval in range(10):
        if is_equal(table, link.replica, "a"):
            return interval
        publisher.publish()
        link.release()
    return 10


def _missed(
    table: EmbeddingTable, publisher: DeltaPublisher, away: FaultyLink, touched: int, rng: np.random.Generator
) -> float:
    away.is_down = True
    missed = []
    for _ in range(3):
        missed.append(_train(table, touched, rng))
        publisher.publish()
    away.is_down, before = False, away.num_rows + away.num_tombstones
    publisher.publish()
    if not is_equal(table, away.replica, "a"):
        raise InputError("a replica that came back differs from the table")
    return (away.num_rows + away.num_tombstones - before) / len(np.unique(np.concatenate(missed)))


@dataclass(frozen=True, slots=True)
class TornReadsTrial:
    """What `torn_reads_trial` saw.

    Args:
        reads: rows read while deltas were applied.
        torn: of them, those whose floats were not of one version.
        versions: that were applied meanwhile.
        p99_idle_us: of a lookup of `batch` rows with no sync going on.
        p99_sync_us: while deltas were applied.
    """

    reads: int
    torn: int
    versions: int
    p99_idle_us: float
    p99_sync_us: float


def torn_reads_trial(
    reads: int = 1_000_000, num_keys: int = 2_000, dim: int = 64, batch: int = 200, interval_s: float = 0.0
) -> TornReadsTrial:
    """Rows that are constant in each version, read while the versions change; a row with two values is torn.

    Args:
        reads: rows to read meanwhile.
        num_keys: of the table, all of which change in each version.
        dim: of the rows.
        batch: rows a lookup.
        interval_s: between two versions; 0: one after the other.
    """
    keys = np.arange(num_keys, dtype=np.int64)
    table, replica = EmbeddingTable(dim, optimizer=SGD()), Replica({"a": dim})
    publisher = DeltaPublisher({"a": table})
    publisher.attach("r", InProcessLink(replica))
    stopping, versions = threading.Event(), [0]

    def write() -> None:
        while not stopping.wait(interval_s):
            versions[0] += 1
            table.upsert(keys, np.full((num_keys, dim), versions[0], np.float32))
            publisher.publish()

    table.upsert(keys, np.zeros((num_keys, dim), np.float32))
    publisher.publish()
    rng = np.random.default_rng(0)
    idle_us, _ = _timed_reads(replica, keys, reads // 5, batch, rng, lambda: True)
    writer = threading.Thread(target=write)
    writer.start()
    try:
        sync_us, torn = _timed_reads(replica, keys, reads, batch, rng, lambda: versions[0] >= _LEAST_VERSIONS)
    finally:
        stopping.set()
        writer.join()
    return TornReadsTrial(
        len(sync_us) * batch, torn, versions[0], *(float(np.percentile(us, 99)) for us in (idle_us, sync_us))
    )


def _timed_reads(
    replica: Replica, keys: Ints, reads: int, batch: int, rng: np.random.Generator, is_enough: Callable[[], bool]
) -> tuple[list[float], int]:
    took_us: list[float] = []
    torn = 0
    while len(took_us) * batch < reads or not is_enough():
        chosen = rng.choice(keys, batch)
        started = time.perf_counter()
        rows = replica.lookup(chosen)
        took_us.append(1e6 * (time.perf_counter() - started))
        torn += int((rows != rows[:, :1]).any(axis=1).sum())
    return took_us, torn
