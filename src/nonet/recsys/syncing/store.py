"""Serving rows in Redis or Valkey, for readers in any language. Schema, with `nonet` as prefix:

    nonet:{table}:row:{key}        the row: float32, little-endian; {key} is the id as a signed decimal
    nonet:{table}:bucket:{number}  a set of the {key}s in one of the 1,024 buckets
    nonet:{table}:state            epochs, then incarnations: 2 x 1,024 int64, little-endian
    nonet:{table}:meta             a hash: dim, dtype, epoch, event_ts_ms
    nonet:dense:{name}             the newest dense parameters, as a frame of `messages.Blob`

A row is gone `ttl_s` seconds after it was last written, if a TTL is set. Each message is one MULTI/EXEC pipeline: rows
and epochs change together or not at all.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError, MissingExtraError
from nonet.recsys.features.fid import bucket_of
from nonet.recsys.syncing.forms import codec_of, form_of
from nonet.recsys.syncing.frames import NUM_BUCKETS, Bools, CorruptFrameError, Ints
from nonet.recsys.syncing.messages import Ack, Blob, Delta, Hello, decode
from nonet.recsys.syncing.publisher import LinkDownError
from nonet.recsys.table.compressors import RowCodec

_BLOCK = 10_000  # rows read at once


class RedisStore:
    """A replica in Redis or Valkey; attach it to a publisher, read it from anywhere.

    Args:
        client: `redis.Redis` or `valkey.Valkey`, or an address such as redis://localhost:6379/0.
        tables: of each its dim, or the codec in which its rows travel.
        prefix: of all keys.
        ttl_s: of a row; None keeps it.

    Raises:
        InputError: a bad prefix or TTL, or rows of another dimension are there.
        MissingExtraError: the client is not installed.
        LinkDownError: the server does not answer.
    """

    def __init__(
        self, client: Any, tables: Mapping[str, int | RowCodec], *, prefix: str = "nonet", ttl_s: int | None = None
    ) -> None:
        if not tables or not prefix or ":" in prefix or (ttl_s is not None and ttl_s < 1):
            raise InputError(f"a store needs tables, a prefix without colon and a TTL of seconds: {prefix!r}, {ttl_s}")
        self._client = _connected(client) if isinstance(client, str) else client
        self._down: tuple[type[Exception], ...] = (OSError, *_connection_errors())
        self._codecs = {name: codec_of(shape) for name, shape in tables.items()}
        self._prefix, self._ttl_s = prefix, ttl_s
        for name, codec in self._codecs.items():
            dim = self._do(self._client.hget, self._key(name, "meta"), "dim")
            if dim is not None and int(dim) != codec.dim:
                raise InputError(f"store {prefix!r}: table {name!r} has dim {int(dim)} there, {codec.dim} here")

    def send(self, frame: bytes) -> bytes:
        """See `Link`: applies a message."""
        try:
            message = decode(frame)
        except CorruptFrameError as error:
            return Ack(self._prefix, "corrupt", reason=str(error)).encode()
        if isinstance(message, Hello):
            wrong = [name for name, form in message.forms.items() if self._form(name) != form]
            reason = f"tables {wrong} differ from those of store {self._prefix!r}" if wrong else ""
            return Ack(self._prefix, "refused" if wrong else "applied", reason=reason).encode()
        if isinstance(message, Blob):
            self._do(self._client.set, f"{self._prefix}:dense:{message.name}", frame)
            return Ack(self._prefix, "applied", message.name, message.incarnation, message.version).encode()
        if isinstance(message, Delta):
            return self._apply(message).encode()
        return Ack(self._prefix, "refused", reason="an answer is no message for a store").encode()

    def _form(self, table: str) -> Any:
        return form_of(self._codecs[table]) if table in self._codecs else None

    def _apply(self, delta: Delta) -> Ack:
        table, known = delta.table, (delta.table, delta.incarnation)
        if self._form(table) != delta.form:
            reason = f"table {table!r}: rows come as {delta.form}, store {self._prefix!r} has {self._form(table)}"
            return Ack(self._prefix, "refused", *known, reason=reason)
        epochs, incarnations = self._state(table)
        if (incarnations[delta.buckets] > delta.incarnation).any():
            return Ack(self._prefix, "refused", *known, reason=f"table {table!r}: a later publisher owns these buckets")
        stands = np.where(incarnations == delta.incarnation, epochs, 0)
        behind = delta.buckets & (stands < delta.epoch)
        if (stands[behind & ~delta.whole] < delta.prev_epoch).any():
            return Ack(self._prefix, "gap", *known, delta.epoch, epochs=stands.astype("<i8").tobytes())
        if behind.any():
            epochs[behind], incarnations[behind] = delta.epoch, delta.incarnation
            self._write(delta, behind, epochs, incarnations)
        return Ack(self._prefix, "applied", *known, delta.epoch)

    def _write(self, delta: Delta, behind: Bools, epochs: Ints, incarnations: Ints) -> None:
        table, codec = delta.table, self._codecs[delta.table]
        kept = behind[bucket_of(delta.keys)]
        keys, rows = delta.keys[kept], codec.decode(delta.rows[kept]).astype("<f4")
        gone = np.union1d(
            delta.tombstones[behind[bucket_of(delta.tombstones)]], self._left(table, delta.whole & behind, keys)
        )
        pipe = self._client.pipeline(transaction=True)
        for key, row in zip(keys.tolist(), rows, strict=True):
            pipe.set(self._key(table, "row", key), row.tobytes(), ex=self._ttl_s)
        for keyed, change in ((keys, pipe.sadd), (gone, pipe.srem)):
            for bucket, members in _by_bucket(keyed).items():
                change(self._key(table, "bucket", bucket), *members)
        for first in range(0, len(gone), 1000):
            pipe.unlink(*(self._key(table, "row", key) for key in gone[first : first + 1000].tolist()))
        pipe.set(self._key(table, "state"), np.concatenate([epochs, incarnations]).astype("<i8").tobytes())
        meta = {"dim": codec.dim, "dtype": "<f4", "epoch": delta.epoch, "event_ts_ms": delta.event_ts_ms}
        pipe.hset(self._key(table, "meta"), mapping=meta)
        self._do(pipe.execute)

    def _left(self, table: str, whole: Bools, keys: Ints) -> Ints:
        """Keys in buckets that are told in full, which are not named."""
        numbers = np.flatnonzero(whole).tolist()
        if not numbers:
            return np.empty(0, np.int64)
        pipe = self._client.pipeline(transaction=False)
        for bucket in numbers:
            pipe.smembers(self._key(table, "bucket", bucket))
        there = [int(member) for members in self._do(pipe.execute) for member in members]
        return np.setdiff1d(np.array(there, np.int64), keys)

    def _state(self, table: str) -> tuple[Ints, Ints]:
        stored = self._do(self._client.get, self._key(table, "state"))
        if stored is None or len(stored) != 16 * NUM_BUCKETS:
            return np.zeros(NUM_BUCKETS, np.int64), np.zeros(NUM_BUCKETS, np.int64)
        both = np.frombuffer(stored, "<i8").astype(np.int64)
        return both[:NUM_BUCKETS], both[NUM_BUCKETS:]

    # Reading.

    def fetch(self, table: str, ids: Ints) -> tuple[NDArray[np.float32], Bools]:
        """Rows float32 [n, dim] (zeros for unknown ids), and which are there.

        Raises:
            InputError: no such table.
            LinkDownError: the server does not answer.
        """
        if table not in self._codecs:
            raise InputError(f"store {self._prefix!r} has no table {table!r} (known: {', '.join(self._codecs)})")
        rows = np.zeros((len(ids), self._codecs[table].dim), np.float32)
        here = np.zeros(len(ids), bool)
        for first in range(0, len(ids), _BLOCK):
            names = [self._key(table, "row", key) for key in ids[first : first + _BLOCK].tolist()]
            for n, stored in enumerate(self._do(self._client.mget, names), first):
                if stored is not None:
                    rows[n], here[n] = np.frombuffer(stored, "<f4"), True
        return rows, here

    def _key(self, table: str, *parts: Any) -> str:
        return ":".join((self._prefix, table, *map(str, parts)))

    def _do(self, command: Any, *args: Any) -> Any:
        try:
            return command(*args)
        except self._down as error:
            raise LinkDownError(f"store {self._prefix!r} does not answer: {error}") from error


def _connected(address: str) -> Any:
    try:
        import redis
    except ImportError as error:
        raise MissingExtraError("a store in Redis or Valkey needs its client: pip install redis") from error
    return redis.Redis.from_url(address)


def _connection_errors() -> list[type[Exception]]:
    """Of the clients that are installed; theirs are no OSErrors."""
    errors = []
    for name in ("redis", "valkey"):
        if importlib.util.find_spec(name) is not None:
            module = importlib.import_module(f"{name}.exceptions")
            errors += [module.ConnectionError, module.TimeoutError]
    return errors


def _by_bucket(keys: Ints) -> dict[int, list[int]]:
    apart: dict[int, list[int]] = {}
    for key, bucket in zip(keys.tolist(), bucket_of(keys).tolist(), strict=True):
        apart.setdefault(bucket, []).append(key)
    return apart
