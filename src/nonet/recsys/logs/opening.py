"""Logs by address: `file:DIR`, `kafka://host:port`, `nats://host:port`, `redis://host:port/0`."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qsl, urlsplit

from nonet.common.errors import InputError, MissingExtraError
from nonet.common.registry import Registry
from nonet.recsys.logs.log import Log
from nonet.recsys.logs.partition import Keeping
from nonet.recsys.logs.segments import SegmentLog

LOGS: Registry[Callable[[str], Log]] = Registry("kind of log")


def open_log(url: str) -> Log:
    """Open a log by its address; the part behind `?` holds the back end's settings.

    Args:
        url: such as `file:./log?fsync=always` or `kafka://localhost:9092?acks=all`.

    Raises:
        InputError: an unknown kind or setting.
        MissingExtraError: the client of the back end is not installed.
        LogUnavailableError: the broker does not answer.

    >>> from tempfile import TemporaryDirectory
    >>> folder = TemporaryDirectory()
    >>> log = open_log(f"file:{folder.name}?retention_ms=604800000")
    >>> log.create("clicks"), log.offsets("clicks", 0)
    (None, (0, 0))
    >>> log.close(); folder.cleanup()
    >>> open_log("fiel:log")
    Traceback (most recent call last):
    nonet.common.errors.InputError: unknown kind of log 'fiel'; did you mean 'file'? (known: file, kafka, ...)
    """
    scheme, colon, _ = url.partition(":")
    if not colon:
        raise InputError(f"{url!r} is not the address of a log; write file:DIR, kafka://, nats:// or redis://HOST:PORT")
    return LOGS[scheme](url)


@LOGS.register("file")
def _file(url: str) -> Log:
    path, _, query = url.removeprefix("file:").partition("?")
    kinds: dict[str, type] = {"fsync": str, "segment_bytes": int, "retention_bytes": int, "retention_ms": int}
    settings = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in kinds:
            raise InputError(f"{url}: unknown setting {name!r} (known: {', '.join(kinds)})")
        try:
            settings[name] = kinds[name](value)
        except ValueError:
            raise InputError(f"{url}: {name} is a whole number, not {value!r}") from None
    if not path:
        raise InputError(f"{url}: name the folder, as in file:./log")
    return SegmentLog(path.removeprefix("//"), Keeping(**settings))


@LOGS.register("kafka")
def _kafka(url: str) -> Log:
    try:
        from nonet.recsys.logs.kafka import KafkaLog
    except ImportError as error:
        raise _missing(error, "confluent-kafka") from error
    parts = urlsplit(url)
    return KafkaLog({"bootstrap.servers": parts.netloc, **dict(parse_qsl(parts.query))})


@LOGS.register("nats")
def _nats(url: str) -> Log:
    try:
        from nonet.recsys.logs.nats import NatsLog
    except ImportError as error:
        raise _missing(error, "nats-py") from error
    return NatsLog(url)


@LOGS.register("valkey")
@LOGS.register("rediss")
@LOGS.register("redis")
def _redis(url: str) -> Log:
    try:
        from nonet.recsys.logs.redis_streams import RedisLog
    except ImportError as error:
        raise _missing(error, "redis") from error
    return RedisLog(url.replace("valkey:", "redis:", 1))


def _missing(error: ImportError, package: str) -> MissingExtraError:
    return MissingExtraError(f"{package} is not installed ({error.name}); run: pip install {package}")
