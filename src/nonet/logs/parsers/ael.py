"""AEL: bins of equal shape, then greedy merging of the events in a bin that differ in few words.

Jiang, Hassan, Flora, Hamann: "Abstracting Execution Logs to Execution Events for Enterprise Applications", QSIC 2008.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.logs.parsers.base import PARSERS, WILDCARD, Mode, Parsed, Parser
from nonet.logs.parsers.masking import Masker


def _most_differences(num_tokens: int, merge_percent: float) -> int:
    """The largest number of differing tokens whose share is still within `merge_percent`."""
    return max(count for count in range(num_tokens + 1) if count == 0 or count / num_tokens <= merge_percent)


def _block_keys(tokens: NDArray[np.int32], num_blocks: int) -> NDArray[np.int32]:
    """Columns dealt to blocks, and every row's number of what it has there; shape (blocks, rows).

    With more blocks than columns the last blocks are empty, and all rows agree there.

    The columns with most different tokens are dealt first, so each block tells rows apart as well as it can.
    """
    keys = np.zeros((num_blocks, len(tokens)), np.int32)
    by_variety = np.argsort([-len(np.unique(column)) for column in tokens.T], kind="stable")
    for at, column in enumerate(by_variety):
        key, token = keys[at % num_blocks], tokens[:, column].astype(np.int64)
        key[:] = np.unique(key * (token.max() + 1) + token, return_inverse=True)[1]
    return keys


@njit(cache=True, nogil=True)
def _num_different(left: NDArray[np.int32], right: NDArray[np.int32], most: int) -> int:
    """Number of differing tokens, or `most` + 1 if there are more."""
    different = 0
    for column in range(len(left)):
        if left[column] != right[column]:
            different += 1
            if different > most:
                break
    return different


@njit(cache=True, nogil=True)
def _leader_of_row(
    tokens: NDArray[np.int32], keys: NDArray[np.int32], num_keys: int, most_differences: int
) -> NDArray[np.int32]:
    """For every row the first leader that differs from it a little, itself if there is none.

    Leaders stand in one chain for each block and key, ascending; only chains of the row's own keys are walked.
    """
    num_blocks, num_rows = keys.shape
    first = np.full((num_blocks, num_keys), -1, np.int32)
    last = np.full((num_blocks, num_keys), -1, np.int32)
    following = np.full((num_blocks, num_rows), -1, np.int32)
    leaders = np.empty(num_rows, np.int32)
    for row in range(num_rows):
        best = row
        for block in range(num_blocks):
            leader = first[block, keys[block, row]]
            while leader != -1 and leader < best:
                different = _num_different(tokens[leader], tokens[row], most_differences)
                if 0 < different <= most_differences:
                    best = leader
                    break
                leader = following[block, leader]
        leaders[row] = best
        if best == row:
            for block in range(num_blocks):
                key = keys[block, row]
                if last[block, key] == -1:
                    first[block, key] = row
                else:
                    following[block, last[block, key]] = row
                last[block, key] = row
    return leaders


def _greedy_groups(tokens: NDArray[np.int32], most_differences: int) -> list[NDArray[np.intp]]:
    """Group the rows of one bin: each free row leads a group of the later free rows that differ a little from it.

    Seen from a row: it joins the first leader that it differs from a little, or leads. Rows that differ in at most d
    columns agree in one of d + 1 blocks of columns at least, so leaders are looked up by what stands in a block.

    Args:
        tokens: token numbers, shape (events, tokens).
        most_differences: largest number of differing tokens; a row that does not differ at all is an event of its own.

    Returns:
        The row numbers of every group of two rows at least, leader first.
    """
    if not most_differences:
        return []
    keys = _block_keys(tokens, most_differences + 1)
    leaders = _leader_of_row(tokens, keys, int(keys.max()) + 1, most_differences)
    order = np.argsort(leaders, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(leaders[order])) + 1)
    return [group for group in groups if len(group) > 1]


@PARSERS.register("AEL")
class AEL(Parser):
    """AEL, offline: anonymise (masks), tokenise, categorise (equal lines are one event), reconcile (merge in a bin).

    Bins are keyed by the number of tokens and the number of tokens that are wildcards.

    Mode "compat": lines that differ in runs of blanks only are different events, and an event that was not merged keeps
    its blanks in the template.
    Mode "fixed": runs of blanks count as one blank everywhere.

    Cost: an event is compared with the groups of its bin that share a block of its words: near linear, unless many
    groups that do not merge have a block in common. Memory: the distinct masked lines, a few times over.

    Args:
        min_event_count: a bin is reconciled when it has more events than this, at least 0.
        merge_percent: largest share of differing tokens for a merge, in [0, 1].
        mode: see above.
        masks: see `Parser`.
        seed: unused; nothing is random.

    >>> AEL(min_event_count=1, merge_percent=0.5).parse(["disk sda full", "disk sdb full", "up"]).templates
    ['disk <*> full', 'up']
    """

    templates_match_lines = True

    def __init__(
        self,
        *,
        min_event_count: int = 2,
        merge_percent: float = 0.4,
        mode: Mode = "fixed",
        masks: Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        super().__init__(mode=mode, masks=masks, seed=seed)
        if min_event_count < 0:
            raise InputError(f"AEL: min_event_count is at least 0, not {min_event_count}")
        if not 0 <= merge_percent <= 1:
            raise InputError(f"AEL: merge_percent is a share in [0, 1], not {merge_percent}")
        self.min_event_count = min_event_count
        self.merge_percent = merge_percent

    def parse(self, contents: Sequence[str]) -> Parsed:
        """Give every line the template of the event that it ended in."""
        lines = Masker(self.masks).distinct(contents)
        events = lines.texts
        event_of_text = np.arange(len(events), dtype=np.int32)
        if self.mode == "fixed":
            index: dict[str, int] = {}
            joined = (" ".join(text.split()) for text in events)
            event_of_text = np.array([index.setdefault(text, len(index)) for text in joined], np.int32)
            events = list(index)
        templates = self._reconcile(events)
        return Parsed.from_groups(event_of_text[lines.index_of_line], templates)

    def _reconcile(self, events: list[str]) -> list[str]:
        """The template of every event (a distinct line)."""
        bins: dict[tuple[int, int], list[int]] = {}
        for number, event in enumerate(events):
            tokens = event.split()
            bins.setdefault((len(tokens), tokens.count(WILDCARD)), []).append(number)
        templates = list(events)
        for (num_tokens, _), members in bins.items():
            if len(members) > self.min_event_count and num_tokens:
                self._merge_bin(members, num_tokens, templates)
        return templates

    def _merge_bin(self, members: list[int], num_tokens: int, templates: list[str]) -> None:
        """Merge the events of one bin, writing the merged templates."""
        number_of: dict[str, int] = {}
        numbers = (
            number_of.setdefault(token, len(number_of)) for event in members for token in templates[event].split()
        )
        tokens = np.fromiter(numbers, np.int32, len(members) * num_tokens).reshape(len(members), num_tokens)
        for group in _greedy_groups(tokens, _most_differences(num_tokens, self.merge_percent)):
            varies = (tokens[group] != tokens[group[0]]).any(axis=0)
            words = templates[members[group[0]]].split()
            template = " ".join(WILDCARD if varied else word for word, varied in zip(words, varies, strict=True))
            for row in group:
                templates[members[row]] = template
