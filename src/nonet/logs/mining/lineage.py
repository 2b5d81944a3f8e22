"""Lineage: what became of template ids when the miner learned more, so that earlier lines can be relabelled."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Change = Literal["renamed", "merged", "split"]


@dataclass(frozen=True, slots=True)
class Event:
    """One template id that ended, and the ids its lines have now.

    Attributes:
        at_line: lines learned when it happened.
        change: "renamed" (one heir, that had no other parent), "merged" (one heir with several parents) or "split".
        old_id: the id that ended.
        new_ids: its heirs, sorted; more than one only for a split.
    """

    at_line: int
    change: Change
    old_id: str
    new_ids: tuple[str, ...]


class Lineage:
    """Append-only list of events with a resolver.

    Args:
        events: the events so far.
        num_recorded: see below; None for the number of `events`.

    Attributes:
        num_recorded: events ever recorded, forgotten ones included. It is the clock of `since` and `resolve`.

    >>> lineage = Lineage()
    >>> lineage.record(10, {"shape 1": "a", "shape 2": "b"}, {"shape 1": "c", "shape 2": "c"})
    >>> [(e.change, e.old_id, e.new_ids) for e in lineage]
    [('merged', 'a', ('c',)), ('merged', 'b', ('c',))]
    >>> lineage.resolve("a")
    ('c',)
    """

    def __init__(self, events: Iterable[Event] = (), num_recorded: int | None = None) -> None:
        self._events = list(events)
        self.num_recorded = len(self._events) if num_recorded is None else num_recorded

    def __iter__(self) -> Iterator[Event]:
        return iter(self._events)

    def __len__(self) -> int:
        return len(self._events)

    def record(self, at_line: int, before: Mapping[Any, str], after: Mapping[Any, str]) -> None:
        """Compare two labellings (shape -> template id) and append an event for every id that ended."""
        heirs: defaultdict[str, set[str]] = defaultdict(set)
        parents: defaultdict[str, set[str]] = defaultdict(set)
        for shape, old in before.items():
            new = after.get(shape)
            if new is not None:
                heirs[old].add(new)
                parents[new].add(old)
        alive = set(after.values())
        for old in sorted(heirs):
            new_ids = tuple(sorted(heirs[old]))
            if old in alive and new_ids == (old,):
                continue
            change: Change = "split" if len(new_ids) > 1 else "merged" if len(parents[new_ids[0]]) > 1 else "renamed"
            self._events.append(Event(at_line, change, old, new_ids))
            self.num_recorded += 1

    def record_move(self, at_line: int, old_id: str, new_id: str, some_stay: bool, some_there: bool) -> None:
        """Append what became of an id when one shape left it.

        Args:
            at_line: lines learned.
            old_id, new_id: the ids of the shape before and after.
            some_stay: whether other shapes have the old id still.
            some_there: whether other shapes had the new id already.

        >>> lineage = Lineage()
        >>> lineage.record_move(5, "a", "b", some_stay=True, some_there=False)
        >>> lineage.since(0)
        [Event(at_line=5, change='split', old_id='a', new_ids=('a', 'b'))]
        """
        if some_stay:
            self._events.append(Event(at_line, "split", old_id, tuple(sorted((old_id, new_id)))))
        else:
            self._events.append(Event(at_line, "merged" if some_there else "renamed", old_id, (new_id,)))
        self.num_recorded += 1

    def since(self, num_recorded: int) -> list[Event]:
        """The events after the first `num_recorded` ever."""
        return self._events[max(0, num_recorded - self.num_recorded + len(self._events)) :]

    def keep_last(self, num_events: int) -> None:
        """Forget older events; `num_recorded` stays."""
        del self._events[: max(0, len(self._events) - num_events)]

    def resolve(self, old_id: str, given_at: int = 0) -> tuple[str, ...]:
        """The ids that a line once labelled `old_id` may have now; one unless it was split.

        Args:
            old_id: the id.
            given_at: `num_recorded` when the line got it. An id that ended can come back for other lines (the same text
                has the same id), and what became of them is another story; 0 tells of the first lines that had it.
        """
        current = {old_id}
        for event in self.since(given_at):
            if event.old_id in current:
                current.remove(event.old_id)
                current.update(event.new_ids)
        return tuple(sorted(current))
