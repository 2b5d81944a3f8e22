"""IPLoM: partition the lines by length, by the most constant position and by mappings between two positions.

Makanju, Zincir-Heywood, Milios: "Clustering Event Logs Using Iterative Partitioning", KDD 2009.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from nonet.common.errors import InputError
from nonet.logs.parsers.base import PARSERS, WILDCARD, Mode, Parsed, Parser
from nonet.logs.parsers.masking import DistinctLines, Masker
from nonet.logs.parsers.words import TemplateText, split_words

Row = tuple[str, ...]
"""The words of one or more lines."""


@dataclass(frozen=True, slots=True)
class _Partition:
    """Rows of one length (numbers), and whether step 2 made it or left it whole."""

    rows: list[int]
    num_words: int
    from_step_2: bool


class _Mapping:
    """How the words at two positions go together in a partition.

    Args:
        lines_of_pair: number of lines for every pair of words at the two positions.
    """

    def __init__(self, lines_of_pair: Counter[tuple[str, str]]) -> None:
        self._partners: tuple[dict[str, set[str]], dict[str, set[str]]] = ({}, {})
        self._num_lines: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
        for pair, num_lines in lines_of_pair.items():
            for side in (0, 1):
                self._partners[side].setdefault(pair[side], set()).add(pair[1 - side])
                self._num_lines[side][pair[side]] += num_lines
        # A word owns its partners when none of them meets another word: it is a "1" in 1-1, 1-M or M-1.
        self._owners = [
            {word for word, met in mine.items() if all(len(others[partner]) == 1 for partner in met)}
            for mine, others in (self._partners, self._partners[::-1])
        ]

    def split_side(self, pair: tuple[str, str], lower_bound: float) -> int | None:
        """The side whose word keys the new partition of a pair; None for a many-to-many pair.

        Args:
            pair: the words at the two positions.
            lower_bound: at or below this ratio of words to lines the M side of 1-M and M-1 holds constants.
        """
        for side in (0, 1):
            word = pair[side]
            if word in self._owners[side]:
                num_partners = len(self._partners[side][word])
                many_are_constants = num_partners / self._num_lines[side][word] <= lower_bound
                return 1 - side if num_partners > 1 and many_are_constants else side
        return None

    def side_with_fewer_words(self) -> int:
        """The side with fewer words in many-to-many relations; the second on a tie."""
        remaining = [
            sum(word not in self._owners[side] and met.isdisjoint(self._owners[1 - side]) for word, met in mine.items())
            for side, mine in enumerate(self._partners)
        ]
        return 0 if remaining[0] < remaining[1] else 1


def _cardinalities(rows: Sequence[Row]) -> list[int]:
    """The number of distinct words at every position."""
    return [len({row[position] for row in rows}) for position in range(len(rows[0]))]


def _mapping_positions(cardinalities: list[int], from_step_2: bool) -> tuple[int, int] | None:
    """The two positions whose words step 3 compares in partitions of more than two words, or None for no split.

    After step 2: the first two positions that have the most frequent cardinality other than 1, if it occurs twice.
    For a partition that step 2 left whole: the first position with the rarest cardinality and the first with a
    cardinality of the next rarity.

    >>> _mapping_positions([1, 7, 2, 5, 2], from_step_2=True), _mapping_positions([1, 7, 2, 5, 2], from_step_2=False)
    ((2, 4), (0, 2))
    """
    frequency = Counter(cardinalities)
    if from_step_2:
        splitting = [cardinality for cardinality in frequency if cardinality != 1]
        most_frequent = max(splitting, key=frequency.__getitem__, default=None)
        positions = [at for at, cardinality in enumerate(cardinalities) if cardinality == most_frequent]
        return (positions[0], positions[1]) if len(positions) >= 2 else None
    frequency_at = [frequency[cardinality] for cardinality in cardinalities]
    rarities = sorted(set(frequency_at))
    return (frequency_at.index(rarities[0]), frequency_at.index(rarities[1])) if len(rarities) >= 2 else None


@PARSERS.register("IPLoM")
class IPLoM(Parser):
    """IPLoM, offline, four steps; step 4 makes the template: words of constant positions, wildcards elsewhere.

    Lines are split at blanks and at `=`, `:` and `,`.

    Mode "compat": masked parts are removed instead of replaced, so lines change their length by them; templates join
    the words with single blanks, so the separators are lost and hardly any template equals the true one; a line
    without words has one blank as its template.
    Mode "fixed": masked parts become the wildcard, and templates keep the separators that their lines share.

    Cost: words of the distinct lines times three. Memory: the distinct masked lines and their words.

    Args:
        ct: cluster goodness threshold in [0, 1]: partitions with a larger share of constant positions are not split.
        lower_bound: ratio in [0, 1] of the words on the M side of a 1-M mapping to its lines, below or at which these
            words are constants.
        mode: see above.
        masks: see `Parser`.
        seed: unused; nothing is random.

    >>> IPLoM(ct=0.9).parse(["job 1 state=up", "job 2 state=up", "job 3 state=up", "bye"]).templates
    ['job <*> state=up', 'bye']
    """

    def __init__(
        self,
        *,
        ct: float = 0.35,
        lower_bound: float = 0.25,
        mode: Mode = "fixed",
        masks: Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        super().__init__(mode=mode, masks=masks, seed=seed)
        for name, value in (("ct", ct), ("lower_bound", lower_bound)):
            if not 0 <= value <= 1:
                raise InputError(f"IPLoM: {name} is a share in [0, 1], not {value}")
        self.ct = ct
        self.lower_bound = lower_bound
        self.templates_match_lines = mode == "fixed"

    def parse(self, contents: Sequence[str]) -> Parsed:
        """Give every line the template of its last partition."""
        lines = Masker(self.masks, "" if self.mode == "compat" else WILDCARD).distinct(contents)
        row_numbers: dict[Row, int] = {}
        row_of_text = [row_numbers.setdefault(self._row(text), len(row_numbers)) for text in lines.texts]
        rows = list(row_numbers)
        num_lines: Counter[int] = Counter()
        for row, count in zip(row_of_text, lines.counts.tolist(), strict=True):
            num_lines[row] += count
        partitions = [
            part for whole in self._split_by_position(rows) for part in self._split_by_mapping(whole, rows, num_lines)
        ]
        if self.mode == "compat":
            template_of_row = _joined_templates(partitions, rows)
        else:
            template_of_row = _texts(partitions, rows, lines, row_of_text)
        row_of_line = np.array(row_of_text, np.int32)[lines.index_of_line] if rows else lines.index_of_line
        return Parsed.from_groups(row_of_line, template_of_row)

    def _row(self, text: str) -> Row:
        words = tuple(split_words(text))
        return words or ((" ",) if self.mode == "compat" else ())

    def _split_by_position(self, rows: list[Row]) -> Iterator[_Partition]:
        """Steps 1 and 2: by length, then by the first position with the fewest distinct words unless that has one."""
        by_length: dict[int, list[int]] = {}
        for number, row in enumerate(rows):
            by_length.setdefault(len(row), []).append(number)
        for num_words, members in by_length.items():
            cardinalities = _cardinalities([rows[number] for number in members])
            if min(cardinalities, default=1) == 1:
                yield _Partition(members, num_words, from_step_2=False)
                continue
            position = cardinalities.index(min(cardinalities))
            by_word: dict[str, list[int]] = {}
            for number in members:
                by_word.setdefault(rows[number][position], []).append(number)
            for part in by_word.values():
                yield _Partition(part, num_words, from_step_2=True)

    def _split_by_mapping(self, whole: _Partition, rows: list[Row], num_lines: Counter[int]) -> list[list[int]]:
        """Step 3: split by the mapping between two positions; pairs that are keyed by the same word stay together."""
        positions = self._positions(whole, rows)
        if positions is None:
            return [whole.rows]
        pairs = [(rows[number][positions[0]], rows[number][positions[1]]) for number in whole.rows]
        lines_of_pair: Counter[tuple[str, str]] = Counter()
        for number, pair in zip(whole.rows, pairs, strict=True):
            lines_of_pair[pair] += num_lines[number]
        mapping = _Mapping(lines_of_pair)
        side_of_pair = {pair: mapping.split_side(pair, self.lower_bound) for pair in lines_of_pair}
        common_side = None if whole.from_step_2 else mapping.side_with_fewer_words()
        parts: dict[str | None, list[int]] = {}
        for number, pair in zip(whole.rows, pairs, strict=True):
            side = side_of_pair[pair]
            side = common_side if side is None else side
            parts.setdefault(None if side is None else pair[side], []).append(number)
        return list(parts.values())

    def _positions(self, whole: _Partition, rows: list[Row]) -> tuple[int, int] | None:
        """The positions to compare in step 3, or None when the partition is good enough as it is."""
        if whole.num_words <= 2:
            return (0, 1) if whole.num_words == 2 else None
        cardinalities = _cardinalities([rows[number] for number in whole.rows])
        goodness = cardinalities.count(1) / whole.num_words
        return None if goodness >= self.ct else _mapping_positions(cardinalities, whole.from_step_2)


def _constant_positions(part: list[int], rows: list[Row]) -> list[int]:
    cardinalities = _cardinalities([rows[number] for number in part])
    return [position for position, cardinality in enumerate(cardinalities) if cardinality == 1]


def _joined_templates(partitions: list[list[int]], rows: list[Row]) -> list[str]:
    """Step 4 of the reference: the template of every row, words joined by single blanks."""
    templates = [""] * len(rows)
    for part in partitions:
        constant = set(_constant_positions(part, rows))
        first = rows[part[0]]
        template = " ".join(word if position in constant else WILDCARD for position, word in enumerate(first))
        for number in part:
            templates[number] = template
    return templates


def _texts(partitions: list[list[int]], rows: list[Row], lines: DistinctLines, row_of_text: list[int]) -> list[str]:
    """Step 4 with separators: the template of every row."""
    texts_of_row: list[list[str]] = [[] for _ in rows]
    for text, row in zip(lines.texts, row_of_text, strict=True):
        texts_of_row[row].append(text)
    templates = [""] * len(rows)
    for part in partitions:
        positions = _constant_positions(part, rows)
        template = TemplateText([rows[part[0]][position] for position in positions])
        for number in part:
            for text in texts_of_row[number]:
                template.add(text, positions)
        for number in part:
            templates[number] = str(template)
    return templates
