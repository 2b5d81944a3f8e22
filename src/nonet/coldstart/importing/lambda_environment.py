"""What goes on in one execution environment of AWS Lambda (one log stream): initialised, restored, invoked."""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nonet.coldstart.importing.duplicates import RecentKeys
from nonet.coldstart.importing.moments import unix_us

if TYPE_CHECKING:
    from nonet.coldstart.importing.base import Intake

AHEAD_US = 2_000_000
"""An initialisation that ended so long before the first invocation was done ahead of it (provisioned concurrency)."""
_ROUNDING_US = 10
_MAX_OPEN = 50_000
NO_TIME = "no time: export with times (aws logs filter-log-events, or Logs Insights with @timestamp)"


@dataclass(frozen=True, slots=True)
class Report:
    """A REPORT line or a `platform.report`: durations in microseconds, memory in MB, null where it says nothing."""

    request: str
    duration_us: int | None
    init_us: int | None
    restore_us: int | None
    size_mb: float | None
    used_mb: float | None
    moment_us: int | None


@dataclass(slots=True)
class _Init:
    duration_us: int
    end_us: int | None
    kind: str
    phase: str
    failed: bool


@dataclass(slots=True)
class Environment:
    """One log stream; `pod` is its name, None when the log does not tell streams apart."""

    pod: str | None
    function: str
    intake: Intake
    keys: RecentKeys
    version: str | None = None
    kind: str = "on-demand"
    inits: list[_Init] = field(default_factory=list)
    reports_tell: bool = False
    starts: OrderedDict[str, int] = field(default_factory=OrderedDict)
    traces: OrderedDict[str, int] = field(default_factory=OrderedDict)
    ready_us: int | None = None
    created_us: int | None = None
    last_us: int | None = None
    size_mb: float | None = None

    def on_event(self, event: dict[str, Any], moment_us: int | None) -> str | None:
        """One event of the Telemetry API."""
        kind, record = event.get("type"), event.get("record")
        if not isinstance(kind, str) or not isinstance(record, dict):
            return None
        when_us = unix_us(event.get("time"))
        when_us = moment_us if when_us is None else when_us
        metrics = record.get("metrics")
        metrics = metrics if isinstance(metrics, dict) else {}
        if kind == "platform.initStart":
            name = str(record.get("functionName") or self.function)
            mixed = self.pod is None and self.created_us is not None and name != self.function
            self.intake.warn(
                "another function in a log without streams, told apart by the latest start only", int(mixed)
            )
            self.function = name
            self.version = record.get("functionVersion") or self.version
            self.kind = str(record.get("initializationType") or self.kind)
        elif kind == "platform.initReport":
            self.kind = str(record.get("initializationType") or self.kind)
            return self.on_init(_us(metrics, "durationMs"), record.get("phase"), record.get("status"), when_us)
        elif kind == "platform.restoreReport":
            return self.on_restore(_us(metrics, "durationMs"), when_us)
        elif kind == "platform.start":
            self.on_start(str(record.get("requestId")), when_us)
        elif kind == "platform.report":
            return self.on_report(
                Report(
                    request=str(record.get("requestId")),
                    duration_us=_us(metrics, "durationMs"),
                    init_us=_us(metrics, "initDurationMs"),
                    restore_us=_us(metrics, "restoreDurationMs"),
                    size_mb=_float(metrics.get("memorySizeMB")),
                    used_mb=_float(metrics.get("maxMemoryUsedMB")),
                    moment_us=when_us,
                )
            )
        return None

    def on_init(self, duration_us: int | None, phase: Any, status: Any, moment_us: int | None) -> str | None:
        """An initialisation ended at `moment_us`; why it cannot be used, else None."""
        if duration_us is None or duration_us < 0:
            return "an initialisation without a duration, or with a negative one"
        failed = str(status or "success") not in ("success", "None")
        self.inits.append(_Init(duration_us, moment_us, self.kind, str(phase or "init"), failed))
        return None

    def on_restore(self, duration_us: int | None, moment_us: int | None) -> str | None:
        """A snapshot was restored (SnapStart)."""
        if duration_us is None or duration_us < 0:
            return "a restore without a duration, or with a negative one"
        self.inits.append(_Init(duration_us, moment_us, "restore", "restore", failed=False))
        return None

    def on_start(self, request: str, moment_us: int | None) -> None:
        """An invocation began."""
        _remember(self.starts, request, moment_us)

    def on_trace(self, request: str, moment_us: int | None) -> None:
        """A line of the function itself, with its time and the id of the invocation."""
        if request not in self.traces:
            _remember(self.traces, request, moment_us)

    def on_report(self, report: Report) -> str | None:
        """An invocation ended; why it cannot be used, else None."""
        if report.duration_us is None:
            return "a report without a duration"
        if min(report.duration_us, report.init_us or 0, report.restore_us or 0) < 0:
            return "negative duration"
        start_us, traced_us = self.starts.pop(report.request, None), self.traces.pop(report.request, None)
        if start_us is None:
            start_us = traced_us if report.moment_us is None else report.moment_us - report.duration_us
        if start_us is None:
            return NO_TIME
        again = self.keys.seen(report.request, (self.pod, report.duration_us, report.init_us))
        if again == "same":
            return "the same report a second time"
        self.intake.warn("request id used more than once (retries)", int(again == "other"))
        backwards = self.pod is not None and start_us < (self.last_us or start_us)
        self.intake.warn("time running backwards in one environment", int(backwards))
        cold_us, kind, parts = self._cold(report, start_us)
        self._give(report, start_us, cold_us, kind, parts)
        return None

    def _cold(self, report: Report, start_us: int) -> tuple[int | None, str, dict[str, Any]]:
        """How long this invocation waited for a cold start (None: it was warm), its kind and details."""
        inits = self._inits_before(report)
        ahead = [init for init in inits if _was_ahead(init, start_us)]
        for init in ahead:
            self._give_start(init, None)
        mine = [init for init in inits if init not in ahead]
        # Of an initialisation that failed or timed out, the time is spent before the one that the report tells.
        lost_us = sum(init.duration_us for init in mine if init.failed and init.phase == "init")
        done_us = sum(init.duration_us for init in mine if not (init.failed and init.phase == "init"))
        told_us = report.restore_us if report.restore_us is not None else report.init_us
        parts: dict[str, Any] = {"init_us": told_us if told_us is not None else done_us}
        if lost_us:
            parts["failed_init_us"] = lost_us
        if report.restore_us is not None or any(init.kind == "restore" for init in mine):
            parts = {"restore_us": parts["init_us"]}
            return lost_us + parts["restore_us"], "restore", parts
        if told_us is None and not mine:
            return None, self.kind, {}
        return lost_us + parts["init_us"], self.kind if self.kind != "provisioned-concurrency" else "on-demand", parts

    def _inits_before(self, report: Report) -> list[_Init]:
        """The initialisations that this invocation may have waited for. In a log that does not tell streams apart and
        whose reports tell their own initialisations, only the one of equal length, or failed ones."""
        told_us = report.restore_us if report.restore_us is not None else report.init_us
        self.reports_tell = self.reports_tell or told_us is not None
        if self.pod is not None or not self.reports_tell:
            inits, self.inits = self.inits, []
            return inits
        if told_us is None:
            mine = [init for init in self.inits if init.failed or init.phase == "invoke"]
        else:
            mine = [init for init in self.inits if abs(init.duration_us - told_us) <= _ROUNDING_US][:1]
        self.inits = [init for init in self.inits if init not in mine]
        return mine

    def _give(self, report: Report, start_us: int, cold_us: int | None, kind: str, parts: dict[str, Any]) -> None:
        end_us = start_us + (report.duration_us or 0)
        arrive_us = start_us - (cold_us or 0)
        self.size_mb = report.size_mb or self.size_mb
        self.last_us = end_us
        self.created_us = arrive_us if self.created_us is None else min(self.created_us, arrive_us)
        self.intake.add(
            "request",
            arrive_us=arrive_us,
            start_us=start_us,
            end_us=end_us,
            function=self.function,
            pod=self.pod,
            cold=cold_us is not None,
            request=report.request,
            memory_mb=report.used_mb,
        )
        if cold_us is not None:
            self.ready_us = start_us if self.ready_us is None else self.ready_us
            self._give_cold(arrive_us, cold_us, report.request, {"kind": kind, **parts})
        size = None if self.size_mb is None else round(self.size_mb)
        self.intake.add("function", function=self.function, memory_mb=size, concurrency=1)

    def _give_start(self, init: _Init, request: str | None) -> None:
        if init.end_us is None:
            self.intake.warn("initialisation without a time, left out")
            return
        kind = init.kind if init.kind != "on-demand" else "provisioned"
        kind = "provisioned" if kind == "provisioned-concurrency" else kind
        self.created_us = init.end_us - init.duration_us if self.created_us is None else self.created_us
        self.ready_us = init.end_us if self.ready_us is None else self.ready_us
        self._give_cold(
            init.end_us - init.duration_us, init.duration_us, request, {"kind": kind, "init_us": init.duration_us}
        )

    def _give_cold(self, at_us: int, total_us: int, request: str | None, detail: dict[str, Any]) -> None:
        if self.version:
            detail["revision"] = self.version
        if self.size_mb is not None:
            detail["memory_mb"] = round(self.size_mb)
        self.intake.add(
            "coldstart",
            at_us=at_us,
            function=self.function,
            pod=self.pod,
            request=request,
            total_us=total_us,
            detail=json.dumps(detail),
        )

    def finish(self) -> None:
        """The end of the logs: initialisations without an invocation, and the environment as a pod."""
        for init in self.inits:
            if not init.failed:
                self._give_start(init, None)
        self.intake.warn("invocation that began and has no report (cut log)", len(self.starts))
        if self.created_us is not None and self.pod is not None:
            self.intake.add(
                "pod",
                pod=self.pod,
                function=self.function,
                create_us=self.created_us,
                ready_us=self.ready_us,
                memory_mb=None if self.size_mb is None else round(self.size_mb),
            )


class Environments:
    """All environments, by log stream; what a file has without a stream is followed as one."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._keys = RecentKeys()
        self._by_stream: dict[str, Environment] = {}

    def get(self, stream: str | None, file: str, function: str) -> Environment:
        """The environment of a stream (of what a file has without one, per function), made when it is new."""
        key = stream or f"{file}\n{function}"
        environment = self._by_stream.get(key)
        if environment is None:
            environment = Environment(stream, function, self._intake, self._keys)
            environment.version = (stream or "").partition("[")[2].partition("]")[0] or None
            self._by_stream[key] = environment
        return environment

    def finish(self) -> None:
        """The end of the logs."""
        for environment in self._by_stream.values():
            environment.finish()


def _was_ahead(init: _Init, start_us: int) -> bool:
    if init.phase == "invoke" or init.failed or init.kind == "restore":
        return False
    if init.kind == "provisioned-concurrency":
        return True
    return init.end_us is not None and init.end_us + AHEAD_US < start_us


def _remember(moments: OrderedDict[str, int], request: str, moment_us: int | None) -> None:
    if moment_us is not None:
        moments[request] = moment_us
        if len(moments) > _MAX_OPEN:
            moments.popitem(last=False)


def _us(metrics: dict[str, Any], name: str) -> int | None:
    value = _float(metrics.get(name))
    return None if value is None else round(value * 1000)


def _float(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
