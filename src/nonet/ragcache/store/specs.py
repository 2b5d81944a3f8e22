"""Tiers as a command line names them."""

from __future__ import annotations

import re
from urllib.parse import parse_qs

from nonet.common.errors import InputError
from nonet.ragcache.store.disk import DiskTier
from nonet.ragcache.store.ram import RamTier
from nonet.ragcache.store.shared_disk import SharedDiskTier
from nonet.ragcache.store.tiers import Tier

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_EXAMPLE = "ram:4GB,disk:/var/kv:50GB,redis://host/0,s3://bucket/prefix"


def parse_bytes(text: str) -> int:
    """A size with a unit: powers of 1,000, or of 1,024 with an "i".

    Args:
        text: as "4GB", "512MiB", "1000".

    Raises:
        InputError: no size.

    >>> parse_bytes("4GB"), parse_bytes("1.5 KiB"), parse_bytes("7")
    (4000000000, 1536, 7)
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise InputError(f"{text!r} is no size; write it as 4GB, 512MiB or in bytes")
    return int(float(found[1]) * (1024 if found[3] else 1000) ** _POWERS[found[2].lower()])


def tiers_from_spec(spec: str) -> list[Tier]:
    """The tiers that a text names, the fastest first.

    - `ram:SIZE`
    - `disk:FOLDER` or `disk:FOLDER:SIZE`; `?direct=1` reads past the page cache, `?shared=1` says that other processes
      or machines write to the folder as well
    - `redis://HOST:PORT/DB` (`rediss:` with TLS); `?prefix=NAME`, `?capacity=SIZE`
    - `s3://BUCKET/PREFIX`; `?endpoint=URL`, `?capacity=SIZE`

    Args:
        spec: separated by commas.

    Raises:
        InputError: what is wrong with which part.

    >>> [tier.name for tier in tiers_from_spec("ram:4GB")]
    ['ram']
    >>> tiers_from_spec("rom:4GB")
    Traceback (most recent call last):
    nonet.common.errors.InputError: 'rom:4GB' names no tier; write tiers as in ram:4GB,disk:/var/kv:50GB,...
    """
    parts = [part.strip() for part in spec.split(",") if part.strip()]
    if not parts:
        raise InputError(f"no tiers; write them as in {_EXAMPLE}")
    return [_tier(part) for part in parts]


def has_shared_tier(spec: str) -> bool:
    """Whether a text names a tier that several machines can reach; nothing is opened.

    Args:
        spec: as for `tiers_from_spec`.

    >>> has_shared_tier("ram:1GB,redis://host/0"), has_shared_tier("ram:1GB,disk:/mnt/kv:9GB?shared=1")
    (True, True)
    >>> has_shared_tier("ram:1GB,disk:/var/kv")
    False
    """
    parts = [part.strip() for part in spec.split(",")]
    return any(
        part.startswith(("redis://", "rediss://", "s3://"))
        or (part.startswith("disk:") and parse_qs(part.partition("?")[2]).get("shared") == ["1"])
        for part in parts
    )


def _tier(part: str) -> Tier:
    kind, _, rest = part.partition(":")
    if kind == "ram" and rest:
        return RamTier(parse_bytes(rest))
    if kind == "disk" and rest:
        return _disk_tier(rest)
    if kind in ("redis", "rediss", "s3") and rest.startswith("//"):
        return _s3_tier(part) if kind == "s3" else _redis_tier(part)
    raise InputError(f"{part!r} names no tier; write tiers as in {_EXAMPLE}")


def _redis_tier(part: str) -> Tier:
    from nonet.ragcache.store.redis_tier import RedisTier

    address, _, query = part.partition("?")
    options = _options(query, {"prefix", "capacity"})
    return RedisTier(address, _capacity(options), prefix=options.get("prefix", "nonet"))


def _s3_tier(part: str) -> Tier:
    from nonet.ragcache.store.s3_tier import S3Tier

    address, _, query = part.partition("?")
    options = _options(query, {"endpoint", "capacity"})
    bucket, _, prefix = address.removeprefix("s3://").partition("/")
    if not bucket:
        raise InputError(f"{part!r} names no bucket; write it as s3://bucket/prefix")
    return S3Tier(bucket, prefix, _capacity(options), endpoint=options.get("endpoint"))


def _capacity(options: dict[str, str]) -> int | None:
    return parse_bytes(options["capacity"]) if "capacity" in options else None


def _disk_tier(rest: str) -> DiskTier:
    path, _, query = rest.partition("?")
    folder, _, size = path.rpartition(":")
    capacity = parse_bytes(size) if folder else None
    options = _options(query, {"direct", "shared"})
    kind = SharedDiskTier if options.get("shared") == "1" else DiskTier
    return kind(folder or path, capacity, direct=options.get("direct") == "1")


def _options(query: str, known: set[str]) -> dict[str, str]:
    options = {name: values[-1] for name, values in parse_qs(query, keep_blank_values=True).items()}
    if unknown := sorted(options.keys() - known):
        raise InputError(f"a tier has no option {unknown[0]!r}; there are {', '.join(sorted(known))}")
    return options
