"""Logs as Redis or Valkey Streams; entry n + 1 of a stream is the record of offset n.

Keys, for topic t and partition p: `nonet:log:topics` (hash: partitions by topic), `nonet:log:{t:p}` (stream with the
fields k, p, t: key, payload, time), `...:next` (its next offset), `...:producers` (hash: last sequence number by
producer), `nonet:log:group:g:t` (hash: committed offset by partition). A script appends, so numbering and the check of
the producer are one step. How durable that is, is the server's `appendfsync`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import redis

from nonet.recsys.logs.log import (
    Batch,
    Log,
    LogUnavailableError,
    OffsetError,
    Position,
    Producer,
    Record,
    checked_growth,
    checked_name,
    checked_offset,
    checked_partition,
    checked_records,
)

_TOPICS = "nonet:log:topics"
_CHUNK = 512
_GONE = (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError)
T = TypeVar("T")

_APPEND = """
local skip, sequence, num = 0, tonumber(ARGV[2]), (#ARGV - 2) / 3
if sequence >= 0 then
    local last = tonumber(redis.call('HGET', KEYS[3], ARGV[1]) or '-1')
    skip = math.max(0, math.min(num, last + 1 - sequence))
end
if skip == num then return 0 end
local offset = tonumber(redis.call('GET', KEYS[2]) or '0')
for n = skip, num - 1 do
    local at = 3 + 3 * n
    offset = offset + 1
    redis.call('XADD', KEYS[1], string.format('%.0f-0', offset), 'k', ARGV[at], 'p', ARGV[at + 1], 't', ARGV[at + 2])
end
redis.call('SET', KEYS[2], string.format('%.0f', offset))
if sequence >= 0 then redis.call('HSET', KEYS[3], ARGV[1], string.format('%.0f', sequence + num - 1)) end
return num - skip
"""

_GROW = """
local now = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0')
if tonumber(ARGV[2]) > now then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end
return now
"""


class RedisLog(Log):
    """Topics as streams of one Redis or Valkey server.

    Args:
        url: such as `redis://localhost:6379/0`.
        client: instead of one for the address.

    Raises:
        LogUnavailableError: no answer.
    """

    def __init__(self, url: str, client: redis.Redis | None = None) -> None:
        self._where = url.rpartition("@")[2]
        self._client: Any = client or redis.Redis.from_url(url)
        self._append = self._client.register_script(_APPEND)
        self._grow = self._client.register_script(_GROW)
        self._do(self._client.ping)

    def create(self, topic: str, num_partitions: int = 1) -> None:
        """See `Log`."""
        checked_name(topic)
        checked_growth(topic, 0, num_partitions)
        now = self._do(lambda: self._grow(keys=[_TOPICS], args=[topic, num_partitions]))
        checked_growth(topic, now, num_partitions)

    def num_partitions(self, topic: str) -> int:
        """See `Log`."""
        return int(self._do(lambda: self._client.hget(_TOPICS, checked_name(topic))) or 0)

    def append(self, topic: str, partition: int, records: Sequence[Record], producer: Producer | None = None) -> int:
        """See `Log`."""
        checked_records(records)
        stream = self._stream(topic, partition)
        keys = [stream, f"{stream}:next", f"{stream}:producers"]
        num = 0
        for start in range(0, len(records), _CHUNK):
            name, sequence = (producer.name, producer.sequence + start) if producer else ("", -1)
            fields = [field for record in records[start : start + _CHUNK] for field in record]
            num += self._do(partial(self._append, keys=keys, args=[name, sequence, *fields]))
        return num

    def read(self, topic: str, partition: int, offset: int, max_records: int = 1000) -> Batch:
        """See `Log`."""
        stream = self._stream(topic, partition)
        entries = self._do(lambda: self._client.xrange(stream, f"{offset + 1}-0", "+", count=max_records))
        if not entries or entries[0][0] != b"%d-0" % (offset + 1):
            first, end = self.offsets(topic, partition)
            checked_offset(f"{self._where} {topic} {partition}", offset, first, end)
        records = [Record(fields[b"k"], fields[b"p"], int(fields[b"t"])) for _, fields in entries]
        return Batch(records, range(offset, offset + len(records)), offset + len(records))

    def offsets(self, topic: str, partition: int) -> tuple[int, int]:
        """See `Log`."""
        stream = self._stream(topic, partition)
        asked = self._client.pipeline().xrange(stream, count=1).get(f"{stream}:next")
        entries, end = self._do(asked.execute)
        return (int(entries[0][0].partition(b"-")[0]) - 1 if entries else int(end or 0)), int(end or 0)

    def wait(self, positions: Mapping[Position, int], timeout_s: float) -> bool:
        """See `Log`."""
        after = {self._stream(*position): f"{offset}-0" for position, offset in positions.items()}
        block_ms = max(1, int(timeout_s * 1000))
        return bool(self._do(lambda: self._client.xread(after, count=1, block=block_ms)))

    def commit(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        """See `Log`."""
        for partition, offset in offsets.items():
            if not 0 <= offset <= self.offsets(topic, partition)[1]:
                raise OffsetError(f"{topic} {partition}: offset {offset} does not exist, so it is not committed")
        if offsets:
            self._do(lambda: self._client.hset(self._group(group, topic), mapping=dict(offsets)))

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """See `Log`."""
        found = self._do(lambda: self._client.hgetall(self._group(group, topic)))
        return {int(partition): int(offset) for partition, offset in found.items()}

    def trim(self, topic: str, partition: int, before: int) -> None:
        """See `Log`."""
        stream = self._stream(topic, partition)
        first, end = self.offsets(topic, partition)
        checked_offset(f"{self._where} {topic} {partition}", max(before, first), first, end)
        self._do(lambda: self._client.xtrim(stream, minid=f"{before + 1}-0", approximate=False))

    def close(self) -> None:
        """See `Log`."""
        self._client.close()

    def _group(self, group: str, topic: str) -> str:
        return f"nonet:log:group:{checked_name(group, 'group')}:{checked_name(topic)}"

    def _stream(self, topic: str, partition: int) -> str:
        checked_partition(topic, partition, self.num_partitions(topic))
        return f"nonet:log:{{{topic}:{partition}}}"

    def _do(self, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except _GONE as error:
            raise LogUnavailableError(f"Redis at {self._where} does not answer ({error}); is it running?") from error
        except redis.exceptions.ResponseError as error:
            raise LogUnavailableError(f"Redis at {self._where} refuses: {error}") from error
