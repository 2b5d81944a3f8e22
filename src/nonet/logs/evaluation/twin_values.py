"""Values for the holes of synthetic lines: typed generators, and values harvested from a labelled log.

Every filler is a pure function of a random generator and a number of values, vectorised over Arrow and NumPy.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nonet.logs.evaluation.logpai_csv import ParameterExtractor
from nonet.logs.parsers.base import WILDCARD

_MAX_POOL = 4096
_NUMERIC_SHARE = 0.9
_WHOLE_NUMBER = re.compile(r"0|[1-9]\d{0,17}")
_WORD_BEFORE = re.compile(r"[A-Za-z]+[^A-Za-z]*$")
_WORD_AFTER = re.compile(r"^[^A-Za-z]*[A-Za-z]+")


class Filler(ABC):
    """Draws the values of one hole."""

    @abstractmethod
    def draw(self, rng: np.random.Generator, count: int) -> pa.Array:
        """`count` values as an array of strings."""


@dataclass(frozen=True)
class Choice(Filler):
    """One of some values, each equally likely; repeat a value to make it likelier."""

    pool: pa.Array

    @classmethod
    def of(cls, values: Iterable[str]) -> Choice:
        """From Python strings."""
        return cls(pa.array(values, pa.string()))

    def draw(self, rng: np.random.Generator, count: int) -> pa.Array:
        """Values of the pool."""
        return self.pool.take(pa.array(rng.integers(0, len(self.pool), count)))


@dataclass(frozen=True)
class Integer(Filler):
    """A whole number of low..high, small ones as likely as large ones (log-uniform)."""

    low: int
    high: int

    def draw(self, rng: np.random.Generator, count: int) -> pa.Array:
        """Decimal numbers."""
        start, end = np.log(self.low + 1), np.log(self.high + 2)
        numbers = np.exp(rng.uniform(start, end, count)).astype(np.int64) - 1
        return pc.cast(pa.array(np.clip(numbers, self.low, self.high)), pa.string())


@dataclass(frozen=True)
class Pattern(Filler):
    """A fixed layout in which `x` is a hexadecimal digit and `9` a decimal one."""

    layout: str

    def draw(self, rng: np.random.Generator, count: int) -> pa.Array:
        """Texts of the length of the layout."""
        cells = np.tile(np.frombuffer(self.layout.encode(), np.uint8), (count, 1))
        for mark, digits in ((b"x", b"0123456789abcdef"), (b"9", b"0123456789")):
            holes = [i for i, letter in enumerate(self.layout.encode()) if letter == mark[0]]
            if holes:
                cells[:, holes] = np.frombuffer(digits, np.uint8)[rng.integers(0, len(digits), (count, len(holes)))]
        return pa.array(cells.view(f"S{len(self.layout)}").ravel()).cast(pa.string())


@dataclass(frozen=True)
class Joined(Filler):
    """Values of several fillers with a separator between them."""

    parts: tuple[Filler, ...]
    separator: str

    def draw(self, rng: np.random.Generator, count: int) -> pa.Array:
        """One joined text a value."""
        return pc.binary_join_element_wise(*(part.draw(rng, count) for part in self.parts), self.separator)


FILLERS: dict[str, Filler] = {
    "int": Integer(0, 10_000_000),
    "small": Integer(0, 64),
    "ms": Integer(0, 30_000),
    "us": Integer(1, 5_000),
    "bytes": Integer(0, 2**31),
    "port": Integer(1024, 65_535),
    "float": Joined((Integer(0, 99), Pattern("99")), "."),
    "hex": Pattern("xxxxxxxxxxxxxxxx"),
    "uuid": Pattern("xxxxxxxx-xxxx-4xxx-axxx-xxxxxxxxxxxx"),
    "ip": Joined((Choice.of(["10", "172", "192"]), Integer(0, 255), Integer(0, 255), Integer(1, 254)), "."),
    "status": Choice.of(["200"] * 16 + ["201", "204", "301", "304", "400", "401", "403", "404", "404", "500", "503"]),
    "method": Choice.of(["GET"] * 7 + ["POST", "POST", "PUT", "DELETE", "HEAD"]),
    "user": Choice.of(
        f"{a}{b}" for a in ("ana", "bo", "chi", "dee", "eva", "fu", "gil", "hana") for b in ("", "1", ".k", "_x")
    ),
    "host": Joined((Choice.of(["db", "cache", "api", "queue"]), Integer(0, 99)), "-"),
    "topic": Choice.of(["orders", "payments", "emails", "reports", "thumbnails", "search", "billing"]),
    "path": Joined(
        (Choice.of(["/api/v1/items", "/api/v2/users", "/static/img", "/data/shard"]), Integer(0, 100_000)), "/"
    ),
}
"""The typed holes of the built-in templates."""


@dataclass
class HarvestedValues:
    """Values seen in a labelled log, by template and hole, by the words around a hole, and all of them.

    A hole of an unseen template takes the values of holes with the same word before and after, else before, else any.
    """

    by_hole: dict[tuple[str, int], list[str]] = field(default_factory=lambda: defaultdict(list))
    by_words: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))
    by_word_before: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    every: list[str] = field(default_factory=list)

    @classmethod
    def from_lines(cls, contents: Sequence[str], templates: Sequence[str]) -> HarvestedValues:
        """Harvest the values of `<*>` from lines and their templates.

        >>> values = HarvestedValues.from_lines(["port 22 open", "port 443 open"], ["port <*> open"] * 2)
        >>> values.pool("close port <*> now", 0)
        ['22', '443']
        """
        found = cls()
        extractors = {template: ParameterExtractor(template) for template in dict.fromkeys(templates)}
        for content, template in zip(contents, templates, strict=True):
            for hole, value in enumerate(extractors[template](content)):
                if value:
                    found.add(template, hole, value)
        return found

    def add(self, template: str, hole: int, value: str) -> None:
        """Note one value of a hole."""
        before, after = _words_around(template, hole)
        for pool in (
            self.by_hole[template, hole],
            self.by_words[before, after],
            self.by_word_before[before],
            self.every,
        ):
            pool.append(value)

    def pool(self, template: str, hole: int) -> list[str]:
        """The values that fit a hole best; empty only if nothing was harvested."""
        before, after = _words_around(template, hole)
        candidates = (
            self.by_hole.get((template, hole)),
            self.by_words.get((before, after)),
            self.by_word_before.get(before) if before else None,
            self.every,
        )
        return next((pool for pool in candidates if pool), [])

    def filler(self, template: str, hole: int) -> Filler:
        """Draws like the values seen: whole numbers of their range, or the values themselves."""
        values = self.pool(template, hole)
        if not values:
            return FILLERS["int"]
        numbers = [int(value) for value in values if _WHOLE_NUMBER.fullmatch(value)]
        if len(set(numbers)) > 1 and len(numbers) >= _NUMERIC_SHARE * len(values):
            return Integer(min(numbers), max(numbers))
        return Choice.of(values[:: -(-len(values) // _MAX_POOL)])


def _words_around(template: str, hole: int) -> tuple[str, str]:
    pieces = template.split(WILDCARD)
    before, after = _WORD_BEFORE.search(pieces[hole]), _WORD_AFTER.search(pieces[hole + 1])
    return before[0] if before else "", after[0] if after else ""
