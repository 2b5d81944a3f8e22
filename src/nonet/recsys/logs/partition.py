"""One partition of the embedded log: a folder of segment files, named by the offset of their first record.

Writers take a lock on the folder for each append and look first what others have written, so several processes may
write. Readers take no lock: they follow the heads of the frames as far as whole frames reach.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

from nonet.recsys.logs.frames import (
    HEAD,
    NOBODY,
    Head,
    decode_head,
    decode_producers,
    decode_records,
    encode_frame,
    encode_producers,
    producer_digest,
)
from nonet.recsys.logs.log import (
    Batch,
    LogDamagedError,
    LogUnavailableError,
    Producer,
    Record,
    checked_offset,
    fresh_part,
)

FRAME_RECORDS = 4096
FRAME_BYTES = 1 << 20
_SPARSE_BYTES = 1 << 14


@dataclass(frozen=True)
class Keeping:
    """How the embedded log keeps its records.

    Args:
        fsync: "always" (before `append` returns), "interval" (at the first append a second or more after the last
            one, and at `close`), "never" (the system decides: safe from `kill -9`, not from a power cut).
        segment_bytes: size at which a new segment begins.
        retention_bytes: old segments of a partition go beyond this; 0: none.
        retention_ms: segments last written so long ago go; 0: none.
    """

    fsync: str = "interval"
    segment_bytes: int = 64 << 20
    retention_bytes: int = 0
    retention_ms: int = 0


@dataclass
class _Segment:
    """What is known of a segment file.

    Attributes:
        path: file.
        first: offset of its first record.
        end: offset after its last whole frame that has been seen.
        size: bytes up to there.
        marks: offsets of some frames, with `places`, their positions.
    """

    path: Path
    first: int
    end: int = 0
    size: int = 0
    marks: list[int] = field(default_factory=list)
    places: list[int] = field(default_factory=list)

    def follow(self, file: int) -> None:
        """Go on over whole frames.

        Raises:
            LogDamagedError: a head whose checksum does not hold.
        """
        for head, place in _whole_frames(self.path, file, self.size):
            if not self.places or place - self.places[-1] >= _SPARSE_BYTES:
                self.marks.append(head.first_offset)
                self.places.append(place)
            self.size, self.end = place + HEAD.size + head.body_bytes, head.next_offset


def _whole_frames(path: Path, file: int, place: int) -> Iterator[tuple[Head, int]]:
    """Heads and places of the frames from a place on, as far as whole ones reach."""
    length = os.fstat(file).st_size
    while place + HEAD.size <= length:
        head = decode_head(os.pread(file, HEAD.size, place))
        if head is None:
            if not any(os.pread(file, length - place, place)):
                return  # a hole that a power cut has left
            raise LogDamagedError(_damaged(path, place, "the head of a frame"))
        after = place + HEAD.size + head.body_bytes
        if after > length:
            return
        yield head, place
        place = after


def _damaged(path: Path, place: int, what: str) -> str:
    mend = f"restore the file from a copy, or give up what follows: truncate -s {place}"
    return f"{path}: {what} at byte {place} is damaged; {mend}"


class Partition:
    """Records of one partition in a folder.

    Args:
        folder: exists.
        keeping: settings.
    """

    def __init__(self, folder: Path, keeping: Keeping) -> None:
        self._folder = folder
        self._keeping = keeping
        self._threads = threading.RLock()
        self._segments: list[_Segment] = []
        self._files: dict[Path, int] = {}
        self._writer: int | None = None  # file that appends go to; None until the first
        self._checked_path: Path | None = None
        self._checked = 0  # bytes of the segment to append to whose checksums hold and whose producers are in `_last`
        self._last: dict[bytes, int] = {}
        self._synced_s = time.monotonic()
        self._unsynced = False

    def append(self, records: Sequence[Record], producer: Producer | None) -> int:
        """See `Log.append`."""
        with self._threads, self._locked():
            active = self._open_writer()
            digest = producer_digest(producer.name) if producer else NOBODY
            fresh = fresh_part(records, producer, self._last.get(digest, -1))
            sequence = producer.sequence + len(records) - len(fresh) if producer else -1
            for part in _framewise(fresh):
                if active.size >= self._keeping.segment_bytes:
                    active = self._roll(active)
                self._write(active, encode_frame(part, active.end, digest, sequence))
                if producer:
                    sequence += len(part)
                    self._last[digest] = sequence - 1
            if fresh:
                self._sync(self._keeping.fsync)
            return len(fresh)

    def read(self, offset: int, max_records: int) -> Batch:
        """See `Log.read`."""
        with self._threads:
            end = self._segments[-1].end if self._segments else 0
            if offset >= end or offset < self._segments[0].first or not self._segments[0].path.exists():
                first, end = self.offsets()
                checked_offset(str(self._folder), offset, first, end)
            records: list[Record] = []
            segment = self._segment_of(offset) if offset < end else None
            while segment is not None and len(records) < max_records:
                at = offset + len(records)
                got = self._read_frames(segment, at, max_records - len(records))
                records += got
                segment = self._segment_of(at + len(got)) if got and at + len(got) < end else None
            return Batch(records, range(offset, offset + len(records)), offset + len(records))

    def offsets(self) -> tuple[int, int]:
        """Offset of the first record that is left, and of the next one to come."""
        with self._threads:
            while True:
                if not self._segments or not self._segments[0].path.exists():
                    self._list_segments()
                if not self._segments:
                    return 0, 0
                try:
                    self._refresh_last()
                except FileNotFoundError:  # a writer has trimmed it meanwhile
                    self._segments = []
                    continue
                if self._segments:
                    return self._segments[0].first, self._segments[-1].end

    def trim(self, before: int) -> None:
        """See `Log.trim`: whole segments go, and the segment of `before` is cut anew from there."""
        with self._threads, self._locked():
            active = self._open_writer()
            first = self._segments[0].first
            checked_offset(str(self._folder), max(before, first), first, active.end)
            if before >= active.end and active.end > active.first:
                self._roll(active)
            while len(self._segments) > 1 and self._segments[1].first <= before:
                self._drop_first()
            if before > self._segments[0].first:
                self._cut_first(before)

    def close(self) -> None:
        """Write through to the disk and close the files."""
        with self._threads:
            if self._unsynced and self._keeping.fsync != "never":
                self._sync("always")
            for file in (*self._files.values(), *([] if self._writer is None else [self._writer])):
                os.close(file)
            self._files, self._writer, self._segments = {}, None, []

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _open_writer(self) -> _Segment:
        """The segment to append to, after what others have written; under the lock. Repairs an end cut off."""
        if self._writer is not None:
            active = self._segments[-1]
            rolled = active.end > active.first and self._path(active.end).exists()
            if os.fstat(self._writer).st_size == self._checked and not rolled and active.path.exists():
                return active
            os.close(self._writer)
            self._writer = None
        self._list_segments()
        if not self._segments:
            self._new_segment(0)
        active = self._segments[-1]
        self._writer = os.open(active.path, os.O_RDWR)
        self._check(active)
        if os.fstat(self._writer).st_size > active.size:
            self._repair(active)
        if active.size == 0:  # a writer died between making the file and its first frame
            if len(self._segments) > 1:
                self._last = self._check_sealed(self._segments[-2])
            self._write(active, encode_producers(self._last, active.first))
        return active

    def _check(self, active: _Segment) -> None:
        """Check what is new in the segment to append to, and learn the producers' numbers from it."""
        assert self._writer is not None
        if self._checked_path != active.path:
            self._checked_path, self._checked, self._last = active.path, 0, {}
        self._last |= _checked_producers(active.path, self._writer, self._checked)
        active.follow(self._writer)
        self._checked = active.size

    def _check_sealed(self, segment: _Segment) -> dict[bytes, int]:
        return _checked_producers(segment.path, self._file(segment), 0)

    def _repair(self, active: _Segment) -> None:
        """Put aside what a killed writer has left half-written."""
        assert self._writer is not None
        length = os.fstat(self._writer).st_size
        torn = os.pread(self._writer, length - active.size, active.size)
        aside = active.path.with_name(f"{active.path.stem}.torn-{active.size}")
        aside.write_bytes(torn)
        os.ftruncate(self._writer, active.size)
        os.fsync(self._writer)

    def _write(self, active: _Segment, frame: bytes) -> None:
        assert self._writer is not None
        place = active.size
        try:
            done = 0
            while done < len(frame):
                done += os.pwrite(self._writer, memoryview(frame)[done:], place + done)
        except OSError as error:
            os.ftruncate(self._writer, place)
            raise LogUnavailableError(
                f"{active.path}: {error.strerror}; nothing was appended, free some room"
            ) from error
        self._unsynced = True
        active.follow(self._writer)
        self._checked = active.size

    def _sync(self, policy: str) -> None:
        now_s = time.monotonic()
        if policy == "always" or (policy == "interval" and now_s - self._synced_s >= 1):
            assert self._writer is not None
            os.fsync(self._writer)
            self._synced_s, self._unsynced = now_s, False

    def _new_segment(self, first: int) -> None:
        path = self._path(first)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o644))
        _sync_folder(self._folder)
        self._segments.append(_Segment(path, first, first))

    def _roll(self, active: _Segment) -> _Segment:
        """Begin a new segment, which takes over the producers' numbers; old ones go by the retention."""
        assert self._writer is not None
        os.fsync(self._writer)
        os.close(self._writer)
        self._new_segment(active.end)
        new = self._segments[-1]
        self._writer, self._checked_path = os.open(new.path, os.O_RDWR), new.path
        self._write(new, encode_producers(self._last, new.first))
        self._retain()
        return new

    def _retain(self) -> None:
        keeping, now_s = self._keeping, time.time()
        sizes = [segment.path.stat().st_size for segment in self._segments]
        while len(self._segments) > 1:
            age_ms = (now_s - self._segments[0].path.stat().st_mtime) * 1000
            old = keeping.retention_ms and age_ms > keeping.retention_ms
            if not old and not (keeping.retention_bytes and sum(sizes) > keeping.retention_bytes):
                return
            self._drop_first()
            sizes.pop(0)

    def _drop_first(self) -> None:
        segment = self._segments.pop(0)
        if segment.path in self._files:
            os.close(self._files.pop(segment.path))
        segment.path.unlink()

    def _cut_first(self, before: int) -> None:
        """Write the first segment anew without what lies before; the old file goes when the new one is whole."""
        segment = self._segments[0]
        is_active = len(self._segments) == 1
        end = segment.end if is_active else self._segments[1].first  # who has not read a segment knows no end of it
        rest = self.read(before, end - before).records if before < end else []
        new = _Segment(self._path(before), before, before)
        frames = [encode_producers(self._last, before)]
        at = before
        for part in _framewise(rest[: end - before]):
            frames.append(encode_frame(part, at))
            at += len(part)
        beside = new.path.with_suffix(".new")
        with beside.open("wb") as file:
            file.write(b"".join(frames))
            file.flush()
            os.fsync(file.fileno())
        beside.rename(new.path)
        _sync_folder(self._folder)
        self._drop_first()
        if is_active:
            assert self._writer is not None
            os.close(self._writer)
            self._writer, self._unsynced = None, False  # the new file is on the disk
        self._segments.insert(0, new)

    def _path(self, first: int) -> Path:
        return self._folder / f"{first:020d}.seg"

    def _list_segments(self) -> None:
        known = {segment.path: segment for segment in self._segments}
        paths = sorted(self._folder.glob("*.seg"))
        for path in known.keys() - set(paths):
            if path in self._files:
                os.close(self._files.pop(path))
        self._segments = [known.get(path) or _Segment(path, int(path.stem), int(path.stem)) for path in paths]

    def _refresh_last(self) -> None:
        """See what has been appended to the last segment, and to those that came after it."""
        while True:
            last = self._segments[-1]
            last.follow(self._file(last))
            if last.end == last.first or not self._path(last.end).exists():
                return
            self._list_segments()
            if not self._segments or self._segments[-1] is last:
                return

    def _file(self, segment: _Segment) -> int:
        if segment.path not in self._files:
            self._files[segment.path] = os.open(segment.path, os.O_RDONLY)
        return self._files[segment.path]

    def _segment_of(self, offset: int) -> _Segment | None:
        at = bisect_right(self._segments, offset, key=lambda segment: segment.first) - 1
        return self._segments[at] if at >= 0 else None

    def _read_frames(self, segment: _Segment, offset: int, max_records: int) -> list[Record]:
        """Records from an offset on within a segment."""
        file = self._file(segment)
        if offset >= segment.end:
            segment.follow(file)
        mark = bisect_right(segment.marks, offset) - 1
        place = segment.places[max(mark, 0)] if segment.places else 0
        records: list[Record] = []
        while len(records) < max_records and place < segment.size:
            head = decode_head(os.pread(file, HEAD.size, place))
            if head is None:
                raise LogDamagedError(_damaged(segment.path, place, "the head of a frame"))
            if head.next_offset > offset and head.num_records:
                body = os.pread(file, head.body_bytes, place + HEAD.size)
                if crc32(body) != head.body_crc:
                    raise LogDamagedError(_damaged(segment.path, place, "a frame"))
                skip = max(0, offset - head.first_offset)
                records += decode_records(body, head.num_records)[skip:]
            place += HEAD.size + head.body_bytes
        return records[:max_records]


def _checked_producers(path: Path, file: int, start: int) -> dict[bytes, int]:
    """Check every frame from a place on; gives the last numbers of the producers in them.

    Raises:
        LogDamagedError: a checksum does not hold.
    """
    last: dict[bytes, int] = {}
    for head, place in _whole_frames(path, file, start):
        body = os.pread(file, head.body_bytes, place + HEAD.size)
        if crc32(body) != head.body_crc:
            raise LogDamagedError(_damaged(path, place, "a frame"))
        if head.num_records == 0:
            last |= decode_producers(body)
        elif head.producer != NOBODY:
            last[head.producer] = head.sequence + head.num_records - 1
    return last


def _framewise(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    """Parts of at most `FRAME_RECORDS` records, and of at most `FRAME_BYTES` bytes unless one record has more."""
    if len(records) > FRAME_RECORDS:
        for start in range(0, len(records), FRAME_RECORDS):
            yield from _framewise(records[start : start + FRAME_RECORDS])
    elif len(records) > 1 and sum(len(record[1]) + len(record[0]) for record in records) > FRAME_BYTES:
        half = len(records) // 2
        yield from _framewise(records[:half])
        yield from _framewise(records[half:])
    elif records:
        yield records


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
