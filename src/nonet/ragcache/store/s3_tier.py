"""The tier in S3, or what speaks its protocol: an object a variant, with the bytes of a file on disk.

An object appears when its upload is complete, and layers are read as ranges of it. Names of documents are empty objects
below `names/`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import MissingExtraError
from nonet.ragcache.store.layout import Head, Packed, decode_head, file_bytes, head_bytes, padded
from nonet.ragcache.store.tiers import Name, TierFault, VariantDamaged, VariantGone
from nonet.ragcache.store.variant import VariantMeta, is_variant_id

_T = TypeVar("_T")
_SUFFIX = ".kv"
_FIRST_BYTES = 65536
_BURIED = timedelta(days=1)
_GONE_CODES = {"NoSuchKey", "404", "NotFound"}


class S3Tier:
    """Variants as objects of a bucket, shared by all machines that name it. Credentials come from the environment.

    Args:
        bucket: which must exist.
        prefix: of all keys.
        capacity_bytes: what may be stored, None for no limit of ours.
        endpoint: of another service than AWS.
        timeout_s: after which the service counts as gone.
        name: in reports.
        client: another client than one made from the environment, for tests.

    Raises:
        MissingExtraError: the package boto3 is not installed.
    """

    is_memory = False
    is_shared = True
    num_readers = 8

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        capacity_bytes: int | None = None,
        *,
        endpoint: str | None = None,
        timeout_s: float = 10.0,
        name: str = "s3",
        client: Any = None,
    ) -> None:
        try:
            import boto3
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError, ClientError
        except ImportError as error:
            raise MissingExtraError(
                "an S3 tier needs the package boto3: pip install 'nonet[ragcache-remote]'"
            ) from error
        self.name = name
        self.capacity_bytes = capacity_bytes
        self._errors: tuple[type[Exception], ...] = (BotoCoreError, ClientError, OSError)
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        config = Config(
            connect_timeout=min(timeout_s, 3.0),
            read_timeout=timeout_s,
            retries={"max_attempts": 2},
            max_pool_connections=self.num_readers + 2,
        )
        self._client = client or boto3.client("s3", endpoint_url=endpoint, config=config)

    def ids(self) -> set[str]:
        """See `Tier`; what could not name a variant is left out."""
        return set(self._ids_in("kv/"))

    def meta(self, variant_id: str) -> VariantMeta:
        """See `Tier`."""
        return self.open(variant_id).head.meta

    def stored_bytes(self, meta: VariantMeta) -> int:
        """The size of its object."""
        return file_bytes(meta)

    def put(self, packed: Packed) -> None:
        """See `Tier`; needs the variant's bytes once more in memory."""
        parts: list[bytes | memoryview] = [packed.head()]
        for layer in packed.layers:
            parts += [layer.data, bytes(padded(layer.size) - layer.size)]
        key = self._key(packed.meta.variant_id)
        self._ask(lambda: self._client.put_object(Bucket=self._bucket, Key=key, Body=b"".join(parts)))
        self._delete("dead/", packed.meta.variant_id)

    def open(self, variant_id: str) -> _S3Source:
        """See `Tier`; what is removed meanwhile cannot be read to the end."""
        data, total = self._range(variant_id, 0, _FIRST_BYTES)
        try:
            size = head_bytes(data)
            if size > len(data):
                data, total = self._range(variant_id, 0, size)
            head = decode_head(data[:size], variant_id)
            if head.total_bytes != total:
                raise VariantDamaged(f"{total} bytes, the header says {head.total_bytes}")
        except VariantDamaged as error:
            raise VariantDamaged(f"s3://{self._bucket}/{self._key(variant_id)}: {error}") from error
        return _S3Source(self, head)

    def part(self, head: Head, layer: int) -> bytes:
        """The bytes of a layer.

        Args:
            head: of the variant.
            layer: from 0.

        Raises:
            VariantUnavailable: gone, or no answer.
        """
        if not head.layer_bytes:
            return b""
        return self._range(head.meta.variant_id, head.layer_offset(layer), head.layer_bytes)[0]

    def remove(self, variant_id: str) -> None:
        """See `Tier`."""
        self._delete("kv/", variant_id)

    def bury(self, variant_id: str) -> None:
        """See `SharedTier`."""
        self.remove(variant_id)
        key = self._key(variant_id, "dead/")
        self._ask(lambda: self._client.put_object(Bucket=self._bucket, Key=key, Body=b""))

    def buried(self) -> set[str]:
        """See `SharedTier`; older notes are cleared away."""
        found = self._ids_in("dead/")
        since = datetime.now(UTC) - _BURIED
        for variant_id, when in found.items():
            if when < since:
                self._delete("dead/", variant_id)
        return {variant_id for variant_id, when in found.items() if when >= since}

    def note(self, names: Collection[Name]) -> None:
        """See `Tier`."""
        for document, chunk in names:
            key = f"{self._prefix}names/{document}/{chunk}"
            self._ask(partial(self._client.put_object, Bucket=self._bucket, Key=key, Body=b""))

    def noted(self, document: str) -> set[str]:
        """See `Tier`."""
        return set(self._list(f"names/{document}/"))

    def notes(self) -> dict[Name, float]:
        """See `Tier`."""
        pairs = ((one.partition("/"), when) for one, when in self._list("names/").items())
        return {(document, chunk): when.timestamp() for (document, _, chunk), when in pairs}

    def unnote(self, names: Collection[Name]) -> None:
        """See `Tier`."""
        for document, chunk in names:
            key = f"{self._prefix}names/{document}/{chunk}"
            self._ask(partial(self._client.delete_object, Bucket=self._bucket, Key=key))

    def close(self) -> None:
        """See `Tier`."""
        self._client.close()

    def _key(self, variant_id: str, kind: str = "kv/") -> str:
        return f"{self._prefix}{kind}{variant_id}{_SUFFIX}"

    def _delete(self, kind: str, variant_id: str) -> None:
        key = self._key(variant_id, kind)
        self._ask(lambda: self._client.delete_object(Bucket=self._bucket, Key=key))

    def _range(self, variant_id: str, start: int, size: int) -> tuple[bytes, int]:
        def get() -> tuple[bytes, int]:
            wanted = f"bytes={start}-{start + size - 1}"
            answer = self._client.get_object(Bucket=self._bucket, Key=self._key(variant_id), Range=wanted)
            total = answer.get("ContentRange", f"/{answer['ContentLength']}").rpartition("/")[2]
            return answer["Body"].read(), int(total)

        return self._ask(get)

    def _list(self, kind: str) -> dict[str, datetime]:
        def pages() -> dict[str, datetime]:
            prefix = f"{self._prefix}{kind}"
            pager = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
            return {
                one["Key"].removeprefix(prefix): one["LastModified"]
                for page in pager
                for one in page.get("Contents", ())
            }

        return self._ask(pages)

    def _ids_in(self, kind: str) -> dict[str, datetime]:
        found = {name.removesuffix(_SUFFIX): when for name, when in self._list(kind).items()}
        return {variant_id: when for variant_id, when in found.items() if is_variant_id(variant_id)}

    def _ask(self, ask: Callable[[], _T]) -> _T:
        try:
            return ask()
        except self._errors as error:
            code = getattr(error, "response", {}).get("Error", {}).get("Code", "")
            if code in _GONE_CODES:
                raise VariantGone(f"not in s3://{self._bucket}/{self._prefix}") from error
            if code in ("InvalidRange", "416"):
                raise VariantDamaged(f"cut short in s3://{self._bucket}/{self._prefix}") from error
            raise TierFault(f"s3://{self._bucket} does not serve: {error}") from error


class _S3Source:
    def __init__(self, tier: S3Tier, head: Head) -> None:
        self.head = head
        self._tier = tier

    def read(self, layer: int) -> NDArray[np.uint8]:
        # A copy, since PyTorch takes no memory that cannot be written to.
        return np.frombuffer(bytearray(self._tier.part(self.head, layer)), np.uint8)

    def sums(self) -> tuple[bytes, ...]:
        return self.head.sums

    def close(self) -> None:
        pass
