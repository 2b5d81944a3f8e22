"""The state in a file."""

from __future__ import annotations

from pathlib import Path

from nonet.common.atomic import atomic_write
from nonet.common.errors import InputError
from nonet.logs.drain3.persistence_handler import PersistenceHandler


class FilePersistence(PersistenceHandler):
    """The state in one file, replaced atomically."""

    def __init__(self, file_path: str | Path) -> None:
        self.file_path = Path(file_path)

    def save_state(self, state: bytes) -> None:
        """Replace the file."""
        with atomic_write(self.file_path, "wb") as file:
            file.write(state)

    def load_state(self) -> bytes | None:
        """The content of the file; None when it does not exist."""
        try:
            return self.file_path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InputError(f"{self.file_path}: cannot read the state ({error.strerror})") from error
