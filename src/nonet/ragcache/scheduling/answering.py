"""Generated tokens to text that can be shown: whole characters only, and nothing that may turn out a stop text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class TextDecoder(Protocol):
    """Turns tokens into text as they come."""

    def push(self, token_id: int) -> str:
        """The text that is complete with this token."""
        ...


class Answer:
    """The text of one answer.

    Args:
        decoder: of the tokenizer.
        stops: texts that end the answer and are not part of it.

    >>> class Letters:
    ...     def push(self, token_id):
    ...         return chr(token_id)
    >>> answer = Answer(Letters(), ["END"])
    >>> [answer.push(ord(c)) for c in "fine ENOUGH"], answer.rest()
    (['f', 'i', 'n', 'e', ' ', '', '', 'ENO', 'U', 'G', 'H'], '')
    >>> answer = Answer(Letters(), ["END"])
    >>> "".join(answer.push(ord(c)) for c in "the END of it"), answer.stopped
    ('the ', True)
    >>> answer = Answer(Letters(), ["END"])
    >>> "".join(answer.push(ord(c), may_stop=n > 4) for n, c in enumerate("END ENDEND")), answer.stopped
    ('END END', True)
    """

    def __init__(self, decoder: TextDecoder, stops: Sequence[str] = ()) -> None:
        self._decoder, self._stops = decoder, tuple(stops)
        self._held = ""
        self.stopped = False
        """Whether a stop text has come."""

    def push(self, token_id: int, *, may_stop: bool = True) -> str:
        """Take a token; gives the text that can be shown now.

        Args:
            token_id: the next one; nothing is shown after a stop text.
            may_stop: False shows all text so far, in which no stop text is looked for then or later.
        """
        if self.stopped:
            return ""
        self._held += self._decoder.push(token_id)
        if not may_stop:
            return self.rest()
        places = [place for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if places:
            self.stopped = True
            shown, self._held = self._held[: min(places)], ""
            return shown
        keep = self._begun()
        shown, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return shown

    def rest(self) -> str:
        """What was held back, once no token will come."""
        rest, self._held = self._held, ""
        return rest

    def _begun(self) -> int:
        # Length of the longest end of the held text that is the beginning of a stop text.
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        for size in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-size:]) for stop in self._stops):
                return size
        return 0
