r"""Envelopes: what container runtimes and structured loggers put around a message.

CRI (`2026-11-22T12:30:01.5Z stdout F text`), docker (`{"log": "text\n", "stream": "stdout", "time": "..."}`) and JSON
lines (`{"message": "text", ...}`). Pieces that a runtime cut at its own limit are put together again, stream by
stream. A line without the form of its envelope stays as it is and is counted.
"""

from __future__ import annotations

import datetime
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.logs.reading import _envelope_kernels, _json_kernels, _line_kernels
from nonet.logs.reading.lines import Int64s, LineCounts, Lines, as_array, invalid_per_line, joined
from nonet.logs.reading.sources import BlockReader
from nonet.logs.reading.timestamps import NO_TIME, TIME_FORMS, TimeParser

MAX_CHAIN_BYTES = 1 << 20  # pieces of one text are put together up to here
MAX_JSON_FIELDS = 32

MESSAGE_FIELDS = (
    "message", "msg", "log", "body", "MESSAGE", "event", "text", "@message", "textPayload", "short_message", "Message",
    "fields.message", "jsonPayload.message", "log.message", "event.original", "body.stringValue", "content", "line",
    "@m", "@mt",
)  # fmt: skip
"""Names of the message in JSON lines, best first; a dot goes into an object (a key with the dot itself comes first)."""

TIME_FIELDS = (
    "time", "timestamp", "@timestamp", "ts", "Timestamp", "asctime", "datetime", "date", "@t", "eventTime",
    "created_at", "__REALTIME_TIMESTAMP", "_SOURCE_REALTIME_TIMESTAMP", "timeUnixNano", "t.$date", "t",
)  # fmt: skip


FINE, INVALID, MISSING_FIELD = 0, 1, 2


class Decoded(NamedTuple):
    """What an envelope found in each line.

    Attributes:
        texts: int32 (lines, 3): span and JSON kind of the text (the whole line where `problems` is not FINE).
        fields: int32 (lines, fields, 3) likewise, kind 0 for absent.
        problems: int64, FINE, INVALID or MISSING_FIELD.
        partial: bool, the text goes on in a later line of the same stream.
        streams: int64, the number of the stream.
        times_us: int64 or None.
    """

    texts: NDArray[np.int32]
    fields: NDArray[np.int32]
    problems: Int64s
    partial: NDArray[np.bool_]
    streams: Int64s
    times_us: Int64s | None


class Envelope(Protocol):
    """One kind of envelope; `joins_lines` tells whether a message can go on in the next line."""

    kind: str
    names: tuple[str, ...]
    joins_lines: bool

    def decode(self, buffer: NDArray[np.uint8], starts: Int64s, ends: Int64s) -> Decoded:
        """Find text and fields in every line."""
        ...


class CriEnvelope:
    """Lines of the Kubernetes container runtime interface."""

    kind = "cri"
    names: tuple[str, ...] = ("Time", "Stream")
    joins_lines = True

    def __init__(self) -> None:
        self._times = TimeParser("%Y-%m-%dT%H:%M:%S%f%z", datetime.datetime(2000, 1, 1))

    def decode(self, buffer: NDArray[np.uint8], starts: Int64s, ends: Int64s) -> Decoded:
        """See `Envelope`."""
        spans, valid, partial, streams = _envelope_kernels.split_cri(buffer, starts, ends)
        times_us = _parse_times(self._times, buffer, spans[:, 0])
        texts = _or_whole_line(spans[:, 2], valid, starts, ends)
        problems = np.where(valid, FINE, INVALID)
        return Decoded(texts, np.ascontiguousarray(spans[:, :2]), problems, partial, streams, times_us)


@dataclass(frozen=True, slots=True)
class JsonPaths:
    """Which members of a JSON line are what; a path is a key, or keys joined by dots."""

    text: str
    time: str | None
    time_form: str | None
    others: tuple[str, ...]


class JsonEnvelope:
    """JSON lines; with `is_docker` a text without a newline at its end is partial."""

    def __init__(self, paths: JsonPaths, is_docker: bool = False) -> None:
        self.kind = "docker" if is_docker else "json"
        self.names = paths.others
        self.joins_lines = is_docker
        self._paths = paths
        wanted = [paths.text, *paths.others, "stream"] + ([paths.time] if paths.time else [])
        self._keys = list(dict.fromkeys(part for path in wanted for part in (path, path.split(".")[0])))
        self._times = TimeParser(paths.time_form, datetime.datetime(2000, 1, 1)) if paths.time_form else None

    def decode(self, buffer: NDArray[np.uint8], starts: Int64s, ends: Int64s) -> Decoded:
        """See `Envelope`."""
        members, valid = _json_kernels.find_members(buffer, starts, ends, *pack_keys(self._keys))
        texts = self._member(buffer, members, self._paths.text)
        has_text = (texts[:, 2] != _json_kernels.ABSENT) & (texts[:, 2] != _json_kernels.NULL)
        problems = np.where(has_text, FINE, np.where(valid, MISSING_FIELD, INVALID))
        fields = members[:, [self._keys.index(name) for name in self.names]]
        if self.kind == "docker":
            streams = np.ascontiguousarray(members[:, self._keys.index("stream")])
            partial, stream_of = _envelope_kernels.split_docker(buffer, texts, streams, has_text)
        else:
            partial, stream_of = np.zeros(len(starts), np.bool_), np.zeros(len(starts), np.int64)
        times_us = None
        if self._times is not None and self._paths.time is not None:
            times_us = _parse_times(self._times, buffer, self._member(buffer, members, self._paths.time))
        texts = _or_whole_line(texts, has_text, starts, ends)
        return Decoded(texts, np.ascontiguousarray(fields), problems, partial, stream_of, times_us)

    def _member(self, buffer: NDArray[np.uint8], members: NDArray[np.int32], path: str) -> NDArray[np.int32]:
        """Span and kind of a path, int32 (lines, 3): the key itself, else down the objects."""
        found = members[:, self._keys.index(path)]
        keys = path.split(".")
        if len(keys) == 1:
            return found.copy()
        inner = members[:, self._keys.index(keys[0])]
        for key in keys[1:]:
            starts = np.where(inner[:, 2] == _json_kernels.NESTED, inner[:, 0], -1).astype(np.int64)
            inner = _json_kernels.find_members(buffer, starts, inner[:, 1].astype(np.int64), *pack_keys([key]))[0][:, 0]
        return np.where(found[:, 2:] == _json_kernels.ABSENT, inner, found)


@cache
def _packed(keys: tuple[str, ...]) -> tuple[NDArray[np.uint8], Int64s]:
    encoded = [key.encode() for key in keys]
    offsets = np.cumsum([0, *(len(key) for key in encoded)], dtype=np.int64)
    return as_array(b"".join(encoded)), offsets


def pack_keys(keys: Sequence[str]) -> tuple[NDArray[np.uint8], Int64s]:
    """Keys as the kernels take them: all bytes, and the offsets between which each lies."""
    return _packed(tuple(keys))


def _parse_times(parser: TimeParser, buffer: NDArray[np.uint8], spans: NDArray[np.int32]) -> Int64s:
    starts = np.where(spans[:, 2] != _json_kernels.ABSENT, spans[:, 0], -1)
    return parser.parse(buffer, starts.astype(np.int64), spans[:, 1].astype(np.int64))


def _or_whole_line(
    texts: NDArray[np.int32], valid: NDArray[np.bool_], starts: Int64s, ends: Int64s
) -> NDArray[np.int32]:
    lines = np.stack((starts, ends, np.full(len(starts), _json_kernels.SCALAR)), axis=1)
    return np.where(valid[:, None], texts, lines).astype(np.int32)


class EnvelopedLines:
    """Lines out of envelopes; texts and fields are copied into a fresh buffer for every block.

    Memory: one block, its copy, and the open pieces of at most three streams (each up to `MAX_CHAIN_BYTES`).
    """

    def __init__(self, blocks: BlockReader, envelope: Envelope) -> None:
        self.name = blocks.name
        self.joins_lines = envelope.joins_lines
        self.counts = LineCounts()
        self._blocks = blocks
        self._envelope = envelope
        self._first_held: int | None = None
        # Input lines that come again with the next block: pieces of open texts, and texts held back.
        self._carried = b""
        self._carried_numbers = np.empty(0, np.int64)

    def __iter__(self) -> Iterator[Lines]:
        failure: InputError | None = None
        while True:
            try:
                block = next(self._blocks, None)
            except InputError as error:
                block, failure = None, error
            if block is None:
                break
            buffer = block.buffer
            if self._carried:
                buffer = np.concatenate((as_array(self._carried), buffer))
            num_new = _line_kernels.count_newlines(block.buffer) + int(block.buffer[-1] != _line_kernels.NEWLINE)
            numbers = np.append(self._carried_numbers, block.first_line + np.arange(num_new))
            yield from self._decode(buffer, numbers, block.is_cut)
        if self._carried:
            yield from self._decode(as_array(self._carried), self._carried_numbers, flush=True)
        if failure is not None:
            raise failure

    def hold_back(self, first: int) -> None:
        """See `LineSource`."""
        self._first_held = first

    def _decode(
        self, buffer: NDArray[np.uint8], numbers: Int64s, is_cut: bool = False, flush: bool = False
    ) -> Iterator[Lines]:
        starts, ends = _line_kernels.split_lines(buffer)
        found = self._envelope.decode(buffer, starts, ends)
        lengths = (found.texts[:, 1] - found.texts[:, 0]).astype(np.int64)
        fine = found.problems == FINE
        firsts, following, owners = _envelope_kernels.chain_partials(
            lengths, fine, found.partial, found.streams, MAX_CHAIN_BYTES, flush
        )
        invalid = invalid_per_line(buffer, starts, ends)
        texts, text_starts, text_ends, field_starts, field_ends = _envelope_kernels.gather_texts(
            buffer, found.texts, firsts, following, found.fields
        )
        self._first_held = None
        yield Lines(
            texts,
            text_starts,
            text_ends,
            numbers=numbers[firsts],
            num_sources=_sums(np.ones(len(starts), np.int64), owners, len(firsts)),
            is_decoded=fine[firsts],
            names=self._envelope.names,
            field_starts=field_starts,
            field_ends=field_ends,
            times_us=None if found.times_us is None else found.times_us[firsts],
            is_last_open=not flush,
            invalid_utf8=None if invalid is None else _sums(invalid, owners, len(firsts)),
            is_cut=is_cut,
        )
        stays = owners < 0 if self._first_held is None else (owners < 0) | (owners >= self._first_held)
        self._carry(buffer, starts, ends, numbers, stays)
        self._count(found.problems[~stays])

    def _carry(
        self, buffer: NDArray[np.uint8], starts: Int64s, ends: Int64s, numbers: Int64s, stays: NDArray[np.bool_]
    ) -> None:
        spans = zip(starts[stays].tolist(), ends[stays].tolist(), strict=True)
        self._carried = b"".join(buffer[start:end].tobytes() + b"\n" for start, end in spans)
        self._carried_numbers = numbers[stays]

    def _count(self, problems: Int64s) -> None:
        invalid = int(np.count_nonzero(problems == INVALID))
        self.counts.missing_field += int(np.count_nonzero(problems == MISSING_FIELD))
        if self._envelope.kind == "cri":
            self.counts.invalid_cri += invalid
        else:
            self.counts.invalid_json += invalid


def _sums(values: Int64s, owners: Int64s, num_owners: int) -> Int64s:
    closed = owners >= 0
    return np.bincount(owners[closed], weights=values[closed], minlength=num_owners).astype(np.int64)


_MIN_SHARE = 0.5


def detect_envelope(lines: Sequence[bytes]) -> str:
    """What kind of file the lines come from: "cri", "docker", "json" or "text".

    >>> detect_envelope([b'{"message": "up"}', b'{"message": "down"}'])
    'json'
    >>> detect_envelope([b"2026-11-22T12:30:01.5Z stdout F up"])
    'cri'
    """
    lines = [line for line in lines if line.strip()]
    if not lines:
        return "text"
    buffer, starts, ends = joined(lines)
    if np.count_nonzero(_envelope_kernels.split_cri(buffer, starts, ends)[1]) >= _MIN_SHARE * len(lines):
        return "cri"
    keys = ["log", "stream", "time"]
    members, valid = _json_kernels.find_members(buffer, starts, ends, *pack_keys(keys))
    if np.count_nonzero(valid) < _MIN_SHARE * len(lines):
        return "text"
    is_docker = (members[:, :, 2] != _json_kernels.ABSENT).all(axis=1)
    return "docker" if np.count_nonzero(is_docker) >= _MIN_SHARE * np.count_nonzero(valid) else "json"


def choose_paths(lines: Sequence[bytes], text: str | None = None) -> JsonPaths | None:
    """Which members of sample JSON lines are the message, the time and the others; None when there is no message.

    Args:
        lines: sample lines; those that are no JSON objects do not count.
        text: the path of the message where the user knows it.
    """
    objects = [value for line in lines if isinstance(value := _loads(line), dict)]
    if text is None:
        shares = {path: _share(objects, path, str) for path in MESSAGE_FIELDS}
        common = [path for path in MESSAGE_FIELDS if shares[path] >= _MIN_SHARE]
        text = common[0] if common else max(MESSAGE_FIELDS, key=shares.__getitem__)
        if not shares[text]:
            return None
    time, form = _choose_time(objects)
    keys = Counter(key for one in objects for key in one)
    others = [key for key in keys if key != text][:MAX_JSON_FIELDS]
    return JsonPaths(text, time, form, tuple(others))


def _choose_time(objects: list[dict[str, object]]) -> tuple[str | None, str | None]:
    for path in TIME_FIELDS:
        values = [_at(one, path) for one in objects]
        texts = [str(value).encode() for value in values if isinstance(value, str | int | float)]
        if not texts or len(texts) < _MIN_SHARE * len(objects):
            continue
        for form in TIME_FORMS:
            times = TimeParser(form, datetime.datetime(2000, 1, 1)).parse_texts(texts)
            if sum(time != NO_TIME for time in times) >= 0.9 * len(texts):
                return path, form
    return None, None


def _loads(line: bytes) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _at(value: object, path: str) -> object:
    """The value at a path: the key itself, else down the objects."""
    if not isinstance(value, dict):
        return None
    if path in value:
        return value[path]
    first, _, rest = path.partition(".")
    return _at(value.get(first), rest) if rest else None


def _share(objects: list[dict[str, object]], path: str, kind: type) -> float:
    return sum(isinstance(_at(one, path), kind) for one in objects) / max(1, len(objects))


def sample_texts(envelope: Envelope, lines: Sequence[bytes]) -> list[bytes]:
    """The texts inside sample lines, without those that do not have the form; pieces are not put together."""
    if not lines:
        return []
    buffer, starts, ends = joined(lines)
    found = envelope.decode(buffer, starts, ends)
    fine = np.flatnonzero(found.problems == FINE)
    alone = np.full(len(lines), -1, np.int64)
    texts, text_starts, text_ends, _, _ = _envelope_kernels.gather_texts(buffer, found.texts, fine, alone, found.fields)
    data = texts.tobytes()
    return [data[a:b] for a, b in zip(text_starts.tolist(), text_ends.tolist(), strict=True)]
