"""Masks: an ordered list of regular expressions, each substituted in the Content before a parser tokenises it.

These run in Python's `re`, as in the reference evaluation, because the published rows depend on its semantics
(look-behind, lazy groups). Masks that users bring to the miner run in a linear-time engine instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.logs.parsers.base import WILDCARD


def compile_masks(masks: Sequence[str]) -> tuple[re.Pattern[str], ...]:
    """Compile masks, in order.

    Raises:
        InputError: a mask is not a regular expression.
    """
    compiled = []
    for number, mask in enumerate(masks, 1):
        try:
            compiled.append(re.compile(mask))
        except re.error as error:
            raise InputError(f"mask {number} ({mask!r}) is not a regular expression: {error}") from None
    return tuple(compiled)


@dataclass(frozen=True, slots=True)
class DistinctLines:
    """Lines with their repeats folded.

    Attributes:
        texts: the distinct lines, in order of first appearance.
        index_of_line: int32 array, shape (number of lines,): where a line's text is in `texts`.
    """

    texts: list[str]
    index_of_line: NDArray[np.int32]

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many lines every distinct text has."""
        return np.bincount(self.index_of_line, minlength=len(self.texts))


class Masker:
    r"""Substitutes masks in order; each sees the result of the one before.

    Args:
        masks: regular expressions.
        replacement: literal text put in place of every match: the wildcard, or nothing (IPLoM, LogCluster, LogMine,
            LogSig in compat mode).

    >>> Masker([r"\d+ms", r"\d+"])("took 12ms for 3 items")
    'took <*> for <*> items'
    """

    def __init__(self, masks: Sequence[str], replacement: str = WILDCARD) -> None:
        # A function as the replacement would be slower, a bare string would have its backslashes read.
        literal = replacement.replace("\\", r"\\")
        self._steps = tuple((pattern.sub, literal) for pattern in compile_masks(masks))

    def __call__(self, content: str) -> str:
        """Mask one line."""
        for substitute, replacement in self._steps:
            content = substitute(replacement, content)
        return content

    def each(self, contents: Iterable[str]) -> Iterator[str]:
        """Mask lines one by one."""
        return map(self, contents) if self._steps else iter(contents)

    def distinct(self, contents: Sequence[str]) -> DistinctLines:
        """Mask lines and fold repeats. Memory: the distinct masked texts and four bytes a line."""
        index: dict[str, int] = {}
        numbers = (index.setdefault(masked, len(index)) for masked in self.each(contents))
        index_of_line = np.fromiter(numbers, np.int32, len(contents))
        return DistinctLines(list(index), index_of_line)
