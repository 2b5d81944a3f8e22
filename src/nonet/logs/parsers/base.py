"""The interface of the reference parsers: contents in, one template a line out.

A parser never sees labels, data-set names or header fields: only the Content column and its own settings.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nonet.common.registry import Registry

Mode = Literal["compat", "fixed"]
WILDCARD = "<*>"


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a parser found: `labels[i]` is the index into `templates` of line i; `templates` are distinct strings.

    Attributes:
        labels: int32 array, shape (number of lines,).
        templates: the distinct template texts, in order of first appearance.
    """

    labels: NDArray[np.int32]
    templates: list[str]

    @classmethod
    def from_lines(cls, template_of_line: Sequence[str]) -> Parsed:
        """Number the distinct strings of a per-line list.

        >>> Parsed.from_lines(["a <*>", "b", "a <*>"]).labels.tolist()
        [0, 1, 0]
        """
        index: dict[str, int] = {}
        labels = np.fromiter(
            (index.setdefault(t, len(index)) for t in template_of_line), np.int32, len(template_of_line)
        )
        return cls(labels, list(index))

    @classmethod
    def from_groups(cls, group_of_line: NDArray[np.integer], template_of_group: Sequence[str]) -> Parsed:
        """Number the distinct templates of lines that are known by group; groups with one text become one label.

        >>> parsed = Parsed.from_groups(np.array([2, 0, 1, 2]), ["b", "b", "a <*>"])
        >>> parsed.labels.tolist(), parsed.templates
        ([0, 1, 1, 0], ['a <*>', 'b'])
        """
        index: dict[str, int] = {}
        text_of_group = [index.setdefault(template, len(index)) for template in template_of_group]
        texts = list(index)
        text_of_line = np.array(text_of_group, np.int32)[group_of_line] if len(group_of_line) else np.empty(0, np.int32)
        used, first_line = np.unique(text_of_line, return_index=True)
        in_order = used[np.argsort(first_line)]
        label_of_text = np.empty(len(texts), np.int32)
        label_of_text[in_order] = np.arange(len(in_order), dtype=np.int32)
        return cls(label_of_text[text_of_line], [texts[text] for text in in_order])


class Parser(ABC):
    """One reference parser.

    Contract: `parse` labels every line it is given, in order, and drops none; it is deterministic for a given `seed`;
    an empty sequence gives an empty result; an instance can be reused (no state survives a call).

    Subclasses take their own parameters as keyword-only constructor arguments with the field's names (see
    `settings.json`), check them there and raise `InputError` for a bad one.

    Args:
        mode: "compat" keeps the reference implementation's quirks and must meet the published tables; "fixed" mends
            them (each parser's docstring says what is mended).
        masks: regular expressions, each substituted in order in the Content before tokenising.
        seed: for parsers that draw random numbers.

    Attributes:
        name: the field's spelling of the parser's name, set when the class is registered.
        templates_match_lines: whether every template matches all of its lines when a wildcard stands for any characters
            and a run of blanks for one blank. Parsers that promise it say so; `nonet.logs.testing` holds them to it.
    """

    name: str
    templates_match_lines: bool = False

    def __init__(self, *, mode: Mode = "fixed", masks: Sequence[str] = (), seed: int = 0) -> None:
        self.mode: Mode = mode
        self.masks = tuple(masks)
        self.seed = seed

    @abstractmethod
    def parse(self, contents: Sequence[str]) -> Parsed:
        """Give every line a template."""


class ParserRegistry(Registry[type[Parser]]):
    """Parsers by the field's spelling of their names; registering gives the class its `name`."""

    def add(self, name: str, thing: type[Parser]) -> None:
        """Register a parser under `name`."""
        super().add(name, thing)
        thing.name = name


PARSERS = ParserRegistry("parser")
