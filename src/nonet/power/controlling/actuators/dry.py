"""Writes nothing: remembers what it was told. The back end of rows that are only watched, and of tests."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from nonet.power.controlling.actuators.protocol import (
    ACTUATORS,
    ActuatorConfig,
    ActuatorError,
    ActuatorKind,
    Capability,
    Scale,
    Server,
    checked_level,
)
from nonet.power.policies.protocol import Action


class DryConfig(ActuatorConfig):
    """Section `[actuators.dry]`; nothing to set."""


class DryServer(ActuatorConfig):
    """Options of a server; nothing to set."""


class DryActuator:
    """Levels by server, in memory.

    >>> actuator = DryActuator(DryConfig(), [], Scale(1410.0, lambda level: 400 * level))
    >>> server = Server(0, "node01", priority=0)
    >>> actuator.set_level(server, 0.9, "key-1"), actuator.read_level(server), actuator.writes
    (0.9, 0.9, [('node01', 0.9, 'key-1')])
    """

    name = "dry"
    capabilities = frozenset({Capability.CLOCKS})
    resolution = 1e-9
    settle_s = 0.0
    reads_back = True

    def __init__(self, config: DryConfig, servers: Sequence[Server], scale: Scale) -> None:
        self._levels: dict[int, float] = {}
        self._lock = threading.Lock()
        self.writes: list[tuple[str, float, str]] = []

    def check(self, servers: Sequence[Server]) -> list[ActuatorError]:
        """Nothing can fail."""
        return []

    def set_level(self, server: Server, level: float, key: str, action: Action = Action.CAP) -> float:
        """Remember it."""
        with self._lock:
            self._levels[server.index] = checked_level(level)
            self.writes.append((server.name, level, key))
        return level

    def read_level(self, server: Server, expected: float = 1.0) -> float:
        """What was last set."""
        return self._levels.get(server.index, 1.0)

    def close(self) -> None:
        """Nothing to give back."""


ACTUATORS.add("dry", ActuatorKind(DryConfig, DryServer, DryActuator, "writes nothing, remembers what it was told"))
