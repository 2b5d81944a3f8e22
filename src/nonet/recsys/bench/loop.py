"""The loop under test: the joiner against a database, sync under faults, freshness end to end, failure, retrieval."""

from __future__ import annotations

import numpy as np

from nonet.common.findings import Finding


def joiner_findings(num_events: int, *, cache_rows: int = 10_000, kills: int = 2) -> list[Finding]:
    """`joiner_equals_batch` and `joiner_events_per_s`.

    Args:
        num_events: shown rows and actions.
        cache_rows: that the joiner keeps in memory.
        kills: of its process, by SIGKILL.
    """
    from nonet.recsys.joining.trials import trial

    seen = trial(num_events, cache_rows=min(cache_rows, num_events // 20), kills=kills)
    source = f"synthetic: {num_events:,} events up to a week late, shuffled; {kills} kill -9"
    told = (
        f"{seen.num_examples:,} examples, {seen.num_expected:,} by a join in DuckDB; {seen.num_missing} missing, "
        f"{seen.num_surplus} too many; at most {seen.max_cached_rows:,} rows in memory"
    )
    rate = f"{seen.events_per_cpu_s:,.0f} a second of CPU; what was done again after a kill counts once"
    return [
        Finding("recsys", "joiner_equals_batch", float(seen.is_equal), "", "match", source, promise=1.0, note=told),
        Finding("recsys", "joiner_events_per_s", seen.events_per_s, "1/s", "higher", source, note=rate),
    ]


def sync_findings(*, reads: int) -> list[Finding]:
    """`sync_bitwise`, `sync_payload_ratio`, `torn_reads`, `lookup_p99_during_sync`.

    Args:
        reads: of rows while versions change.
    """
    from nonet.recsys.syncing.trials import sync_trial, torn_reads_trial

    sync = sync_trial()
    source = "synthetic: 100,000 keys, 5,000 trained an interval"
    faults = (
        f"{sync.faults} messages lost, doubled, swapped or damaged, one replica away for three intervals; equal again "
        f"after {sync.intervals_to_converge} intervals"
    )
    torn = torn_reads_trial(reads)
    busy = f"synthetic: {torn.reads:,} rows read while {torn.versions:,} versions were written"
    waits = f"{torn.p99_sync_us:.0f} us a lookup of 200 rows, {torn.p99_idle_us:.0f} us without sync"
    return [
        Finding("recsys", "sync_bitwise", sync.bitwise, "", "match", source, promise=1.0, note=faults),
        Finding(
            "recsys",
            "sync_payload_ratio",
            sync.payload_ratio,
            "x",
            "lower",
            source,
            promise=1.15,
            note=f"of touched x (8 + 4 dim) bytes; a table that nothing touched sent {sync.idle_bytes} bytes",
        ),
        Finding("recsys", "torn_reads", float(torn.torn), "", "match", busy, promise=0.0),
        Finding(
            "recsys", "lookup_p99_during_sync", torn.p99_sync_us / torn.p99_idle_us, "x", "lower", busy, note=waits
        ),
    ]


def freshness_findings(*, interval_s: float = 1.0, probes: int = 15) -> list[Finding]:
    """`freshness_p50_s`: from an event on the log to another prediction.

    Args:
        interval_s: of the sync.
        probes: events that are followed.
    """
    from nonet.recsys.serving.trials import freshness_trial

    seen = freshness_trial(interval_s, probes)
    source = f"synthetic: embedded log, joiner, trainer, replica in one process; a sync every {interval_s:g} s"
    told = (
        f"{seen.probes} probes; 95 % within {seen.p95_s:.2f} s; the label waits 100 ms; a job waits as "
        "long as its labels do, 30 s when `init` wrote it"
    )
    return [Finding("recsys", "freshness_p50_s", seen.p50_s, "s", "lower", source, promise=2.0, note=told)]


def failure_findings(backend: str) -> list[Finding]:
    """`shard_failure_auc_drop` and `replay_equal`: one of four shards is killed.

    Args:
        backend: "thread", "process" or "ray".
    """
    from nonet.recsys.sharding.failure import failure_trial

    snapshot, replay = failure_trial("snapshot", backend), failure_trial("replay", backend)
    source = f"synthetic: the drift generator, 4 shards ({backend}), the second killed"
    lost = (
        f"AUC {snapshot.auc_with:.4f} instead of {snapshot.auc_without:.4f}; {snapshot.lost_share:.1%} of the rows' "
        f"training lost, back after {snapshot.recovery_s:.2f} s"
    )
    again = f"{replay.rows_again:,} rows learned again, back after {replay.recovery_s:.2f} s"
    return [
        Finding("recsys", "shard_failure_auc_drop", snapshot.auc_drop, "", "lower", source, promise=0.01, note=lost),
        Finding("recsys", "replay_equal", float(replay.is_equal), "", "match", source, promise=1.0, note=again),
    ]


def retrieval_findings(num_items: int) -> list[Finding]:
    """`recall_at_50` of the index's graph after its items have moved, and on vectors that a model has learned.

    Args:
        num_items: that are made up.
    """
    from nonet.recsys.bench.learning import log_of
    from nonet.recsys.data import ML_LATEST_SMALL
    from nonet.recsys.freshness.setup import USUAL
    from nonet.recsys.serving.trials import recall_of, recall_trial

    seen = recall_trial(num_items)
    told = (
        f"{seen.recall_fresh:.3f} before any change; {seen.found_after_change:.0%} of changed items found first; "
        f"{seen.search_ms:.2f} ms a search, {seen.updates_per_s:,.0f} items moved a second; up to 100,000 items the "
        "index compares all instead"
    )
    source = f"synthetic: {num_items:,} vectors of 16 numbers, a quarter of them moved three times"
    log = log_of(ML_LATEST_SMALL)
    trainer = USUAL.trainer(tuple(log.rows.ids), log.rows.dense.shape[1], 0)
    USUAL.learn(trainer, log.rows)
    user, item = (trainer.tables[name].lookup(np.unique(log.rows.ids[name].values)) for name in ("user", "item"))
    asked = user[:200].copy()
    asked[:, 0] = 1.0  # the item's bias counts whole
    learned = recall_of(item, asked)
    given = f"{log.name}: {len(item):,} items and {len(asked)} users of a DeepFM, k=8, after one pass"
    return [
        Finding("recsys", "recall_at_50", seen.recall, "", "higher", source, promise=0.95, note=told),
        Finding("recsys", "recall_at_50_learned", learned, "", "higher", given, promise=log.promise(0.95)),
    ]
