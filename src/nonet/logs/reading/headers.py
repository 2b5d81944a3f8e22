"""Common header formats and their detection from the first lines of a file.

A format fits when most lines match it *and* its fields look like what they are called: the time parses, the level is a
level. Of the formats that fit nearly as well as the best, the first of `HEADER_FORMATS` wins: it is ordered from
particular to general.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nonet.logs.reading import _record_kernels
from nonet.logs.reading.header_format import CONTENT, HeaderFormat, Matches
from nonet.logs.reading.lines import joined
from nonet.logs.reading.timestamps import NO_TIME, TimeFields, TimeParser, find_time_fields

__all__ = ["CONTENT", "HEADER_FORMATS", "Detection", "HeaderFormat", "Matches", "detect"]

_FORMATS: dict[str, str] = {
    # syslog
    "syslog-rfc5424": r"<<Priority:int>>1 <Timestamp:token> <Host:token> <Component:token> <Pid:token> "
    r"<MessageId:token> (-)?(\[<StructuredData>\])? <Content>",
    "syslog-priority": r"<<Priority:int>><Month:word> <Day:int> <Time:token> <Host:token> "
    r"<Component>(\[<Pid:int>\])?: <Content>",
    "syslog-labelled": r"<Label:token> <Timestamp:int> <Date:token> <User:token> <Month:word> <Day:int> <Time:token> "
    r"<Location:token> <Component>(\[<Pid>\])?: <Content>",
    "syslog": r"<Month:word> <Day:int> <Time:token> <Host:token> "
    r"<Component>(\[<Pid:int>\])?( \(<Address>\))?: <Content>",
    "syslog-iso": r"<Timestamp:token> <Host:token> <Component:name>(\[<Pid:int>\])?: <Content>",
    # web servers
    "access": r"<Client:token> <Ident:token> <User:token> \[<Time>\] <Content>",
    "nginx-error": r"<Date:token> <Time:token> \[<Level:word>\] <Pid:int>#<Tid:int>: <Content>",
    "apache-error-2.4": r"\[<Time>\] \[<Component:name>:<Level:word>\] \[pid <Pid:int>(:tid <Tid:int>)?\] <Content>",
    "apache-error": r"\[<Time>\] \[<Level:word>\] <Content>",
    # databases and services
    "postgres": r"<Date:token> <Time:token> <Zone:word> \[<Pid:int>\] (<User:token> )?<Level:upper>: <Content>",
    "mysql": r"<Timestamp:token> <Thread:int> \[<Level:word>\]( \[<Code:token>\] \[<Component:token>\])? <Content>",
    "redis": r"<Pid:int>:<Role:upper> <Day:int> <Month:word> <Year:int> <Time:token> <Mark:token> <Content>",
    "elasticsearch": r"\[<Timestamp:token>\]\[<Level:upper>( )?\]\[<Component:token>( )?\] "
    r"(\[<Node:token>\] )?<Content>",
    "cassandra": r"<Level:upper> \[<Thread>\] <Date:token> <Time:token> <Source:token> - <Content>",
    "kafka": r"\[<Date:token> <Time:token>\] <Level:upper> <Content>",
    # Java
    "zookeeper": r"<Date:token> <Time:token> - <Level:upper> \[<Node>:<Component:token>@<Id:int>\] - <Content>",
    "spring-boot": r"<Timestamp> <Level:upper> <Pid:int> --- \[<Thread>\] <Component:token> : <Content>",
    "hadoop": r"<Date:token> <Time:token> <Level:upper> \[<Process>\] <Component:token>: <Content>",
    "hdfs": r"<Date:int> <Time:int> <Pid:int> <Level:upper> <Component:token>: <Content>",
    "openstack": r"<Logfile:token> <Date:token> <Time:token> <Pid:int> <Level:upper> <Component:token> "
    r"\[<Request>\] <Content>",
    "oslo": r"<Date:token> <Time:token> <Pid:int> <Level:upper> <Component:token> \[<Request>\] <Content>",
    "logback-thread-first": r"<Date:token> <Time:token> \[<Thread>\] <Level:upper> <Component:token> - <Content>",
    "logback-level-first": r"<Date:token> <Time:token> <Level:upper> \[<Thread>\] <Component:token> - <Content>",
    "logback-default": r"<Time:token> \[<Thread>\] <Level:upper> <Component:token> - <Content>",
    # Python
    "python-dashes": r"<Date:token> <Time:token> - <Component:token> - <Level:upper> - <Content>",
    "python-brackets": r"<Date:token> <Time:token> \[<Level:upper>\] <Component:name>: <Content>",
    "celery": r"\[<Date:token> <Time:token>: <Level:upper>/<Process:token>\] <Content>",
    "gunicorn": r"\[<Time>\] \[<Pid:int>\] \[<Level:upper>\] <Content>",
    "python-basic": r"<Level:upper>:<Component:name>:<Content>",
    # Go, C++, Rust, systems
    "klog": r"<Level:upper><Date:int> <Time:token> <Tid:int> <Source:token>\] <Content>",
    "logrus": r'time="<Time>" level=<Level:word> msg=<Content>',
    "logfmt": r"time=<Time:token> level=<Level:word> msg=<Content>",
    "android": r"<Date:token> <Time:token> <Pid:int> <Tid:int> <Level:upper> <Component>: <Content>",
    "windows-cbs": r"<Date:token> <Time:token>, <Level:word> <Component:token> <Content>",
    "proxifier": r"\[<Date:token> <Time:token>\] <Program> - <Content>",
    "blue-gene": r"<Label:token> <Timestamp:int> <Date:token> <Node:token> <Time:token> <NodeRepeat:token> "
    r"<Type:token> <Component:token> <Level:upper> <Content>",
    "cluster-events": r"<LogId:int> <Node:token> <Component:token> <State:token> <Time:int> <Flag:token> <Content>",
    "pipes": r"<Time:token>\|<Component:token>\|<Pid:int>\|<Content>",
    "program-first": r"<Component:name> <Date:token> <Time:token>: <Content>",
    "envoy": r"\[<Time>\]\[<Tid:int>\]\[<Level:word>\]\[<Component:name>\] (\[<Source:token>\] )?<Content>",
    "monolog": r"\[<Time>\] <Channel:name>\.<Level:upper>: <Content>",
    "dmesg": r"\[( )?<Uptime:token>\] <Content>",
    # general
    "timestamp-level-component": r"<Timestamp:token> <Level:upper> <Component:token>: <Content>",
    "date-time-level-component": r"<Date:token> <Time:token> <Level:upper> <Component:token>: <Content>",
    "timestamp-bracketed-level": r"<Timestamp:token> \[<Level:word>\] <Content>",
    "date-time-bracketed-level": r"<Date:token> <Time:token> \[<Level:word>\] <Content>",
    "timestamp-level": r"<Timestamp:token> <Level:word>(:)? <Content>",
    "date-time-level": r"<Date:token> <Time:token> <Level:word>(:)? <Content>",
    "bracketed-time-level": r"\[<Time>\] <Level:upper>: <Content>",
    "bracketed-time": r"\[<Time>\] <Content>",
    "month-day-time": r"<Month:word> <Day:int> <Time:token> <Content>",
    "date-time": r"<Date:token> <Time:token> <Content>",
    "timestamp": r"<Timestamp:token> <Content>",
    "level": r"<Level:upper>: <Content>",
}

_LEVELS = (
    rb"(?i:trace|debug\d?|verbose|fine(?:r|st)?|config|info(?:rmation)?|notice|note|warn(?:ing)?|err(?:or)?|crit(?:ical)?|alert|"
    rb"emerg(?:ency)?|fatal|severe|panic|failure|log|detail|hint|statement|context|system|audit|success|[tdivwef])"
)
_PLAUSIBLE: dict[str, re.Pattern[bytes]] = {
    "Level": re.compile(_LEVELS),
    "Component": re.compile(rb"\S.{0,79}"),
    "Date": re.compile(rb"(?:\D*\d){3}.*"),
    "Time": re.compile(rb"(?:\D*\d){4}.*"),
    "Uptime": re.compile(rb"\d+\.\d{6}"),
    "Host": re.compile(rb"[\w.:\-/@]+"),
    "Client": re.compile(rb"[\w.:\-]+"),
    "Mark": re.compile(rb"[.\-*#]"),
    "Flag": re.compile(rb"-?\d+"),
}
_WITHOUT_TIME = frozenset({"python-basic", "dmesg", "level"})

HEADER_FORMATS: tuple[HeaderFormat, ...] = tuple(HeaderFormat.parse(text, name) for name, text in _FORMATS.items())
"""The registry, from particular to general."""

MIN_SHARE = 0.5
_NEARLY_AS_GOOD = 0.9


@dataclass(frozen=True, slots=True)
class Detection:
    """What `detect_header` found: the format, where its time stands, and the share of sample lines that fit."""

    header: HeaderFormat
    time_fields: TimeFields | None
    share: float


def detect(sample_lines: Sequence[bytes]) -> HeaderFormat | None:
    """The common format of most of the lines, or None (then a line is all Content).

    >>> detect([b"2026-11-22 12:30:01,250 INFO [main] a.b.C: started"]).name
    'hadoop'
    >>> detect([b"no header", b"here"]) is None
    True
    """
    found = detect_header(sample_lines)
    return found.header if found else None


def detect_header(sample_lines: Sequence[bytes]) -> Detection | None:
    """Like `detect`, with the time fields and the share."""
    lines = [line for line in sample_lines if line.strip()]
    buffer, starts, ends = joined(lines)
    judged = [i for i in range(len(lines)) if not _record_kernels.looks_continued(buffer, starts[i], ends[i])]
    if not judged:
        return None
    starts, ends = starts[judged], ends[judged]
    fits = [found for header in HEADER_FORMATS if (found := _fit(header, buffer, starts, ends)) is not None]
    best = max((found.share for found in fits), default=0.0)
    return next((found for found in fits if found.share >= max(MIN_SHARE, _NEARLY_AS_GOOD * best)), None)


def _fit(
    header: HeaderFormat, buffer: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> Detection | None:
    """How well one format fits; None below the least share."""
    matches = header.match(buffer, starts, ends)
    rows = np.flatnonzero(matches.matched)
    if len(rows) < MIN_SHARE * len(starts):
        return None
    field_starts, field_ends = matches.starts[rows], matches.ends[rows]
    time_fields = find_time_fields(header.fields, buffer, field_starts, field_ends)
    good = np.ones(len(rows), np.bool_)
    if time_fields is not None:
        parser = TimeParser(time_fields.form, datetime.datetime(2000, 12, 31))
        good &= parser.parse(buffer, *time_fields.spans(field_starts, field_ends)) != NO_TIME
    elif header.name not in _WITHOUT_TIME:
        return None
    data = buffer.tobytes()
    for column, name in enumerate(header.fields):
        plausible = _PLAUSIBLE.get(name)
        if plausible is None:
            continue
        for row in np.flatnonzero(good).tolist():
            low, high = int(field_starts[row, column]), int(field_ends[row, column])
            good[row] = low < 0 or plausible.fullmatch(data, low, high) is not None
    share = float(np.count_nonzero(good)) / len(starts)
    return Detection(header, time_fields, share) if share >= MIN_SHARE else None
