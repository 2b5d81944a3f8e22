"""The tier in Redis or Valkey: a hash a variant, with the header and each layer as fields.

All fields are written in one transaction, so a variant is there as a whole or not at all; what the server evicts is
gone as a whole too. Nothing is ever unpickled.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError, MissingExtraError
from nonet.ragcache.store.layout import Head, Packed, decode_head
from nonet.ragcache.store.tiers import Name, TierFault, TierFull, VariantDamaged, VariantGone
from nonet.ragcache.store.variant import VariantMeta, is_variant_id

_T = TypeVar("_T")
_BURIED_S = 86400.0


class RedisTier:
    """Variants on a Redis server, shared by all machines that name it; names of documents in two sorted sets.

    The server should not be told to evict whatever key it likes (`maxmemory-policy allkeys-*`): the sets that list ids
    and names would be among them.

    Args:
        url: as "redis://host:6379/0".
        capacity_bytes: what may be stored, None for no limit of ours (the server may have one).
        prefix: of all keys.
        timeout_s: after which the server counts as gone.
        name: in reports.
        client: another client than one made from `url`, for tests.

    Raises:
        InputError: `url` is none.
        MissingExtraError: the package redis is not installed.
    """

    is_memory = False
    is_shared = True
    num_readers = 2

    def __init__(
        self,
        url: str,
        capacity_bytes: int | None = None,
        *,
        prefix: str = "nonet",
        timeout_s: float = 5.0,
        name: str = "redis",
        client: Any = None,
    ) -> None:
        try:
            import redis
        except ImportError as error:
            raise MissingExtraError(
                "a Redis tier needs the package redis: pip install 'nonet[ragcache-remote]'"
            ) from error
        self.name = name
        self.capacity_bytes = capacity_bytes
        self._error = redis.exceptions.RedisError
        self._full = redis.exceptions.OutOfMemoryError
        self._ids, self._dead = f"{prefix}:kv-ids", f"{prefix}:kv-dead"
        # The same members twice, "document/chunk": by time, and all with score 0, which sorts them by name.
        self._name_times, self._names = f"{prefix}:kv-name-times", f"{prefix}:kv-names"
        self._prefix = prefix
        try:
            self._client = client or redis.Redis.from_url(
                url, socket_timeout=timeout_s, socket_connect_timeout=min(timeout_s, 2.0)
            )
        except ValueError as error:
            raise InputError(f"{url!r} is no address of a Redis server: {error}") from error

    def ids(self) -> set[str]:
        """See `Tier`; what could not name a variant is left out."""
        return self._texts(lambda: self._client.smembers(self._ids))

    def meta(self, variant_id: str) -> VariantMeta:
        """See `Tier`."""
        return self.open(variant_id).head.meta

    def stored_bytes(self, meta: VariantMeta) -> int:
        """The KV; the header is small beside it."""
        return meta.num_bytes

    def put(self, packed: Packed) -> None:
        """See `Tier`."""
        variant_id = packed.meta.variant_id
        fields: dict[Any, Any] = {"head": packed.head()}
        fields |= {str(i): layer.data for i, layer in enumerate(packed.layers)}
        pipeline = self._client.pipeline(transaction=True)
        pipeline.delete(self._key(variant_id))
        pipeline.hset(self._key(variant_id), mapping=fields)
        pipeline.sadd(self._ids, variant_id)
        pipeline.zrem(self._dead, variant_id)
        self._ask(pipeline.execute)

    def open(self, variant_id: str) -> _RedisSource:
        """See `Tier`; what is removed meanwhile cannot be read to the end."""
        data = self.field(variant_id, "head")
        try:
            return _RedisSource(self, decode_head(data, variant_id))
        except VariantDamaged as error:
            raise VariantDamaged(f"variant {variant_id} in {self.name}: {error}") from error

    def field(self, variant_id: str, field: str) -> bytes:
        """The bytes of a field of a variant.

        Args:
            variant_id: which.
            field: "head" or the number of a layer.

        Raises:
            VariantGone: not there.
            TierFault: no answer.
        """
        data = self._ask(lambda: self._client.hget(self._key(variant_id), field))
        if not isinstance(data, bytes):
            raise VariantGone(f"variant {variant_id} is not in {self.name}")
        return data

    def remove(self, variant_id: str) -> None:
        """See `Tier`."""
        pipeline = self._client.pipeline(transaction=True)
        pipeline.delete(self._key(variant_id))
        pipeline.srem(self._ids, variant_id)
        self._ask(pipeline.execute)

    def bury(self, variant_id: str) -> None:
        """See `SharedTier`."""
        self.remove(variant_id)
        now_s = time.time()
        pipeline = self._client.pipeline(transaction=True)
        pipeline.zadd(self._dead, {variant_id: now_s})
        pipeline.zremrangebyscore(self._dead, "-inf", now_s - _BURIED_S)
        self._ask(pipeline.execute)

    def buried(self) -> set[str]:
        """See `SharedTier`."""
        return self._texts(lambda: self._client.zrange(self._dead, 0, -1))

    def note(self, names: Collection[Name]) -> None:
        """See `Tier`."""
        if not names:
            return
        now_s = time.time()
        members = ["/".join(name) for name in names]
        pipeline = self._client.pipeline(transaction=True)
        pipeline.zadd(self._name_times, dict.fromkeys(members, now_s))
        pipeline.zadd(self._names, dict.fromkeys(members, 0.0))
        self._ask(pipeline.execute)

    def noted(self, document: str) -> set[str]:
        """See `Tier`."""
        first, behind = f"[{document}/", f"({document}0"  # "0" comes right after "/"
        return {_name(member)[1] for member in self._ask(lambda: self._client.zrangebylex(self._names, first, behind))}

    def notes(self) -> dict[Name, float]:
        """See `Tier`."""
        found: Any = self._ask(lambda: self._client.zrange(self._name_times, 0, -1, withscores=True))
        return {_name(member): float(time_s) for member, time_s in found}

    def unnote(self, names: Collection[Name]) -> None:
        """See `Tier`."""
        if not names:
            return
        members = ["/".join(name) for name in names]
        pipeline = self._client.pipeline(transaction=True)
        pipeline.zrem(self._name_times, *members)
        pipeline.zrem(self._names, *members)
        self._ask(pipeline.execute)

    def close(self) -> None:
        """See `Tier`."""
        self._client.close()

    def _key(self, variant_id: str) -> str:
        return f"{self._prefix}:kv:{variant_id}"

    def _texts(self, ask: Callable[[], Any]) -> set[str]:
        texts = {one.decode("ascii", "replace") if isinstance(one, bytes) else str(one) for one in self._ask(ask)}
        return {one for one in texts if is_variant_id(one)}

    def _ask(self, ask: Callable[[], _T]) -> _T:
        try:
            return ask()
        except self._full as error:
            raise TierFull(f"Redis has no room: {error}") from error
        except (self._error, OSError) as error:
            raise TierFault(f"Redis does not serve: {error}") from error


def _name(member: Any) -> Name:
    text = member.decode("ascii", "replace") if isinstance(member, bytes) else str(member)
    document, _, chunk = text.partition("/")
    return document, chunk


class _RedisSource:
    def __init__(self, tier: RedisTier, head: Head) -> None:
        self.head = head
        self._tier = tier

    def read(self, layer: int) -> NDArray[np.uint8]:
        # A copy, since PyTorch takes no memory that cannot be written to.
        return np.frombuffer(bytearray(self._tier.field(self.head.meta.variant_id, str(layer))), np.uint8)

    def sums(self) -> tuple[bytes, ...]:
        return self.head.sums

    def close(self) -> None:
        pass
