"""Shapes: what is left of a line when its variable parts are masked, and the currency of the miner.

A *shape* is the masked Content: literal bytes stay, every recognised variable part becomes one code byte (`Kind`).
Distinct shapes are few (thousands in millions of lines), so everything after the scanner works on shapes, not lines.

Some kinds are *soft*: what they match may well be a constant (`ext3`, `java.io.IOException`, `/proc/kmsg`). For these
the shape remembers the one value seen so far, or that there were several. That is a join-semilattice (value ->
"varied"), so shapes from different shards merge in any order to the same result.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Kind(IntEnum):
    """Type of a masked part; the value is its code byte in a masked text (all below 0x20, so never a literal)."""

    INT = 0x01  # 42, -7
    NUMBER = 0x02  # 3.14, 1.2.3, 50%
    HEX = 0x03  # 0x1f, 00a0ffee
    IP = 0x04  # 10.0.0.1, 10.0.0.1:80, /10.0.0.1:80, 10.0.0.0/8
    IPV6 = 0x05
    MAC = 0x06
    UUID = 0x07
    URL = 0x08
    TIME = 0x0E  # 12:30, 12:30:01.250
    DATE = 0x0F  # 2026-11-22, 11/22/2026, 2026-11-22T12:30:01Z
    DURATION = 0x10  # 15ms
    SIZE = 0x11  # 126MB
    PATH = 0x12  # soft: /var/log/x, C:\x
    HOST = 0x13  # soft: dotted name, name:port, user@host
    ID = 0x14  # soft: letters and digits mixed: eth0, blk_123, node-17
    CALENDAR = 0x15  # soft: weekday or month name
    STAR = 0x16  # a literal <*> in the text
    RAW = 0x17  # control bytes
    SPACE = 0x18  # a run of blanks that is not one single blank, also at either end
    REST = 0x19  # everything after the longest shape we keep
    USER = 0x1A  # a mask of the user's


SOFT = frozenset({Kind.PATH, Kind.HOST, Kind.ID, Kind.CALENDAR})
"""Kinds whose value may be a constant; `Shape.constants` tells."""


@dataclass(frozen=True, slots=True)
class Shape:
    r"""One distinct masked text and what its lines had in common.

    Attributes:
        masked: literal bytes and code bytes.
        constants: one entry a code byte, in order: for a soft kind the single value all lines had, or None when it
            varied; None for hard kinds.
        count: number of lines.

    >>> Shape(b"eth0 up in \x01 ms".replace(b"eth0", b"\x14"), (b"eth0", None), 12).holes
    [(0, <Kind.ID: 20>), (8, <Kind.INT: 1>)]
    """

    masked: bytes
    constants: tuple[bytes | None, ...]
    count: int

    @property
    def holes(self) -> list[tuple[int, Kind]]:
        """Offset in `masked` and kind of every code byte."""
        return [(i, Kind(b)) for i, b in enumerate(self.masked) if b < 0x20]
