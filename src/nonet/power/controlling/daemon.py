"""The daemon: builds everything from a row file and runs the control loop until it is told to stop.

Nothing is written unless `apply` is given, and then only to servers of the allow-list; everything else is recorded as
if it had been sent. `replay` takes the time and the readings from a recorded file instead of the world (always dry).

What holds when it ends: at SIGTERM or SIGINT `control.on_exit` (keep | restore); killed, the caps in force stay, and
`control.on_crash` says whether a guardian process does more. A restart on the same journal goes on in the same mode.
Software caps do not replace breakers.
"""

from __future__ import annotations

import math
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nonet.common.errors import InputError, NonetError
from nonet.common.service import Service, make_app
from nonet.power.controlling.actuators.protocol import Actuator, Capability
from nonet.power.controlling.clock import REPLAY_ID, Clock, LiveClock, ReplayClock
from nonet.power.controlling.config import RowFile, allowed
from nonet.power.controlling.controller import Controller
from nonet.power.controlling.gpus import GpuCollector
from nonet.power.controlling.guardian import Guardian
from nonet.power.controlling.journal import Journal
from nonet.power.controlling.metrics import RowMetrics
from nonet.power.controlling.sampling import Poller
from nonet.power.controlling.saying import say
from nonet.power.controlling.starting import (
    build_actuators,
    check_actuators,
    close_actuators,
    require_permission,
    start_controller,
)
from nonet.power.controlling.telemetry.file import FileConfig, recorded
from nonet.power.controlling.telemetry.protocol import TELEMETRY, Reading, Telemetry
from nonet.power.controlling.watching import TOO_HIGH, TOO_LOW
from nonet.power.controlling.writing import Carrier, DryCarrier, LiveCarrier
from nonet.power.policies.guards import row_warnings
from nonet.power.policies.ledger import CommandLedger
from nonet.power.policies.protocol import Action, Command, Policy

_WAKE_PAUSE_S = 0.02  # outcomes of a wave of commands are taken up together
_FIRST_READING_S = 5.0
_PRUNED_EVERY_S = 3600.0
_KEPT_COMMANDS = 100_000


@dataclass(frozen=True)
class RunOptions:
    """What the command line adds to the row file.

    Args:
        apply: write to the servers of the allow-list.
        allow: added to `control.allow`.
        once: one control period, then end.
        replay: recorded row power (CSV) instead of the configured source.
        speed: of the replay, recorded seconds a second; inf does not wait.
    """

    apply: bool = False
    allow: tuple[str, ...] = ()
    once: bool = False
    replay: Path | None = None
    speed: float = math.inf


@dataclass
class RunReport:
    """What a run did.

    Args:
        commands: orders, each with its control time, seconds; the latest 100,000.
        periods: control periods.
        ended: why it ended.
        caps: servers under a cap or the brake at the end.
    """

    commands: list[tuple[float, Command]] = field(default_factory=list)
    periods: int = 0
    ended: str = ""
    caps: int = 0


def run_row(
    row: RowFile,
    policy: Policy | None = None,
    options: RunOptions | None = None,
    *,
    stop: threading.Event | None = None,
) -> RunReport:
    """Control a row until SIGTERM, SIGINT, `stop`, or the end of a replay.

    Args:
        row: the checked row file.
        policy: a fresh policy, the row file's when None; restored from the journal when that has its state.
        options: see `RunOptions`; a dry run when None.
        stop: ends the run when set.

    Raises:
        InputError: the journal is taken or damaged, no allow-list with `apply`, no privileges, a budget or
            telemetry that cannot be meant so.
    """
    options = options or RunOptions()
    servers = row.server_list()
    live = _live_servers(row, options)
    with ExitStack() as stack:
        names = [server.name for server in servers]
        journal = stack.enter_context(Journal(row.control.journal, names, durable=options.replay is None))
        readings = _replayed(row, options)
        first = next(readings, None) if readings is not None else None
        saved = _same_time(journal.saved(dry=not live), first)
        prefix = journal.key_prefix(row.row.name, dry=not live, first=saved is None)
        clock = _clock(options, saved, first)
        wake = threading.Event()
        actuators = _actuators(row, live, dry_check=readings is None, stack=stack)
        metrics = RowMetrics(row.row.name, row.make_scale().max_clock_mhz * 1e6)
        carrier = _carrier(row, actuators, clock, wake)
        stack.callback(carrier.stop)
        one_lever = not all(Capability.BRAKE in actuator.capabilities for actuator in actuators.values())
        ledger = CommandLedger([int(s.priority) for s in servers], row.ledger_config(one_lever), prefix)
        controller = Controller(row, policy or row.make_policy(), ledger, carrier, journal, clock, metrics, live)
        start_controller(controller, saved, actuators, servers, clock.now_s())
        _say_doubts(controller)
        controller.flush()
        loop = _Loop(controller, clock, wake, stop or threading.Event())
        with _signals(loop):
            if readings is not None:
                _check_budget(row, controller, first, refuse=True)
                loop.replay(first, readings)
            else:
                _run_live(row, options, controller, loop, metrics, stack, live)
            _end(controller, loop, journal, live)
    return loop.report


class _Loop:
    """Periods on time, and what comes between them."""

    def __init__(self, controller: Controller, clock: Clock, wake: threading.Event, stop: threading.Event) -> None:
        self.controller, self.clock, self.wake, self.stop = controller, clock, wake, stop
        self.report = RunReport()
        self.guardian: Guardian | None = None
        self.period_s = controller.row.row.telemetry_period_s
        self.beats_at = time.monotonic()  # watched by /readyz
        self.prune_every = max(1, round(_PRUNED_EVERY_S / self.period_s))

    def tick(self, reading: Reading | None, error: str, lag_s: float) -> None:
        """One control period."""
        now_s = self.clock.now_s()
        self.report.commands += [(now_s, command) for command in self.controller.tick(reading, error, lag_s)]
        del self.report.commands[:-_KEPT_COMMANDS]
        self.report.periods += 1
        self.beats_at = time.monotonic()
        _notify("WATCHDOG=1")

    def live(self, poller: Poller, once: bool) -> None:
        """Periods by the clock until told to stop."""
        at_s = self.clock.now_s()
        while not self.stop.is_set():
            self.until(at_s)
            if self.stop.is_set():
                break
            lag_s = self.clock.now_s() - at_s
            self.tick(*poller.latest(), lag_s)
            if self.guardian is not None and self.guardian.renew():
                self.controller.event("guardian", "it had died; another one watches now")
            if self.report.periods % self.prune_every == 0:
                self.controller.prune()
            if once:
                self.settle(self.controller.ledger.config.cap_timeout_s)
                self.report.ended = "one period, as asked"
                return
            # A period that was missed (the machine slept) is left out, not made up for.
            at_s = max(at_s + self.period_s, self.clock.now_s())

    def replay(self, first: Reading | None, rest: Iterator[Reading]) -> None:
        """A period at every recorded time, and at the usual times within gaps."""
        reading, following = first, next(rest, None)
        while reading is not None and not self.stop.is_set():
            self.until(reading.measured_unix_s or 0.0)
            self.tick(reading, "", 0.0)
            end_s = following.measured_unix_s or 0.0 if following is not None else self.clock.now_s()
            while self.clock.now_s() + 1.5 * self.period_s < end_s and not self.stop.is_set():
                self.until(self.clock.now_s() + self.period_s)
                self.tick(reading, "", 0.0)
            reading, following = following, next(rest, None)
        self.report.ended = self.report.ended or "end of the recording"

    def until(self, at_s: float) -> None:
        """Let time pass; what lands or falls due meanwhile is dealt with at its time."""
        while not self.stop.is_set():
            due_s = min(at_s, self.controller.next_event_s())
            self.wake.clear()
            self.clock.wait_until(due_s, self.wake)
            if self.clock.now_s() >= at_s:
                return
            if self.wake.is_set():
                self.stop.wait(_WAKE_PAUSE_S)
            self.controller.wake()

    def settle(self, most_s: float) -> None:
        """Wait until nothing is in flight, at most so long."""
        end_s = self.clock.now_s() + most_s
        while self.controller.ledger.in_flight and self.clock.now_s() < end_s:
            self.wake.clear()
            self.clock.wait_until(min(end_s, self.controller.next_event_s(), self.clock.now_s() + 0.2), self.wake)
            self.controller.wake()


def _run_live(
    row: RowFile,
    options: RunOptions,
    controller: Controller,
    loop: _Loop,
    metrics: RowMetrics,
    stack: ExitStack,
    live: frozenset[int],
) -> None:
    source = TELEMETRY[row.telemetry["source"]].build(row.telemetry_config(), row.server_list())
    _check_budget(row, controller, _first_reading(source), bool(live))
    poller = Poller(source, row.row.telemetry_period_s / 4)
    stack.callback(poller.stop)
    _serve(row, controller, loop, metrics, stack)
    if live and row.control.on_crash != "keep":
        loop.guardian = stack.enter_context(Guardian(row, live))
    _wait_for(poller, loop)
    _notify("READY=1")
    loop.live(poller, options.once)
    _notify("STOPPING=1")


def _live_servers(row: RowFile, options: RunOptions) -> frozenset[int]:
    if not options.apply:
        return frozenset()
    if options.replay is not None:
        raise InputError(
            "--apply with a replay: recorded power says nothing about these servers; leave one of them out"
        )
    patterns = [*row.control.allow, *options.allow]
    if not patterns:
        raise InputError('--apply needs an allow-list: --allow "node[01-52]", or control.allow in the row file')
    return frozenset(allowed(row.server_list(), patterns))


def _replayed(row: RowFile, options: RunOptions) -> Iterator[Reading] | None:
    if options.replay is None:
        return None
    known = {key: value for key, value in row.telemetry.items() if key in FileConfig.model_fields and key != "path"}
    readings = recorded(FileConfig(path=options.replay, **known), row.server_list())
    return _in_order(readings, options.replay)


def _in_order(readings: Iterator[Reading], path: Path) -> Iterator[Reading]:
    last_s = -math.inf
    for reading in readings:
        if (reading.measured_unix_s or 0.0) < last_s:
            raise InputError(f"{path}: time goes back after {last_s:.3f}; sort the recording by time first")
        last_s = reading.measured_unix_s or 0.0
        yield reading


def _same_time(saved: dict[str, Any] | None, first: Reading | None) -> dict[str, Any] | None:
    """The saved state when its time goes on here: a replay goes on after the end of another, nothing else does."""
    if saved is None or "clock" not in saved:
        return None
    recorded_s = saved["clock"]["control_s"] if saved["clock"]["boot_id"] == REPLAY_ID else None
    if first is None:
        return saved if recorded_s is None else None
    return saved if recorded_s is not None and (first.measured_unix_s or 0.0) > recorded_s else None


def _clock(options: RunOptions, saved: Mapping[str, Any] | None, first: Reading | None) -> Clock:
    if options.replay is None:
        return LiveClock(saved["clock"] if saved else None)
    if first is None:
        raise InputError(f"{options.replay}: no reading in it; give a CSV with a time and a power column")
    return ReplayClock(first.measured_unix_s or 0.0, options.speed)


def _actuators(row: RowFile, live: frozenset[int], dry_check: bool, stack: ExitStack) -> dict[int, Actuator]:
    """Back ends of the live servers. A dry run only tries them, and says what would not work."""
    servers = row.server_list()
    if live:
        actuators = build_actuators(row, servers, live)
        stack.callback(close_actuators, actuators)
        require_permission(check_actuators(actuators, servers))
        return actuators
    if dry_check:
        try:
            tried = build_actuators(row, servers, frozenset(range(len(servers))))
            problems: list[Any] = list(check_actuators(tried, servers))
            close_actuators(tried)
        except NonetError as error:
            problems = [error]
        for problem in problems[:5]:
            say(f"dry run: --apply would not work now: {problem}")
    return {}


def _carrier(row: RowFile, actuators: dict[int, Actuator], clock: Clock, wake: threading.Event) -> Carrier:
    dry = DryCarrier(clock, row.row.cap_latency_s, row.row.brake_latency_s)
    if not actuators:
        return dry
    # All servers within a tenth of the latency that policy and ledger reckon with.
    caps_per_s = row.control.caps_per_s or max(20.0, 10 * len(actuators) / max(row.row.cap_latency_s, 1.0))
    return LiveCarrier(
        row.server_list(),
        actuators,
        dry,
        clock,
        wake,
        max_threads=row.control.max_threads,
        caps_per_s=caps_per_s,
    )


def _check_budget(row: RowFile, controller: Controller, reading: Reading | None, refuse: bool) -> None:
    if reading is None or not math.isfinite(reading.power_w) or reading.power_w <= 0:
        return
    budgets_w = row.all_budgets_w()
    if TOO_LOW * min(budgets_w) <= reading.power_w <= TOO_HIGH * max(budgets_w):
        return
    text = (
        f"the row draws {reading.power_w:g} W and its budget is {controller.view.budget_w:g} W: one of them is "
        "in another unit; set row.budget_w in watts, or telemetry.unit"
    )
    if refuse:
        raise InputError(text)
    controller.event("start", text)


def _first_reading(source: Telemetry) -> Reading | None:
    """What the source says now. One that is misconfigured is refused at once, one that fails may come back.

    Raises:
        InputError: the source cannot be read with these settings.
    """
    try:
        return source.read()
    except InputError:
        raise
    except Exception:  # the poller meets it again, and says so
        return None


def _say_doubts(controller: Controller) -> None:
    """What is odd about the policy's thresholds on this row."""
    config: Any = getattr(controller.policy, "config", None)
    if hasattr(config, "t1") and hasattr(config, "t2"):
        for text in row_warnings(controller.ledger.priorities, config.t1, config.t2):
            controller.event("mind", text)


def _wait_for(poller: Poller, loop: _Loop) -> None:
    end_s = loop.clock.now_s() + min(_FIRST_READING_S, 2 * loop.period_s)
    while poller.latest()[0] is None and loop.clock.now_s() < end_s and not loop.stop.is_set():
        loop.stop.wait(0.02)


def _serve(row: RowFile, controller: Controller, loop: _Loop, metrics: RowMetrics, stack: ExitStack) -> None:
    section = row.metrics
    if section.port is None:
        return
    token = os.environ.get(section.token_env or "", "") or None
    if section.token_env and token is None:
        raise InputError(f"metrics.token_env: the environment has no {section.token_env}")
    if section.gpus:
        metrics.registry.register(GpuCollector(socket.gethostname()))

    def ready() -> str:
        silent_s = time.monotonic() - loop.beats_at
        return f"the control loop is silent for {silent_s:.0f} s" if silent_s > 5 * loop.period_s + 5 else ""

    app = make_app(f"nonet power {row.row.name}", registry=metrics.registry, ready=ready, token=token)
    service = Service(app, section.host, section.port, has_token=token is not None).start()
    stack.callback(service.stop)
    controller.event("start", f"metrics at {service.address}/metrics")


def _end(controller: Controller, loop: _Loop, journal: Journal, live: frozenset[int]) -> None:
    """The declared state at an orderly end."""
    control, ledger = controller.row.control, controller.ledger
    capped = [s for s in sorted(live) if ledger.cap_levels[s] < 1.0 or ledger.targets[s] < 1.0 or ledger.braked[s]]
    levels = zip(ledger.cap_levels, ledger.braked, strict=True)
    loop.report.caps = sum(level < 1.0 or braked for level, braked in levels)
    loop.report.ended = loop.report.ended or "asked to stop"
    why_not = "" if controller.is_low() else "the row is not low, or its telemetry is not fresh"
    if not capped or control.on_exit == "keep" or why_not:
        kept = f"{len(capped)} caps stay in force" if live else "dry run, nothing was written"
        reason = f" ({why_not})" if capped and control.on_exit == "restore" else ""
        controller.event("stop", f"{loop.report.ended}: {kept}{reason}")
    else:
        commands = [Command(Action.CAP, (s,), controller.found.get(s, 1.0), "given back at exit") for s in capped]
        controller.order(commands)
        loop.settle(control.exit_timeout_s)
        left = [s for s in capped if ledger.cap_levels[s] < controller.found.get(s, 1.0)]
        controller.event(
            "stop", f"{loop.report.ended}: caps of {len(capped) - len(left)} servers given back, {len(left)} left"
        )
        if not left:
            controller.flush()
            journal.forget_state(dry=False)
            return
    controller.flush()
    controller.prune()


@contextmanager
def _signals(loop: _Loop) -> Iterator[None]:
    """SIGTERM and SIGINT end the loop in order; only the main thread may say so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _: object) -> None:
        loop.report.ended = signal.Signals(number).name
        loop.stop.set()
        loop.wake.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _notify(message: str) -> None:
    """Tell systemd (Type=notify, WatchdogSec=), when it asked to be told."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        try:
            sender.sendto(message.encode(), "\0" + address[1:] if address.startswith("@") else address)
        except OSError:
            return
