"""AEL: bins of equal shape, then greedy merging of the events in a bin that differ in few words.

Jiang, Hassan, Flora, Hamann: "Abstracting Execution Logs to Execution Events for Enterprise Applications", QSIC 2008.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.logs.parsers.base import PARSERS, WILDCARD, Mode, Parsed, Parser
from nonet.logs.parsers.masking import Masker


def _most_differences(num_tokens: int, merge_percent: float) -> int:
    """The largest number of differing tokens whose share is still within `merge_percent`."""
    return max(count for count in range(num_tokens + 1) if count == 0 or count / num_tokens <= merge_percent)


def _greedy_groups(tokens: NDArray[np.int32], most_differences: int) -> list[NDArray[np.intp]]:
    """Group the rows of one bin: each free row leads a group of the later free rows that differ a little from it.

    Args:
        tokens: token numbers, shape (events, tokens).
        most_differences: largest number of differing tokens; a row that does not differ at all is an event of its own.

    Returns:
        For every group its row numbers, leader first.
    """
    free = np.arange(len(tokens))
    groups = []
    while len(free):
        leader, free = free[0], free[1:]
        num_different = (tokens[free] != tokens[leader]).sum(axis=1)
        joins = (num_different > 0) & (num_different <= most_differences)
        groups.append(np.concatenate(([leader], free[joins])))
        free = free[~joins]
    return groups


@PARSERS.register("AEL")
class AEL(Parser):
    """AEL, offline: anonymise (masks), tokenise, categorise (equal lines are one event), reconcile (merge in a bin).

    Bins are keyed by the number of tokens and the number of tokens that are wildcards.

    Mode "compat": lines that differ in runs of blanks only are different events, and an event that was not merged keeps
    its blanks in the template.
    Mode "fixed": runs of blanks count as one blank everywhere.

    Cost: events of a bin times its groups. Memory: the distinct masked lines.

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
            if len(group) == 1:
                continue
            varies = (tokens[group] != tokens[group[0]]).any(axis=0)
            words = templates[members[group[0]]].split()
            template = " ".join(WILDCARD if varied else word for word, varied in zip(words, varies, strict=True))
            for row in group:
                templates[members[row]] = template
