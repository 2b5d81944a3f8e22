"""From a row's actions to its examples.

An example in MessagePack is the feature event with a few more fields at the end (defaults are left out), so it is made
by adding bytes, without decoding the features.
"""

from __future__ import annotations

import struct
from functools import lru_cache

from nonet.recsys.example import Example, FeatureEvent, decode, encode
from nonet.recsys.joining.labels import Label
from nonet.recsys.joining.outbox import Outbox
from nonet.recsys.joining.sampling import ConstantRate, is_kept
from nonet.recsys.joining.settings import JoinCounts, Joining
from nonet.recsys.joining.window import Row


class Settler:
    """Decides labels and writes examples.

    Args:
        joining: settings.
        outbox: where examples go.
        counts: to count in.
    """

    def __init__(self, joining: Joining, outbox: Outbox, counts: JoinCounts) -> None:
        self._labels = joining.labels
        self._outbox = outbox
        self._counts = counts
        self._kinds = joining.kinds()
        number = {kind: n for n, kind in enumerate(self._kinds)}
        self._label_kinds = [frozenset(number[kind] for kind in label.actions) for label in joining.labels]
        self._seeds = [joining.seed * 31 + n for n in range(len(joining.labels))]
        self.at_once = [n for n, label in enumerate(joining.labels) if label.late == "fake_negative"]
        """Labels whose negatives do not wait."""

    def settle(self, n: int, key: bytes, row: Row, feature: bytes) -> None:
        """A label's wait is over: its example goes out.

        Args:
            n: number of the label.
            key: of the row.
            row: its state, which is changed.
            feature: its event.
        """
        label = self._labels[n]
        row.done |= 1 << n
        if label.late != "fake_negative" and row.actions and self._has_positive(n, row, label.wait_ms):
            row.positive |= 1 << n
            self._counts.positives += 1
            self._write(label, key, row, feature, _added(1.0, 1.0, self._shift_rate(label, row, feature), False))
            return
        rate = self._rate(label, row, feature)
        if rate >= 1 or is_kept(key, rate, self._seeds[n]):
            self._write(label, key, row, feature, _added(0.0, 1.0, rate, False))
        else:
            self._counts.sampled_out += 1
        if row.actions:
            self.correct(n, key, row, feature)

    def correct(self, n: int, key: bytes, row: Row, feature: bytes) -> None:
        """A label's example is out: a late positive, if there is one, is dealt with, once."""
        label = self._labels[n]
        if row.positive >> n & 1 or not self._has_positive(n, row, label.horizon_ms):
            return
        row.positive |= 1 << n
        if label.late == "drop":
            self._counts.late_dropped += 1
        else:
            self._counts.corrections += 1
            rate = self._shift_rate(label, row, feature)
            self._write(label, key, row, feature, _added(1.0, label.correction_weight, rate, True))

    def _has_positive(self, n: int, row: Row, within_ms: int) -> bool:
        kinds, until_ms = self._label_kinds[n], row.ts_ms + within_ms
        return any(kind in kinds and ts_ms <= until_ms for kind, ts_ms in row.actions)

    def _rate(self, label: Label, row: Row, feature: bytes) -> float:
        sampling = label.sampling
        if isinstance(sampling, ConstantRate):
            return sampling.value
        ids = decode(feature, FeatureEvent).ids if sampling.reads_features else {}
        seen = {self._kinds[kind] for kind, ts_ms in row.actions if ts_ms <= row.ts_ms + label.wait_ms}
        return sampling.rate(ids, seen)

    def _shift_rate(self, label: Label, row: Row, feature: bytes) -> float:
        """What a positive carries: the rate of negatives like it; 1 where those are all dropped."""
        return self._rate(label, row, feature) or 1.0

    def _write(self, label: Label, key: bytes, row: Row, feature: bytes, added: tuple[int, bytes]) -> None:
        self._counts.examples += 1
        num, fields = added
        payload = bytes((feature[0] + num,)) + feature[1:] + fields if num else feature
        self._outbox.write(label.topic, key, payload, row.ts_ms)


def plain(event: FeatureEvent, payload: bytes) -> bytes:
    """A feature event's bytes with the known fields only, so that fields may be added.

    Args:
        event: decoded.
        payload: from it; given back if it is a short map of just the fields that differ from their defaults.
    """
    if payload[0] == 0x83 + bool(event.ids) + bool(event.dense):
        return payload
    return encode(event)


@lru_cache(maxsize=4096)
def _added(label: float, weight: float, sample_rate: float, is_correction: bool) -> tuple[int, bytes]:
    """Number and bytes of the fields of an example that differ from their defaults."""
    fields = {"label": label, "weight": weight, "sample_rate": sample_rate}
    defaults = Example(request_id=b"", item_id=b"", ts_ms=0)
    packed = [
        bytes((0xA0 + len(name),)) + name.encode() + b"\xcb" + struct.pack(">d", value)
        for name, value in fields.items()
        if value != getattr(defaults, name)
    ]
    if is_correction:
        packed.append(b"\xad" + b"is_correction" + b"\xc3")
    return len(packed), b"".join(packed)
