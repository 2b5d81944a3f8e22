"""Logs as AWS Lambda and the tools around it write them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

T0_MS = 1_767_000_000_000
STREAM = "2026/05/04/[$LATEST]0123456789abcdef0123456789abcdef"


def request_id(number: int) -> str:
    return f"{number:08x}-0000-4000-8000-000000000000"


def report(number: int, duration: float, init: float | None = None, restore: float | None = None) -> str:
    text = (
        f"REPORT RequestId: {request_id(number)}\tDuration: {duration:.2f} ms\t"
        f"Billed Duration: {int(duration) + 1} ms\tMemory Size: 512 MB\tMax Memory Used: 65 MB\t"
    )
    if restore is not None:
        text += f"Restore Duration: {restore:.2f} ms\tBilled Restore Duration: 1 ms\t"
    return text + (f"Init Duration: {init:.2f} ms\t" if init is not None else "") + "\n"


# Moment (ms after T0), stream and message: a cold call, a warm one, a restored one, an idle provisioned environment.
ENTRIES = [
    (1000, STREAM, "INIT_START Runtime Version: python:3.13.v1\tRuntime Version ARN: arn:aws:lambda\n"),
    (1400, STREAM, f"START RequestId: {request_id(1)} Version: $LATEST\n"),
    (1450, STREAM, f"END RequestId: {request_id(1)}\n"),
    (1450, STREAM, report(1, 50.0, init=400.0)),
    (9000, STREAM, f"START RequestId: {request_id(2)} Version: $LATEST\n"),
    (9020, STREAM, report(2, 20.5)),
    (12000, STREAM + "aa", "RESTORE_START Runtime Version: java:21.v9\n"),
    (12450, STREAM + "aa", "RESTORE_REPORT Restore Duration: 447.36 ms\n"),
    (12460, STREAM + "aa", f"START RequestId: {request_id(3)} Version: 7\n"),
    (12560, STREAM + "aa", report(3, 100.0, restore=447.36)),
    (20000, STREAM + "bb", "INIT_REPORT Init Duration: 900.00 ms\tPhase: init\tStatus: success\n"),
    (80000, STREAM + "bb", f"START RequestId: {request_id(4)} Version: 8\n"),
    (80010, STREAM + "bb", report(4, 10.0)),
]
WANTED_REQUESTS = [
    (1000, 1400, 1450, True),
    (9000, 9000, 9020.5, False),
    (12460 - 447.36, 12460, 12560, True),
    (80000, 80000, 80010, False),
]
WANTED_STARTS = [(1000, 400, request_id(1)), (12460 - 447.36, 447.36, request_id(3)), (19100, 900, None)]


def check(taken: Any, function: str) -> None:
    found = taken.rows("request", "arrive_us", "start_us", "end_us", "cold", "function", "memory_mb")
    assert len(found) == len(WANTED_REQUESTS)
    for row, wanted in zip(found, WANTED_REQUESTS, strict=True):
        times = [(T0_MS + t) * 1000 for t in wanted[:3]]
        assert list(row[:3]) == pytest.approx(times, abs=2)
        assert row[3:] == (wanted[3], function, 65.0)
    starts = taken.rows("coldstart", "at_us", "total_us", "request")
    assert [(round(a / 1000 - T0_MS, 2), t / 1000, r) for a, t, r in starts] == [
        (round(a, 2), pytest.approx(t), r) for a, t, r in WANTED_STARTS
    ]
    kinds = [json.loads(detail)["kind"] for _, detail in taken.rows("coldstart", "at_us", "detail")]
    assert kinds == ["on-demand", "restore", "provisioned"]
    assert taken.quarantine() == []


def iso(ms: float) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def test_filter_log_events(take: Callable[..., Any], tmp_path: Path) -> None:
    events = [{"logStreamName": s, "timestamp": T0_MS + t, "message": m, "eventId": "1"} for t, s, m in ENTRIES]
    (tmp_path / "thumb.json").write_text(json.dumps({"events": events, "searchedLogStreams": []}, indent=2))
    taken = take("lambda", tmp_path / "thumb.json")
    check(taken, "thumb")
    assert taken.rows("pod", "pod", "create_us", "memory_mb")[0] == (STREAM, (T0_MS + 1000) * 1000, 512)
    assert taken.rows("function", "function", "memory_mb", "concurrency") == [("thumb", 512, 1)]


def test_text_with_times_and_streams(take: Callable[..., Any], tmp_path: Path) -> None:
    lines = [f"{iso(T0_MS + t)} {s} {m}" for t, s, m in ENTRIES]
    (tmp_path / "export.log").write_text("".join(lines))
    check(take("lambda", tmp_path / "export.log", function="f"), "f")


def test_csv_of_logs_insights(take: Callable[..., Any], tmp_path: Path) -> None:
    with (tmp_path / "insights.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\r\n")
        writer.writerow(["@timestamp", "@message", "@logStream", "@log"])
        for t, s, m in ENTRIES:
            writer.writerow([iso(T0_MS + t)[:-1].replace("T", " "), m.replace("\n", ""), s, "123:/aws/lambda/resize"])
    check(take("lambda", tmp_path / "insights.csv"), "resize")


def test_subscriptions_one_object_a_line(take: Callable[..., Any], tmp_path: Path) -> None:
    lines = [
        json.dumps({"timestamp": T0_MS + t, "message": m, "logStream": s, "logGroup": "/aws/lambda/g"})
        for t, s, m in ENTRIES
    ]
    (tmp_path / "log.ndjson").write_text("\n".join(lines).replace('"logStream"', '"logStreamName"'))
    check(take("lambda", tmp_path / "log.ndjson"), "g")


def platform(ms: float, kind: str, **record: Any) -> dict[str, Any]:
    return {"time": iso(T0_MS + ms), "type": f"platform.{kind}", "record": record}


def test_events_of_the_telemetry_api(take: Callable[..., Any], tmp_path: Path) -> None:
    def reported(ms: float, number: int, duration: float, **more: float) -> dict[str, Any]:
        metrics = {"durationMs": duration, "memorySizeMB": 512, "maxMemoryUsedMB": 65, **more}
        return platform(ms, "report", requestId=request_id(number), metrics=metrics, status="success")

    events = [
        platform(
            1000, "initStart", functionName="fn", functionVersion="3", initializationType="on-demand", phase="init"
        ),
        platform(1400, "initReport", initializationType="on-demand", phase="init", metrics={"durationMs": 400}),
        platform(1400, "start", requestId=request_id(1), version="3"),
        platform(1450, "runtimeDone", requestId=request_id(1), status="success"),
        reported(1450, 1, 50.0, initDurationMs=400.0),
        platform(9000, "start", requestId=request_id(2)),
        reported(9020.5, 2, 20.5),
        platform(12450, "restoreReport", metrics={"durationMs": 447.36}),
        platform(12460, "start", requestId=request_id(3)),
        reported(12560, 3, 100.0, restoreDurationMs=447.36),
        platform(20000, "initStart", functionName="fn", initializationType="provisioned-concurrency"),
        platform(20000, "initReport", initializationType="provisioned-concurrency", metrics={"durationMs": 900}),
        platform(80000, "start", requestId=request_id(4)),
        reported(80010, 4, 10.0),
    ]
    (tmp_path / "telemetry.json").write_text(json.dumps(events))
    check(take("lambda", tmp_path / "telemetry.json"), "fn")
    # The same events as messages of a log group with the JSON log format, and one a line.
    wrapped = [{"timestamp": 0, "message": json.dumps(event), "logStreamName": STREAM} for event in events]
    (tmp_path / "wrapped.json").write_text(json.dumps({"events": wrapped}))
    check(take("lambda", tmp_path / "wrapped.json"), "fn")
    (tmp_path / "lines.log").write_text("\n".join(json.dumps(event) for event in events))
    check(take("lambda", tmp_path / "lines.log"), "fn")


def test_an_initialisation_that_timed_out_is_part_of_the_wait(take: Callable[..., Any], tmp_path: Path) -> None:
    entries = [
        (10_000, "INIT_REPORT Init Duration: 9999.79 ms\tPhase: init\tStatus: timeout\n"),
        (10_010, f"START RequestId: {request_id(1)} Version: $LATEST\n"),
        (14_000, "INIT_REPORT Init Duration: 3500.00 ms\tPhase: invoke\tStatus: success\n"),
        (14_500, report(1, 4490.0)),
    ]
    (tmp_path / "f.log").write_text("".join(f"{iso(T0_MS + t)} {STREAM} {m}" for t, m in entries))
    rows = take("lambda", tmp_path / "f.log").rows("coldstart", "total_us", "detail")
    assert [row[0] for row in rows] == [13_499_790]
    assert json.loads(rows[0][1])["failed_init_us"] == 9_999_790


def test_lines_without_a_time_take_it_from_the_function_or_are_quarantined(
    take: Callable[..., Any], tmp_path: Path
) -> None:
    lines = [
        f"START RequestId: {request_id(1)} Version: $LATEST\n",
        f"[INFO]\t2026-05-04T08:00:00.000Z\t{request_id(1)}\thello\n",
        report(1, 50.0, init=400.0),
        report(2, 10.0),
        report(3, -10.0),
        f"{iso(T0_MS)} REPORT RequestId: {request_id(4)}\tMemory Size: 128 MB\n",
        f"{iso(T0_MS)} {report(5, 5.0)}",
        f"{iso(T0_MS)} {report(5, 5.0)}",
        f"{iso(T0_MS)} {report(5, 7.0)}",
        f"{iso(T0_MS + 9)} START RequestId: {request_id(6)} Version: $LATEST\n",
    ]
    (tmp_path / "f.log").write_text("".join(lines))
    taken = take("lambda", tmp_path / "f.log")
    assert taken.rows("request", "function", "cold", "pod") == [
        ("f", False, None),
        ("f", False, None),
        ("f", True, None),
    ]
    assert [line for line, _ in taken.quarantine()] == ["4", "5", "6", "8"]
    reasons = [reason for _, reason in taken.quarantine()]
    assert reasons[0].startswith("no time")
    assert reasons[1:] == ["negative duration", "a report without a duration", "the same report a second time"]
    assert taken.report.warnings["request id used more than once (retries)"] == 1
    assert taken.report.warnings["invocation that began and has no report (cut log)"] == 1


def interleaved() -> list[dict[str, Any]]:
    """Two environments of one function: the second initialises while the first serves on."""

    def event(ms: int, kind: str, **record: Any) -> dict[str, Any]:
        time = datetime.fromtimestamp((T0_MS + ms) / 1000, UTC).isoformat()
        return {"time": time, "type": f"platform.{kind}", "record": record}

    def reported(ms: int, number: int, **metrics: float) -> dict[str, Any]:
        return event(ms, "report", requestId=request_id(number), metrics={"durationMs": 50.0, **metrics})

    done = {"initializationType": "on-demand", "phase": "init", "status": "success"}
    return [
        event(400, "initReport", **done, metrics={"durationMs": 400.0}),
        reported(460, 1, initDurationMs=400.0),
        event(9300, "initReport", **done, metrics={"durationMs": 300.0}),
        reported(9310, 2),
        reported(9361, 3),
        reported(9362, 4, initDurationMs=300.0),
        event(20_400, "restoreReport", status="success", metrics={"durationMs": 200.0}),
        reported(20_410, 5),
        reported(20_460, 6, restoreDurationMs=200.0),
    ]


@pytest.mark.parametrize("streams", [False, True])
def test_environments_in_one_file(streams: bool, take: Callable[..., Any], tmp_path: Path) -> None:
    events = interleaved()
    if streams:
        names = "aabaabcac"
        events = [{"logStream": STREAM + name, **event} for name, event in zip(names, events, strict=True)]
    (tmp_path / "f.jsonl").write_text("\n".join(json.dumps(event) for event in events) + "\n")
    taken = take("lambda", tmp_path / "f.jsonl")
    cold = {number for number, is_cold in taken.rows("request", "request", "cold") if is_cold}
    assert cold == {request_id(1), request_id(4), request_id(6)}
    assert sorted(total for (total,) in taken.rows("coldstart", "total_us")) == [200_000, 300_000, 400_000]
    assert taken.report.num_pods == (3 if streams else 0)
    assert taken.report.warnings == {}


@pytest.mark.parametrize(("idle_ms", "is_cold"), [(1_500, True), (2_500, False)])
def test_an_initialisation_long_before_its_first_call_was_made_ahead(
    idle_ms: int, is_cold: bool, take: Callable[..., Any], tmp_path: Path
) -> None:
    entries = [
        (1_000, "INIT_REPORT Init Duration: 300.00 ms\tPhase: init\tStatus: success\n"),
        (1_000 + idle_ms, f"START RequestId: {request_id(1)} Version: 1\n"),
        (1_050 + idle_ms, report(1, 50.0)),
    ]
    events = [{"timestamp": T0_MS + t, "message": text, "logStreamName": STREAM} for t, text in entries]
    (tmp_path / "f.json").write_text(json.dumps({"events": events}))
    taken = take("lambda", tmp_path / "f.json")
    assert taken.rows("request", "cold") == [(is_cold,)]
    ((detail,),) = taken.rows("coldstart", "detail")
    assert json.loads(detail)["kind"] == ("on-demand" if is_cold else "provisioned")
