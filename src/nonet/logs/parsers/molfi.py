"""MoLFI: log templates by a search that trades their specificity against their frequency.

Messaoudi, Panichella, Bianculli, Briand, Sasnauskas: "A Search-based Approach for Accurate Identification of Log
Message Formats", ICPC 2018. A chromosome is a set of templates that covers all messages, kept apart by message length;
NSGA-II (`nsga2`) searches for high mean specificity (share of fixed tokens) and high mean frequency (share of the
messages of its length that a template matches). The knee of the last front is the answer.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.logs.parsers.base import PARSERS, WILDCARD, Mode, Parsed, Parser
from nonet.logs.parsers.masking import Masker
from nonet.logs.parsers.nsga2 import crowded_order, front_ranks, knee_point

SPECIAL = "#spec#"
"""What stands for a trivial value in a message and in the templates of compat mode."""

TRIVIAL_VALUES = (
    r"\b(?:[0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}\b",  # hardware address
    r"/?\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b",  # internet address, with port
    r"\b\d{1,4}[-/]\d{1,2}[-/]\d{1,4}\b",  # date
    r"\b\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?\b",  # time of day
    r"\b0[xX][0-9a-fA-F]+\b",  # hexadecimal number
    r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?![\w.])",  # number
)
"""Values that are variable in any log."""

_STAR = -1  # the variable token of a pattern
_ISOLATED = re.compile(r"[^\s:;,=()\[\]{}]+|[:;,=()\[\]{}]")


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """One template of a chromosome.

    Attributes:
        pattern: int32 array, shape (length,): token numbers, -1 where any token will do.
        matched: int32 array: the messages of its length that it matches, ascending.
    """

    pattern: NDArray[np.int32]
    matched: NDArray[np.int32]

    @property
    def specificity(self) -> float:
        """Share of fixed tokens."""
        return float(np.count_nonzero(self.pattern != _STAR)) / len(self.pattern)


@dataclass(frozen=True, slots=True, eq=False)
class Cluster:
    """The templates of one message length, and the sums of their two objectives."""

    templates: tuple[Template, ...]
    specificity: float
    frequency: float


Chromosome = tuple[Cluster, ...]
"""One cluster a message length."""


@njit(cache=True, nogil=True)
def matching(messages: NDArray[np.int32], pattern: NDArray[np.int32]) -> NDArray[np.int32]:
    """Numbers of the messages, shape (messages, length), that a pattern matches."""
    found = np.empty(len(messages), np.int32)
    num_found = 0
    for message in range(len(messages)):
        column = 0
        while column < len(pattern) and (pattern[column] == _STAR or pattern[column] == messages[message, column]):
            column += 1
        if column == len(pattern):
            found[num_found] = message
            num_found += 1
    return found[:num_found].copy()


class MessagesOfLength:
    """The distinct messages of one length, and the moves of the search among their templates.

    Args:
        tokens: int32 array, shape (messages, length).
        rng: source of all random choices.
    """

    def __init__(self, tokens: NDArray[np.int32], rng: np.random.Generator) -> None:
        self.tokens = tokens
        self._rng = rng

    def template(self, pattern: NDArray[np.int32]) -> Template:
        """A pattern with what it matches; variable tokens that are the same in all of it become fixed."""
        matched = matching(self.tokens, pattern)
        if len(matched):
            rows = self.tokens[matched]
            constant = (rows == rows[0]).all(axis=0)
            pattern = np.where(constant, rows[0], pattern).astype(np.int32)
        return Template(pattern, matched)

    def covering(self, templates: Sequence[Template]) -> Cluster:
        """A cluster that covers every message: `templates` less the useless ones, and new ones for what they miss."""
        kept: dict[bytes, Template] = {each.pattern.tobytes(): each for each in templates if len(each.matched)}
        cover = np.zeros(len(self.tokens), np.int64)
        if kept:
            cover = np.bincount(np.concatenate([each.matched for each in kept.values()]), minlength=len(cover))
        for message in self._rng.permutation(np.flatnonzero(cover == 0)):
            if cover[message] == 0:
                new = self._generalised(message)
                cover[new.matched] += 1
                kept[new.pattern.tobytes()] = new
        if cover.max() > 1:
            for key, each in list(kept.items()):
                if (cover[each.matched] > 1).all():
                    cover[each.matched] -= 1
                    del kept[key]
        return self._cluster(tuple(kept.values()))

    def mutated(self, cluster: Cluster) -> Cluster:
        """Toggle one token of every template with probability 1 / number of templates, and mend the coverage."""
        chosen = self._rng.random(len(cluster.templates)) < 1 / len(cluster.templates)
        if not chosen.any():
            return cluster
        moved = [self._toggled(each) for each, move in zip(cluster.templates, chosen, strict=True) if move]
        return self.covering([each for each, move in zip(cluster.templates, chosen, strict=True) if not move] + moved)

    def _generalised(self, message: int) -> Template:
        """A template from a message, one random token made variable."""
        pattern = self.tokens[message].copy()
        pattern[self._rng.integers(len(pattern))] = _STAR
        return self.template(pattern)

    def _toggled(self, template: Template) -> Template:
        """A random token made variable, or if it was, fixed to what a random matched message has there."""
        pattern = template.pattern.copy()
        column = self._rng.integers(len(pattern))
        message = template.matched[self._rng.integers(len(template.matched))]
        pattern[column] = self.tokens[message, column] if pattern[column] == _STAR else _STAR
        return self.template(pattern)

    def _cluster(self, templates: tuple[Template, ...]) -> Cluster:
        specificity = sum(each.specificity for each in templates)
        return Cluster(templates, specificity, sum(len(each.matched) for each in templates) / len(self.tokens))


class TemplateSearch:
    """NSGA-II over chromosomes.

    Args:
        lengths: the messages by length.
        population: number of chromosomes, at least 2.
        generations: number of generations.
        crossover: probability that two parents exchange clusters.
        rng: source of all random choices.
    """

    def __init__(
        self,
        lengths: Sequence[MessagesOfLength],
        *,
        population: int,
        generations: int,
        crossover: float,
        rng: np.random.Generator,
    ) -> None:
        self._lengths = lengths
        self._size = population
        self._generations = generations
        self._crossover = crossover
        self._rng = rng

    def best(self) -> Chromosome:
        """The knee of the last generation's first front."""
        population = [tuple(length.covering(()) for length in self._lengths) for _ in range(self._size)]
        population = [population[each] for each in crowded_order(objectives(population))]
        for _ in range(self._generations):
            merged = population + self._offspring(population)
            population = [merged[each] for each in crowded_order(objectives(merged))[: self._size]]
        scores = objectives(population)
        front = np.flatnonzero(front_ranks(scores) == 0)
        return population[front[knee_point(scores[front])]]

    def _offspring(self, population: list[Chromosome]) -> list[Chromosome]:
        """As many children as parents; the population is in crowded order, so a lower place wins a tournament."""
        places = self._rng.integers(len(population), size=(self._size + 1, 2)).min(axis=1)
        children: list[Chromosome] = []
        for left, right in zip(places[:-1:2], places[1::2], strict=True):
            children += self._crossed(population[left], population[right])
        return [self._mutated(child) for child in children[: self._size]]

    def _crossed(self, left: Chromosome, right: Chromosome) -> tuple[Chromosome, Chromosome]:
        """Two children; with the crossover's probability, each whole cluster is swapped with probability one half."""
        if self._rng.random() >= self._crossover:
            return left, right
        swap = self._rng.random(len(left)) < 0.5
        first = tuple(b if swapped else a for a, b, swapped in zip(left, right, swap, strict=True))
        second = tuple(a if swapped else b for a, b, swapped in zip(left, right, swap, strict=True))
        return first, second

    def _mutated(self, chromosome: Chromosome) -> Chromosome:
        return tuple(length.mutated(cluster) for length, cluster in zip(self._lengths, chromosome, strict=True))


def objectives(population: Sequence[Chromosome]) -> NDArray[np.float64]:
    """Mean specificity and mean frequency over all templates of every chromosome; shape (chromosomes, 2)."""
    scores = np.empty((len(population), 2))
    for row, chromosome in enumerate(population):
        num_templates = sum(len(cluster.templates) for cluster in chromosome)
        scores[row, 0] = sum(cluster.specificity for cluster in chromosome) / num_templates
        scores[row, 1] = sum(cluster.frequency for cluster in chromosome) / num_templates
    return scores


@PARSERS.register("MoLFI")
class MoLFI(Parser):
    """MoLFI: 20 chromosomes, 200 generations.

    Mode "compat": words are split at blanks and at `: ; , = ( ) [ ] { }`, templates join them by single blanks and
    write a variable as `*` and a trivial value as `#spec#`, so no template with a parameter equals its label.
    Mode "fixed": words are split at blanks only, and both are written as the wildcard.

    The search is random: the published rows are one draw, ours another; the same seed gives the same result.

    Cost: generations times population times distinct messages of a length times its templates that mutate. Memory: the
    distinct messages, and for every template of the population the numbers of the messages it matches.

    Args:
        population: number of chromosomes, even, at least 2.
        generations: number of generations, at least 0.
        crossover: probability of a crossover, in [0, 1].
        mode: see above.
        masks: see `Parser`; what they match counts as a trivial value.
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
        """Give every line the most specific of the found templates that match it."""
        masker = Masker((*self.masks, *TRIVIAL_VALUES), SPECIAL)
        masked = masker.distinct(contents)
        vocabulary: dict[str, int] = {}
        message_of: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for text, line in enumerate(masked.texts):
            message_of[tuple(vocabulary.setdefault(t, len(vocabulary)) for t in self._tokens(line))].append(text)
        templates = [""] * len(masked.texts)
        words = [self._written(token) for token in vocabulary]
        for message, pattern in self._search([message for message in message_of if message]).items():
            template = " ".join([self._variable if token == _STAR else words[token] for token in pattern])
            for text in message_of[message]:
                templates[text] = template
        return Parsed.from_groups(masked.index_of_line, templates)

    @property
    def _variable(self) -> str:
        return "*" if self.mode == "compat" else WILDCARD

    def _tokens(self, text: str) -> list[str]:
        return _ISOLATED.findall(text) if self.mode == "compat" else text.split()

    def _written(self, token: str) -> str:
        return token if self.mode == "compat" else token.replace(SPECIAL, WILDCARD)

    def _search(self, messages: list[tuple[int, ...]]) -> dict[tuple[int, ...], NDArray[np.int32]]:
        """The pattern of every message."""
        of_length: dict[int, list[tuple[int, ...]]] = defaultdict(list)
        for message in messages:
            of_length[len(message)].append(message)
        if not of_length:
            return {}
        rng = np.random.default_rng(self.seed)
        lengths = [MessagesOfLength(np.array(group, np.int32), rng) for group in of_length.values()]
        search = TemplateSearch(
            lengths, population=self.population, generations=self.generations, crossover=self.crossover, rng=rng
        )
        pattern_of: dict[tuple[int, ...], NDArray[np.int32]] = {}
        for group, cluster in zip(of_length.values(), search.best(), strict=True):
            for template in sorted(cluster.templates, key=lambda each: each.specificity):
                for message in template.matched:
                    pattern_of[group[message]] = template.pattern
        return pattern_of
