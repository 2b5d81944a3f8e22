"""Word pairs of LogSig, bundled: pairs that occur in the same texts are counted once, with a weight.

Thousands of pairs of a log live and die together (all pairs of one statement's constants do), and a pair that only one
line has needs no counter at all. What remains is small enough for dense counters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nonet.logs.parsers._logsig_kernels import Floats, Ints, emit_pairs

_MAX_WORDS = 1000  # of a line that form pairs: their number is quadratic, and one line must not fill the memory
_HASH_SEED = 0x5EED  # of the random numbers that tell sets of texts apart; any value gives the same bundles


@dataclass(frozen=True, slots=True)
class Pairs:
    """The pairs of the distinct texts.

    Attributes:
        text_starts: shape (texts + 1,); the entries of text t are text_starts[t]:text_starts[t + 1].
        bundles: shape (entries,); which bundle the text has.
        weights: shape (entries,); pairs in the bundle times `repeats`.
        repeats: shape (entries,); how often the text has each pair of the bundle.
        alone: shape (texts, 3). For the pairs that no other line has, with m repeats each: sum of m, of m (m + 1)**2
            and of m**3, which are the terms of the gain for a strange group, for the line's own, and of its base.
        num_bundles: of the pairs that at least two lines have.
    """

    text_starts: Ints
    bundles: Ints
    weights: Floats
    repeats: Floats
    alone: Floats
    num_bundles: int


def _number_words(texts: Sequence[str]) -> tuple[Ints, Ints]:
    """Word numbers of all texts in one array, and where each text starts; shape (texts + 1,)."""
    number_of: dict[str, int] = {}
    numbers = [[number_of.setdefault(word, len(number_of)) for word in text.split()[:_MAX_WORDS]] for text in texts]
    starts = np.zeros(len(texts) + 1, np.int64)
    np.cumsum([len(row) for row in numbers], out=starts[1:])
    return np.fromiter((number for row in numbers for number in row), np.int64, int(starts[-1])), starts


def _occurrences(texts: Sequence[str], *, repeated: bool) -> tuple[Ints, Ints, Ints]:
    """Texts, pair numbers and repeats of every pair in every text; sorted by text, then pair."""
    words, word_starts = _number_words(texts)
    lengths = np.diff(word_starts)
    pair_starts = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths * (lengths - 1) // 2, out=pair_starts[1:])
    codes = np.empty(int(pair_starts[-1]), np.int64)
    emit_pairs(words, word_starts, pair_starts, codes)
    distinct_codes, pairs = np.unique(codes, return_inverse=True)
    num_pairs = max(len(distinct_codes), 1)
    text_of_code = np.repeat(np.arange(len(lengths)), np.diff(pair_starts))
    keys, repeats = np.unique(text_of_code * num_pairs + pairs, return_counts=True)
    if not repeated:
        repeats = np.ones_like(repeats)
    return keys // num_pairs, keys % num_pairs, repeats


def _bundle_of_pair(texts: Ints, pairs: Ints, repeats: Ints, num_texts: int) -> Ints:
    """Number the pairs so that two get one number when they occur in the same texts, equally often.

    Two sums of random 64-bit numbers, one number a text, stand for the set of texts; that two different sets agree in
    both is less likely than 2**-80 for a billion pairs.
    """
    draws = np.random.default_rng(_HASH_SEED).integers(0, 2**64, size=(2, max(num_texts, 1)), dtype=np.uint64)
    by_pair = np.argsort(pairs, kind="stable")
    starts = np.flatnonzero(np.diff(pairs[by_pair], prepend=-1))
    terms = draws[:, texts[by_pair]] * repeats[by_pair].astype(np.uint64)
    sums = np.add.reduceat(terms, starts, axis=1)
    order = np.lexsort(sums)
    is_new = np.any(np.diff(sums[:, order], axis=1, prepend=sums[:, order[:1]]) != 0, axis=0)
    bundle = np.empty(len(starts), np.int64)
    bundle[order] = np.cumsum(is_new)
    return bundle


def count_pairs(texts: Sequence[str], lines_of_text: NDArray[np.int64], *, repeated: bool) -> Pairs:
    """Find and bundle the ordered word pairs of the texts.

    Of a text longer than 1,000 words only the first 1,000 form pairs. Memory: about 60 bytes for every pair of every
    distinct text.

    Args:
        texts: distinct texts.
        lines_of_text: how many lines each has.
        repeated: whether a pair that occurs twice in a text counts twice.

    >>> pairs = count_pairs(["a b c", "a b d"], np.array([1, 1]), repeated=False)
    >>> pairs.num_bundles, pairs.weights.tolist(), pairs.alone[:, 0].tolist()
    (1, [1.0, 1.0], [2.0, 2.0])
    """
    num_texts = len(texts)
    text, pair, repeats = _occurrences(texts, repeated=repeated)
    alone = np.zeros((num_texts, 3))
    if not len(text):
        nothing = np.empty(0)
        return Pairs(np.zeros(num_texts + 1, np.int64), nothing.astype(np.int64), nothing, nothing, alone, 0)
    num_texts_of_pair = np.bincount(pair)
    is_alone = (num_texts_of_pair[pair] == 1) & (lines_of_text[text] == 1)
    m = repeats.astype(np.float64)
    for column, term in enumerate((m, m * (m + 1) ** 2, m**3)):
        alone[:, column] = np.bincount(text[is_alone], term[is_alone], minlength=num_texts)
    text, pair, repeats = text[~is_alone], pair[~is_alone], repeats[~is_alone]
    if len(pair):
        pair = np.unique(pair, return_inverse=True)[1]
        bundle_of_pair = _bundle_of_pair(text, pair, repeats, num_texts)
        num_bundles = int(bundle_of_pair.max()) + 1
        keys, first, num_pairs = np.unique(
            text * num_bundles + bundle_of_pair[pair], return_index=True, return_counts=True
        )
    else:
        num_bundles, keys, first, num_pairs = 0, pair, pair, pair
    m = repeats[first].astype(np.float64)
    starts = np.searchsorted(keys, np.arange(num_texts + 1) * num_bundles) if num_bundles else np.zeros(num_texts + 1)
    bundles = keys % num_bundles if num_bundles else keys
    return Pairs(starts.astype(np.int64), bundles.astype(np.int64), num_pairs * m, m, alone, num_bundles)
