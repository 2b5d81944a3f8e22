"""MoLFI's search: templates of one message length, chromosomes of them, and NSGA-II over chromosomes.

Messaoudi et al., ICPC 2018, section 4. `molfi_reference` has the search as the reference program does it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nonet.logs.parsers.nsga2 import crowded_order, front_ranks, knee_point

STAR = -1
"""The variable token of a pattern."""
SPECIAL = -2
"""The token of a trivial value, where patterns tell it from a variable."""


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """One template of a chromosome.

    Attributes:
        pattern: int32 array, shape (length,): token numbers, negative (`STAR`, or `SPECIAL`) where any token will do.
        matched: int32 array: the messages of its length that it matches, ascending.
    """

    pattern: NDArray[np.int32]
    matched: NDArray[np.int32]

    @property
    def specificity(self) -> float:
        """Share of fixed tokens."""
        return float(np.count_nonzero(self.pattern >= 0)) / len(self.pattern)


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
        while column < len(pattern) and (pattern[column] < 0 or pattern[column] == messages[message, column]):
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
        pattern[self._rng.integers(len(pattern))] = STAR
        return self.template(pattern)

    def _toggled(self, template: Template) -> Template:
        """A random token made variable, or if it was, fixed to what a random matched message has there."""
        pattern = template.pattern.copy()
        column = self._rng.integers(len(pattern))
        message = template.matched[self._rng.integers(len(template.matched))]
        pattern[column] = self.tokens[message, column] if pattern[column] == STAR else STAR
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
