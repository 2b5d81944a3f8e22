"""What the bench measures of serving: an event reaches a prediction, and retrieval finds what brute force finds."""

from __future__ import annotations

from nonet.recsys.serving.trials import freshness_trial, recall_trial


def test_an_event_changes_its_prediction_soon_after_the_next_sync() -> None:
    trial = freshness_trial(interval_s=0.2, probes=3)
    assert trial.probes == 3
    assert 0.05 < trial.p50_s <= 2.0
    assert trial.staleness_s < 10


def test_retrieval_finds_what_brute_force_finds() -> None:
    trial = recall_trial(num_items=2500, queries=30, rounds=2)
    assert trial.recall >= 0.95
    assert trial.found_after_change == 1.0
