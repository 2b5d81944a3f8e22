"""LenMa: messages of one statement have words of similar lengths.

Shima: "Length Matters: Clustering System Log Messages using Length of Words", arXiv 1611.03213, 2016.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.logs.parsers.base import PARSERS, WILDCARD, Mode, Parsed, Parser
from nonet.logs.parsers.masking import Masker

_MIN_EQUAL_WORDS = 3  # constants that a message must share with a cluster, unless it fits the template as it is
_VARIABLE = 0  # number of the variable word; words proper count from 1
_SLACK = 1e-9  # far above the rounding error of a cosine: what lies further below the threshold needs no second look
_SPLITTER = 134217729.0  # 2**27 + 1: splits a double into halves whose products are exact


def _fused(a: float, b: float, c: float) -> float:
    """a * b + c, rounded once.

    >>> 0.1 * 10.0 - 1.0, _fused(0.1, 10.0, -1.0) > 0.0
    (0.0, True)
    """
    product = a * b
    a_high = _SPLITTER * a - (_SPLITTER * a - a)
    b_high = _SPLITTER * b - (_SPLITTER * b - b)
    a_low, b_low = a - a_high, b - b_high
    error = a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low)
    return math.fsum((product, error, c))


def rounded_cosine(ours: Sequence[int], theirs: Sequence[int]) -> float:
    """The cosine as a numerical library computes it: both vectors normalised, then a fused dot product, in order.

    At a threshold of 1 the published rows depend on these roundings: equal directions may come out below 1, and others
    above.

    >>> rounded_cosine([1, 2], [1, 2]), rounded_cosine([3, 5, 5], [3, 5, 5])
    (0.9999999999999999, 1.0000000000000002)
    """
    our_norm, their_norm = (math.sqrt(sum(length * length for length in lengths)) for lengths in (ours, theirs))
    total = 0.0
    for our_length, their_length in zip(ours, theirs, strict=True):
        total = _fused(our_length / our_norm, their_length / their_norm, total)
    return total


class _Bucket:
    """Clusters whose messages have the same number of words and the same first word.

    Attributes:
        clusters: numbers of the clusters, in order of birth.
    """

    __slots__ = ("_lengths", "_squares", "_words", "clusters")

    def __init__(self, num_words: int) -> None:
        self.clusters: list[int] = []
        self._words: NDArray[np.int32] = np.empty((1, num_words), np.int32)
        self._lengths: NDArray[np.float64] = np.empty((1, num_words))
        self._squares: NDArray[np.float64] = np.empty(1)

    def add(self, cluster: int, words: NDArray[np.int32], lengths: NDArray[np.float64]) -> None:
        """Found a cluster on one message."""
        place = len(self.clusters)
        if place == len(self._squares):
            self._words, self._lengths, self._squares = (
                np.concatenate([table, np.empty_like(table)]) for table in (self._words, self._lengths, self._squares)
            )
        self.clusters.append(cluster)
        self._words[place] = words
        self._set_lengths(place, lengths)

    def _set_lengths(self, place: int, lengths: NDArray[np.float64]) -> None:
        self._lengths[place] = lengths
        self._squares[place] = lengths @ lengths

    def update(self, place: int, words: NDArray[np.int32], lengths: NDArray[np.float64]) -> None:
        """Take a message in: words that differ become variable, the lengths are the new message's."""
        row = self._words[place]
        row[row != words] = _VARIABLE
        self._set_lengths(place, lengths)

    def template(self, place: int) -> list[int]:
        """Word numbers of a cluster's template."""
        numbers: list[int] = self._words[place].tolist()
        return numbers

    def best(
        self, words: NDArray[np.int32], lengths: NDArray[np.float64], threshold: float, *, rounded: bool
    ) -> int | None:
        """Place of the oldest cluster among those with the best score, if that reaches the threshold.

        Args:
            words: word numbers of the message.
            lengths: their lengths.
            threshold: the least score.
            rounded: whether cosines carry the rounding errors of `rounded_cosine`.
        """
        known = len(self.clusters)
        if not known:
            return None
        equal = self._words[:known] == words
        fits = (equal | (self._words[:known] == _VARIABLE)).all(axis=1)
        if fits.any() and not (rounded and lengths.size):
            return int(fits.argmax())
        # Whole numbers until the root: a double holds these products exactly, so proportional lengths score exactly 1.
        scores = (self._lengths[:known] @ lengths) / np.sqrt(self._squares[:known] * (lengths @ lengths))
        scores[equal.sum(axis=1) < _MIN_EQUAL_WORDS] = 0.0
        scores[fits] = 1.0
        if rounded:
            for place in np.flatnonzero((scores >= threshold - _SLACK) & ~fits).tolist():
                if scores[place] > 0.0:
                    scores[place] = rounded_cosine(self._lengths[place].tolist(), lengths.tolist())
        place = int(scores.argmax())
        return place if scores[place] >= threshold else None


class _Vocabulary:
    """Words and their numbers, from 1; 0 is the variable word.

    Args:
        variable: the text of the variable word.
    """

    def __init__(self, variable: str) -> None:
        self.words = [variable]
        self._number_of: dict[str, int] = {}

    def numbers(self, tokens: list[str]) -> NDArray[np.int32]:
        """Number the words of a message; a word that reads like the variable one is variable."""
        found = np.empty(len(tokens), np.int32)
        for position, token in enumerate(tokens):
            number = self._number_of.get(token)
            if number is None:
                number = self._number_of[token] = _VARIABLE if token == self.words[0] else len(self.words)
                if number:
                    self.words.append(token)
            found[position] = number
        return found


@PARSERS.register("LenMa")
class LenMa(Parser):
    """LenMa, online: a message joins the cluster whose word lengths point most nearly in the same direction.

    Only clusters with as many words and the same first word come into question. A cluster that the message fits as it
    is (its variable words match anything) scores 1; another scores the cosine of the two vectors of word lengths, or 0
    with fewer than three equal words. The best score wins if it reaches the threshold.

    Compat keeps these quirks of the reference, mended in fixed mode:

    * a variable word is written as the empty string; fixed writes the wildcard, and a masked word is a variable one;
    * cosines carry rounding errors, which decide at a threshold of 1; fixed computes them from whole numbers, and
      a message that fits a template always joins it.

    Cost: lines x clusters in a bucket x words, in NumPy. Memory: the templates and the vocabulary.

    Args:
        threshold: the least score for joining; above 0, at most 1.
        mode: "compat" or "fixed".
        masks: see `Parser`.
        seed: not used; nothing is drawn.

    >>> lines = ["session opened for user root", "session opened for user news"]
    >>> LenMa(threshold=0.9).parse(lines).templates
    ['session opened for user <*>']

    Raises:
        InputError: the threshold is not above 0 and at most 1.
    """

    def __init__(
        self, *, threshold: float = 0.88, mode: Mode = "fixed", masks: Sequence[str] = (), seed: int = 0
    ) -> None:
        super().__init__(mode=mode, masks=masks, seed=seed)
        if not 0 < threshold <= 1:
            raise InputError(f"LenMa: threshold is {threshold}; it must be above 0 and at most 1")
        self.threshold = threshold
        self.templates_match_lines = mode == "fixed"

    def parse(self, contents: Sequence[str]) -> Parsed:
        """Give every line the final template of its cluster."""
        vocabulary = _Vocabulary(WILDCARD if self.mode == "fixed" else "")
        buckets: dict[tuple[int, str], _Bucket] = {}
        place_of_cluster: list[tuple[_Bucket, int]] = []
        cluster_of_line = np.empty(len(contents), np.int32)
        for line, masked in enumerate(Masker(self.masks).each(contents)):
            tokens = masked.split()
            key = (len(tokens), tokens[0] if tokens else "")
            bucket = buckets.get(key)
            if bucket is None:
                bucket = buckets[key] = _Bucket(len(tokens))
            cluster_of_line[line] = self._join(bucket, tokens, vocabulary, place_of_cluster)
        templates = [
            " ".join(vocabulary.words[number] for number in bucket.template(place))
            for bucket, place in place_of_cluster
        ]
        return Parsed.from_groups(cluster_of_line, templates)

    def _join(
        self,
        bucket: _Bucket,
        tokens: list[str],
        vocabulary: _Vocabulary,
        place_of_cluster: list[tuple[_Bucket, int]],
    ) -> int:
        """Put one message into a cluster of its bucket, a new one if need be; returns the cluster's number."""
        words = vocabulary.numbers(tokens)
        lengths = np.fromiter(map(len, tokens), np.float64, len(tokens))
        rounded = self.mode == "compat"
        place = bucket.best(words, lengths, self.threshold, rounded=rounded)
        if place is not None:
            bucket.update(place, words, lengths)
            return bucket.clusters[place]
        place_of_cluster.append((bucket, len(bucket.clusters)))
        bucket.add(len(place_of_cluster) - 1, words, lengths)
        return len(place_of_cluster) - 1
