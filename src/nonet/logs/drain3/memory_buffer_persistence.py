"""The state in memory."""

from __future__ import annotations

from nonet.logs.drain3.persistence_handler import PersistenceHandler


class MemoryBufferPersistence(PersistenceHandler):
    """The state in an attribute, to be kept elsewhere.

    Attributes:
        state: what was saved last.
    """

    def __init__(self) -> None:
        self.state: bytes | None = None

    def save_state(self, state: bytes) -> None:
        """Replace the attribute."""
        self.state = state

    def load_state(self) -> bytes | None:
        """The attribute."""
        return self.state
