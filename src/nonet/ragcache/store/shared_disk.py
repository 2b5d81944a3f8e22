"""A folder that several processes, or several machines, keep their variants in together."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from nonet.ragcache.store.disk import DiskTier
from nonet.ragcache.store.layout import Packed
from nonet.ragcache.store.tiers import TierFault
from nonet.ragcache.store.variant import is_variant_id

_BURIED_S = 86400.0


class SharedDiskTier(DiskTier):
    """A disk tier that is looked at again from time to time, since others write to it too.

    Word of what was invalidated lies beside the variants, as empty files below `dead/`. On a network file system,
    renames and locks must work as POSIX says (NFS 4 does).

    Args:
        folder: see `DiskTier`.
        capacity_bytes: likewise; each process counts what all of them have stored.
        direct: likewise.
        name: likewise.

    Raises:
        InputError: the folder cannot be made or written to.
    """

    is_shared = True

    def __init__(
        self, folder: str | Path, capacity_bytes: int | None = None, *, direct: bool = False, name: str = "disk"
    ) -> None:
        super().__init__(folder, capacity_bytes, direct=direct, name=name)
        self._dead = Path(folder) / "dead"

    def put(self, packed: Packed) -> None:
        """See `Tier`."""
        super().put(packed)
        with suppress(OSError):
            (self._dead / packed.meta.variant_id).unlink()

    def bury(self, variant_id: str) -> None:
        """See `SharedTier`."""
        self.remove(variant_id)
        if not is_variant_id(variant_id):
            return
        try:
            self._dead.mkdir(exist_ok=True)
            (self._dead / variant_id).touch()
        except OSError as error:
            raise TierFault(f"cannot write to {self._dead}: {error.strerror or error}") from error

    def buried(self) -> set[str]:
        """See `SharedTier`; older notes are cleared away."""
        since, found = time.time() - _BURIED_S, set()
        try:
            paths = list(self._dead.iterdir()) if self._dead.is_dir() else []
        except OSError as error:
            raise TierFault(f"cannot list {self._dead}: {error.strerror or error}") from error
        for path in paths:
            with suppress(OSError):
                if path.stat().st_mtime < since:
                    path.unlink()
                elif is_variant_id(path.name):
                    found.add(path.name)
        return found
