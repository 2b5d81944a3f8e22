"""Dead letters: events that could not be joined, as they came, with the reason."""

from __future__ import annotations

import msgspec

from nonet.common.errors import InputError

REASONS = {
    "poison": "not an event in MessagePack, or a time before 1970",
    "huge_id": "request and item are longer than `max_id_bytes`",
    "huge_event": "an event is longer than `max_event_bytes`",
    "future_timestamp": "a time too far ahead of the clock on the wall",
    "late_feature": "a row that came when rows of its time had been forgotten: it may have been there before",
    "no_feature": "an action whose row did not come, or was shown too long before",
    "parked_full": "an action whose row has not come, while `max_parked` others wait",
    "too_many_actions": "a row has had `max_actions` already",
}
"""Why, by name."""


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """An event that could not be joined.

    Attributes:
        reason: one of `REASONS`.
        detail: more about it; may be empty.
        topic: where it was read.
        partition: likewise; -1 for an action that had been parked.
        offset: likewise.
        payload: the event as it came; cut if it is huge.
    """

    reason: str
    topic: str
    payload: bytes
    detail: str = ""
    partition: int = -1
    offset: int = -1


encode_letter = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(DeadLetter)


def decode_letter(payload: bytes) -> DeadLetter:
    """A dead letter from its record on the log.

    Raises:
        InputError: it is none.

    >>> letter = DeadLetter(reason="poison", topic="actions", payload=b"?")
    >>> decode_letter(encode_letter(letter)) == letter
    True
    """
    try:
        return _decoder.decode(payload)
    except msgspec.DecodeError as error:
        raise InputError(f"not a dead letter: {error}") from error
