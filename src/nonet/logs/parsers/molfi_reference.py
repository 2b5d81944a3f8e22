"""MoLFI as the program behind the published rows does it: its words, its moves and its choice of the answer.

Facts about that program (github.com/logpai/logparser, MoLFI, Apache-2.0), put into code of our own. Where it departs
from `molfi_search`, it leaves many more templates:

* a mutation changes the templates of one length only, each with probability 1 / number of templates; a token is made
  variable only where more messages match then; brackets and single marks are never made variable;
* a new template of a message with a trivial value (or of one word) has no variable, so it is the message itself;
* a template goes when another one matches all of its messages, not when several together do;
* variables that are the same in all matched messages become fixed at the end only;
* a tournament that dominance does not decide goes to the more crowded chromosome;
* the knee is the point nearest to the best of either objective, unscaled, and a line takes the first template that
  matches, not the most specific;
* objectives are means over all templates in order, so chromosomes that are equal but for the order of their templates
  may dominate each other by rounding. It matters: equal ones would fill the fronts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nonet.logs.parsers.masking import Masker
from nonet.logs.parsers.molfi_search import SPECIAL, STAR, Template, matching
from nonet.logs.parsers.nsga2 import dominates, front_ranks, ranks_and_crowding

SPECIAL_WORD = "#spec#"
"""What stands for a trivial value in messages and templates."""

_TRIVIAL_VALUES = (
    r"(?:^|\s)\d{1,2}:\d{1,2}(?::\d{2,4})?(?:\s+|$)",  # time of day
    r"(?:^|\s)\d{1,2}[-/]\d{1,2}[-/]\d{2,4}(?:\s|$)",  # date
    r"/?(?<![0-9])(?:[0-9]+\.){3}[0-9]+(?::[0-9]+)?",  # internet address, with port
    r"(?:\b\w+)?(?:/[\w+\-.#$]*[/.][\w+\-.#$/*]*)+",  # path
    r"0x[a-zA-Z0-9]+",
    r"(?:^|\s)[0-9A-F]{9,}(?:\s|$)",
    r"(?:^|\s)[0-9a-f]{8,}(?:\s|$)",
    r"(?:[0-9A-F]{2}[:-]){5,}[0-9A-F]{2}",  # hardware address
    r"(?:^| )\d+(?: |$)",  # of two numbers one blank apart, only the first
)
_SPACED = re.compile(r"[<>=:,;'(){}\[\]]")
_LEVEL = re.compile(r" *\[[A-Z *]+\]")


class ReferenceWords:
    """Splits a line at blanks and around marks, with trivial values and then what the masks match as `#spec#`.

    >>> ReferenceWords()("took 12 ms (0x1f), x=1.5 a b.xml")
    ('took', '#spec#', 'ms', '(', '#spec#', ')', ',', 'x', '=', '1.5', 'a', '#spec#')
    """

    def __init__(self, masks: Sequence[str] = ()) -> None:
        apart = f"   {SPECIAL_WORD}   "
        self._trivial, self._masks = Masker(_TRIVIAL_VALUES, apart), Masker(masks, apart)

    def __call__(self, text: str) -> tuple[str, ...]:
        """The words of one line."""
        text = self._masks(_SPACED.sub(r" \g<0> ", self._trivial(text)))
        if level := _LEVEL.match(text):
            text = text.replace(level[0], level[0].replace(" ", ""))
        words = text.replace("-- >", "-->").split()
        return tuple(SPECIAL_WORD if "xml" in word[1:] else word for word in words)


_BRACKET, _MARK, _FREE = 0, 1, 2


def kind_of_word(word: str) -> int:
    """Whether a word starts with a bracket (0), is a single mark (1), or may be made variable (2)."""
    if word.startswith("["):
        return _BRACKET
    return _MARK if re.fullmatch(r"\W", word) else _FREE


@njit(cache=True, nogil=True)
def within_another(starts: NDArray[np.int64], messages: NDArray[np.int32], num_messages: int) -> NDArray[np.bool_]:
    """Which templates match nothing but what one other template matches; of equals all but the last.

    Args:
        starts: template t matches `messages[starts[t]:starts[t + 1]]`, which is ascending and not empty.
        messages: numbers of matched messages.
        num_messages: number of messages.
    """
    num_templates = len(starts) - 1
    # Templates by the messages that they match: those of message m are holders[first[m]:first[m + 1]].
    first = np.zeros(num_messages + 1, np.int64)
    for message in messages:
        first[message + 1] += 1
    first = np.cumsum(first)
    place = first[:-1].copy()
    holders = np.empty(len(messages), np.int32)
    for template in range(num_templates):
        for message in messages[starts[template] : starts[template + 1]]:
            holders[place[message]] = template
            place[message] += 1
    within = np.zeros(num_templates, np.bool_)
    for template in range(num_templates):
        ours = messages[starts[template] : starts[template + 1]]
        for other in holders[first[ours[0]] : first[ours[0] + 1]]:
            theirs = messages[starts[other] : starts[other + 1]]
            if len(theirs) < len(ours) or (len(theirs) == len(ours) and other <= template):
                continue
            at = 0
            for message in theirs:
                if at < len(ours) and message == ours[at]:
                    at += 1
            if at == len(ours):
                within[template] = True
                break
    return within


@dataclass(frozen=True, slots=True, eq=False)
class Cluster:
    """The templates of one message length, with their objectives; float64 arrays, shape (templates,)."""

    templates: tuple[Template, ...]
    specificity: NDArray[np.float64]
    frequency: NDArray[np.float64]


Chromosome = tuple[Cluster, ...]
"""One cluster a message length."""


class ReferenceMessages:
    """The distinct messages of one length, and the moves among their templates.

    Args:
        tokens: int32 array, shape (messages, length): numbers of words; `SPECIAL` for a trivial value, `STAR` for the
            word `*`, which cannot be told from a variable.
        kinds: the `kind_of_word` of every word, by number.
        rng: source of all random choices.
    """

    def __init__(self, tokens: NDArray[np.int32], kinds: NDArray[np.int8], rng: np.random.Generator) -> None:
        self.tokens = tokens
        self._kinds = kinds
        self._rng = rng

    def covering(self, templates: Sequence[Template]) -> Cluster:
        """A cluster of `templates`, and new ones for the messages that they miss."""
        kept = list(templates)
        missed = np.ones(len(self.tokens), np.bool_)
        for each in kept:
            missed[each.matched] = False
        for message in self._rng.permutation(np.flatnonzero(missed)):
            if missed[message]:
                kept.append(self._generalised(message))
                missed[kept[-1].matched] = False
        return self._cluster(kept)

    def mutated(self, cluster: Cluster) -> Cluster:
        """Change every template with probability 1 / number of templates, drop redundant ones, mend the coverage."""
        chosen = self._rng.random(len(cluster.templates)) <= 1 / len(cluster.templates)
        moved = [
            self._with_a_word(self._toggled(each)) if move else each
            for each, move in zip(cluster.templates, chosen, strict=True)
        ]
        starts = np.cumsum([0, *(len(each.matched) for each in moved)]).astype(np.int64)
        within = within_another(starts, np.concatenate([each.matched for each in moved]), len(self.tokens))
        return self.covering([each for each, goes in zip(moved, within, strict=True) if not goes])

    def corrected(self, cluster: Cluster) -> Cluster:
        """The cluster with variables that are the same in all matched messages fixed."""
        templates = []
        for each in cluster.templates:
            rows = self.tokens[each.matched]
            constant = (rows == rows[0]).all(axis=0) & (each.pattern < 0)
            templates.append(Template(np.where(constant, rows[0], each.pattern).astype(np.int32), each.matched))
        return self._cluster(templates)

    def _template(self, pattern: NDArray[np.int32]) -> Template:
        return Template(pattern, matching(self.tokens, pattern))

    def _cluster(self, templates: Sequence[Template]) -> Cluster:
        """A template without a fixed word counts as matching nothing."""
        specificity = np.array([each.specificity for each in templates])
        num_matched = np.array([len(each.matched) for each in templates])
        return Cluster(tuple(templates), specificity, np.where(specificity > 0, num_matched / len(self.tokens), 0.0))

    def _pick(self, choices: NDArray[np.integer]) -> int:
        return int(choices[self._rng.integers(len(choices))])

    def _words(self, pattern: NDArray[np.int32], kind: int) -> NDArray[np.intp]:
        """Columns of the fixed words that are of a kind or a higher one."""
        return np.flatnonzero((pattern >= 0) & (self._kinds[pattern] >= kind))

    def _generalised(self, message: int) -> Template:
        """A template from a message; without a trivial value, one random word made variable."""
        pattern = self.tokens[message].copy()
        columns = self._words(pattern, _FREE)
        if len(pattern) > 1 and len(columns) and SPECIAL not in pattern:
            pattern[self._pick(columns)] = STAR
        return self._template(pattern)

    def _toggled(self, template: Template) -> Template:
        """With equal chances a variable fixed as in a matched message, or a word made variable if that matches more."""
        if self._rng.random() <= 0.5:
            stars = np.flatnonzero(template.pattern == STAR)
            return self._fixed(template, self._pick(stars), self._pick(template.matched)) if len(stars) else template
        columns = self._words(template.pattern, _FREE)
        if not len(columns):
            return template
        pattern = template.pattern.copy()
        pattern[self._pick(columns)] = STAR
        wider = self._template(pattern)
        return wider if len(wider.matched) > len(template.matched) else template

    def _fixed(self, template: Template, column: int, message: int) -> Template:
        pattern = template.pattern.copy()
        pattern[column] = self.tokens[message, column]
        return self._template(pattern)

    def _with_a_word(self, template: Template) -> Template:
        """The template, or if it has no word but brackets, one with a random variable (not the last column) fixed."""
        stars = np.flatnonzero(template.pattern[:-1] == STAR)
        if not len(stars) or len(self._words(template.pattern, _MARK)):
            return template
        column = self._pick(stars)
        values, examples = np.unique(self.tokens[template.matched, column], return_index=True)
        return self._fixed(template, column, int(template.matched[examples[self._rng.integers(len(values))]]))


def objectives(population: Sequence[Chromosome]) -> NDArray[np.float64]:
    """Mean specificity and mean frequency over all templates of every chromosome; shape (chromosomes, 2)."""
    return np.array(
        [
            (
                np.mean(np.concatenate([cluster.specificity for cluster in chromosome])),
                np.mean(np.concatenate([cluster.frequency for cluster in chromosome])),
            )
            for chromosome in population
        ]
    )


class ReferenceSearch:
    """NSGA-II over chromosomes.

    Args:
        lengths: the messages by length.
        population: number of chromosomes, even, at least 2.
        generations: number of generations, the first random population among them.
        crossover: probability that two parents exchange clusters.
        rng: source of all random choices.
    """

    def __init__(
        self,
        lengths: Sequence[ReferenceMessages],
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
        """The corrected chromosome of the last front that is nearest to the best of either objective."""
        population = [tuple(length.covering(()) for length in self._lengths) for _ in range(self._size)]
        population, scores, crowding = self._survivors(population)
        for _ in range(1, self._generations):
            population, scores, crowding = self._survivors(population + self._offspring(population, scores, crowding))
        population = [
            tuple(length.corrected(cluster) for length, cluster in zip(self._lengths, chromosome, strict=True))
            for chromosome in population
        ]
        scores = objectives(population)
        front = np.flatnonzero(front_ranks(scores) == 0)
        distances = np.linalg.norm(scores[front] - scores[front].max(axis=0), axis=1)
        return population[front[np.argmin(distances)]]

    def winner(self, scores: NDArray[np.float64], crowding: NDArray[np.float64], first: int, second: int) -> int:
        """The one of two that dominates, else the one with the smaller crowding distance, else the first."""
        wins = dominates(scores[[first, second]])
        if wins[1, 0] or (not wins[0, 1] and crowding[second] < crowding[first]):
            return second
        return first

    def _survivors(
        self, population: Sequence[Chromosome]
    ) -> tuple[list[Chromosome], NDArray[np.float64], NDArray[np.float64]]:
        """The best chromosomes, their objectives, and their crowding distances among all."""
        scores = objectives(population)
        ranks, crowding = ranks_and_crowding(scores)
        order = np.lexsort((-crowding, ranks))[: self._size]
        return [population[each] for each in order], scores[order], crowding[order]

    def _offspring(
        self, population: Sequence[Chromosome], scores: NDArray[np.float64], crowding: NDArray[np.float64]
    ) -> list[Chromosome]:
        children: list[Chromosome] = []
        for _ in range(self._size // 2):
            drawn = self._rng.integers(len(population), size=(2, 2)).tolist()
            left, right = (population[self.winner(scores, crowding, *pair)] for pair in drawn)
            if self._rng.random() <= self._crossover:
                swap = self._rng.random(len(left)) <= 0.5
                pairs = list(zip(left, right, swap, strict=True))
                left, right = tuple(b if s else a for a, b, s in pairs), tuple(a if s else b for a, b, s in pairs)
            children += [self._mutated(left), self._mutated(right)]
        return children

    def _mutated(self, chromosome: Chromosome) -> Chromosome:
        """The chromosome with one random cluster mutated."""
        place = int(self._rng.integers(len(chromosome)))
        cluster = self._lengths[place].mutated(chromosome[place])
        return (*chromosome[:place], cluster, *chromosome[place + 1 :])
