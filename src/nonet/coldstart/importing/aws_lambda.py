"""AWS Lambda: what the platform writes into CloudWatch, as text or as JSON, and the events of the Telemetry API.

Read are START, REPORT, INIT_REPORT and RESTORE_REPORT lines and `platform.*` events, out of plain logs with times, JSON
of `aws logs filter-log-events`, subscriptions, CSV exports and Logs Insights. The log itself says what was cold: an
`Init Duration` or `Restore Duration`, or an initialisation reported just before. An environment that was initialised
ahead (provisioned concurrency) has a cold start without a request. Times: a cold request arrived when its
initialisation began; it ends with its REPORT line when the log has no START line for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from nonet.coldstart.importing.base import Intake
from nonet.coldstart.importing.lambda_environment import Environments, Report
from nonet.coldstart.importing.moments import time_us, unix_us
from nonet.coldstart.importing.sources import SourceFile
from nonet.coldstart.importing.tabular import LINE, read_frames

_KIND = re.compile(r"\b(START|REPORT) RequestId: ?([0-9A-Za-z-]+)|\b(INIT_REPORT|RESTORE_REPORT)\b")
_FIELD = re.compile(
    r"(Billed Restore Duration|Restore Duration|Init Duration|Billed Duration|Duration|Memory Size|Max Memory Used"
    r"|Phase|Status): ?([^\t\n]+?)"
    r"(?=\t|\n|\s{2,}|$|\s+(?:Billed|Restore|Init|Duration|Memory|Max|Phase|Status|Error|XRAY))"
)
_TIME_BEFORE = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?)")
_STREAM = re.compile(r"(\d{4}/\d\d/\d\d/[^\s\[]*\[[^\]]+\][0-9a-f]+)")
_STREAM_PARTS = re.compile(r"\d{4}/\d\d/\d\d/(?P<name>[^\[]*)\[(?P<version>[^\]]+)\]")
_STAMPED = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?Z?)[\s|]+([0-9a-f]{8}-[0-9a-f-]{27})")
_MESSAGE_COLUMNS = ("@message", "message")
_TIME_COLUMNS = ("@timestamp", "timestamp")
_STREAM_COLUMNS = ("@logStream", "logStreamName", "logStream", "stream")
_GROUP_COLUMNS = ("@log", "logGroup", "logGroupName")


class Message(NamedTuple):
    """One entry of a log: line in the file, time, log stream and log group when known, and what it says."""

    line: int
    moment_us: int | None
    stream: str | None
    group: str | None
    body: str | dict[str, Any]


def run(intake: Intake) -> None:
    """Read every file; environments (log streams) are followed through all of them."""
    environments = Environments(intake)
    for file in intake.each():
        reject = intake.refuse(file)
        default = intake.options.get("function") or _stem(file)
        for message in _messages(intake, file):
            function = intake.options.get("function") or _function_of(message) or default
            environment = environments.get(message.stream, file.name, function)
            if isinstance(message.body, dict):
                reason = environment.on_event(message.body, message.moment_us)
            else:
                reason = _read_text(environment, message)
            if reason:
                reject(message.line, reason, str(message.body)[:300])
    environments.finish()


def _read_text(environment: Any, message: Message) -> str | None:
    """Tell an environment what a text line says; why the line cannot be used, else None."""
    body = str(message.body)
    kind = _KIND.search(body)
    if kind is None:
        stamped = _STAMPED.search(body)
        if stamped:
            environment.on_trace(stamped[2], time_us(stamped[1]))
        return None
    moment_us = message.moment_us
    if kind[1] == "START":
        environment.on_start(kind[2], moment_us)
        return None
    fields = {name: value.strip() for name, value in _FIELD.findall(body[kind.start() :])}
    if kind[3] == "INIT_REPORT":
        return environment.on_init(_ms(fields, "Init Duration"), fields.get("Phase"), fields.get("Status"), moment_us)
    if kind[3] == "RESTORE_REPORT":
        return environment.on_restore(_ms(fields, "Restore Duration"), moment_us)
    report = Report(
        request=kind[2],
        duration_us=_ms(fields, "Duration"),
        init_us=_ms(fields, "Init Duration"),
        restore_us=_ms(fields, "Restore Duration"),
        size_mb=_number(fields.get("Memory Size")),
        used_mb=_number(fields.get("Max Memory Used")),
        moment_us=moment_us,
    )
    return environment.on_report(report)


def _ms(fields: dict[str, str], name: str) -> int | None:
    value = _number(fields.get(name))
    return None if value is None else round(value * 1000)


def _number(text: str | None) -> float | None:
    match = re.match(r"-?\d+(?:\.\d+)?", text or "")
    return float(match[0]) if match else None


def _messages(intake: Intake, file: SourceFile) -> Iterator[Message]:
    first = _first_line(file)
    names = [name.strip().strip('"') for name in first.split(",")]
    message = next((name for name in _MESSAGE_COLUMNS if name in names), None)
    if message is not None and not first.lstrip().startswith("{"):
        yield from _csv_messages(intake, file, names, message)
    elif first.lstrip()[:1] in ("{", "[") and not _is_one_object_a_line(first):
        for line, value in intake.values(file, ("events", "logEvents", "results")):
            yield _unpacked(line, value)
    else:
        for line, text in intake.lines(file):
            yield _text_message(line, text)


def _is_one_object_a_line(first: str) -> bool:
    try:
        value = json.loads(first)
    except json.JSONDecodeError:
        return False
    return isinstance(value, dict) and not {"events", "logEvents", "results"} & set(value)


def _first_line(file: SourceFile) -> str:
    with file.open() as stream:
        return next((line.decode("utf-8-sig", "replace") for _, line in stream.lines() if line.strip()), "")


def _csv_messages(intake: Intake, file: SourceFile, names: list[str], message: str) -> Iterator[Message]:
    def column(wanted: tuple[str, ...]) -> str | None:
        return next((name for name in wanted if name in names), None)

    time, stream, group = column(_TIME_COLUMNS), column(_STREAM_COLUMNS), column(_GROUP_COLUMNS)
    for frame in read_frames(file, intake.refuse(file)):
        for row in frame.iter_rows(named=True):
            moment = row.get(time) if time else None
            inner = _text_message(row[LINE], str(row[message]))
            yield inner._replace(
                moment_us=unix_us(moment) if moment else inner.moment_us,
                stream=row.get(stream) if stream else inner.stream,
                group=row.get(group) if group else inner.group,
            )


def _unpacked(line: int, value: dict[str, Any]) -> Message:
    """An element of an export: an event of the Telemetry API itself, or a record around a message."""
    if isinstance(value.get("type"), str) and "record" in value:
        stream = next((value[name] for name in _STREAM_COLUMNS if isinstance(value.get(name), str)), None)
        group = next((value[name] for name in _GROUP_COLUMNS if isinstance(value.get(name), str)), None)
        return Message(line, unix_us(value.get("time")), stream, group, value)
    text = next((value[name] for name in _MESSAGE_COLUMNS if isinstance(value.get(name), str | dict)), None)
    if text is None:
        return Message(line, None, None, None, json.dumps(value))
    inner = Message(line, None, None, None, text) if isinstance(text, dict) else _text_message(line, text)
    moment = next((value[name] for name in _TIME_COLUMNS if value.get(name) is not None), None)
    return inner._replace(
        moment_us=unix_us(moment) if moment is not None else inner.moment_us,
        stream=next((value[name] for name in _STREAM_COLUMNS if value.get(name)), inner.stream),
        group=next((value[name] for name in _GROUP_COLUMNS if value.get(name)), inner.group),
    )


def _text_message(line: int, text: str) -> Message:
    """A line of a text log, with the time and the stream that stand before it; or a line that is a JSON object."""
    stripped = text.strip()
    if stripped.startswith("{"):
        try:
            value = json.loads(stripped)
        except (json.JSONDecodeError, RecursionError):
            return Message(line, None, None, None, text)
        return _unpacked(line, value)
    kind = _KIND.search(text)
    before = text[: kind.start()] if kind else text[:64]
    moment, stream = _TIME_BEFORE.search(before), _STREAM.search(before)
    return Message(line, time_us(moment[1]) if moment else None, stream[1] if stream else None, None, text)


def _function_of(message: Message) -> str | None:
    group = message.group or ""
    if "/aws/lambda/" in group:
        return group.rpartition("/aws/lambda/")[2]
    parts = _STREAM_PARTS.search(message.stream or "")
    return (parts["name"] or None) if parts else None


def _stem(file: SourceFile) -> str:
    name = file.inner.rsplit("/", 1)[-1]
    return name.split(".", 1)[0] or name
