"""Which steps to run, to find the largest one such that it and all smaller ones hold, without running them all.

Bisection in `sections` at once, so that several cores have work, then a check of what it took for granted:

* A step that failed bounds the answer; of the steps below, the largest that held is the lower end. The steps between
  are divided until an answer is next to a failure.
* The steps below the answer are then run one after the other: at least `neighbours` of them, and further as long as
  the last one held only by a small margin (`close`). When one fails, the search goes on below it.

The answer is that of a scan of all steps, unless a step that was never run would fail. Such a step lies more than
`neighbours` below the answer with only steps that hold by a wide margin beside it: what is assumed is that a row does
not turn from holding easily to failing and back within one interval of steps that were left out. Steps that were run
never contradict the answer.
"""

from __future__ import annotations

from nonet.common.errors import InputError


class PrefixSearch:
    """The search over steps 0 to `num_steps` - 1; a pure state machine: `wanted`, then `tell`, until nothing is wanted.

    Args:
        num_steps: how many steps there are.
        sections: parts into which an open interval is cut at once; 2 is bisection.
        neighbours: steps below the answer that are always run.

    >>> search = PrefixSearch(21, sections=2)
    >>> while steps := search.wanted():
    ...     for step in steps:
    ...         search.tell(step, holds=step <= 12)
    >>> search.answer, len(search.known)
    (12, 7)
    """

    def __init__(self, num_steps: int, *, sections: int = 2, neighbours: int = 2) -> None:
        if num_steps < 1 or sections < 2 or neighbours < 0:
            raise InputError("search: needs at least one step, two sections and no negative number of neighbours")
        self.num_steps, self.sections, self.neighbours = num_steps, sections, neighbours
        self.known: dict[int, tuple[bool, bool]] = {}

    def tell(self, step: int, holds: bool, close: bool = False) -> None:
        """The outcome of a step; `close` when it held by a small margin only."""
        self.known[step] = (holds, close)

    @property
    def answer(self) -> int:
        """The largest step known to hold below the first known failure; -1 when step 0 fails."""
        below = self._first_failure()
        return max((step for step, (holds, _) in self.known.items() if holds and step < below), default=-1)

    def wanted(self) -> list[int]:
        """Steps to run next, ascending; empty when the answer stands."""
        if not self.known:
            return self._cut(-1, self.num_steps, with_ends=True)
        above, answer = self._first_failure(), self.answer
        if above - answer > 1:
            return self._cut(answer, above)
        return self._unchecked(answer)

    def _first_failure(self) -> int:
        return min((step for step, (holds, _) in self.known.items() if not holds), default=self.num_steps)

    def _cut(self, low: int, high: int, with_ends: bool = False) -> list[int]:
        first, last = (low + 1, high - 1) if with_ends else (low, high)
        places = {first + (last - first) * i // self.sections for i in range(self.sections + 1)}
        inside = {place for place in places if low < place < high}
        return sorted(inside or {low + 1})

    def _unchecked(self, answer: int) -> list[int]:
        found: list[int] = []
        for step in range(answer - 1, -1, -1):
            if answer - step > self.neighbours:
                holds_closely = self.known.get(step + 1, (True, False))[1]
                if not holds_closely:
                    break
            if step not in self.known:
                found.append(step)
                if len(found) >= max(1, self.neighbours):
                    break
        return sorted(found)
