"""A joiner that is killed, against DuckDB, and on every kind of log."""

from __future__ import annotations

from nonet.recsys.joining.trial import trial


def test_fifty_thousand_events_and_a_kill() -> None:
    found = trial(50_000, cache_rows=1_000, kills=1, seed=3)
    assert found.is_equal, found
    assert found.kills == 1
    assert found.num_repeated > 0
    assert found.max_cached_rows <= 1_000
    assert found.num_examples > 29_000
    assert min(ours for ours, _ in found.counts.values()) > 100
