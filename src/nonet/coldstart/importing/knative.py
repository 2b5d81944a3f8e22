"""Knative request logs: the lines of the queue-proxy (config-observability, `logging.request-log-template`).

The default template has no time and no revision, so these come from what surrounds it: a time before the line
(`kubectl logs --timestamps`, CRI files), or the record of a log collector (Fluent Bit, Cloud Logging) with the labels
of the pod. A line is written when a request ends; its arrival is that time less the latency (or the other way round,
by the option `log_time` or where known pods tell). The pod is told by its name or by `serverIp`. A request that waits
in the activator reaches the queue-proxy only when the pod is ready.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

import polars as pl

from nonet.coldstart.importing.base import Intake
from nonet.coldstart.importing.clock_skew import clock_skew_us
from nonet.coldstart.importing.duplicates import RecentKeys
from nonet.coldstart.importing.kubernetes_objects import qualified
from nonet.coldstart.importing.moments import duration_us, unix_us
from nonet.coldstart.importing.pod_join import RESOLUTION_US, FirstCalls, KnownPods, judge_log
from nonet.coldstart.importing.sources import SourceFile
from nonet.common.errors import InputError

_FRAME_ROWS = 50_000
_PROBED_LINES = 50_000
_PREFIX = re.compile(
    r"\s*(?:\[pod/(?P<pod>[^/\]]+)/[^\]]*\]\s*)?(?P<time>\d{4}-\d\d-\d\d[T ]\S+)?\s*"
    r"(?:std(?:out|err) [FP] )?[^{]*(?=\{)"
)
_REVISION = re.compile(r"(.+?)-\d{5}(?:-deployment-.*)?")
_PROBES = ("kube-probe", "knative-activator-probe", "knative-queue-proxy", "k-network-probe", "knative-ingress-probe")
_WRAPPED = ("log", "message", "msg", "line", "textPayload")
_INNER = ("jsonPayload", "labels", "kubernetes", "resource", "revision", "httpRequest", "metadata")
_TIMES = ("timestamp", "time", "@timestamp", "ts", "endtime", "date", "receivetimestamp")
_SERVICES = (
    "serving.knative.dev/service",
    "serving_knative_dev/service",
    "serving_knative_dev_service",
    "service_name",
    "servicename",
    "service",
    "serving.knative.dev/configuration",
    "configuration_name",
    "configurationname",
    "configuration",
)
_REVISIONS = ("serving.knative.dev/revision", "revision_name", "revisionname", "revision")
_PODS = ("pod_name", "podname", "pod", "k8s_pod_name")
_ADDRESSES = ("serverip", "podip", "pod_ip")
_NAMESPACES = ("namespace_name", "namespacename", "revisionnamespace", "namespace", "k8s_namespace_name")
_REQUESTS = ("traceid", "trace_id", "requestid", "request_id", "x-request-id", "trace")
_SCHEMA = {
    "function": pl.String,
    "user": pl.String,
    "pod": pl.String,
    "request": pl.String,
    "arrive_us": pl.Int64,
    "start_us": pl.Int64,
    "end_us": pl.Int64,
}


def run(intake: Intake) -> None:
    """Read all files, find the first request of every pod, and judge each request."""
    known = intake.shared.get("pods")
    log_time = intake.options.get("log_time") or _time_meant(intake, known)
    if log_time not in ("end", "start"):
        raise InputError(f"log_time is `end` or `start`, got {log_time!r}")
    intake.keep("log_time", log_time)
    skew_us = _skew_us(intake)
    if known is not None and "clock_skew" not in intake.options:
        _warn_of_skew(intake, known, ends=log_time == "end")
    calls = FirstCalls(known, infer=intake.options.get("infer", "yes") != "no")
    frames = (_shifted(frame, skew_us) for frame in _frames(intake, ends=log_time == "end"))
    for frame in judge_log(frames, calls, known, intake.spool):
        intake.append("request", frame)
        functions = frame.group_by("function").agg(pl.col("user").first(), trigger=pl.lit("http"))
        intake.append("function", functions.sort("function"))
    intake.censor(calls.num_censored)


def _skew_us(intake: Intake) -> int:
    try:
        return round(float(intake.options.get("clock_skew", 0)) * 1e6)
    except (ValueError, OverflowError):
        raise InputError(f"clock_skew is a number of seconds, got {intake.options['clock_skew']!r}") from None


def _shifted(frame: pl.DataFrame, skew_us: int) -> pl.DataFrame:
    """The frame by the clock of the cluster."""
    return frame.with_columns(pl.col("arrive_us", "start_us", "end_us") - skew_us) if skew_us else frame


def _warn_of_skew(intake: Intake, known: KnownPods, *, ends: bool) -> None:
    """Say so where the clock of the log seems to be another one than that of the cluster."""
    first_us: dict[str, int] = {}
    for file in intake.files:
        with file.open() as stream:
            for _, line in islice(stream.lines(), _PROBED_LINES):
                facts = flattened(line.decode("utf-8", "replace"))
                row = facts if isinstance(facts, str) else _read(facts, intake.options.get("function"), ends=ends)
                if not isinstance(row, str) and row[2] is not None:
                    first_us[row[2]] = min(row[4], first_us.get(row[2], row[4]))
    pods = {name: found[0] for name in first_us if len(found := known.named(name)) == 1 and found[0].is_trusted}
    columns = [(first_us[name], pod.created_us, pod.ready_us or pod.created_us) for name, pod in pods.items()]
    skew_us = clock_skew_us(*zip(*columns, strict=True)) if columns else None
    if skew_us is not None:
        way = "ahead of" if skew_us > 0 else "behind"
        seconds = f"{skew_us / 1e6:g}"
        text = f"the log's clock seems {seconds.lstrip('-')} s {way} the cluster's (pods): --set clock_skew={seconds}"
        intake.warn(text, len(columns))


def _frames(intake: Intake, *, ends: bool) -> Iterator[pl.DataFrame]:
    keys = RecentKeys()
    for file in intake.each():
        rows: list[tuple[Any, ...]] = []
        for row in _calls(intake, file, keys, ends=ends):
            rows.append(row)
            if len(rows) >= _FRAME_ROWS:
                yield pl.DataFrame(rows, _SCHEMA, orient="row")
                rows = []
        if rows:
            yield pl.DataFrame(rows, _SCHEMA, orient="row")


def _calls(intake: Intake, file: SourceFile, keys: RecentKeys, *, ends: bool) -> Iterator[tuple[Any, ...]]:
    """The requests of a file."""
    reject = intake.refuse(file)
    latest_us = 0
    for line, text in intake.lines(file):
        facts = flattened(text)
        row = facts if isinstance(facts, str) else _read(facts, intake.options.get("function"), ends=ends)
        if isinstance(row, str):
            if row == _PROBE:
                intake.warn(_PROBE)
            else:
                reject(line, row, text[:300])
            continue
        request, end_us = row[3], row[6]
        again = keys.seen(request, row) if request else ""
        if again == "same":
            reject(line, "the same request a second time", text[:300])
            continue
        intake.warn("request id used more than once", int(again == "other"))
        intake.warn("time running backwards by more than 60 s", int(end_us < latest_us - 60_000_000))
        latest_us = max(latest_us, end_us)
        yield row


def _time_meant(intake: Intake, known: KnownPods | None) -> str:
    """What the times of the lines are: no request can have ended before its pod was ready, so where most first lines
    of pods have earlier times than that, the times are of the starts."""
    first_us: dict[str, int] = {}
    for file in intake.files if known is not None else ():
        with file.open() as stream:
            for _, line in islice(stream.lines(), _PROBED_LINES):
                facts = flattened(line.decode("utf-8", "replace"))
                moment_us = None if isinstance(facts, str) else unix_us(_first(facts, _TIMES))
                if isinstance(facts, dict) and moment_us is not None:
                    pod = str(_first(facts, _PODS) or _host(_first(facts, _ADDRESSES)))
                    first_us[pod] = min(moment_us, first_us.get(pod, moment_us))
    verdicts = []
    for key, moment_us in first_us.items():
        pods = known.named(key) if known is not None else []
        if len(pods) == 1 and pods[0].is_trusted and pods[0].ready_us is not None:
            if moment_us < pods[0].ready_us + RESOLUTION_US:
                verdicts.append(moment_us < pods[0].ready_us)
            elif moment_us < pods[0].ready_us + 10 * RESOLUTION_US:
                verdicts.append(False)
    return "start" if sum(verdicts) * 2 > len(verdicts) else "end"


_PROBE = "probe of the platform, left out"


def flattened(text: str) -> dict[str, Any] | str:
    """The fields of one log line by their lower-case names, those of inner objects included; or why it is none.

    >>> flattened('2026-05-01T00:00:00Z {"httpRequest": {"latency": "0.1s"}}')["latency"]
    '0.1s'
    """
    prefix = _PREFIX.match(text)
    if prefix is None:
        return "no JSON object in the line"
    try:
        record = json.loads(text[prefix.end() :])
    except (json.JSONDecodeError, RecursionError):
        return "not JSON"
    facts: dict[str, Any] = {}
    if prefix["time"]:
        facts["time"] = prefix["time"]
    if prefix["pod"]:
        facts["pod_name"] = prefix["pod"]
    _collect(record, facts, 0)
    return facts


def _collect(record: dict[str, Any], facts: dict[str, Any], depth: int) -> None:
    for name, value in record.items():
        if isinstance(value, dict):
            if depth < 4 and (name in _INNER or name.lower() in _INNER):
                _collect(value, facts, depth + 1)
        elif name in _WRAPPED and isinstance(value, str) and value.lstrip().startswith("{"):
            try:
                inner = json.loads(value)
            except json.JSONDecodeError:
                continue
            if isinstance(inner, dict) and depth < 4:
                _collect(inner, facts, depth + 1)
        else:
            facts.setdefault(name.lower(), value)


def _read(facts: dict[str, Any], function: str | None, *, ends: bool) -> tuple[Any, ...] | str:
    agent = str(facts.get("useragent") or "").lower()
    if agent.startswith(_PROBES):
        return _PROBE
    moment_us = unix_us(_first(facts, _TIMES))
    if moment_us is None:
        return "no time: log with `kubectl logs --timestamps`, or add a time to the template"
    latency = facts.get("latency")
    latency_us = duration_us(latency) if isinstance(latency, str) else None
    if latency_us is None:
        try:
            latency_us = round(float(str(latency)) * 1e6)
        except (ValueError, OverflowError):
            return "no latency"
    if latency_us < 0:
        return "negative latency"
    arrive_us = moment_us - latency_us if ends else moment_us
    pod = _first(facts, _PODS) or _host(_first(facts, _ADDRESSES))
    namespace = str(_first(facts, _NAMESPACES) or "")
    function = function or _function(facts, namespace, pod)
    if not function:
        return "neither service, revision nor pod in the line: add .Revision.Name and .Revision.PodName to the template"
    request = str(_first(facts, _REQUESTS) or "") or None
    named = None if pod is None else str(pod)
    return function, namespace or None, named, request, arrive_us, arrive_us, arrive_us + latency_us


def _function(facts: dict[str, Any], namespace: str, pod: Any) -> str:
    service = _first(facts, _SERVICES)
    revision = service or _first(facts, _REVISIONS) or pod
    if not service and revision:
        match = _REVISION.fullmatch(str(revision))
        service = match[1] if match else None
    if not service:
        service = urlsplit(str(facts.get("requesturl") or "")).hostname or revision
    return qualified(namespace, str(service)) if service else ""


def _host(address: Any) -> str | None:
    text = str(address or "")
    return (text.rsplit(":", 1)[0] if text.count(":") == 1 else text) or None


def _first(facts: dict[str, Any], names: tuple[str, ...]) -> Any:
    for name in names:
        value = facts.get(name)
        if value not in (None, "", "<no value>"):
            return value
    return None
