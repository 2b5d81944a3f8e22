"""Slices of the ground truth: which templates a granular score looks at (Loghub-2.0, RQ3).

Two families, written the way the command line takes them:

* by parameters, the number of `<*>` in the template: `params:0`, `params:1-4`, `params:5+`;
* by frequency: `rare:10` is the 10 % of the templates with the fewest lines, `frequent:10` the 10 % with the most.
  Templates are put in ascending order of their number of lines, equal numbers in ascending order of the text (so the
  slice does not depend on the order of the input); n = floor(number of templates * q / 100) are taken from either end.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError

WILDCARD = "<*>"
_PARAMS = re.compile(r"params:(\d+)(?:-(\d+)|(\+))?")
_FREQUENCY = re.compile(r"(rare|frequent):(\d+)")


@dataclass(frozen=True, slots=True)
class Slice:
    """A set of ground-truth templates, chosen by a rule.

    Attributes:
        family: "params" (low..high wildcards, high None = no upper bound), "rare" or "frequent" (low = per cent).
        low: lower bound of the wildcards, or the percentage.
        high: upper bound of the wildcards; None otherwise.

    >>> Slice.parse("params:1-4").mask(["a", "a <*>", "<*> b <*>"], np.array([3, 2, 1])).tolist()
    [False, True, True]
    >>> Slice.parse("rare:50").mask(["c", "b", "a", "d"], np.array([7, 1, 1, 9])).tolist()
    [False, True, True, False]
    """

    family: Literal["params", "rare", "frequent"]
    low: int
    high: int | None = None

    @classmethod
    def parse(cls, text: str) -> Slice:
        """Read `params:N`, `params:LOW-HIGH`, `params:LOW+`, `rare:Q` or `frequent:Q`; else `InputError`."""
        if match := _PARAMS.fullmatch(text):
            low = int(match[1])
            high = None if match[3] else int(match[2] or low)
            if high is not None and high < low:
                raise InputError(f"slice {text!r}: the upper bound is below the lower one")
            return cls("params", low, high)
        if match := _FREQUENCY.fullmatch(text):
            if not 0 < int(match[2]) <= 100:
                raise InputError(f"slice {text!r}: the percentage must be 1 to 100")
            return cls("rare" if match[1] == "rare" else "frequent", int(match[2]))
        raise InputError(f"slice {text!r}: expected params:0, params:1-4, params:5+, rare:10 or frequent:10")

    @property
    def name(self) -> str:
        """The text that `parse` reads.

        >>> Slice("params", 5).name, Slice("params", 0, 0).name, Slice("rare", 10).name
        ('params:5+', 'params:0', 'rare:10')
        """
        if self.family != "params":
            return f"{self.family}:{self.low}"
        if self.high is None:
            return f"params:{self.low}+"
        return f"params:{self.low}" if self.high == self.low else f"params:{self.low}-{self.high}"

    def mask(self, templates: Sequence[str], num_lines: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of the distinct ground-truth `templates`, with `num_lines` lines each, belong to the slice."""
        if self.family == "params":
            wildcards = np.fromiter((t.count(WILDCARD) for t in templates), np.int64, len(templates))
            inside = wildcards >= self.low
            return inside if self.high is None else inside & (wildcards <= self.high)
        order = sorted(range(len(templates)), key=lambda i: (num_lines[i], templates[i]))
        n = len(order) * self.low // 100
        chosen = order[:n] if self.family == "rare" else order[len(order) - n :]
        inside = np.zeros(len(templates), np.bool_)
        inside[chosen] = True
        return inside


PARAMETER_SLICES = ("params:0", "params:1-4", "params:5+")
FREQUENCY_SLICES = ("rare:5", "rare:10", "rare:20", "frequent:5", "frequent:10", "frequent:20")
PAPER_SLICES = PARAMETER_SLICES + FREQUENCY_SLICES
"""The slices of the paper's granular evaluation."""


def parse_slices(names: Sequence[str] | None) -> tuple[Slice, ...]:
    """Read a list of slice names; None means the paper's nine."""
    return tuple(Slice.parse(name) for name in (PAPER_SLICES if names is None else names))
