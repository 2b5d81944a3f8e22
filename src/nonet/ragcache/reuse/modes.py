"""Ways to serve a request: the published one, ours, and what both are compared with.

A mode says which stored variants may be used and how the rows to compute anew are chosen; all share one engine and,
where a share is given, one budget.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nonet.common.registry import Registry

DEFAULT_MODE = "guided"

Lookup = Literal["none", "prefix", "set", "any"]
Choice = Literal["none", "random", "received", "tau", "first", "question", "guided", "deviation"]
Split = Literal["overhead", "even", "request"]


@dataclass(frozen=True, slots=True)
class Mode:
    """A way to serve a request.

    Args:
        summary: one line.
        lookup: "none", "prefix" (exact prefixes only), "set" (those, after changing the chunks' order) or "any".
        choice: how rows are chosen: "none", "random", "received", "tau", "first", "question", "guided", "deviation".
        split: how the budget of a request is shared: by each chunk's fix "overhead", "even" (the same share of each
            chunk), or not at all ("request": all rows compete).
        carries: the other rows of a chunk follow the mean change of those that are repaired (`Sequence.follow`).
    """

    summary: str
    lookup: Lookup
    choice: Choice = "none"
    split: Split = "request"
    carries: bool = False

    @property
    def probe(self) -> Literal["", "question", "deviation"]:
        """What has to run before rows can be chosen."""
        if self.choice in ("question", "guided"):
            return "question"
        return "deviation" if self.choice == "deviation" else ""


MODES: Registry[Mode] = Registry("mode")
MODES.add("full", Mode("compute everything", "none"))
MODES.add("prefix", Mode("exact prefixes only, as prefix caches do", "prefix"))
MODES.add("set", Mode("exact prefixes, after ordering the chunks so that one matches", "set"))
MODES.add("reuse", Mode("take chunks over as they are, moved to their places", "any"))
MODES.add("random", Mode("repair rows drawn evenly", "any", "random"))
MODES.add("h2o", Mode("repair the rows that received most attention when stored (H2O)", "any", "received", "even"))
MODES.add("blend", Mode("repair the rows whose keys deviate most in the second layer (CacheBlend)", "any", "deviation"))
MODES.add("epic", Mode("repair the first rows of each chunk (EPIC)", "any", "first", "even"))
MODES.add("qsel", Mode("repair the rows that the question attends to most", "any", "question"))
MODES.add(
    "cachecraft",
    Mode("repair the rows that leant most on their old neighbours (Cache-Craft)", "any", "tau", "overhead"),
)
MODES.add(
    "guided",
    Mode(
        "repair rows that the question reads and that leant on old neighbours; let the others follow their change",
        "any",
        "guided",
        carries=True,
    ),
)
