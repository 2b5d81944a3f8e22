"""LogSig: lines move between groups until the word pairs within the groups are as common as they can be.

Tang, Li, Perng: "LogSig: Generating System Events from Raw Textual Logs", CIKM 2011.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b

import numpy as np

from nonet.common.errors import InputError
from nonet.logs.parsers._logsig_kernels import Ints, count_bundles, sweep_by_estimate, sweep_by_potential
from nonet.logs.parsers.base import PARSERS, WILDCARD, Mode, Parsed, Parser
from nonet.logs.parsers.logsig_pairs import Pairs, count_pairs
from nonet.logs.parsers.masking import DistinctLines, Masker

Member = tuple[list[str], int]
"""The words of a distinct text, and how many lines of a group have it."""


def _settle(sweep: Callable[[], int], group_of_line: Ints) -> None:
    """Sweep until nothing moves; a partition that comes again would come for ever, so that ends it too."""
    seen: set[bytes] = set()
    while sweep():
        digest = blake2b(group_of_line.tobytes(), digest_size=16).digest()
        if digest in seen:
            return
        seen.add(digest)


def regroup(text_of_line: Ints, pairs: Pairs, group_of_line: Ints, num_groups: int, *, by_potential: bool) -> None:
    """Move lines, in place, until no move gains anything.

    Args:
        text_of_line: shape (lines,).
        pairs: of the distinct texts.
        group_of_line: shape (lines,); where the lines start, and on return where they are.
        num_groups: how many groups there are; some may be empty.
        by_potential: whether a move's gain is that of the paper's potential, or the reference's estimate.
    """
    table = text_of_line, pairs.text_starts, pairs.bundles
    sizes = np.bincount(group_of_line, minlength=num_groups)
    counts = np.zeros((pairs.num_bundles, num_groups), np.int32)
    count_bundles(*table, pairs.repeats, group_of_line, counts)
    state = pairs.alone, counts, sizes, group_of_line
    if not by_potential:
        _settle(lambda: int(sweep_by_estimate(*table, pairs.weights, pairs.repeats, *state)), group_of_line)
        return
    pairs_of_bundle = np.zeros(pairs.num_bundles)
    pairs_of_bundle[pairs.bundles] = pairs.weights
    cubes = pairs_of_bundle @ counts.astype(np.float64) ** 3
    cubes += np.bincount(group_of_line, pairs.alone[text_of_line, 0], num_groups)
    _settle(lambda: int(sweep_by_potential(*table, pairs.weights, *state, cubes)), group_of_line)


def _members(lines: DistinctLines, group_of_line: Ints) -> Iterator[tuple[int, list[Member]]]:
    """The groups that are not empty, each with its texts in order of their first line in it."""
    num_texts = max(len(lines.texts), 1)
    keys, first_line, num_lines = np.unique(
        group_of_line * num_texts + lines.index_of_line, return_index=True, return_counts=True
    )
    members: dict[int, list[Member]] = {}
    for place in np.argsort(first_line).tolist():
        group, text = divmod(int(keys[place]), num_texts)
        members.setdefault(group, []).append((lines.texts[text].split(), int(num_lines[place])))
    yield from members.items()


def _common_sequence(members: list[Member], common: set[str]) -> tuple[str, ...]:
    """The most frequent sequence of the lines' common words; ties go to the earlier one."""
    sequences: Counter[tuple[str, ...]] = Counter()
    for words, num_lines in members:
        sequences[tuple(word for word in words if word in common)] += num_lines
    return max(sequences, key=sequences.__getitem__)


def _compat_template(members: list[Member]) -> str:
    """The common words alone; a word that a line repeats counts as often as it stands there."""
    occurrences: Counter[str] = Counter()
    for words, num_lines in members:
        for word in words:
            occurrences[word] += num_lines
    size = sum(num_lines for _, num_lines in members)
    return " ".join(_common_sequence(members, {word for word, count in occurrences.items() if 2 * count >= size}))


def _fixed_template(members: list[Member]) -> str:
    """The common words, with wildcards where lines of that sequence have other words.

    As many wildcards as there are other words when all these lines agree, else one.
    """
    lines_of_word: Counter[str] = Counter()
    for words, num_lines in members:
        for word in set(words) - {WILDCARD}:
            lines_of_word[word] += num_lines
    size = sum(num_lines for _, num_lines in members)
    common = {word for word, count in lines_of_word.items() if 2 * count >= size}
    sequence = _common_sequence(members, common)
    gaps: list[set[int]] = [set() for _ in range(len(sequence) + 1)]
    for words, _ in members:
        kept = [position for position, word in enumerate(words) if word in common]
        if tuple(words[position] for position in kept) == sequence:
            for gap, (left, right) in enumerate(zip([-1, *kept], [*kept, len(words)], strict=True)):
                gaps[gap].add(right - left - 1)
    pieces: list[str] = []
    for gap, others in enumerate(gaps):
        pieces.extend([WILDCARD] * (others.pop() if len(others) == 1 else 1))
        pieces.extend(sequence[gap : gap + 1])
    return " ".join(pieces)


@PARSERS.register("LogSig")
class LogSig(Parser):
    """LogSig, offline: a local search over partitions of the lines into a given number of groups.

    Every line starts in a random group. Sweeps in line order move each line to the group where it gains most, until a
    sweep moves nothing. A group's template is the most frequent sequence of the words that at least half of it has.

    Compat keeps these quirks of the reference, mended in fixed mode:

    * masks are substituted by nothing, and the words left out of a template leave no trace; fixed writes wildcards;
    * the gain of a move is estimated from the line's own pairs, the own group taking part as if the line joined it
      once more; fixed uses the exact gain of the paper's potential, sum over groups and pairs of n(r)**3 / N**2, so
      that every move raises it;
    * a pair or word that a line repeats counts as often as it stands there; fixed counts lines.

    Only the first 1,000 words of a line form pairs. Cost: sweeps x lines x groups x bundles of pairs in a line. Memory:
    about 60 bytes for every word pair of every distinct line, and four for every group and bundle.

    Args:
        group_num: number of groups to start from; at least 1.
        mode: "compat" or "fixed".
        masks: see `Parser`.
        seed: of the random start.

    >>> lines = ["open a now", "open b now", "open c now", "closed port 1", "closed port 2", "closed port 3"]
    >>> sorted(LogSig(group_num=2).parse(lines).templates)
    ['closed port <*>', 'open <*> now']

    Raises:
        InputError: `group_num` is less than 1.
    """

    def __init__(self, *, group_num: int = 40, mode: Mode = "fixed", masks: Sequence[str] = (), seed: int = 0) -> None:
        super().__init__(mode=mode, masks=masks, seed=seed)
        if group_num < 1:
            raise InputError(f"LogSig: group_num is {group_num}; it must be 1 or more")
        self.group_num = group_num

    def parse(self, contents: Sequence[str]) -> Parsed:
        """Give every line the template of the group it ends in."""
        compat = self.mode == "compat"
        lines = Masker(self.masks, "" if compat else WILDCARD).distinct(contents)
        draw = random.Random(self.seed).randint
        group_of_line = np.fromiter((draw(0, self.group_num - 1) for _ in contents), np.int64, len(contents))
        pairs = count_pairs(lines.texts, lines.counts, repeated=compat)
        text_of_line = lines.index_of_line.astype(np.int64)
        regroup(text_of_line, pairs, group_of_line, self.group_num, by_potential=not compat)
        template_of = {
            group: _compat_template(members) if compat else _fixed_template(members)
            for group, members in _members(lines, group_of_line)
        }
        return Parsed.from_groups(group_of_line, [template_of.get(group, "") for group in range(self.group_num)])
