"""OpenWhisk activations and OpenTelemetry spans."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

T0_MS = 1_767_000_000_000


def activation(number: int, start: int, end: int, *, wait: int | None = 5, init: int | None = None, **more: Any) -> Any:
    notes: list[dict[str, Any]] = [
        {"key": "path", "value": "guest/echo"},
        {"key": "kind", "value": "nodejs:20"},
        {"key": "limits", "value": {"concurrency": 2, "logs": 10, "memory": 256, "timeout": 60000}},
    ]
    notes += [] if wait is None else [{"key": "waitTime", "value": wait}]
    notes += [] if init is None else [{"key": "initTime", "value": init}]
    record = {"namespace": "guest", "name": "echo", "version": "0.0.2", "activationId": f"{number:032x}"}
    return {**record, "start": start, "end": end, "duration": end - start, "annotations": notes, **more}


def test_activations_say_what_was_cold(take: Callable[..., Any], tmp_path: Path) -> None:
    records = [
        activation(1, T0_MS + 1000, T0_MS + 1300, wait=700, init=200),
        activation(2, T0_MS + 5000, T0_MS + 5100, wait=3),
        activation(3, T0_MS + 9000, 0, wait=None),
        {**activation(4, T0_MS, T0_MS), "annotations": [{"key": "kind", "value": "sequence"}]},
    ]
    (tmp_path / "a.json").write_text(json.dumps(records))
    (tmp_path / "couch.json").write_text(
        json.dumps({"total_rows": 4, "rows": [{"id": "x", "doc": r} for r in records]})
    )
    (tmp_path / "lines.json").write_text("\n".join(json.dumps(r) for r in records))
    for name in ("a.json", "couch.json", "lines.json"):
        taken = take("openwhisk", tmp_path / name)
        t0 = T0_MS * 1000
        assert taken.rows("request", "arrive_us", "start_us", "end_us", "cold", "function") == [
            (t0 + 300_000, t0 + 1_200_000, t0 + 1_300_000, True, "guest/echo"),
            (t0 + 4_997_000, t0 + 5_000_000, t0 + 5_100_000, False, "guest/echo"),
            (t0 + 9_000_000, t0 + 9_000_000, None, False, "guest/echo"),
        ]
        assert taken.rows("coldstart", "at_us", "total_us", "allocation_us", "dependency_us", "request") == [
            (t0 + 300_000, 900_000, 700_000, 200_000, f"{1:032x}")
        ]
        assert taken.rows("function", "function", "user", "runtime", "memory_mb", "concurrency") == [
            ("guest/echo", "guest", "nodejs:20", 256, 2)
        ]
        assert taken.report.warnings == {"sequence, trigger or rule, which runs in no container": 1}


def test_bad_activations_are_quarantined(take: Callable[..., Any], tmp_path: Path) -> None:
    good = activation(1, T0_MS, T0_MS + 10)
    records = [
        good,
        good,
        activation(2, T0_MS + 10, T0_MS),
        activation(3, T0_MS, T0_MS, init=-1),
        {**good, "start": "soon", "activationId": "9"},
        activation(1, T0_MS + 99, T0_MS + 100),
    ]
    text = "ok: got activation 1\n" + "\n".join(json.dumps(r) for r in records) + '\n{"start": 1767000000000, "end'
    (tmp_path / "a.json").write_text(text)
    taken = take("openwhisk", tmp_path / "a.json")
    assert taken.quarantine() == [
        ("1", "not JSON"),
        ("3", "the same activation a second time"),
        ("4", "negative duration"),
        ("5", "negative duration"),
        ("6", "no start"),
        ("8", "not JSON"),
    ]
    assert taken.report.num_requests == 2
    assert taken.report.warnings == {"activation id used more than once": 1}


def attributes(**values: Any) -> list[dict[str, Any]]:
    kinds = {bool: "boolValue", int: "intValue", str: "stringValue"}
    return [{"key": k.replace("_", ".", 1), "value": {kinds[type(v)]: v}} for k, v in values.items()]


def span(trace: str, name: str, start_ms: int, end_ms: int, **values: Any) -> dict[str, Any]:
    kind = values.pop("kind", 2)
    times = {"startTimeUnixNano": str((T0_MS + start_ms) * 10**6), "endTimeUnixNano": str((T0_MS + end_ms) * 10**6)}
    return {"traceId": trace, "spanId": f"{name}{start_ms}", "name": name, "kind": kind, **times} | {
        "attributes": attributes(**values)
    }


def document(spans: list[dict[str, Any]], **resource: Any) -> dict[str, Any]:
    scopes = [{"scope": {"name": "x"}, "spans": spans}]
    return {"resourceSpans": [{"resource": {"attributes": attributes(**resource)}, "scopeSpans": scopes}]}


def test_spans_with_the_conventions_for_functions(take: Callable[..., Any], tmp_path: Path) -> None:
    resource = {
        "faas_name": "resize",
        "cloud_region": "eu-west-1",
        "faas_instance": "i-1",
        "faas_max_memory": 134217728,
    }
    lines = [
        document([span("t1", "handler", 0, 900, faas_coldstart=True, faas_trigger="http")], **resource),
        document([span("t1", "init", 0, 600), span("t1", "SELECT", 700, 800, db_system="sqlite")], **resource),
        document([span("t2", "handler", 2000, 2100, faas_coldstart=False, faas_trigger="http")], **resource),
        document([span("t3", "handler", 3000, 3100, faas_trigger="http")], **resource),
        document([span("t4", "invoke", 3000, 3100, faas_invoked_name="resize", kind=3)], **resource),
        document([span("t5", "handler", 3000, 2900, faas_coldstart=True)], **resource),
        document([span("t6", "handler", 5000, 5500, faas_coldstart=True)], service_name="other"),
    ]
    (tmp_path / "traces.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    taken = take("otel", tmp_path / "traces.jsonl")
    t0 = T0_MS * 1000
    columns = ("arrive_us", "start_us", "end_us", "cold", "function", "pod", "region")
    assert taken.rows("request", *columns) == [
        (t0, t0 + 600_000, t0 + 900_000, True, "resize", "i-1", "eu-west-1"),
        (t0 + 2_000_000, t0 + 2_000_000, t0 + 2_100_000, False, "resize", "i-1", "eu-west-1"),
        (t0 + 3_000_000, t0 + 3_000_000, t0 + 3_100_000, None, "resize", "i-1", "eu-west-1"),
        (t0 + 5_000_000, t0 + 5_000_000, t0 + 5_500_000, True, "other", None, "default"),
    ]
    assert taken.rows("coldstart", "at_us", "total_us", "request") == [(t0, 600_000, "t1")]
    assert taken.quarantine() == [("6", "negative duration")]
    assert taken.report.num_left_censored == 1
    assert taken.rows("function", "function", "trigger", "memory_mb") == [
        ("other", None, None),
        ("resize", "http", 128),
    ]


@pytest.mark.parametrize("indent", [None, 2])
def test_a_whole_document_is_read_as_well(take: Callable[..., Any], tmp_path: Path, indent: int | None) -> None:
    whole = document([span(f"t{i}", "handler", i, i + 5, faas_coldstart=False) for i in range(100)], faas_name="f")
    (tmp_path / "traces.json").write_text(json.dumps(whole, indent=indent))
    assert take("otel", tmp_path / "traces.json").report.num_requests == 100
