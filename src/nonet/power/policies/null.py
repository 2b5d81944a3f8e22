"""The null policy: no caps and no brake. The run that the latency impact of every other policy is measured against."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nonet.power.policies.base import RowConfig, checked_config
from nonet.power.policies.protocol import Command, Quiet, Sample, View


class Null:
    """Never commands anything, not even the brake.

    >>> Null().decide(0.0, None, None)
    []
    """

    name = "null"
    config_model = RowConfig

    def __init__(self, config: RowConfig | None = None, **values: Any) -> None:
        self.config = config or checked_config(RowConfig, values, self.name)

    def reset(self) -> None:
        """Nothing to forget."""

    def decide(self, now_s: float, sample: Sample | None, view: View) -> Sequence[Command]:
        """No commands."""
        return []

    def quiet(self, now_s: float, view: View) -> Quiet | None:
        """Always."""
        return Quiet()

    def state(self) -> dict[str, object]:
        """Its name only."""
        return {"policy": self.name}

    def restore(self, state: dict[str, object]) -> None:
        """Nothing to take."""
