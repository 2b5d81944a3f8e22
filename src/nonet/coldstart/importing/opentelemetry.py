"""OpenTelemetry spans in OTLP JSON, with the semantic conventions for functions (`faas.*`).

A span of kind SERVER or CONSUMER (or of no kind) with any `faas.` attribute is a request; `faas.coldstart` says whether
it was cold, and without it nobody knows. A span of the same trace whose name says that it is an initialisation gives
the length of the cold start, which a cold request waited for. Resource attributes name the function (`faas.name`, else
`service.name`), the region (`cloud.region`) and the instance (`faas.instance`, `k8s.pod.name`).
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from typing import Any

from nonet.coldstart.importing.base import Intake
from nonet.coldstart.importing.duplicates import RecentKeys

_INIT_NAME = re.compile(r"(.*[./ _-])?(init|initiali[sz]e|initiali[sz]ation|cold[ _-]?start)", re.IGNORECASE)
_REQUEST_KINDS = (
    None,
    0,
    1,
    2,
    5,
    "SPAN_KIND_SERVER",
    "SPAN_KIND_CONSUMER",
    "SPAN_KIND_INTERNAL",
    "SPAN_KIND_UNSPECIFIED",
)
_MAX_OPEN = 100_000
_REGION_CHARS = re.compile(r"[^A-Za-z0-9._-]")


def run(intake: Intake) -> None:
    """Read every file; cold requests wait for the span of their initialisation until the end."""
    reader = _Reader(intake)
    for file in intake.each():
        reject = intake.refuse(file)
        for line, value in intake.values(file, ("resourceSpans",)):
            for resource, span in _spans(value):
                reason = reader.read(resource, span)
                if reason:
                    reject(line, reason, json.dumps(span)[:300])
    reader.finish()


def _spans(value: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Resource attributes and span, of one element of `resourceSpans` or of a document that holds several."""
    found = []
    for group in value.get("resourceSpans") or [value]:
        if not isinstance(group, dict):
            continue
        resource = _attributes((group.get("resource") or {}).get("attributes"))
        for scope in group.get("scopeSpans") or group.get("instrumentationLibrarySpans") or ():
            found += [(resource, span) for span in scope.get("spans") or () if isinstance(span, dict)]
    return found


class _Reader:
    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._keys = RecentKeys()
        self._inits: OrderedDict[str, int] = OrderedDict()
        self._cold: OrderedDict[str, dict[str, Any]] = OrderedDict()

    def read(self, resource: dict[str, Any], span: dict[str, Any]) -> str | None:
        """One span; why it cannot be used, else None."""
        own = _attributes(span.get("attributes"))
        start_us, end_us = _nano_us(span.get("startTimeUnixNano")), _nano_us(span.get("endTimeUnixNano"))
        name, trace = str(span.get("name") or ""), str(span.get("traceId") or "")
        is_init = bool(_INIT_NAME.fullmatch(name))
        if not is_init and not any(key.startswith("faas.") for key in own):
            self._intake.warn("span of no function call, left out")
            return None
        if start_us is None or end_us is None:
            return "a span without its times"
        if end_us < start_us:
            return "negative duration"
        if is_init:
            self._inits[trace] = max(end_us - start_us, self._inits.get(trace, 0))
            _bound(self._inits)
            return None
        if span.get("kind") not in _REQUEST_KINDS:
            self._intake.warn("span of a caller, left out")
            return None
        again = self._keys.seen(f"{trace}/{span.get('spanId')}", (start_us, end_us)) if trace else ""
        if again == "same":
            return "the same span a second time"
        return self._take({**resource, **own}, trace, start_us, end_us)

    def _take(self, facts: dict[str, Any], trace: str, start_us: int, end_us: int) -> str | None:
        function = facts.get("faas.name") or facts.get("service.name")
        if not function:
            return "neither faas.name nor service.name"
        cold = facts.get("faas.coldstart")
        pod = facts.get("faas.instance") or facts.get("k8s.pod.name") or facts.get("service.instance.id")
        request = facts.get("faas.invocation_id") or facts.get("faas.execution") or trace
        region = _REGION_CHARS.sub("-", str(facts.get("cloud.region") or "")).lstrip("-._") or self._intake.region
        row = {
            "region": region,
            "arrive_us": start_us,
            "start_us": start_us,
            "end_us": end_us,
            "function": str(function),
            "pod": None if pod is None else str(pod),
            "cold": cold if isinstance(cold, bool) else None,
            "request": str(request) or None,
        }
        self._intake.add(
            "function",
            region=region,
            function=str(function),
            user=_text(facts.get("cloud.account.id")),
            runtime=_text(facts.get("process.runtime.name") or facts.get("telemetry.sdk.language")),
            trigger=_text(facts.get("faas.trigger")),
            memory_mb=_memory_mb(facts.get("faas.max_memory")),
        )
        if cold is True:
            self._cold[f"{trace}\n{len(self._cold)}"] = row
            if len(self._cold) > _MAX_OPEN:
                self._give_cold(*self._cold.popitem(last=False))
        else:
            self._intake.censor(int(cold is None))
            self._intake.add("request", **row)
        return None

    def finish(self) -> None:
        """The cold requests, with the initialisation of their trace."""
        for key, row in self._cold.items():
            self._give_cold(key, row)
        self._cold.clear()

    def _give_cold(self, key: str, row: dict[str, Any]) -> None:
        init_us = self._inits.get(key.partition("\n")[0])
        if init_us is None:
            self._intake.warn("cold request without a span of its initialisation: no length of the cold start")
        else:
            row["start_us"] = min(row["arrive_us"] + init_us, row["end_us"])
            self._intake.add(
                "coldstart",
                region=row["region"],
                at_us=row["arrive_us"],
                function=row["function"],
                pod=row["pod"],
                request=row["request"],
                total_us=init_us,
                detail=json.dumps({"kind": "on-demand", "init_us": init_us}),
            )
        self._intake.add("request", **row)


def _bound(entries: OrderedDict[str, int]) -> None:
    while len(entries) > _MAX_OPEN:
        entries.popitem(last=False)


def _attributes(listed: Any) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for item in listed or ():
        value = item.get("value") if isinstance(item, dict) else None
        if isinstance(value, dict):
            for kind in ("stringValue", "boolValue", "intValue", "doubleValue"):
                if kind in value:
                    values[str(item.get("key"))] = value[kind]
    return values


def _nano_us(value: Any) -> int | None:
    try:
        nanos = int(value)
    except (TypeError, ValueError):
        return None
    return nanos // 1000 if 0 < nanos < 2**63 else None


def _memory_mb(value: Any) -> int | None:
    try:
        amount = float(value)
    except (TypeError, ValueError):
        return None
    # The convention says bytes; older instrumentation wrote megabytes.
    return round(amount / 2**20) if amount >= 2**20 else round(amount)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
