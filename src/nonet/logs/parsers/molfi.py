"""MoLFI: log templates by a search that trades their specificity against their frequency.

Messaoudi, Panichella, Bianculli, Briand, Sasnauskas: "A Search-based Approach for Accurate Identification of Log
Message Formats", ICPC 2018. A chromosome is a set of templates that covers all messages, kept apart by message length;
NSGA-II (`nsga2`) searches for high mean specificity (share of fixed tokens) and high mean frequency (share of the
messages of its length that a template matches). The knee of the last front is the answer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.logs.parsers.base import PARSERS, WILDCARD, Mode, Parsed, Parser
from nonet.logs.parsers.masking import DistinctLines, Masker
from nonet.logs.parsers.molfi_reference import (
    SPECIAL_WORD,
    ReferenceMessages,
    ReferenceSearch,
    ReferenceWords,
    kind_of_word,
)
from nonet.logs.parsers.molfi_search import SPECIAL, STAR, MessagesOfLength, Template, TemplateSearch

TRIVIAL_VALUES = (
    r"\b(?:[0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}\b",  # hardware address
    r"/?\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b",  # internet address, with port
    r"\b\d{1,4}[-/]\d{1,2}[-/]\d{1,4}\b",  # date
    r"\b\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?\b",  # time of day
    r"\b0[xX][0-9a-fA-F]+\b",  # hexadecimal number
    r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?![\w.])",  # number
)
"""Values that are variable in any log."""


@PARSERS.register("MoLFI")
class MoLFI(Parser):
    """MoLFI: 20 chromosomes, 200 generations.

    Mode "compat" follows the program behind the published rows (see `molfi_reference`): words are also split around
    marks, templates join them by single blanks and write a variable as `*` and a trivial value as `#spec#`, so few
    templates with a parameter equal their label; the search stops long before it has few templates.
    Mode "fixed": words are split at blanks only, both are written as the wildcard, every generation mutates all
    lengths, and a line gets the most specific template that matches it.

    The search is random. Compat mode meets the published rows where every draw gives the same; elsewhere they are one
    draw and ours another (the tests hold how far apart). The same seed gives the same result.

    Cost: generations times population times distinct messages of a length times its templates that mutate. Memory: the
    distinct messages, and for every template of the population the numbers of the messages it matches.

    Args:
        population: number of chromosomes, even, at least 2.
        generations: number of generations, at least 0; compat mode counts the first random population as one.
        crossover: probability of a crossover, in [0, 1].
        mode: see above.
        masks: see `Parser`; what they match counts as a trivial value (in compat mode after words are split).
        seed: of the search.

    >>> lines = [f"user {name} logged in" for name in ("ann", "bob", "eve", "joe")]
    >>> MoLFI(generations=20).parse(lines).templates
    ['user <*> logged in']
    """

    def __init__(
        self,
        *,
        population: int = 20,
        generations: int = 200,
        crossover: float = 0.7,
        mode: Mode = "fixed",
        masks: Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        super().__init__(mode=mode, masks=masks, seed=seed)
        if population < 2 or population % 2:
            raise InputError(f"MoLFI: population is an even number of chromosomes, at least 2, not {population}")
        if generations < 0:
            raise InputError(f"MoLFI: generations is at least 0, not {generations}")
        if not 0 <= crossover <= 1:
            raise InputError(f"MoLFI: crossover is a probability in [0, 1], not {crossover}")
        self.population = population
        self.generations = generations
        self.crossover = crossover
        self.templates_match_lines = mode == "fixed"

    def parse(self, contents: Sequence[str]) -> Parsed:
        """Give every line a found template that matches it."""
        if self.mode == "compat":
            lines = Masker(()).distinct(contents)
            return self._parse(lines, map(ReferenceWords(self.masks), lines.texts))
        lines = Masker((*self.masks, *TRIVIAL_VALUES), SPECIAL_WORD).distinct(contents)
        return self._parse(lines, (tuple(text.split()) for text in lines.texts))

    def _parse(self, lines: DistinctLines, words_of_line: Iterable[tuple[str, ...]]) -> Parsed:
        number_of = {"*": STAR, SPECIAL_WORD: SPECIAL} if self.mode == "compat" else {}
        num_special = len(number_of)
        lines_of: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for line, words in enumerate(words_of_line):
            lines_of[tuple(number_of.setdefault(word, len(number_of) - num_special) for word in words)].append(line)
        words_by_number = list(number_of)[num_special:]
        templates = [""] * len(lines.texts)
        for message, pattern in self._search([message for message in lines_of if message], words_by_number).items():
            template = " ".join([self._written(token, words_by_number) for token in pattern])
            for line in lines_of[message]:
                templates[line] = template
        return Parsed.from_groups(lines.index_of_line, templates)

    def _written(self, token: int, words: Sequence[str]) -> str:
        """A token of a pattern as text."""
        if self.mode == "compat":
            return "*" if token == STAR else SPECIAL_WORD if token == SPECIAL else words[token]
        return WILDCARD if token == STAR else words[token].replace(SPECIAL_WORD, WILDCARD)

    def _search(
        self, messages: Sequence[tuple[int, ...]], words: Sequence[str]
    ) -> dict[tuple[int, ...], NDArray[np.int32]]:
        """The pattern of every message."""
        of_length: dict[int, list[tuple[int, ...]]] = defaultdict(list)
        for message in messages:
            of_length[len(message)].append(message)
        pattern_of: dict[tuple[int, ...], NDArray[np.int32]] = {}
        found = self._found([np.array(group, np.int32) for group in of_length.values()], words) if of_length else []
        for group, templates in zip(of_length.values(), found, strict=True):
            for template in templates:
                for message in template.matched:
                    pattern_of.setdefault(group[message], template.pattern)
        return pattern_of

    def _found(self, tokens: Sequence[NDArray[np.int32]], words: Sequence[str]) -> list[Sequence[Template]]:
        """The templates of the messages of every length, in the order in which lines try them."""
        rng = np.random.default_rng(self.seed)
        if self.mode == "compat":
            kinds = np.array([*map(kind_of_word, words), 0, 0], np.int8)  # STAR and SPECIAL index the last two
            reference = ReferenceSearch(
                [ReferenceMessages(group, kinds, rng) for group in tokens],
                population=self.population,
                generations=self.generations,
                crossover=self.crossover,
                rng=rng,
            )
            return [cluster.templates for cluster in reference.best()]
        search = TemplateSearch(
            [MessagesOfLength(group, rng) for group in tokens],
            population=self.population,
            generations=self.generations,
            crossover=self.crossover,
            rng=rng,
        )
        return [sorted(cluster.templates, key=lambda each: each.specificity)[::-1] for cluster in search.best()]
