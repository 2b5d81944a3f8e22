"""What every log promises, asked of each back end; a list in memory is the oracle."""

from __future__ import annotations

import itertools
import threading
import time

import pytest

from nonet.common.errors import InputError
from nonet.recsys.logs import Log, LogUnavailableError, OffsetError, Producer, Record, open_log, partition_of

_numbers = itertools.count()


def rows(start: int, end: int) -> list[Record]:
    return [Record(b"k%d" % n, b"payload \x00\xff %d" % n, 1_700_000_000_000 + n) for n in range(start, end)]


def read_all(log: Log, topic: str, partition: int = 0, step: int = 1000) -> list[Record]:
    offset, found = log.offsets(topic, partition)[0], []
    while batch := log.read(topic, partition, offset, step):
        assert list(batch.offsets) == list(range(offset, offset + len(batch.records)))
        assert len(batch.records) <= step
        if not batch.records:
            return found
        found += batch.records
        offset = batch.next_offset
    return found


@pytest.fixture
def topic(log: Log) -> str:
    name = f"topic.{next(_numbers)}"
    log.create(name, 2)
    return name


def test_records_come_back_byte_for_byte_in_their_order(log: Log, topic: str) -> None:
    odd = [
        Record(b"", b"", 0),
        Record(bytes(range(256)), b"x" * 200_000, (1 << 53) + 1),
        Record(b"k", b"\r\n", 1),
    ]
    assert log.append(topic, 1, odd) == 3
    assert log.append(topic, 1, rows(0, 1500)) == 1500
    assert log.append(topic, 1, []) == 0
    assert read_all(log, topic, 1) == odd + rows(0, 1500)
    assert read_all(log, topic, 1, step=700) == odd + rows(0, 1500)
    assert log.read(topic, 1, 1501, 5).records == rows(1498, 1500)
    assert read_all(log, topic, 0) == []
    assert (log.offsets(topic, 0), log.offsets(topic, 1)) == ((0, 0), (0, 1503))


def test_another_reader_sees_what_was_appended(log: Log, topic: str, url: str) -> None:
    with open_log(url) as other:
        assert read_all(other, topic) == []
        log.append(topic, 0, rows(0, 3))
        assert read_all(other, topic) == rows(0, 3)
        other.append(topic, 0, rows(3, 5))
        log.append(topic, 0, rows(5, 6))
        assert read_all(log, topic) == read_all(other, topic) == rows(0, 6)


def test_a_producer_that_repeats_itself_appends_once(log: Log, topic: str, url: str) -> None:
    assert log.append(topic, 0, rows(0, 10), Producer("p", 0)) == 10
    assert log.append(topic, 0, rows(0, 10), Producer("p", 0)) == 0
    log.append(topic, 0, rows(100, 101))
    log.append(topic, 0, rows(200, 203), Producer("q", 0))
    with open_log(url) as after_a_crash:
        assert after_a_crash.append(topic, 0, rows(5, 15), Producer("p", 5)) == 5
        assert after_a_crash.append(topic, 1, rows(0, 2), Producer("p", 0)) == 2
    assert log.append(topic, 0, rows(203, 1203), Producer("q", 3)) == 1000
    assert read_all(log, topic) == rows(0, 10) + rows(100, 101) + rows(200, 203) + rows(10, 15) + rows(203, 1203)


def test_offsets_out_of_range_are_refused(log: Log, topic: str) -> None:
    log.append(topic, 0, rows(0, 4))
    assert log.read(topic, 0, 4).records == []
    with pytest.raises(OffsetError, match="behind the end 4"):
        log.read(topic, 0, 5)
    with pytest.raises(OffsetError):
        log.trim(topic, 0, 5)
    with pytest.raises(OffsetError):
        log.commit("g", topic, {0: 5})


def test_trimming_takes_the_front_and_keeps_the_numbers(log: Log, topic: str) -> None:
    log.append(topic, 0, rows(0, 10), Producer("p", 0))
    try:
        log.trim(topic, 0, 4)
    except LogUnavailableError:
        assert type(log).__name__ == "KafkaLog"
        pytest.skip("Tansu 0.6 breaks the connection off when it is to delete records")
    assert log.offsets(topic, 0) == (4, 10)
    assert read_all(log, topic) == rows(4, 10)
    with pytest.raises(OffsetError, match="4"):
        log.read(topic, 0, 3)
    log.trim(topic, 0, 2)
    log.trim(topic, 0, 10)
    assert log.offsets(topic, 0) == (10, 10)
    log.append(topic, 0, rows(8, 12), Producer("p", 8))
    assert log.offsets(topic, 0)[1] in (12, 14)  # whose last record is gone a broker may not know any more


def test_committed_offsets_are_kept_by_group_and_partition(log: Log, topic: str, url: str) -> None:
    log.append(topic, 0, rows(0, 3))
    log.append(topic, 1, rows(0, 5))
    assert log.committed("joiner.a", topic) == {}
    log.commit("joiner.a", topic, {0: 2, 1: 5})
    log.commit("joiner.a", topic, {0: 3})
    log.commit("other", topic, {1: 1})
    with open_log(url) as again:
        assert again.committed("joiner.a", topic) == {0: 3, 1: 5}
        assert again.committed("other", topic) == {1: 1}


def test_a_reader_sleeps_until_something_comes(log: Log, topic: str, url: str) -> None:
    positions = {(topic, 0): 0, (topic, 1): 0}
    start_s = time.monotonic()
    assert not log.wait(positions, 0.3)
    assert time.monotonic() - start_s >= 0.25

    def write_later() -> None:
        time.sleep(0.2)
        with open_log(url) as other:
            other.append(topic, 1, rows(0, 1))

    writer = threading.Thread(target=write_later)
    writer.start()
    used_s = time.process_time()
    assert log.wait(positions, 10)
    writer.join()
    assert time.process_time() - used_s < 1
    assert log.wait(positions, 10)  # it is there already
    assert log.read(topic, 1, 0).records == rows(0, 1)


def test_two_threads_sleep_each_for_its_own(log: Log, topic: str) -> None:
    woken: list[tuple[int, bool]] = []

    def sleeps(partition: int) -> None:
        woken.append((partition, log.wait({(topic, partition): 0}, 20)))

    threads = [threading.Thread(target=sleeps, args=(partition,)) for partition in (0, 1)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    for partition in (1, 0):
        log.append(topic, partition, rows(0, 1))
        threads[partition].join(30)
    assert woken == [(1, True), (0, True)]


def test_a_name_that_begins_another_is_no_part_of_it(log: Log) -> None:
    name = f"begins{next(_numbers)}"
    log.create(f"{name}_more", 2)
    assert log.num_partitions(name) == 0
    log.create(name)
    assert (log.num_partitions(name), log.num_partitions(f"{name}_more")) == (1, 2)


def test_partitions_can_be_added_and_not_taken_away(log: Log, topic: str) -> None:
    log.append(topic, 1, rows(0, 2))
    log.create(topic, 2)
    try:
        log.create(topic, 3)
    except InputError as error:
        assert "not supported by broker" in str(error)
        pytest.skip("Tansu cannot add partitions")
    assert log.num_partitions(topic) == 3
    assert log.append(topic, 2, rows(0, 1)) == 1
    assert read_all(log, topic, 1) == rows(0, 2)
    for num in (2, 0):
        with pytest.raises(InputError):
            log.create(topic, num)


def test_publish_spreads_by_key(log: Log, topic: str) -> None:
    log.publish(topic, rows(0, 50))
    for partition in (0, 1):
        assert read_all(log, topic, partition) == [r for r in rows(0, 50) if partition_of(r.key, 2) == partition]


def test_what_no_log_can_keep_is_refused(log: Log, topic: str) -> None:
    assert log.num_partitions("not-there") == 0
    for bad in ("", "a/b", "..", "x" * 201):
        with pytest.raises(InputError):
            log.create(bad)
    for call in (
        lambda: log.append(topic, 2, rows(0, 1)),
        lambda: log.read("not-there", 0, 0),
        lambda: log.offsets(topic, -1),
    ):
        with pytest.raises(InputError):
            call()
    for bad_record in (Record(b"", b"", -1), Record(b"", b"", 1 << 62), Record(bytes(2 << 20), b"", 1)):
        with pytest.raises(InputError):
            log.append(topic, 0, [bad_record])
    assert log.offsets(topic, 0) == (0, 0)


@pytest.mark.parametrize("kind", ["kafka", "nats", "redis"])
def test_a_broker_that_is_not_there(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind != "redis":
        monkeypatch.setattr(f"nonet.recsys.logs.{kind}._TIMEOUT_S", 0.5)
    with pytest.raises(LogUnavailableError):
        open_log(f"{kind}://127.0.0.1:1")
