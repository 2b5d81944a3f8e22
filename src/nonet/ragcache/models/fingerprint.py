"""A model's fingerprint: the hash of all bytes of its files, remembered while the files stay as they are."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import blake3
import platformdirs

from nonet.common.atomic import atomic_write
from nonet.common.errors import NonetError

_MAX_REMEMBERED = 1000


def fingerprint(files: Sequence[Path]) -> str:
    """64 hex digits over the content of the files, in the order given.

    Args:
        files: the weights, and whatever else decides what the model computes.

    Raises:
        OSError: a file cannot be read.
    """
    return blake3.blake3("".join(_file_hash(file) for file in files).encode()).hexdigest()


def _file_hash(file: Path) -> str:
    state = file.stat()
    key = f"{file.resolve()}|{state.st_size}|{state.st_mtime_ns}"
    known = _remembered()
    if key in known:
        return known[key]
    hasher = blake3.blake3(max_threads=blake3.blake3.AUTO)
    found = hasher.update_mmap(file).hexdigest()
    _remember({**known, key: found})
    return found


def _memory() -> Path:
    home = os.environ.get("NONET_HOME") or platformdirs.user_cache_dir("nonet")
    return Path(home) / "ragcache" / "fingerprints.json"


def _remembered() -> dict[str, str]:
    with suppress(OSError, ValueError):
        known = json.loads(_memory().read_text(encoding="utf-8"))
        if isinstance(known, dict):
            return {str(key): value for key, value in known.items() if isinstance(value, str) and len(value) == 64}
    return {}


def _remember(known: dict[str, str]) -> None:
    """Best effort: where nothing can be written, the next start hashes again."""
    with suppress(OSError, NonetError):
        _memory().parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(_memory()) as file:
            json.dump(dict(list(known.items())[-_MAX_REMEMBERED:]), file)
