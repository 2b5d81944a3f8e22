"""Source files as streams of bytes: plain, compressed (gzip, zstd, bzip2, xz; told by magic bytes) or inside a zip.

A file that was cut short never raises while it is read: the stream ends at the last whole line and `failure` says why,
so that what could be read is used and the loss is reported. Packed data that does not match its own checksum is another
matter: any row of it may be wrong, so `SourceFile.damage` finds it before a row is used.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from nonet.common.errors import InputError

MAX_LINE_BYTES = 16 << 20
_CHUNK_BYTES = 1 << 20
_DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
_UNPACK_FIRST = ((b"Rar!", "unrar x"), (b"7z\xbc\xaf\x27\x1c", "7z x"))


class UnusableFileError(InputError):
    """One source file is damaged or empty; the others can be used."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file, or one member of a zip archive.

    Attributes:
        path: the file or the archive.
        member: name inside the archive, "" for the file itself.
        num_bytes: size on the disk or packed size, for progress.
    """

    path: Path
    member: str = ""
    num_bytes: int = 0

    @property
    def name(self) -> str:
        """What to call it: `a.csv`, or `a.zip:R2/day_00.csv`."""
        return f"{self.path}:{self.member}" if self.member else str(self.path)

    @property
    def inner(self) -> str:
        """Its path with `/`, as far as known, for what folders and file names say (region, table, day)."""
        return f"{self.path.as_posix()}/{self.member}" if self.member else self.path.as_posix()

    @contextmanager
    def open(self) -> Iterator[LineSafeStream]:
        """Open for reading, decompressed.

        Raises:
            InputError: it cannot be opened, or is an archive that must be unpacked first.
        """
        try:
            if self.member:
                with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as packed:
                    yield LineSafeStream(_decompressed(packed, self.name), is_plain=False)
                return
            with self.path.open("rb") as file:
                raw = _decompressed(file, self.name)
                yield LineSafeStream(raw, is_plain=isinstance(raw, io.BufferedReader))
        except zipfile.BadZipFile as error:
            raise InputError(f"{self.name}: damaged zip archive ({error}); get it again") from None
        except FileNotFoundError:
            raise InputError(f"{self.path}: no such file") from None
        except PermissionError:
            raise InputError(f"{self.path}: may not be read; change its permissions") from None

    def damage(self) -> str:
        """Why no row of this file may be used, "" when it is sound or merely cut short; reads packed files once."""
        try:
            with self.open() as stream:
                if stream.is_plain:
                    return ""
                while stream.read(_CHUNK_BYTES):
                    pass
                return "" if stream.is_cut else stream.failure
        except _DAMAGE as error:
            return str(error) or type(error).__name__

    @property
    def is_parquet(self) -> bool:
        """Whether it is a Parquet file, by its name."""
        return self.inner.lower().endswith((".parquet", ".pq"))


class LineSafeStream(io.RawIOBase):
    """Bytes up to the end, or up to the last whole line before damage.

    Attributes:
        failure: why it ended early, "" when it did not; known once a read returned nothing.
        is_cut: it ended early, and what came before is sound (cut short, or garbage behind a whole gzip file).
        is_plain: nothing was unpacked, so that there is no checksum to trust.
        lost: the beginning of the line that was cut.
        num_lines: line ends given out so far.
    """

    def __init__(self, raw: Any, *, is_plain: bool) -> None:
        super().__init__()
        self.is_plain = is_plain
        self.is_cut = False
        self._raw = raw
        self._ready = memoryview(b"")
        self._held: list[bytes] = []
        self._ended = False
        self.failure = ""
        self.lost = b""
        self.num_lines = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, view: object) -> int:
        """Fill `view` from the front; 0 only at the end."""
        target = memoryview(view).cast("B")  # type: ignore[arg-type]
        while not self._ready and not self._ended:
            self._fill()
        count = min(len(target), len(self._ready))
        target[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Number (from 1) and bytes of every line, without its end (`\\n`, `\\r\\n`); a line too long comes cut."""
        reader = io.BufferedReader(self, _CHUNK_BYTES)
        number = 0
        while line := reader.readline(MAX_LINE_BYTES):
            number += 1
            if not line.endswith(b"\n"):
                while (rest := reader.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                    pass
            yield number, line.rstrip(b"\r\n")

    def _fill(self) -> None:
        try:
            # One step of the unpacker at a time: what it gives before it meets damage is not lost.
            chunk = self._raw.read1(_CHUNK_BYTES)
        except _DAMAGE as error:
            self.failure = str(error) or type(error).__name__
            self.is_cut = isinstance(error, EOFError) or self.failure.startswith("Not a gzipped file")
            self.lost = b"".join(self._held)[:400]
            self._held, self._ended = [], True
            return
        if not chunk:
            self._ended = True
            self._give(b"".join(self._held))
            return
        cut = chunk.rfind(b"\n") + 1
        if cut or sum(map(len, self._held)) > MAX_LINE_BYTES:
            cut = cut or len(chunk)
            self._give(b"".join(self._held) + chunk[:cut])
            self._held = [chunk[cut:]] if cut < len(chunk) else []
        else:
            self._held.append(chunk)

    def _give(self, data: bytes) -> None:
        self.num_lines += data.count(b"\n")
        self._ready = memoryview(data)


def expand(
    paths: Iterable[str | Path], endings: tuple[str, ...] = ()
) -> tuple[list[SourceFile], list[tuple[str, str]]]:
    """The files behind what a user names: files, folders (searched deeply), zip archives (their members).

    Args:
        paths: what was named.
        endings: in folders and archives only names that end so, compression aside; all by default.

    Returns:
        the files in the order named, within folders by name; and the archives that cannot be read, with the reason.

    Raises:
        InputError: a path does not exist, or nothing was found.
    """
    files: list[SourceFile] = []
    damaged: list[tuple[str, str]] = []
    listed = [Path(path) for path in paths]
    for path in listed:
        if not path.exists():
            raise InputError(f"{path}: no such file or folder")
        inside = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in inside:
            if path.is_dir() and _hidden(file.relative_to(path).as_posix()):
                continue
            if _is_zip(file):
                try:
                    files += _members(file, endings)
                except _DAMAGE as error:
                    damaged.append((str(file), f"damaged zip archive: {error}"))
            elif not path.is_dir() or _ends(file.name, endings):
                files.append(SourceFile(file, "", file.stat().st_size))
    if not files and not damaged:
        wanted = f" that ends with {' or '.join(endings)}" if endings else ""
        raise InputError(f"{', '.join(map(str, listed)) or 'no path'}: holds no file{wanted}")
    return files, damaged


def _members(path: Path, endings: tuple[str, ...]) -> list[SourceFile]:
    with zipfile.ZipFile(path) as archive:
        infos = sorted(archive.infolist(), key=lambda info: info.filename)
        return [
            SourceFile(path, info.filename, info.compress_size)
            for info in infos
            if not info.is_dir() and not _hidden(info.filename) and _ends(info.filename, endings)
        ]


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in name.split("/"))


def _ends(name: str, endings: tuple[str, ...]) -> bool:
    bare = name.lower()
    for ending in (".gz", ".zst", ".bz2", ".xz"):
        bare = bare.removesuffix(ending)
    return not endings or bare.endswith(endings)


def _is_zip(path: Path) -> bool:
    if path.suffix.lower() == ".zip":
        return True
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _decompressed(raw: IO[bytes], name: str) -> Any:
    unbuffered: Any = raw
    buffered = io.BufferedReader(unbuffered)
    try:
        head = buffered.peek(8)[:8]
    except _DAMAGE:
        return buffered
    for magic, command in _UNPACK_FIRST:
        if head.startswith(magic):
            raise InputError(f"{name}: unpack it first: {command} {name}")
    if head.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=buffered)
    if head.startswith(b"BZh"):
        return bz2.BZ2File(buffered)
    if head.startswith(b"\xfd7zXZ\0"):
        return lzma.LZMAFile(buffered)
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        import zstandard

        return zstandard.ZstdDecompressor().stream_reader(buffered, read_across_frames=True)
    return buffered
