"""Texts that may not stand where a match begins: what becomes of a negative lookaround at the start of a mask."""

from __future__ import annotations

from dataclasses import dataclass
from operator import contains


@dataclass(frozen=True, slots=True)
class Ban:
    """A text that may not stand where a match begins.

    Attributes:
        sets: its bytes, one set for each place.
        is_before: whether it ends where the match begins, instead of beginning there.
    """

    sets: tuple[frozenset[int], ...]
    is_before: bool

    @property
    def offset(self) -> int:
        """Where its first byte is, from the start of the match."""
        return -len(self.sets) if self.is_before else 0

    def stands_at(self, text: bytes, position: int) -> bool:
        """Whether the text stands at the start of a match.

        >>> Ban((frozenset(b"0"), frozenset(b"xX")), is_before=False).stands_at(b"id 0x1f", 3)
        True
        """
        first = position + self.offset
        last = first + len(self.sets)
        return first >= 0 and last <= len(text) and all(map(contains, self.sets, text[first:last]))
