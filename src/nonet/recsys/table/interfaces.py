"""What plugs into a table: small protocols, so that a user's own class needs no base."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@runtime_checkable
class Admission(Protocol):
    """Decides which keys that are absent from the table get a row.

    A table asks once for every batch of gradients, with the keys that are absent only; it never asks in a lookup.
    """

    def admit(self, keys: NDArray[np.int64], counts: NDArray[np.int64], now_s: int) -> NDArray[np.bool_]:
        """Note the occurrences and answer which keys may enter.

        Args:
            keys: int64 (n,), unique, all absent from the table.
            counts: int64 (n,), occurrences in the batch, >= 1.
            now_s: event time of the batch, Unix seconds.

        Returns:
            bool (n,).
        """
        ...

    def state(self) -> Mapping[str, Any]:
        """What a snapshot has to keep: arrays and numbers by name."""
        ...

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` has given."""
        ...
