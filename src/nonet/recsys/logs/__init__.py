"""Logs of events: topics of partitions, read by offset, on four back ends with equal results.

log.py            the interface and what it promises
opening.py        `open_log(url)`
segments.py       the embedded log (a folder); partition.py  its segment files; frames.py  their bytes;
                  waking.py  readers in other processes
kafka.py          the Kafka protocol
nats.py           NATS JetStream
redis_streams.py  Redis or Valkey Streams
"""

from nonet.recsys.logs.log import (
    Batch,
    Log,
    LogDamagedError,
    LogUnavailableError,
    OffsetError,
    Producer,
    Record,
    partition_of,
)
from nonet.recsys.logs.opening import LOGS, open_log
from nonet.recsys.logs.partition import Keeping
from nonet.recsys.logs.segments import SegmentLog

__all__ = [
    "LOGS",
    "Batch",
    "Keeping",
    "Log",
    "LogDamagedError",
    "LogUnavailableError",
    "OffsetError",
    "Producer",
    "Record",
    "SegmentLog",
    "open_log",
    "partition_of",
]
