"""Events in JSON, for producers that know neither MessagePack nor how ids are made.

A MessagePack map never begins with the byte of `{`, so a topic may carry both. What was shown names raw values, which
become ids here: `{"request_id": "r1", "item_id": "i7", "ts_ms": 1700000000000, "values": {"user": "u17", "genre":
["noir", "crime"]}}`; `ids` and `dense` are as in a `FeatureEvent`. The feature that names what is shown need not be
among them: it is `item_id`. An action has the fields of an `ActionEvent`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from nonet.common.errors import InputError
from nonet.recsys.example import ActionEvent, FeatureEvent
from nonet.recsys.features.encoder import FeatureEncoder, ids_of_values

_BRACE = b"{"


class _Shown(msgspec.Struct, frozen=True, kw_only=True):
    request_id: str
    item_id: str
    ts_ms: int
    values: dict[str, Any] = {}
    ids: dict[str, list[int]] = {}
    dense: list[float] = []


class _Done(msgspec.Struct, frozen=True, kw_only=True):
    request_id: str
    item_id: str
    ts_ms: int
    action: str = "click"
    value: float = 1.0


def is_json(payload: bytes) -> bool:
    """Whether a payload is JSON rather than MessagePack."""
    return payload[:1] == _BRACE


def shown_from_json(payload: bytes, encoders: Mapping[str, FeatureEncoder], item: str | None = None) -> FeatureEvent:
    """What was shown; fields and features that are not known are passed over, as a schema that grew has them.

    Args:
        payload: JSON.
        encoders: by feature, of raw values.
        item: the feature that names what is shown; an event without it has its `item_id` there.

    Raises:
        msgspec.DecodeError: not such an event.
        InputError: raw values without encoders, or one that has no id.

    >>> text = b'{"request_id": "r1", "item_id": "i7", "ts_ms": 5, "values": {"user": "u17", "new": 1}}'
    >>> shown_from_json(text, {"user": FeatureEncoder("user", 1)}).ids["user"][0] >> 48
    1
    """
    event = msgspec.json.decode(payload, type=_Shown)
    if event.values and not encoders:
        raise InputError("raw values, but this joiner was given no encoders; send ids, or give it some")
    values = {name: value for name, value in event.values.items() if name in encoders}
    if item is not None and item in encoders and item not in values and item not in event.ids:
        values[item] = event.item_id
    ids = {**event.ids, **ids_of_values(encoders, values)}
    return FeatureEvent(
        request_id=event.request_id.encode(),
        item_id=event.item_id.encode(),
        ts_ms=event.ts_ms,
        ids=ids,
        dense=event.dense,
    )


def done_from_json(payload: bytes) -> ActionEvent:
    """What somebody did.

    Raises:
        msgspec.DecodeError: not such an event.
    """
    event = msgspec.json.decode(payload, type=_Done)
    return ActionEvent(
        request_id=event.request_id.encode(),
        item_id=event.item_id.encode(),
        ts_ms=event.ts_ms,
        action=event.action,
        value=event.value,
    )
