"""LogMine: one-pass clustering by positional distance, a second level over the clusters, patterns by alignment.

Hamooni, Debnath, Xu, Zhang, Jiang, Mueen: "LogMine: Fast Pattern Recognition for Log Analytics", CIKM 2016. The
distance of two token sequences is d(x, y) = 1 - sum_i k [x_i = y_i] / max(|x|, |y|); a level joins what is nearer than
its threshold; every further level works on the patterns of the one before, with a threshold `alpha` times larger.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.logs.parsers.alignment import WILDCARD_TOKEN, merge_patterns
from nonet.logs.parsers.base import PARSERS, WILDCARD, Mode, Parsed, Parser
from nonet.logs.parsers.masking import Masker

_PATTERN_WEIGHT = 1.0  # the paper's k1: what an equal token counts above level 0
_SLACK = 1e-9  # far more than rounding can add up to, far less than one token's share


@dataclass(frozen=True, slots=True)
class _Patterns:
    """Token sequences one behind another: sequence p is `tokens[starts[p]:starts[p + 1]]`."""

    tokens: NDArray[np.int32]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, sequences: Sequence[NDArray[np.int32]]) -> _Patterns:
        lengths = [len(sequence) for sequence in sequences]
        tokens = np.concatenate(sequences) if sequences else np.empty(0, np.int32)
        return cls(tokens.astype(np.int32), np.concatenate(([0], np.cumsum(lengths))).astype(np.int64))

    def __getitem__(self, pattern: int) -> NDArray[np.int32]:
        return self.tokens[self.starts[pattern] : self.starts[pattern + 1]]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def identities(self) -> NDArray[np.int32]:
        """A number for every sequence, equal for equal ones."""
        number_of: dict[bytes, int] = {}
        return np.array([number_of.setdefault(self[at].tobytes(), len(number_of)) for at in range(len(self))], np.int32)


@dataclass(frozen=True, slots=True)
class _Joins:
    """Which pattern joined which clusters, in order of patterns.

    In compat mode equal lines found clusters of their own, and a pattern joins all of them or none. So clusters with
    equal founders are one *kind*, and a join of all clusters of a kind that were founded so far is one entry.

    Attributes:
        pattern: the pattern of every join.
        kind: the kind of clusters that it joins, or whose next cluster it founds.
        founds: whether it founds that cluster, rather than joins those that there are.
    """

    pattern: NDArray[np.int32]
    kind: NDArray[np.int32]
    founds: NDArray[np.bool_]

    def last_clusters(self, last_above: NDArray[np.int64]) -> NDArray[np.int64]:
        """For every pattern the largest value that its clusters have in `last_above`."""
        return _last_clusters(self.pattern, self.kind, self.founds, last_above)


@njit(cache=True, nogil=True)
def _last_clusters(
    pattern: NDArray[np.int32], kind: NDArray[np.int32], founds: NDArray[np.bool_], last_above: NDArray[np.int64]
) -> NDArray[np.int64]:
    last = np.zeros(pattern[-1] + 1 if len(pattern) else 0, np.int64)
    largest_of_kind = np.zeros(len(last_above), np.int64)
    num_clusters = 0
    for join in range(len(pattern)):
        largest = largest_of_kind[kind[join]]
        if founds[join]:
            last[pattern[join]] = last_above[num_clusters]
            largest_of_kind[kind[join]] = max(largest, last_above[num_clusters])
            num_clusters += 1
        else:
            last[pattern[join]] = max(last[pattern[join]], largest)
    return last


@njit(cache=True, nogil=True)
def _equal_columns(left: NDArray[np.int32], right: NDArray[np.int32], max_unequal: float) -> int:
    """Number of columns with the same token, or -1 as soon as more than `max_unequal` differ."""
    shared = min(len(left), len(right))
    unequal = 0
    for column in range(shared):
        if left[column] != right[column]:
            unequal += 1
            if unequal > max_unequal:
                return -1
    return shared - unequal


@njit(cache=True, nogil=True)
def _distance(
    left: NDArray[np.int32], right: NDArray[np.int32], weight: float, max_distance: float, stepwise: bool
) -> float:
    """The distance, or infinity where it is surely above `max_distance`.

    `stepwise` subtracts the columns' shares one by one, whose rounding decides in compat mode which lines are "equal".
    """
    longest = max(len(left), len(right), 1)
    needed = (1.0 - max_distance - _SLACK) * longest / weight
    equal = _equal_columns(left, right, min(len(left), len(right)) - needed)
    if equal < 0:
        return np.inf
    if not stepwise:
        return 1.0 - weight * equal / longest
    distance = 1.0
    for _ in range(equal):
        distance -= weight / longest
    return distance


@njit(cache=True, nogil=True)
def _near_clusters(
    patterns: tuple[NDArray[np.int32], NDArray[np.int64]],
    probe: NDArray[np.int32],
    founders: NDArray[np.int32],
    weight: float,
    max_distance: float,
    compat: bool,
) -> NDArray[np.int32]:
    """The kinds that a pattern joins: in compat mode all that are near but not at distance 0, else the nearest."""
    tokens, starts = patterns
    near = np.empty(len(founders), np.int32)
    num_near = 0
    for cluster in range(len(founders)):
        founder = founders[cluster]
        distance = _distance(tokens[starts[founder] : starts[founder + 1]], probe, weight, max_distance, compat)
        if distance >= max_distance or (compat and distance == 0.0):
            continue
        if not compat:
            max_distance = distance
            num_near = 0
        near[num_near] = cluster
        num_near += 1
    return near[:num_near]


@njit(cache=True, nogil=True)
def _join(
    tokens: NDArray[np.int32],
    starts: NDArray[np.int64],
    identity: NDArray[np.int32],
    weight: float,
    max_distance: float,
    compat: bool,
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.bool_]]:
    """One pass of clustering; every pattern is compared with the founders of all kinds of clusters.

    `identity` is equal for equal patterns, and below their number. Returns the columns of `_Joins`.
    """
    founders = np.empty(len(starts), np.int32)
    num_kinds = 0
    kind_of_identity = np.full(len(starts), -1, np.int32)
    joins = np.empty((2 * len(starts), 3), np.int32)
    num_joins = 0
    for pattern in range(len(starts) - 1):
        probe = tokens[starts[pattern] : starts[pattern + 1]]
        near = _near_clusters((tokens, starts), probe, founders[:num_kinds], weight, max_distance, compat)
        founds = len(near) == 0
        if founds:
            if kind_of_identity[identity[pattern]] == -1:
                kind_of_identity[identity[pattern]] = num_kinds
                founders[num_kinds] = pattern
                num_kinds += 1
            near = kind_of_identity[identity[pattern] : identity[pattern] + 1]
        while num_joins + len(near) > len(joins):
            joins = np.concatenate((joins, np.empty_like(joins)))
        joins[num_joins : num_joins + len(near), 0] = pattern
        joins[num_joins : num_joins + len(near), 1] = near
        joins[num_joins : num_joins + len(near), 2] = founds
        num_joins += len(near)
    return joins[:num_joins, 0].copy(), joins[:num_joins, 1].copy(), joins[:num_joins, 2] == 1


@PARSERS.register("LogMine")
class LogMine(Parser):
    """LogMine with `levels` levels.

    Mode "compat" keeps these quirks of the reference:
        - what is at distance exactly 0 does not join, so equal lines found clusters of their own; as distances are
          summed in steps, lines of some lengths are "nearly 0" apart and do join;
        - a pattern joins every near cluster, not one; a line gets the template of its last cluster;
        - masks are replaced by nothing, blank runs survive in clusters that never merged, and columns before the
          alignment are dropped from merged templates.
    Mode "fixed": equal lines share a cluster, a pattern joins only the nearest cluster, distances are exact, masks
    become wildcards, and merged templates keep wildcards for the columns before the alignment.

    Cost: distinct masked lines times clusters with different founders; in compat mode, where nearly every line founds
    a cluster, every line times these, and lines that join equal clusters merge with each. Memory: four bytes a token
    of these lines, nine for each time that a line joins clusters with equal founders.

    Args:
        max_dist: distance below which lines join on level 0, above 0.
        k: weight of an equal token on level 0, above 0; 1 on the levels above.
        levels: number of clustering levels, at least 1.
        alpha: factor of the threshold from level to level, at least 1.
        mode: see above.
        masks: see `Parser`.
        seed: unused; nothing is random.

    >>> lines = ["job 1 started on alpha", "job 2 started on alpha", "shutting down"]
    >>> LogMine(max_dist=0.005).parse(lines).templates
    ['job <*> started on alpha', 'shutting down']
    """

    def __init__(
        self,
        *,
        max_dist: float = 0.005,
        k: float = 1.0,
        levels: int = 2,
        alpha: float = 100.0,
        mode: Mode = "fixed",
        masks: Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        super().__init__(mode=mode, masks=masks, seed=seed)
        if not max_dist > 0:
            raise InputError(f"LogMine: max_dist is a distance above 0, not {max_dist}")
        if not k > 0:
            raise InputError(f"LogMine: k is a weight above 0, not {k}")
        if levels < 1:
            raise InputError(f"LogMine: levels is at least 1, not {levels}")
        if not alpha >= 1:
            raise InputError(f"LogMine: alpha is a factor of at least 1, not {alpha}")
        self.max_dist = max_dist
        self.k = k
        self.levels = levels
        self.alpha = alpha

    def parse(self, contents: Sequence[str]) -> Parsed:
        """Give every line the template of its cluster on the last level."""
        masked = Masker(self.masks, "" if self.mode == "compat" else WILDCARD).distinct(contents)
        if self.mode == "compat":
            # Repeats found clusters of their own, so every line counts.
            templates = self._templates([masked.texts[index] for index in masked.index_of_line])
            return Parsed.from_lines(templates)
        return Parsed.from_groups(masked.index_of_line, self._templates([" ".join(t.split()) for t in masked.texts]))

    def _templates(self, texts: list[str]) -> list[str]:
        """The template of every text."""
        vocabulary = {WILDCARD: WILDCARD_TOKEN}
        patterns = _Patterns.of(
            [np.array([vocabulary.setdefault(t, len(vocabulary)) for t in text.split()], np.int32) for text in texts]
        )
        words = list(vocabulary)
        levels: list[_Joins] = []
        for level in range(self.levels):
            weight = float(_PATTERN_WEIGHT if level else self.k)
            max_distance = float(self.max_dist * self.alpha**level)
            joins = _Joins(
                *_join(
                    patterns.tokens,
                    patterns.starts,
                    patterns.identities(),
                    weight,
                    max_distance,
                    self.mode == "compat",
                )
            )
            patterns, texts = self._cluster(patterns, texts, joins, words, merge=level > 0)
            levels.append(joins)
        last = np.arange(len(texts))
        for joins in reversed(levels):
            last = joins.last_clusters(last)
        return [texts[cluster] for cluster in last]

    def _cluster(
        self, patterns: _Patterns, texts: list[str], joins: _Joins, words: list[str], *, merge: bool
    ) -> tuple[_Patterns, list[str]]:
        """Pattern and text of every cluster: its founder's, on a merging level aligned with each that joined it."""
        tokens_of: list[NDArray[np.int32]] = []
        text_of: list[str] = []
        clusters_of_kind: dict[int, list[int]] = defaultdict(list)
        merged: set[int] = set()
        for pattern, kind, founds in zip(
            *(column.tolist() for column in (joins.pattern, joins.kind, joins.founds)), strict=True
        ):
            if founds:
                clusters_of_kind[kind].append(len(tokens_of))
                tokens_of.append(patterns[pattern])
                text_of.append(texts[pattern])
            elif merge:
                for cluster in clusters_of_kind[kind]:
                    tokens_of[cluster] = merge_patterns(
                        tokens_of[cluster], patterns[pattern], keep_head=self.mode == "fixed"
                    )
                merged.update(clusters_of_kind[kind])
        for cluster in merged:
            text_of[cluster] = " ".join([words[token] for token in tokens_of[cluster]])
        return _Patterns.of(tokens_of), text_of
