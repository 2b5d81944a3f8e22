"""Apache OpenWhisk activation records.

`start` and `end` are milliseconds since 1970 and include the initialisation; the annotation `waitTime` is what passed
before (queue, and the container when one had to be made); `initTime` is there only when the container was new, so the
record itself says what was cold. Wait counts as allocation and initialisation as dependency; they are the total.
"""

from __future__ import annotations

import json
from typing import Any

from nonet.coldstart.importing.base import Intake
from nonet.coldstart.importing.duplicates import RecentKeys

_MS = 1000
_MAX_MS = 2**52


def run(intake: Intake) -> None:
    """Read every file."""
    keys = RecentKeys()
    for file in intake.each():
        reject = intake.refuse(file)
        for line, value in intake.values(file, ("rows", "docs", "activations")):
            record = value.get("doc") if isinstance(value.get("doc"), dict) else value
            reason = _read(intake, record or value, keys)
            if reason:
                reject(line, reason, json.dumps(record)[:300])


def _read(intake: Intake, record: dict[str, Any], keys: RecentKeys) -> str | None:
    notes = _annotations(record)
    start, end = _ms(record.get("start")), _ms(record.get("end"))
    if start is None:
        return "no start"
    name = notes.get("path") or "/".join(str(record.get(key) or "") for key in ("namespace", "name"))
    if not isinstance(name, str) or not name.strip("/"):
        return "no name of an action"
    if notes.get("kind") == "sequence" or "kind" not in notes:
        intake.warn("sequence, trigger or rule, which runs in no container")
        return None
    wait, init = _ms(notes.get("waitTime")), _ms(notes.get("initTime"))
    end = end or None  # 0 while it runs
    if min(wait or 0, init or 0) < 0 or (end is not None and end < start):
        return "negative duration"
    identity = str(record.get("activationId") or "")
    again = keys.seen(identity, (name, start, end)) if identity else ""
    if again == "same":
        return "the same activation a second time"
    intake.warn("activation id used more than once", int(again == "other"))
    _give(intake, record, notes, name, start, end, wait, init)
    return None


def _give(
    intake: Intake,
    record: dict[str, Any],
    notes: dict[str, Any],
    name: str,
    start: int,
    end: int | None,
    wait: int | None,
    init: int | None,
) -> None:
    arrive_us = (start - (wait or 0)) * _MS
    begin_us = (start + (init or 0)) * _MS
    end_us = None if end is None else end * _MS
    request = str(record.get("activationId") or "") or None
    intake.add(
        "request",
        arrive_us=arrive_us,
        start_us=begin_us if end_us is None else min(begin_us, end_us),
        end_us=end_us,
        function=name,
        cold=init is not None,
        request=request,
    )
    if init is not None:
        detail = {"kind": "on-demand", "init_us": init * _MS, "wait_us": (wait or 0) * _MS}
        intake.add(
            "coldstart",
            at_us=arrive_us,
            function=name,
            request=request,
            total_us=((wait or 0) + init) * _MS,
            allocation_us=(wait or 0) * _MS,
            code_us=0,
            dependency_us=init * _MS,
            scheduling_us=0,
            detail=json.dumps({**detail, "revision": record.get("version")}),
        )
    limits = notes.get("limits")
    limits = limits if isinstance(limits, dict) else {}
    intake.add(
        "function",
        function=name,
        user=str(record.get("namespace") or "") or None,
        runtime=str(notes["kind"]),
        memory_mb=_ms(limits.get("memory")),
        concurrency=_ms(limits.get("concurrency")),
    )


def _annotations(record: dict[str, Any]) -> dict[str, Any]:
    listed = record.get("annotations")
    if isinstance(listed, dict):
        return listed
    pairs = [item for item in listed or () if isinstance(item, dict)]
    return {str(item.get("key")): item.get("value") for item in pairs}


def _ms(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _MAX_MS:
        return None
    return round(value)
