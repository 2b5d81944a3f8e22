"""Where a state is kept."""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol


class PersistenceHandler(Protocol):
    """Where a state is kept; handlers written for Drain3 fit."""

    @abstractmethod
    def save_state(self, state: bytes) -> None:
        """Keep the state in place of the one before."""

    @abstractmethod
    def load_state(self) -> bytes | None:
        """The state kept last; None when there is none."""
