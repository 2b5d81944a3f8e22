"""The tier on a local disk: one file a variant, written beside, flushed, then renamed.

Layers are read with `pread` into memory of our own rather than mapped: a file that is cut short under a mapping kills
the process, under `pread` it is an error like any other. A folder may be shared by several processes of a machine.
"""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
import zlib
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.ragcache.store.disk_names import NameFolder, sync_folder
from nonet.ragcache.store.layout import PAGE_BYTES, Head, Packed, decode_head, file_bytes, head_bytes, padded
from nonet.ragcache.store.tiers import Name, TierFault, TierFull, VariantDamaged, VariantGone
from nonet.ragcache.store.variant import VariantMeta, is_variant_id

_SUFFIX = ".kv"
_TEMPORARY = ".tmp-"
_FULL = {errno.ENOSPC, errno.EDQUOT}
_T = TypeVar("_T")


class DiskTier:
    """Variants as files of a folder, spread over 256 sub-folders; names of documents as empty files below `names/`.

    Args:
        folder: created when it is not there; what crashed writers left in it is cleared away.
        capacity_bytes: what may be stored, None for no limit of ours.
        direct: read past the page cache (O_DIRECT), for measurements.
        name: in reports.

    Raises:
        InputError: the folder cannot be made or written to.
    """

    is_memory = False
    is_shared = False
    num_readers = 1

    def __init__(
        self, folder: str | Path, capacity_bytes: int | None = None, *, direct: bool = False, name: str = "disk"
    ) -> None:
        self.name = name
        self.capacity_bytes = capacity_bytes
        self._folder = Path(folder)
        self._names = NameFolder(self._folder / "names")
        self._flags = os.O_RDONLY | (os.O_DIRECT if direct else 0)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._folder):
                pass
        except OSError as error:
            raise InputError(
                f"cannot keep variants in {folder}: {error.strerror}; name a folder you can write"
            ) from error
        self._clear_leftovers()

    def path_of(self, variant_id: str) -> Path:
        """The file of a variant, there or not.

        Raises:
            VariantGone: the id cannot name a file.
        """
        if not is_variant_id(variant_id):
            raise VariantGone(f"{variant_id[:80]!r} names no variant")
        return self._folder / f"{_bucket(variant_id):02x}" / f"{variant_id}{_SUFFIX}"

    def ids(self) -> set[str]:
        """See `Tier`."""
        try:
            return {path.name.removesuffix(_SUFFIX) for path in self._folder.glob(f"??/[!.]*{_SUFFIX}")}
        except OSError as error:
            raise self._fault("list", error) from error

    def meta(self, variant_id: str) -> VariantMeta:
        """See `Tier`."""
        source = self.open(variant_id)
        source.close()
        return source.head.meta

    def stored_bytes(self, meta: VariantMeta) -> int:
        """The size of its file."""
        return file_bytes(meta)

    def put(self, packed: Packed) -> None:
        """See `Tier`; the file is on the disk when this returns."""
        final = self.path_of(packed.meta.variant_id)
        try:
            final.parent.mkdir(exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=_TEMPORARY, dir=final.parent)
        except OSError as error:
            raise self._fault("write", error) from error
        try:
            # The lock tells a living writer's file from a dead one's; the kernel lets go of it with the process.
            fcntl.flock(handle, fcntl.LOCK_EX)
            _write_all(handle, packed)
            os.fsync(handle)
            Path(name).replace(final)
            sync_folder(final.parent)
        except OSError as error:
            with suppress(OSError):
                Path(name).unlink()
            raise self._fault("write", error) from error
        finally:
            os.close(handle)

    def open(self, variant_id: str) -> _DiskSource:
        """See `Tier`; the file can be read to the end even when it is removed meanwhile."""
        path = self.path_of(variant_id)
        try:
            handle = os.open(path, self._flags)
        except FileNotFoundError:
            raise VariantGone(f"variant {variant_id} is not on {self.name}") from None
        except OSError as error:
            raise self._fault("read", error) from error
        try:
            return _DiskSource(handle, _read_head(handle, variant_id))
        except VariantDamaged as error:
            os.close(handle)
            raise VariantDamaged(f"{path}: {error}") from error
        except OSError as error:
            os.close(handle)
            raise self._fault("read", error) from error

    def remove(self, variant_id: str) -> None:
        """See `Tier`."""
        try:
            self.path_of(variant_id).unlink(missing_ok=True)
        except VariantGone:
            pass
        except OSError as error:
            raise self._fault("remove from", error) from error

    def note(self, names: Collection[Name]) -> None:
        """See `Tier`; the names are on the disk when this returns."""
        self._ask("write", lambda: self._names.note(names))

    def noted(self, document: str) -> set[str]:
        """See `Tier`."""
        return self._ask("list", lambda: self._names.noted(document))

    def notes(self) -> dict[Name, float]:
        """See `Tier`."""
        return self._ask("list", self._names.notes)

    def unnote(self, names: Collection[Name]) -> None:
        """See `Tier`."""
        self._ask("remove from", lambda: self._names.unnote(names))

    def close(self) -> None:
        """Nothing is held open."""

    def _ask(self, verb: str, ask: Callable[[], _T]) -> _T:
        try:
            return ask()
        except OSError as error:
            raise self._fault(verb, error) from error

    def _fault(self, verb: str, error: OSError) -> TierFault:
        kind = TierFull if error.errno in _FULL else TierFault
        return kind(f"cannot {verb} {self._folder}: {error.strerror or error}")

    def _clear_leftovers(self) -> None:
        for path in self._folder.glob(f"??/{_TEMPORARY}*"):
            with suppress(OSError):
                handle = os.open(path, os.O_RDONLY)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
                finally:
                    os.close(handle)


class _DiskSource:
    """A file open for reading; its size was compared with what its header says."""

    def __init__(self, handle: int, head: Head) -> None:
        self.head = head
        self._handle = handle

    def read(self, layer: int) -> NDArray[np.uint8]:
        size = self.head.layer_bytes
        try:
            return _pread(self._handle, self.head.layer_offset(layer), padded(size))[:size]
        except OSError as error:
            raise TierFault(f"cannot read variant {self.head.meta.variant_id}: {error.strerror or error}") from error

    def sums(self) -> tuple[bytes, ...]:
        return self.head.sums

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def _bucket(variant_id: str) -> int:
    return zlib.crc32(variant_id.encode()) & 0xFF


def _write_all(handle: int, packed: Packed) -> None:
    _write(handle, memoryview(packed.head()))
    for layer in packed.layers:
        _write(handle, layer.data)
        _write(handle, memoryview(bytes(padded(layer.size) - layer.size)))


def _write(handle: int, data: memoryview) -> None:
    while len(data):
        data = data[os.write(handle, data) :]


def _read_head(handle: int, variant_id: str) -> Head:
    total = os.fstat(handle).st_size
    first = _pread(handle, 0, min(PAGE_BYTES, padded(total))).tobytes()
    size = head_bytes(first)
    if size > total:
        raise VariantDamaged(f"cut short: {total} bytes, the header alone has {size}")
    head = decode_head(first if size == len(first) else _pread(handle, 0, size).tobytes(), variant_id)
    if head.total_bytes != total:
        raise VariantDamaged(f"{total} bytes, the header says {head.total_bytes}")
    return head


def _pread(handle: int, offset: int, size: int) -> NDArray[np.uint8]:
    # On a page boundary in memory too, as O_DIRECT wants it.
    raw = np.empty(size + PAGE_BYTES, np.uint8)
    start = -raw.ctypes.data % PAGE_BYTES
    data = raw[start : start + size]
    done = 0
    while done < size:
        num = os.preadv(handle, [data[done:].data], offset + done)
        if num == 0:
            raise VariantDamaged(f"cut short: {size - done} bytes are missing at {offset + done}")
        done += num
    return data
