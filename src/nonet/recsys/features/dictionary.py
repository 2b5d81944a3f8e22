"""Exact dictionary: each distinct value of a feature has a number of its own, on disk, for ever.

The mode for those who cannot bear a single equal pair of signatures. The price is the memory of every value. A file is
a header and blocks; `encode` appends one block with the values that are new before it returns their numbers, so no
number that was given out can be given out again for another value after a crash of the process (`sync` also covers a
crash of the machine). Half a block at the end is cut off on opening; a damaged block elsewhere is refused.
"""

from __future__ import annotations

import fcntl
import os
import struct
import tempfile
import threading
import zlib
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from nonet.common.errors import InputError
from nonet.recsys.features.signature import Values, as_bytes

Ints = NDArray[np.int64]

MAGIC = b"nonet-dictionary-1\n"
_BLOCK = struct.Struct("<IQII")  # number of values, bytes of the payload, crc32 of the payload, crc32 of these three


class Dictionary:
    """Values of one feature to numbers 0, 1, 2, ... and back; any thread may ask.

    Args:
        path: of its file, created if need be; one process at a time has it. None keeps it in memory.

    Raises:
        InputError: the file is no dictionary, is damaged, or another process has it.

    >>> words = Dictionary()
    >>> words.encode(["a", "b", "a"]).tolist(), words.find(["b", "c"]).tolist(), words.decode([1])
    ([0, 1, 0], [1, -1], [b'b'])
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self._numbers: dict[bytes, int] = {}
        self._values: list[bytes] = []
        self._path = Path(path) if path is not None else None
        self._file: IO[bytes] | None = None
        self._adding = threading.Lock()
        if self._path is not None:
            self._file = _opened(self._path)
            try:
                self._load(self._file)
            except BaseException:
                self._file.close()
                raise

    def __len__(self) -> int:
        return len(self._values)

    def __enter__(self) -> Dictionary:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def encode(self, values: Values) -> Ints:
        """The number of each value; a value that is new gets the next one.

        Args:
            values: as for `signature.signatures`.

        Returns:
            int64 [n].

        Raises:
            InputError: a null, or a type that has no one text.
            OSError: the file cannot be written; then no value has become known.
        """
        distinct, codes = _distinct(values)
        if any(value not in self._numbers for value in distinct):
            with self._adding:
                self._add([value for value in dict.fromkeys(distinct) if value not in self._numbers])
        return np.array([self._numbers[value] for value in distinct], np.int64)[codes]

    def find(self, values: Values) -> Ints:
        """The number of each value, -1 where there is none; learns nothing.

        Args:
            values: as for `encode`.
        """
        distinct, codes = _distinct(values)
        return np.array([self._numbers.get(value, -1) for value in distinct], np.int64)[codes]

    def decode(self, numbers: ArrayLike) -> list[bytes]:
        """The values of numbers.

        Args:
            numbers: int64 [n].

        Raises:
            InputError: a number that was never given out.
        """
        wanted = np.asarray(numbers, np.int64)
        wrong = wanted[(wanted < 0) | (wanted >= len(self._values))]
        if len(wrong):
            raise InputError(f"number {wrong[0]} is not in the dictionary, which has 0..{len(self._values) - 1}")
        return [self._values[number] for number in wanted.tolist()]

    def catch_up(self, content: bytes) -> None:
        """Take over the values of a copy, with their numbers, as far as they are not there yet.

        Args:
            content: of the file of a dictionary; it may have been read while somebody was adding to it.

        Raises:
            InputError: there are other values here, so that numbers would mean something else; or it is damaged.
        """
        with tempfile.TemporaryDirectory(prefix="nonet-dictionary-") as folder:
            beside = Path(folder) / "copy"
            beside.write_bytes(content)
            with Dictionary(beside) as copy:
                values = copy._values
        with self._adding:
            both = min(len(values), len(self._values))
            if values[:both] != self._values[:both]:
                raise InputError(
                    f"{self._path} numbers other values than the snapshot's dictionary; move it away to take that one"
                )
            self._add(values[both:])

    def sync(self) -> None:
        """Wait until the disk has everything."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Sync and let go of the file."""
        if self._file is not None:
            self.sync()
            self._file.close()
            self._file = None

    def _add(self, fresh: list[bytes]) -> None:
        if not fresh:
            return
        self._append(fresh)
        for value in fresh:
            self._values.append(value)
            self._numbers[value] = len(self._values) - 1

    def _append(self, fresh: list[bytes]) -> None:
        if self._path is None:
            return
        if self._file is None:
            raise InputError(f"the dictionary {self._path} is closed; open it again to add values")
        sizes = np.array([len(value) for value in fresh], "<u4")
        payload = sizes.tobytes() + b"".join(fresh)
        end = self._file.seek(0, os.SEEK_END)
        head = _BLOCK.pack(len(fresh), len(payload), zlib.crc32(payload), 0)[:-4]
        try:
            _write_all(self._file, head + zlib.crc32(head).to_bytes(4, "little") + payload)
        except OSError:
            os.ftruncate(self._file.fileno(), end)  # a full disk: nothing of it stays
            raise

    def _load(self, file: IO[bytes]) -> None:
        content = file.read()
        if content and not content.startswith(MAGIC):
            if not MAGIC.startswith(content):
                raise InputError(f"{self._path} is not a dictionary of nonet: it begins with {content[:20]!r}")
            content = b""
        if not content:
            os.ftruncate(file.fileno(), 0)
            _write_all(file, MAGIC)
            return
        at = len(MAGIC)
        while at < len(content):
            end = self._load_block(content, at)
            if end is None:
                os.ftruncate(file.fileno(), at)
                return
            at = end

    def _load_block(self, content: bytes, at: int) -> int | None:
        """Take in a block; returns where it ends, None for half a block at the end of the file."""
        if len(content) - at < _BLOCK.size:
            return None
        count, num_bytes, crc, head_crc = _BLOCK.unpack_from(content, at)
        if zlib.crc32(content[at : at + _BLOCK.size - 4]) != head_crc:
            raise InputError(f"{self._path}: damaged at byte {at}: no block begins there; restore the file from a copy")
        start, end = at + _BLOCK.size, at + _BLOCK.size + num_bytes
        if end > len(content):
            return None
        payload = content[start:end]
        if zlib.crc32(payload) != crc:
            raise InputError(f"{self._path}: damaged at byte {at}: wrong checksum; restore the file from a copy")
        sizes = np.frombuffer(payload, "<u4", count).astype(np.int64)
        bounds = (4 * count + np.concatenate([[0], np.cumsum(sizes)])).tolist()
        for low, high in pairwise(bounds):
            value = payload[low:high]
            self._numbers[value] = len(self._values)
            self._values.append(value)
        return end


def _distinct(values: Values) -> tuple[list[bytes], Ints]:
    """The distinct values in order of appearance, and for each row which."""
    array = as_bytes("of a dictionary", values)
    if not isinstance(array, pa.DictionaryArray):
        array = array.dictionary_encode()
    codes = array.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    listed = array.dictionary.to_pylist()
    used, first, again = np.unique(codes, return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return [listed[code] for code in used[order]], place[again]


def _write_all(file: IO[bytes], content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[file.write(view) :]


def _opened(path: Path) -> IO[bytes]:
    if not path.parent.is_dir():
        raise InputError(
            f"cannot keep a dictionary at {path}: the folder {path.parent} does not exist; create it first"
        )
    file = path.open("a+b", buffering=0)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise InputError(f"the dictionary {path} is in use by another process; stop it or name another file") from None
    file.seek(0)
    return file
