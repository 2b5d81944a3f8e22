"""Parsing metrics of the Loghub-2.0 evaluation, from one count of (truth, predicted) template pairs.

With g(i) and p(i) the template *texts* of line i, G_t = {i: g(i) = t} and P_u = {i: p(i) = u}:

* a true template t is *grouped correctly* if some P_u equals G_t. GA = lines of such templates / N; PGA and RGA =
  their number over the number of predicted and of true templates; FGA = harmonic mean of the two.
* PA = lines with p(i) = g(i), over N.
* a predicted template u is *identified correctly* if all lines of P_u have the true template u. PTA, RTA, FTA likewise.
* edit distance = mean Levenshtein distance of p(i) and g(i); normalised (NED) = mean of 1 - distance / longer length.

Groups are formed by text, never by event id. Lines without ground truth (null) count as wrong for PA and are left out
of all else. A *slice* restricts messages to some true templates F; whether a group is correct is still judged on all
lines, and the predicted templates counted are those that touch a line of F.

Everything follows from how often each pair (t, u) occurs, so one pass does, chunks can be counted apart and merged in
any order, and memory grows with the number of distinct templates and pairs, not with the lines.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cpdist

from nonet.common.errors import InputError
from nonet.logs.evaluation.slices import WILDCARD, Slice

Column: TypeAlias = "pa.Array | pa.ChunkedArray | NDArray[Any] | Sequence[str | None]"

_NULL_TRUTH = 0  # the truth id of lines without ground truth
_COMPACT_AT = 1 << 22  # pending keys (8 bytes each) before they are folded into the sorted counts
_DISTANCE_BATCH = 1 << 16


@dataclass(frozen=True, slots=True)
class Scores:
    """The metrics of one comparison; shares in 0..1, `edit_distance` in characters.

    `nan` where nothing was there to score (no labelled lines). `edit_distance` and `normalised_edit_distance` are
    None when not asked for.
    """

    num_lines: int
    num_labelled_lines: int
    num_true_templates: int
    num_predicted_templates: int
    ga: float
    pga: float
    rga: float
    fga: float
    pa: float
    pta: float
    rta: float
    fta: float
    edit_distance: float | None = None
    normalised_edit_distance: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Labelled pairs as arrays of equal length, one entry a distinct (truth, predicted) pair, and what they say."""

    truth: NDArray[np.int64]
    predicted: NDArray[np.int64]
    count: NDArray[np.int64]
    exact: NDArray[np.bool_]  # the two texts are equal
    pure: NDArray[np.bool_]  # the predicted template occurs with this true one only
    whole: NDArray[np.bool_]  # the true template occurs with this predicted one only


class PairCounts:
    """How often each pair of true and predicted template occurs; mergeable.

    Memory: the distinct template texts once, and 16 bytes a distinct pair (up to 32 MiB of keys wait to be folded in).

    >>> pairs = PairCounts()
    >>> pairs.update(["a <*>", "a <*>", "b", None], ["a <*>", "a <*>", "c", "c"])
    >>> scores = pairs.scores()
    >>> scores.ga, scores.pa, scores.fta
    (1.0, 0.5, 0.5)
    """

    def __init__(self) -> None:
        self._truth: dict[str | None, int] = {None: _NULL_TRUTH}
        self._predicted: dict[str | None, int] = {}
        self._keys = np.empty(0, np.int64)  # truth id << 32 | predicted id, sorted and distinct
        self._counts = np.empty(0, np.int64)
        self._pending: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        self._num_pending = 0

    def update(self, truth: Column, predicted: Column) -> None:
        """Count one chunk of lines.

        Args:
            truth: true template of each line; None (null) where there is no ground truth.
            predicted: predicted template of each line; None counts as the empty template.

        Raises:
            InputError: the two have different lengths, or are not columns of strings.
        """
        if len(truth) != len(predicted):
            raise InputError(f"{len(truth)} true and {len(predicted)} predicted templates: both need one a line")
        true_ids = _ids(truth, self._truth, null=None)
        predicted_ids = _ids(predicted, self._predicted, null="")
        keys, counts = np.unique((true_ids << 32) | predicted_ids, return_counts=True)
        self._add(keys, counts.astype(np.int64))

    def merge(self, other: PairCounts) -> None:
        """Add the counts of `other`; the order of merges does not change any score."""
        keys, counts = other._folded()
        true_ids = _renumber(other._truth, self._truth)
        predicted_ids = _renumber(other._predicted, self._predicted)
        self._add((true_ids[keys >> 32] << 32) | predicted_ids[keys & 0xFFFFFFFF], counts)

    def mapped(self, truth: Callable[[str], str], predicted: Callable[[str], str]) -> PairCounts:
        """The same lines with every distinct template text rewritten (rules, wildcard spelling)."""
        result = PairCounts()
        keys, counts = self._folded()
        true_ids = _rewritten(self._truth, truth, result._truth)
        predicted_ids = _rewritten(self._predicted, predicted, result._predicted)
        result._add((true_ids[keys >> 32] << 32) | predicted_ids[keys & 0xFFFFFFFF], counts)
        return result

    @property
    def num_lines(self) -> int:
        """Lines counted so far, with and without ground truth."""
        return int(self._folded()[1].sum())

    def items(self) -> Iterator[tuple[str | None, str, int]]:
        """The distinct (true template or None, predicted template, lines), in order of the texts."""
        keys, counts = self._folded()
        truth, predicted = list(self._truth), list(self._predicted)
        rows = (
            (truth[k >> 32], predicted[k & 0xFFFFFFFF] or "", n)
            for k, n in zip(keys.tolist(), counts.tolist(), strict=True)
        )
        yield from sorted(rows, key=lambda row: (row[0] is not None, row[0] or "", row[1]))

    def scores(self, *, edit_distance: bool = True) -> Scores:
        """All metrics over all lines; the edit distance costs one computation a distinct pair."""
        pairs = self._labelled()
        return self._score(pairs, np.ones(len(pairs.count), np.bool_), self.num_lines, edit_distance)

    def slice(self, which: Slice | str, *, edit_distance: bool = False) -> Scores | None:
        """The metrics on the messages of some true templates; None when the slice holds no template."""
        which = Slice.parse(which) if isinstance(which, str) else which
        pairs = self._labelled()
        present, position = np.unique(pairs.truth, return_inverse=True)
        lines = np.bincount(position, pairs.count, len(present)).astype(np.int64)
        texts = list(self._truth)
        chosen = which.mask([str(texts[t]) for t in present], lines)
        if not chosen.any():
            return None
        inside = chosen[position]
        return self._score(pairs, inside, int(pairs.count[inside].sum()), edit_distance)

    def _add(self, keys: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
        self._pending.append((keys, counts))
        self._num_pending += len(keys)
        if self._num_pending >= _COMPACT_AT:
            self._folded()

    def _folded(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Fold what is pending into the sorted distinct keys and their counts."""
        if self._pending:
            keys = np.concatenate([self._keys, *(k for k, _ in self._pending)])
            counts = np.concatenate([self._counts, *(c for _, c in self._pending)])
            self._keys, position = np.unique(keys, return_inverse=True)
            self._counts = np.zeros(len(self._keys), np.int64)
            np.add.at(self._counts, position, counts)
            self._pending, self._num_pending = [], 0
        return self._keys, self._counts

    def _labelled(self) -> _Pairs:
        keys, counts = self._folded()
        labelled = (keys >> 32) != _NULL_TRUTH
        truth, predicted = keys[labelled] >> 32, keys[labelled] & 0xFFFFFFFF
        same_text = np.fromiter((self._truth.get(t, -1) for t in self._predicted), np.int64, len(self._predicted))
        return _Pairs(
            truth,
            predicted,
            counts[labelled],
            exact=same_text[predicted] == truth,
            pure=np.bincount(predicted)[predicted] == 1,
            whole=np.bincount(truth)[truth] == 1,
        )

    def _score(self, pairs: _Pairs, inside: NDArray[np.bool_], num_lines: int, edit_distance: bool) -> Scores:
        """Score the messages of the pairs `inside`; `pure` and `whole` were judged on all pairs."""
        count = pairs.count
        num_labelled = int(count[inside].sum())
        num_true = len(np.unique(pairs.truth[inside]))
        num_predicted = len(np.unique(pairs.predicted[inside]))
        grouped = inside & pairs.pure & pairs.whole
        identified = inside & pairs.pure & pairs.exact
        pga, rga, fga = _f1(int(grouped.sum()), num_predicted, num_true)
        pta, rta, fta = _f1(int(identified.sum()), num_predicted, num_true)
        distances = self._edit_distances(pairs, inside) if edit_distance else (None, None)
        return Scores(
            num_lines=num_lines,
            num_labelled_lines=num_labelled,
            num_true_templates=num_true,
            num_predicted_templates=num_predicted,
            ga=_share(int(count[grouped].sum()), num_labelled),
            pga=pga,
            rga=rga,
            fga=fga,
            pa=_share(int(count[inside & pairs.exact].sum()), num_lines),
            pta=pta,
            rta=rta,
            fta=fta,
            edit_distance=distances[0],
            normalised_edit_distance=distances[1],
        )

    def _edit_distances(self, pairs: _Pairs, inside: NDArray[np.bool_]) -> tuple[float, float]:
        """Mean edit distance and mean normalised similarity over the messages `inside`."""
        total = int(pairs.count[inside].sum())
        if not total:
            return float("nan"), float("nan")
        truth, predicted = list(self._truth), list(self._predicted)
        unequal = np.flatnonzero(inside & ~pairs.exact)
        distance_sum = 0
        similarities = [pairs.count[inside & pairs.exact].astype(np.float64)]
        for start in range(0, len(unequal), _DISTANCE_BATCH):
            batch = unequal[start : start + _DISTANCE_BATCH]
            left = [truth[i] or "" for i in pairs.truth[batch]]
            right = [predicted[i] or "" for i in pairs.predicted[batch]]
            distance = cpdist(left, right, scorer=Levenshtein.distance, dtype=np.int64)
            longer = np.fromiter((max(len(a), len(b)) for a, b in zip(left, right, strict=True)), np.int64, len(batch))
            distance_sum += int((distance * pairs.count[batch]).sum())
            similarities.append((1 - distance / longer) * pairs.count[batch])
        # fsum rounds once, so the result does not depend on the order in which templates were first seen.
        return distance_sum / total, math.fsum(np.concatenate(similarities)) / total


def lenient_scores(pairs: PairCounts) -> tuple[float, float]:
    """PA and FTA as the paper's UniParser rows measure them, never to be mixed with the strict ones.

    Both sides are split at blanks; a ground-truth token that contains `<*>` counts as `<*>`.

    >>> pairs = PairCounts()
    >>> pairs.update(["user=<*> in"], ["<*> in"])
    >>> pairs.scores().pa, lenient_scores(pairs)
    (0.0, (1.0, 1.0))
    """

    def lenient(template: str) -> str:
        return " ".join(WILDCARD if WILDCARD in token else token for token in template.split())

    scores = pairs.mapped(lenient, lambda template: " ".join(template.split())).scores(edit_distance=False)
    return scores.pa, scores.fta


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def _f1(correct: int, num_predicted: int, num_true: int) -> tuple[float, float, float]:
    precision, recall = _share(correct, num_predicted), _share(correct, num_true)
    if not num_predicted or not num_true:
        return precision, recall, float("nan")
    return precision, recall, 2 * correct / (num_predicted + num_true)


def _ids(column: Column, index: dict[str | None, int], *, null: str | None) -> NDArray[np.int64]:
    """Number the texts of a column through `index`, which grows; nulls count as the text `null`."""
    encoded = _dictionary(column)
    parts: list[NDArray[np.int64]] = []
    for chunk in encoded.chunks if isinstance(encoded, pa.ChunkedArray) else [encoded]:
        texts = [_text(value) for value in chunk.dictionary.to_pylist()]
        numbers = np.fromiter(
            (index.setdefault(null if t is None else t, len(index)) for t in texts), np.int64, len(texts)
        )
        codes = chunk.indices
        if codes.null_count:
            numbers = np.append(numbers, index.setdefault(null, len(index)))
            codes = codes.fill_null(len(texts))
        parts.append(numbers[codes.to_numpy(zero_copy_only=False)] if len(chunk) else np.empty(0, np.int64))
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def _dictionary(column: Column) -> pa.DictionaryArray | pa.ChunkedArray:
    try:
        array = column if isinstance(column, (pa.Array, pa.ChunkedArray)) else pa.array(column, from_pandas=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise InputError(f"templates must be strings or None: {error}") from error
    kind = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
    if not (_is_text(kind) or pa.types.is_null(kind)):
        raise InputError(f"templates must be strings, not {kind}")
    if pa.types.is_null(kind):
        array = array.cast(pa.string())
    if pa.types.is_dictionary(array.type):
        return _wide_codes(array)
    return array.dictionary_encode()


def _wide_codes(array: pa.Array) -> pa.Array:
    """Dictionary codes as int64, so that one more code for null always fits."""
    return array.cast(pa.dictionary(pa.int64(), array.type.value_type))


def _is_text(kind: pa.DataType) -> bool:
    tests = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
        pa.types.is_binary,
        pa.types.is_large_binary,
    )
    return any(test(kind) for test in tests)


def _text(value: str | bytes | None) -> str | None:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _renumber(old: dict[str | None, int], new: dict[str | None, int]) -> NDArray[np.int64]:
    """For each id of `old` its id in `new`, which grows."""
    return np.fromiter((new.setdefault(text, len(new)) for text in old), np.int64, len(old))


def _rewritten(
    old: dict[str | None, int], rewrite: Callable[[str], str], new: dict[str | None, int]
) -> NDArray[np.int64]:
    texts = (None if text is None else rewrite(text) for text in old)
    return np.fromiter((new.setdefault(text, len(new)) for text in texts), np.int64, len(old))
