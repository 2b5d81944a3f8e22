"""Events as they come in: decoded and checked by the batch; what cannot be joined becomes a dead letter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any

import msgspec
from xxhash import xxh3_128_digest as digest

from nonet.common.errors import InputError
from nonet.recsys.example import ActionEvent, FeatureEvent, encode
from nonet.recsys.features.encoder import FeatureEncoder
from nonet.recsys.joining.dead_letters import DeadLetter, encode_letter
from nonet.recsys.joining.json_events import done_from_json, is_json, shown_from_json
from nonet.recsys.joining.outbox import Outbox
from nonet.recsys.joining.settings import JoinCounts, Joining
from nonet.recsys.logs import Batch, Record
from nonet.recsys.logs.log import Position

Arrival = tuple[bytes, Any, Record, int]
"""Key, event, record and offset. The key is 16 bytes, the xxh3 of request and item; two keys in 10^12 rows are equal
with a probability of 10^-15."""

_BAD_PAYLOAD = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, InputError)


# Half a million objects a second that cannot be part of a cycle: the collector need not look at them.
class _Shown(FeatureEvent, frozen=True, kw_only=True, gc=False):
    ids: dict[str, list[Annotated[int, msgspec.Meta(le=(1 << 63) - 1)]]] = {}  # noqa: RUF012


class _Done(ActionEvent, frozen=True, kw_only=True, gc=False):
    pass


_decode_feature = msgspec.msgpack.Decoder(_Shown).decode
_decode_action = msgspec.msgpack.Decoder(_Done).decode


class Intake:
    """Checks what comes in.

    Args:
        joining: settings.
        outbox: where dead letters go.
        counts: to count them in.
        encoders: by feature, of raw values in JSON.
        item: the feature that names what is shown.
    """

    def __init__(
        self,
        joining: Joining,
        outbox: Outbox,
        counts: JoinCounts,
        encoders: Mapping[str, FeatureEncoder],
        item: str | None = None,
    ) -> None:
        self._joining = joining
        self._outbox = outbox
        self._counts = counts
        self._shown_from_json = partial(shown_from_json, encoders=encoders, item=item)
        self._small_bytes = min(joining.max_id_bytes, joining.max_event_bytes)

    def features(self, at: Position, batch: Batch, latest_ms: int) -> list[Arrival]:
        """The feature events of a batch that are sound.

        Args:
            at: topic and partition.
            batch: read there.
            latest_ms: a later time lies in the future.
        """
        return self._sound(at, batch, latest_ms, _decode_feature, self._shown_from_json)

    def actions(self, at: Position, batch: Batch, latest_ms: int) -> list[Arrival]:
        """The action events of a batch that are sound, likewise."""
        return self._sound(at, batch, latest_ms, _decode_action, done_from_json)

    def _sound(
        self,
        at: Position,
        batch: Batch,
        latest_ms: int,
        decode: Callable[[bytes], Any],
        from_json: Callable[[bytes], Any],
    ) -> list[Arrival]:
        records, offsets = batch.records, batch.offsets
        try:
            events = [decode(record[1]) for record in records]
        except _BAD_PAYLOAD:
            records, offsets, events = self._decoded_each(at, batch, decode, from_json)
        keys = [digest(event.request_id + event.item_id, len(event.request_id)) for event in events]
        arrivals = list(zip(keys, events, records, offsets, strict=True))
        times = [event.ts_ms for event in events]
        if events and (
            max(times) > latest_ms or min(times) < 0 or max([len(record[1]) for record in records]) > self._small_bytes
        ):
            return [one for one in arrivals if not self._is_bad(at, *one[1:], latest_ms)]
        return arrivals

    def _decoded_each(
        self, at: Position, batch: Batch, decode: Callable[[bytes], Any], from_json: Callable[[bytes], Any]
    ) -> tuple[list[Record], list[int], list[Any]]:
        """Records, offsets and events of those that can be decoded; the others become dead letters.

        What came as JSON goes on as MessagePack: rows that wait are kept as their payloads.
        """
        records, offsets, events = [], [], []
        for record, offset in zip(batch.records, batch.offsets, strict=True):
            kept = record
            try:
                if is_json(record.payload):
                    kept = record._replace(payload=encode(from_json(record.payload)))
                events.append(decode(kept.payload))
            except _BAD_PAYLOAD as error:
                self.bury("poison", at, record, offset, str(error))
            else:
                records.append(kept)
                offsets.append(offset)
        return records, offsets, events

    def _is_bad(self, at: Position, event: Any, record: Record, offset: int, latest_ms: int) -> bool:
        """Whether an event is out of range; then it becomes a dead letter."""
        if len(record.payload) > self._joining.max_event_bytes:
            self.bury("huge_event", at, record, offset)
        elif len(event.request_id) + len(event.item_id) > self._joining.max_id_bytes:
            self.bury("huge_id", at, record, offset)
        elif event.ts_ms > latest_ms:
            self.bury("future_timestamp", at, record, offset)
        elif event.ts_ms < 0:
            self.bury("poison", at, record, offset, "ts_ms is below 0")
        else:
            return False
        return True

    def orphan(self, ts_ms: int, payload: bytes) -> None:
        """An action without a row becomes a dead letter.

        Args:
            ts_ms: its time.
            payload: the event.
        """
        self._counts.orphans += 1
        self._write(DeadLetter(reason="no_feature", topic=self._joining.actions, payload=payload), b"", ts_ms)

    def bury(self, reason: str, at: Position, record: Record, offset: int, detail: str = "") -> None:
        """An event becomes a dead letter.

        Args:
            reason: one of `REASONS`.
            at: where it was read.
            record: it.
            offset: likewise.
            detail: more about it.
        """
        payload = record.payload[: self._joining.max_event_bytes]
        letter = DeadLetter(reason=reason, topic=at[0], payload=payload, detail=detail, partition=at[1], offset=offset)
        self._write(letter, record.key, record.ts_ms)

    def _write(self, letter: DeadLetter, key: bytes, ts_ms: int) -> None:
        self._counts.dead_letters += 1
        self._outbox.write(self._joining.dead_letters, key, encode_letter(letter), ts_ms)
