"""Findings: the one way in which a room proves a claim.

A finding is one measured number with its unit, the input it was measured on, the promise it is held to, and the rivals
it stands beside. A `measured` rival ran in the same command on the same input; a `published` one carries its source.
Saved findings are JSON lines, each whole in itself: the finding, whether the promise is kept, and the machine.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from nonet.common.atomic import atomic_write
from nonet.common.errors import InputError
from nonet.common.jsonable import dumps

Better = Literal["higher", "lower", "match"]


@dataclass(frozen=True, slots=True)
class Rival:
    """A peer's value beside ours.

    Args:
        name: who, e.g. "drain3".
        value: its number.
        kind: "measured" (same run, same input) or "published" (then `source` is required).
        source: where the number, or the peer, comes from.
        unit: of its number; "" for the finding's, which alone can be compared with ours.
    """

    name: str
    value: float
    kind: Literal["measured", "published"]
    source: str = ""
    unit: str = ""

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

    def unit_of(self, rival: Rival) -> str:
        """The unit of a rival's value; ours can be compared with it where it is the same."""
        return rival.unit or self.unit

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary, with `kept` beside the fields; a rival has a unit only where it is another one."""
        rivals = [{name: value for name, value in asdict(r).items() if name != "unit" or value} for r in self.rivals]
        return {**asdict(self), "rivals": rivals, "kept": self.kept}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Finding:
        """The inverse of `to_dict`; keys that are no fields (`kept`, `machine`) are left aside.

        Raises:
            KeyError, TypeError, ValueError: the record is no finding.
        """
        values = {f.name: record[f.name] for f in fields(cls) if f.name in record}
        values["value"] = _number(record["value"])
        values["rivals"] = tuple(Rival(**{**r, "value": _number(r["value"])}) for r in record.get("rivals", ()))
        return cls(**values)


def _number(value: float | None) -> float:
    # JSON has no NaN: it is written as null.
    return math.nan if value is None else value


def write_findings(path: str | Path, findings: Iterable[Finding], machine: Mapping[str, Any]) -> None:
    """Write one JSON object a line, atomically: the finding's fields, `kept`, and `machine` (`describe_machine()`)."""
    with atomic_write(path) as file:
        for finding in findings:
            file.write(dumps({**finding.to_dict(), "machine": machine}) + "\n")


def read_findings(path: str | Path) -> list[tuple[Finding, dict[str, Any]]]:
    """The findings of a file that `write_findings` wrote, each with the machine it was measured on.

    Raises:
        InputError: a line is no finding; the message names the file and the line.
    """
    pairs = []
    with Path(path).open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                record = json.loads(line)
                pairs.append((Finding.from_dict(record), dict(record.get("machine", {}))))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise InputError(f"{path}, line {number}: not a finding ({error!r})") from error
    return pairs
