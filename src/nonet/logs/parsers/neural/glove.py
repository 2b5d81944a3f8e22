"""Word vectors from a GloVe text file: a word and its numbers on every line, separated by blanks."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import torch
from torch import Tensor

from nonet.common.errors import InputError

UNKNOWN, PADDING = 0, 1


class WordVectors:
    """Vectors of the words that are needed; others share the mean vector.

    Attributes:
        vectors: float32, shape (2 + words, dimension); row 0 is for unknown words, row 1 for padding.
    """

    def __init__(self, row_of_word: dict[str, int], vectors: Tensor) -> None:
        self._row_of_word = row_of_word
        self.vectors = vectors

    def row(self, word: str) -> int:
        """Row of a word, whatever its case."""
        return self._row_of_word.get(word.lower(), UNKNOWN)

    @classmethod
    def load(cls, path: Path, dimension: int, words: Collection[str] | None = None) -> WordVectors:
        """Read a file, one line at a time, and keep the vectors of `words` (all if None).

        Raises:
            InputError: the file cannot be read, or a line does not hold a word and `dimension` numbers.
        """
        wanted = None if words is None else {word.lower() for word in words}
        row_of_word: dict[str, int] = {}
        rows: list[list[float]] = []
        try:
            with path.open(encoding="utf-8", errors="surrogateescape") as lines:
                for number, line in enumerate(lines, 1):
                    word, *values = line.rstrip("\n").split(" ")
                    if len(values) != dimension:
                        raise InputError(
                            f"{path}, line {number}: expected a word and {dimension} numbers separated by blanks"
                        )
                    if word not in row_of_word and (wanted is None or word in wanted):
                        row_of_word[word] = len(rows) + 2
                        rows.append([float(value) for value in values])
        except OSError as error:
            raise InputError(f"word vectors {path} cannot be read: {error.strerror}; give a GloVe text file") from None
        except ValueError as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path}, line {number}: {error}; expected a word and {dimension} numbers") from None
        known = torch.tensor(rows).reshape(len(rows), dimension)
        shared = known.mean(0, keepdim=True) if rows else torch.zeros(1, dimension)
        return cls(row_of_word, torch.cat([shared, torch.zeros(1, dimension), known]))
