"""Findings: the one way in which a room proves a claim.

A finding is one measured number with its unit, the input it was measured on, the promise it is held to, and the
rivals it stands beside. A `measured` rival ran in the same command on the same input; a `published` one carries its source.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Better = Literal["higher", "lower", "match"]


@dataclass(frozen=True, slots=True)
class Rival:
    """A peer's value beside ours. `kind` is "measured" (same run, same input) or "published" (then `source` is required)."""

    name: str
    value: float
    kind: Literal["measured", "published"]
    source: str = ""

    def __post_init__(self) -> None:
        if self.kind == "published" and not self.source:
            raise ValueError(f"Rival {self.name!r}: a published value needs its source")


@dataclass(frozen=True, slots=True)
class Finding:
    """One measured claim.

    Args:
        room: the room that measured it, e.g. "logs".
        name: stable snake_case name, e.g. "parse_speed_vs_drain3".
        value: the measured number.
        unit: its unit ("x" for ratios, "s", "lines/s", "GiB", "" for scores).
        better: which direction is good; "match" means equal to `promise`.
        input: what it was measured on; synthetic input says "synthetic".
        rivals: peers beside it.
        promise: the value we are held to, or None for a number that is only reported.
        note: one line of context.

    >>> Finding("logs", "lossless", 1.0, "", "match", "16 Loghub samples", promise=1.0).kept
    True
    >>> Finding("logs", "speed", 9.0, "x", "higher", "synthetic", promise=10.0).kept
    False
    """

    room: str
    name: str
    value: float
    unit: str
    better: Better
    input: str
    rivals: tuple[Rival, ...] = field(default=())
    promise: float | None = None
    note: str = ""

    @property
    def kept(self) -> bool | None:
        """Whether the promise holds; None when there is none."""
        if self.promise is None:
            return None
        if self.better == "higher":
            return self.value >= self.promise
        if self.better == "lower":
            return self.value <= self.promise
        return self.value == self.promise

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary, with `kept` beside the fields."""
        return {**asdict(self), "kept": self.kept}
