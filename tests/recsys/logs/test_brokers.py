"""Brokers that die and come back."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from nonet.recsys.logs import Log, LogUnavailableError, Producer, Record, open_log
from tests.recsys.logs.brokers import Broker


def rows(start: int, end: int) -> list[Record]:
    return [Record(b"", b"%d" % n, n) for n in range(start, end)]


def append_until_taken(log: Log, records: list[Record], producer: Producer) -> None:
    end_s = time.monotonic() + 30
    while True:
        try:
            log.append("t", 0, records, producer)
            return
        except LogUnavailableError:
            assert time.monotonic() < end_s
            time.sleep(0.1)


@pytest.mark.parametrize("kind", ["nats", "redis"])
def test_what_was_appended_outlives_a_killed_broker(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nonet.recsys.logs.nats._TIMEOUT_S", 0.5)
    broker = Broker(kind, tmp_path)
    broker.start()
    try:
        with open_log(broker.url) as log:
            log.create("t")
            log.append("t", 0, rows(0, 10), Producer("p", 0))
            broker.stop()
            with pytest.raises(LogUnavailableError):
                log.read("t", 0, 0)
            with pytest.raises(LogUnavailableError):
                log.append("t", 0, rows(10, 12), Producer("p", 10))
            broker.start()
            append_until_taken(log, rows(5, 15), Producer("p", 5))
            assert log.read("t", 0, 0).records == rows(0, 15)
    finally:
        broker.stop()


def test_a_consumer_that_lost_its_place_is_not_believed(brokers: dict[str, Broker]) -> None:
    with open_log(brokers["nats"].url) as log:
        log.create("lost")
        log.append("lost", 0, rows(0, 9))
        for wrong in (2, 7):
            assert log.read("lost", 0, 1, 3).records == rows(1, 4)
            log._readers["lost", 0] = (wrong, log._readers["lost", 0][1])  # as after the crash of a server
            with pytest.raises(LogUnavailableError, match="came instead"):
                log.read("lost", 0, wrong, 2)
            assert log.read("lost", 0, wrong, 2).records == rows(wrong, wrong + 2)
