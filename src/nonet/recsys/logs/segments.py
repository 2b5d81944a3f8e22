"""The embedded log: a folder, no server. `file:DIR?fsync=always&segment_bytes=67108864&retention_ms=604800000`."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from nonet.common.atomic import atomic_write, locked
from nonet.common.errors import InputError
from nonet.recsys.logs.log import (
    Batch,
    Log,
    OffsetError,
    Position,
    Producer,
    Record,
    checked_growth,
    checked_name,
    checked_partition,
    checked_records,
)
from nonet.recsys.logs.partition import Keeping, Partition
from nonet.recsys.logs.waking import sleep_until, wake

FSYNC = ("always", "interval", "never")


class SegmentLog(Log):
    """Topics as folders of checksummed segment files.

    Args:
        folder: made if need be.
        keeping: settings.

    Raises:
        InputError: an unknown fsync policy, or sizes below 0.

    >>> import tempfile
    >>> with SegmentLog(tempfile.mkdtemp()) as log:
    ...     log.create("actions")
    ...     _ = log.append("actions", 0, [Record(b"user-1", b"click", 1000)])
    ...     log.read("actions", 0, 0).records
    [Record(key=b'user-1', payload=b'click', ts_ms=1000)]
    """

    def __init__(self, folder: str | Path, keeping: Keeping = Keeping()) -> None:  # noqa: B008 - frozen
        if keeping.fsync not in FSYNC:
            raise InputError(f"fsync {keeping.fsync!r}: choose {', '.join(FSYNC)}")
        if keeping.segment_bytes < 1 or keeping.retention_bytes < 0 or keeping.retention_ms < 0:
            raise InputError(f"sizes and times of a log are not negative, a segment has a byte: {keeping}")
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._keeping = keeping
        self._partitions: dict[Position, Partition] = {}
        self._threads = threading.Lock()

    def create(self, topic: str, num_partitions: int = 1) -> None:
        """See `Log`."""
        path = self._folder / checked_name(topic)
        path.mkdir(exist_ok=True)
        with locked(path / "topic.json"):
            now = self.num_partitions(topic)
            checked_growth(topic, now, num_partitions)
            for partition in range(now, num_partitions):
                (path / str(partition)).mkdir(exist_ok=True)
            if num_partitions > now:
                with atomic_write(path / "topic.json") as file:
                    json.dump({"version": 1, "num_partitions": num_partitions}, file)
        wake(self._folder / "waiting")

    def num_partitions(self, topic: str) -> int:
        """See `Log`."""
        path = self._folder / checked_name(topic) / "topic.json"
        try:
            about = json.loads(path.read_text())
        except FileNotFoundError:
            return 0
        except ValueError as error:
            raise InputError(f"{path}: not JSON ({error}); write back how many partitions the folder has") from error
        if about.get("version") != 1:
            raise InputError(f"{path}: version {about.get('version')} is not known here; update nonet")
        return int(about["num_partitions"])

    def append(self, topic: str, partition: int, records: Sequence[Record], producer: Producer | None = None) -> int:
        """See `Log`."""
        checked_records(records)
        num = self._partition(topic, partition).append(records, producer)
        if num:
            wake(self._folder / "waiting")
        return num

    def read(self, topic: str, partition: int, offset: int, max_records: int = 1000) -> Batch:
        """See `Log`."""
        return self._partition(topic, partition).read(offset, max_records)

    def offsets(self, topic: str, partition: int) -> tuple[int, int]:
        """See `Log`."""
        return self._partition(topic, partition).offsets()

    def wait(self, positions: Mapping[Position, int], timeout_s: float) -> bool:
        """See `Log`."""

        def ready() -> bool:
            return any(self.offsets(*position)[1] > offset for position, offset in positions.items())

        return sleep_until(ready, self._folder / "waiting", timeout_s)

    def commit(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        """See `Log`."""
        for partition, offset in offsets.items():
            if not 0 <= offset <= self.offsets(topic, partition)[1]:
                raise OffsetError(f"{topic} {partition}: offset {offset} does not exist, so it is not committed")
        path = self._committed_path(group, topic)
        path.parent.mkdir(exist_ok=True)
        with locked(path):
            now = self.committed(group, topic) | dict(offsets)
            with atomic_write(path) as file:
                json.dump({str(partition): offset for partition, offset in sorted(now.items())}, file)

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """See `Log`."""
        try:
            text = self._committed_path(group, topic).read_text()
        except FileNotFoundError:
            return {}
        return {int(partition): offset for partition, offset in json.loads(text).items()}

    def trim(self, topic: str, partition: int, before: int) -> None:
        """See `Log`."""
        self._partition(topic, partition).trim(before)

    def close(self) -> None:
        """See `Log`."""
        with self._threads:
            for partition in self._partitions.values():
                partition.close()
            self._partitions = {}

    def _committed_path(self, group: str, topic: str) -> Path:
        folder = self._folder / checked_name(topic)
        checked_partition(topic, 0, self.num_partitions(topic))
        return folder / "groups" / f"{checked_name(group, 'group')}.json"

    def _partition(self, topic: str, partition: int) -> Partition:
        with self._threads:
            found = self._partitions.get((topic, partition))
            if found is None:
                checked_partition(topic, partition, self.num_partitions(topic))
                path = self._folder / topic / str(partition)
                os.makedirs(path, exist_ok=True)  # noqa: PTH103
                found = self._partitions[topic, partition] = Partition(path, self._keeping)
            return found
