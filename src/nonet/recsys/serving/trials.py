"""What the bench measures of serving: recall of the index, and how long an event takes to change a prediction."""

from __future__ import annotations

import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nonet.recsys.example import ActionEvent, FeatureEvent, Floats, Ints, encode
from nonet.recsys.features.encoder import FeatureEncoder
from nonet.recsys.joining import Joiner, Joining, Label
from nonet.recsys.logs import Log, Record, SegmentLog
from nonet.recsys.running.learning import Learner
from nonet.recsys.serving.arms import Arm
from nonet.recsys.serving.encoding import Catalogue, Features
from nonet.recsys.serving.index import ItemIndex
from nonet.recsys.syncing import DeltaPublisher, InProcessLink, Replica, SyncLoop
from nonet.recsys.training.presets import preset_table
from nonet.recsys.training.trainer import Trainer

_PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class RecallTrial:
    """What `recall_trial` saw.

    Args:
        recall: share of the true nearest that were found, after all changes.
        recall_fresh: before any change.
        found_after_change: share of the changed items that were found first by a query along their new vector.
        search_ms: median of a search.
        updates_per_s: items moved in a second.
    """

    recall: float
    recall_fresh: float
    found_after_change: float
    search_ms: float
    updates_per_s: float


def recall_trial(
    num_items: int = 20_000, dim: int = 16, k: int = 50, queries: int = 200, rounds: int = 3, seed: int = 0
) -> RecallTrial:
    """The graph of the index against brute force, fresh and after a quarter of the items moved, some rounds long.

    Args:
        num_items: vectors of normal numbers, their lengths lognormal.
        dim: of the vectors.
        k: nearest to find.
        queries: in each measurement.
        rounds: of changes.
        seed: of all of it.
    """
    rng = np.random.default_rng(seed)
    ids = rng.choice(1 << 40, num_items, replace=False).astype(np.int64)
    rows = rng.standard_normal((num_items, dim), np.float32)
    rows *= np.exp(0.5 * rng.standard_normal((num_items, 1), np.float32))
    index = ItemIndex(dim, exact_up_to=0)
    index.update(ids, rows)
    asked = rng.standard_normal((queries, dim)).astype(np.float32)
    fresh, _ = _recall(index, ids, rows, asked, k)
    seconds, moved = 0.0, np.empty(0, np.int64)
    for _ in range(rounds):
        moved = rng.permutation(num_items)[: num_items // 4]
        rows[moved] += 0.3 * rng.standard_normal((len(moved), dim)).astype(np.float32)
        started = time.perf_counter()
        index.update(ids[moved], rows[moved])
        seconds += time.perf_counter() - started
    recall, search_ms = _recall(index, ids, rows, asked, k)
    longest = moved[:queries]
    rows[longest] *= 3 * np.linalg.norm(rows, axis=1).max() / np.linalg.norm(rows[longest], axis=1, keepdims=True)
    found = 0
    for at in longest.tolist():  # one at a time: each is then the nearest to its own direction
        index.update(ids[at : at + 1], rows[at : at + 1])
        found += int(index.search(rows[at], 1)[0][0] == ids[at])
    return RecallTrial(recall, fresh, found / len(longest), search_ms, rounds * (num_items // 4) / seconds)


def recall_of(rows: Floats, asked: Floats, *, k: int = 50) -> float:
    """Share of the k items with the largest inner products that the graph of the index finds.

    Args:
        rows: float32 [items, dim].
        asked: float32 [queries, dim].
        k: nearest to find.
    """
    index, ids = ItemIndex(rows.shape[1], exact_up_to=0), np.arange(len(rows))
    index.update(ids, rows)
    return _recall(index, ids, rows, asked, k)[0]


def _recall(index: ItemIndex, ids: Ints, rows: Floats, asked: Floats, k: int) -> tuple[float, float]:
    hits, took_ms = 0, []
    for query in asked:
        started = time.perf_counter()
        found, _ = index.search(query, k)
        took_ms.append(1e3 * (time.perf_counter() - started))
        hits += len(np.intersect1d(found, ids[np.argpartition(-(rows @ query), k)[:k]]))
    return hits / (k * len(asked)), float(np.median(took_ms))


@dataclass(frozen=True, slots=True)
class FreshnessTrial:
    """What `freshness_trial` saw.

    Args:
        p50_s: median, from the append of an event to a changed prediction for its user and item.
        p95_s: likewise.
        probes: events that were followed.
        staleness_s: of the replica at the end.
    """

    p50_s: float
    p95_s: float
    probes: int
    staleness_s: float


def freshness_trial(interval_s: float = 1.0, probes: int = 15, wait_ms: int = 100) -> FreshnessTrial:
    """The whole loop: embedded log, joiner, trainer, publisher, replica, each in a thread, with other traffic.

    A probe is a shown row of a new user and a new item, with its click. Dense parameters are not sent meanwhile, so
    that nothing but the probe can change its prediction.

    Args:
        interval_s: of the sync.
        probes: to follow, one after the other.
        wait_ms: of the joiner's label.
    """
    features = Features({"user": FeatureEncoder("user", 1), "item": FeatureEncoder("item", 2)})
    catalogue = Catalogue(features)
    table = preset_table("deepfm", 8, name="ids")
    trainer = Trainer("deepfm", table, features=("user", "item"))
    replica = Replica({"ids": table.dim})
    arm = Arm("a", trainer.model, replica, catalogue)
    publisher = DeltaPublisher({"ids": table})
    publisher.attach("a", InProcessLink(replica))
    joining = Joining(
        labels=(Label("click", wait_ms=wait_ms, actions=("click",)),), allowed_lateness_ms=0, checkpoint_s=0.05
    )
    stop = threading.Event()
    with (
        tempfile.TemporaryDirectory() as folder,
        SegmentLog(Path(folder) / "log") as log,
        Joiner(log, Path(folder) / "join", joining) as joiner,
    ):
        learner = Learner(log, "examples", trainer)
        runs = (
            lambda: joiner.run(stop=stop),
            lambda: _learn(learner, stop),
            lambda: _traffic(log, features, stop),
        )
        threads = [threading.Thread(target=run, daemon=True) for run in runs]
        for thread in threads:
            thread.start()
        loop = SyncLoop(publisher, interval_s, lambda: learner.event_ts_ms).start()
        try:
            time.sleep(2 * interval_s)  # what compiles at first use has compiled
            took_s = [_probe(log, features, arm, n) for n in range(probes + 1)][1:]
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        loop.stop()
        staleness_s = replica.staleness_s(time.time())
    return FreshnessTrial(float(np.median(took_s)), float(np.percentile(took_s, 95)), len(took_s), staleness_s)


def _learn(learner: Learner, stop: threading.Event) -> None:
    while not stop.is_set():
        if not learner.step():
            learner.wait(0.2)


def _probe(log: Log, features: Features, arm: Arm, number: int) -> float:
    user, item = f"probe-{number}", f"item-{number}"
    ids = features.ids_of({"user": user, "item": item})
    batch = features.batch(ids, [ids], [], 0)
    before = arm.rank(batch)[0]
    _append(log, f"{user}-{time.time_ns()}", item, ids, clicked=True)
    started = time.perf_counter()
    while arm.rank(batch)[0] == before:
        if time.perf_counter() - started > _PATIENCE_S:
            raise TimeoutError(f"probe {number} changed no prediction within {_PATIENCE_S:g} s")
        time.sleep(0.005)
    return time.perf_counter() - started


def _traffic(log: Log, features: Features, stop: threading.Event) -> None:
    rng = np.random.default_rng(0)
    number = 0
    while not stop.wait(0.02):
        number += 1
        user, item = f"u{rng.integers(100)}", f"i{rng.integers(100)}"
        _append(log, f"traffic-{number}", item, features.ids_of({"user": user, "item": item}), clicked=number % 3 == 0)


def _append(log: Log, request: str, item: str, ids: dict[str, list[int]], *, clicked: bool) -> None:
    key, now_ms = request.encode(), int(time.time() * 1000)
    shown = FeatureEvent(request_id=key, item_id=item.encode(), ts_ms=now_ms, ids=ids)
    log.publish("features", [Record(key, encode(shown), now_ms)])
    if clicked:
        done = ActionEvent(request_id=key, item_id=item.encode(), ts_ms=now_ms, action="click")
        log.publish("actions", [Record(key, encode(done), now_ms)])
