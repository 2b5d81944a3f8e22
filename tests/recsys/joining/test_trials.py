"""A joiner that is killed, against DuckDB; and on every kind of log."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from nonet.recsys.joining import Joiner, trial
from nonet.recsys.joining.trial_events import LATE_MS, WAIT_MS, make_events, trial_joining, write_events
from nonet.recsys.joining.trials import differences, expected_examples, read_examples
from nonet.recsys.logs import LogUnavailableError, open_log
from tests.recsys.logs.brokers import Broker


def test_fifty_thousand_events_and_a_kill() -> None:
    found = trial(50_000, cache_rows=4_000, kills=1, seed=3)
    assert found.is_equal, found
    assert found.kills == 1
    assert found.num_repeated > 0
    assert found.max_cached_rows <= 4_000
    assert found.num_examples > 29_000
    assert min(ours for ours, _ in found.counts.values()) > 100


def test_every_log_gives_the_examples_of_the_database(url: str, tmp_path: Path) -> None:
    with open_log(url) as log:
        write_events(log, make_events(1_500, seed=1))
        for _ in range(2):  # as after a crash at the very start
            joiner = Joiner(log, tmp_path / "rows", trial_joining(1_500, cache_rows=100))
            for _ in range(20):
                joiner.step()
            joiner.close()
        with Joiner(log, tmp_path / "rows", trial_joining(1_500, cache_rows=100)) as joiner:
            joiner.run(until_end=True)
            joiner.finish()
            counts = joiner.counts
        expected, expected_counts = expected_examples(log, WAIT_MS, LATE_MS)
        assert differences(expected, read_examples(log, "examples")) == (0, 0)
        assert {name: getattr(counts, name) for name in expected_counts} == expected_counts


def test_a_broker_that_dies_under_the_joiner(tmp_path: Path) -> None:
    broker = Broker("redis", tmp_path)
    broker.start()
    try:
        with open_log(broker.url) as log:
            write_events(log, make_events(1_500, seed=2))
            with Joiner(log, tmp_path / "rows", trial_joining(1_500, cache_rows=100)) as joiner:
                for _ in range(30):
                    joiner.step()
                broker.stop()
                with pytest.raises(LogUnavailableError):
                    for _ in range(100):
                        joiner.step()
                running = threading.Thread(target=joiner.run, kwargs={"until_end": True})
                running.start()
                time.sleep(0.3)
                broker.start()
                running.join(60)
                assert not running.is_alive()
                joiner.finish()
            expected, _ = expected_examples(log, WAIT_MS, LATE_MS)
            assert differences(expected, read_examples(log, "examples")) == (0, 0)
    finally:
        broker.stop()


@pytest.mark.parametrize("seed", [0, 1])
def test_events_of_a_trial_are_what_they_say(seed: int) -> None:
    events = make_events(5_000, seed)
    assert len(events) == 5_000
    assert [comes_ms for comes_ms, _, _ in events] == sorted(comes_ms for comes_ms, _, _ in events)
    assert make_events(5_000, seed) == events
    behind = [comes_ms - record.ts_ms for comes_ms, _, record in events]
    assert 0 <= min(behind) < 86_400_000 < 6 * 86_400_000 < max(behind) < 7 * 86_400_000
