"""One row's control loop, a step at a time: reading -> guard -> policy -> ledger -> journal -> servers.

The order within a step is what makes a crash harmless: what is decided is committed to the journal together with the
state that follows from it, and only then sent. A process that dies before the commit has decided nothing; one that
dies after it leaves writes in flight that the next process sends again under their old keys.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from nonet.power.controlling.clock import Clock
from nonet.power.controlling.config import RowFile
from nonet.power.controlling.journal import Answer, Journal, JournalError
from nonet.power.controlling.metrics import RowMetrics
from nonet.power.controlling.row_state import RowState
from nonet.power.controlling.sampling import Stamps
from nonet.power.controlling.saying import say
from nonet.power.controlling.telemetry.protocol import Reading
from nonet.power.controlling.watching import TRAINING_RISES, SampleGuard
from nonet.power.controlling.writing import Carrier, Outcome, Result
from nonet.power.policies.guards import TRAINING_RISE_2S
from nonet.power.policies.ledger import CommandLedger, Write
from nonet.power.policies.protocol import Action, Command, Policy, Priority, Sample

SAVED_EVERY_S = 10.0
_SHOWN = 5
_MOST_EVENTS = 1000


@dataclass
class _Step:
    """What one step will commit and then send."""

    commands: list[Command] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)


class Controller:
    """Decides, writes down, sends. Knows no threads, sockets or signals.

    Args:
        row: the checked row file.
        policy: decides; used by nobody else.
        ledger: what is wanted and known of the servers.
        carrier: sends writes.
        journal: written before anything is sent.
        clock: control time.
        metrics: told after each step.
        live: servers that are written to; the others are only recorded.
    """

    def __init__(
        self,
        row: RowFile,
        policy: Policy,
        ledger: CommandLedger,
        carrier: Carrier,
        journal: Journal,
        clock: Clock,
        metrics: RowMetrics,
        live: frozenset[int] = frozenset(),
    ) -> None:
        self.row, self.policy, self.ledger, self.live = row, policy, ledger, live
        self.view = RowState(row, ledger, clock)
        self.sample: Sample | None = None
        """The latest that the guard believes; what the policy sees, and what levels may be raised on."""
        self.orphans: dict[int, float] = {}
        """Caps in force that the policy knows nothing of, to be lifted once the row is low, by server."""
        self.held: dict[int, float] = {}
        """Targets from before telemetry was lost, of the servers that were capped because of it."""
        self.found: dict[int, float] = {}
        """Levels found at the first start, by server; what `on_exit = "restore"` returns to."""
        self._carrier, self._journal, self._clock, self._metrics = carrier, journal, clock, metrics
        self._stamps = Stamps(clock)
        self._began_s = clock.now_s()
        budgets_w = row.all_budgets_w()
        self._guard = SampleGuard(min(budgets_w), max(budgets_w), row.control.stuck_after_s)
        self._in_force: dict[int, float] = {}  # as last read back, by server
        self._policy_state = self._read_policy_state()  # after its latest good answer
        self._saved = ""
        self._saved_s = self._sampled_s = self._observed_s = -math.inf
        self._overtaken: set[int] = set()  # written to since they were asked for their level
        self._audited = 0
        self._events: list[tuple[str, str]] = []
        self._telemetry_error = self._journal_error = ""
        self._lost = self._policy_failed = False
        self._said: dict[str, str] = {}  # gist of what goes on, by kind

    # -- steps

    def tick(self, reading: Reading | None, error: str = "", lag_s: float = 0.0) -> list[Command]:
        """One control period; the commands that the policy gave.

        Args:
            reading: the latest of the source, perhaps seen before.
            error: why the source did not answer, or empty.
            lag_s: how late this period begins.
        """
        step, now_s = _Step(), self._clock.now_s()
        self._note_times(error)
        self._take_reading(reading)
        self._take_outcomes(step)
        step.writes += self.ledger.advance(now_s)
        self._lift_orphans(step, now_s)
        self._decide(step, now_s)
        self._fail_safe(step, now_s)
        self._finish(step)
        self._audit()
        self._tell(now_s, lag_s)
        return step.commands

    def wake(self) -> None:
        """Between two periods: something landed, or time has come to send something again."""
        step = _Step()
        self._take_outcomes(step)
        step.writes += self.ledger.advance(self._clock.now_s())
        self._finish(step)

    def order(self, commands: Sequence[Command]) -> None:
        """Commands that are not the policy's (adopting, giving back)."""
        step = _Step(commands=list(commands))
        for command in commands:
            step.writes += self.ledger.submit(command, self._clock.now_s())
        self._finish(step)

    def send_again(self, writes: Sequence[Write]) -> None:
        """Writes of a restored ledger."""
        self._finish(_Step(writes=list(writes)))

    def restore_policy(self, state: dict[str, Any]) -> None:
        """Let the policy go on from the state of an earlier process."""
        self.policy.restore(state)
        self._policy_state = self._read_policy_state()

    def next_event_s(self) -> float:
        """When `wake` has something to do, control time."""
        return min(self.ledger.next_event_s(), self._carrier.next_event_s())

    def is_low(self) -> bool:
        """Whether caps may be given back: a fresh sample below `restore_below`, and no brake."""
        sample, control = self.sample, self.row.control
        if sample is None or any(self.ledger.braked):
            return False
        fresh = self._clock.now_s() - sample.measured_at_s <= 3 * self.row.row.telemetry_period_s
        return fresh and sample.power_w < control.restore_below * self.view.budget_w

    def state(self) -> dict[str, Any]:
        """What a restart needs beside the policy's state, as JSON values."""
        return {
            "ledger": self.ledger.state(),
            "live": sorted(self.live),
            "priorities": list(self.ledger.priorities),
            "orphans": sorted(self.orphans.items()),
            "held": sorted(self.held.items()),
            "found": sorted(self.found.items()),
        }

    def event(self, kind: str, text: str) -> None:
        """Say what happened; it is written down with the next step, or by `flush`."""
        say(f"{kind}: {text}")
        self._events.append((kind, text))

    def flush(self) -> None:
        """Write down what is still to be written down."""
        self._finish(_Step())

    def prune(self) -> None:
        """Drop rows of the journal that are older than `keep_days`."""
        try:
            self._journal.prune(self._clock.wall_s() - self.row.control.keep_days * 86400.0)
        except JournalError as error:
            self._journal_failed(error)

    # -- inside

    def _note_times(self, error: str) -> None:
        jump_s = self._stamps.watch()
        if jump_s:
            self._metrics.count(self._metrics.clock_jumps)
            self.event("clock", f"the wall clock jumped by {jump_s:+.1f} s; control goes on by the monotonic clock")
        if error:
            self._metrics.count(self._metrics.telemetry_errors)
        if error != self._telemetry_error:
            self._telemetry_error = error
            self.event("telemetry", error or "the source answers again")

    def _take_reading(self, reading: Reading | None) -> None:
        arrival = self._stamps.arrive(reading)
        if arrival is None:
            return
        if arrival.note:
            self._say_once("time stamps", arrival.note)
        else:
            self._said.pop("time stamps", None)
        self.view.take_server_power(arrival.server_power_w)
        reason = self._guard.refusal(arrival.sample)
        if reason:
            self._metrics.count(self._metrics.rejected, reason.split(":")[0])
            self._say_once("guard", f"sample of {arrival.sample.power_w:g} W not believed: {reason}")
            return
        self._said.pop("guard", None)
        self.sample, budget_w = arrival.sample, self.view.budget_w
        self._guard.note(arrival.sample, budget_w, self._has_just_let_go())
        self.ledger.note_sample(arrival.sample.measured_at_s)
        self._metrics.observe_power(arrival.sample.power_w, budget_w)
        if self._clock.now_s() - self._sampled_s >= self.row.control.samples_every_s:
            self._sampled_s = self._clock.now_s()
            self._write_sample(arrival.sample.power_w, budget_w)

    def _has_just_let_go(self) -> bool:
        """Whether row power may rise because of us: under a brake, or after something landed."""
        row = self.row.row
        wait_s = row.brake_latency_s + 3 * row.telemetry_period_s
        return any(self.ledger.braked) or self._clock.now_s() - self.ledger.last_landed_s <= wait_s

    def _watch_training(self, now_s: float) -> bool:
        trains = self._guard.trains(now_s)
        if trains:
            self._say_once(
                "training",
                f"row power rose by more than {TRAINING_RISE_2S:.0%} of the budget between samples {TRAINING_RISES} "
                "times within an hour: a training job is in the row. Take its servers out; low priority stays capped "
                "for an hour after the last such rise",
            )
        else:
            self._said.pop("training", None)
        self._metrics.observe_training(trains)
        return trains

    def _take_outcomes(self, step: _Step) -> None:
        before = len(self._events)
        for outcome in self._carrier.poll():
            if outcome.write is None:
                step.writes += self._take_read_back(outcome)
            else:
                step.writes += self._take_answer(outcome, outcome.write, step)
        told = self._events[before:]
        for kind, text in told[:_SHOWN]:
            say(f"{kind}: {text}")
        if len(told) > _SHOWN:
            say(f"and {len(told) - _SHOWN} more such lines, in the journal")

    def _take_answer(self, outcome: Outcome, write: Write, step: _Step) -> list[Write]:
        now_s, result = self._clock.now_s(), outcome.result
        step.answers.append(Answer(write.key, write.attempt, str(result), outcome.detail, now_s))
        self._metrics.observe_write(outcome.backend, str(write.action), str(result), outcome.took_s)
        if result is not Result.LANDED:
            self._events.append(
                ("write", f"{write.action} {write.level:.3f} ({write.key}): {result}: {outcome.detail}")
            )
        if result is Result.LANDED:
            if self._is_stray(outcome.server):
                del self.orphans[outcome.server]
            if outcome.level is not None:
                self._in_force[outcome.server] = outcome.level
            # A device may have a floor above the level ordered; what it then has in force is the lowest it can.
            level = None if outcome.level is None else min(outcome.level, write.level)
            return self.ledger.confirm(write.key, now_s, level)
        if result in (Result.REFUSED, Result.LOST):
            return self.ledger.refuse(write.key, now_s)
        if result is Result.FORBIDDEN:
            return self.ledger.refuse(write.key, now_s, retry=False)
        return []  # unanswered: the ledger's time-out sends it again

    def _take_read_back(self, outcome: Outcome) -> list[Write]:
        server, level = outcome.server, outcome.level
        if level is None or self._is_stray(server) or server in self._overtaken:
            return []
        expected = self._expected(server)
        if abs(level - expected) <= self.ledger.config.resolution and server not in self.ledger.given_up:
            return []
        if abs(level - expected) > self.ledger.config.resolution:
            self._metrics.count(self._metrics.drifts)
            self.event(
                "drift", f"server {server}: level {level:.3f} in force, {expected:.3f} was set; setting it again"
            )
        return self.ledger.observe(server, level, self._clock.now_s())

    def _expected(self, server: int) -> float:
        known = self.ledger.config.brake_level if self.ledger.braked[server] else self.ledger.cap_levels[server]
        return self._in_force.get(server, known)

    def _lift_orphans(self, step: _Step, now_s: float) -> None:
        if self.orphans and self.is_low():
            self.event("orphans", f"the row is low: lifting the caps left on {len(self.orphans)} servers")
            ours = tuple(server for server in self.orphans if not self._is_stray(server))
            for server, level in self.orphans.items():
                if server not in ours:
                    step.writes += self.ledger.observe(server, level, now_s)
            self.orphans = {}
            if ours:
                self._submit(Command(Action.CAP, ours, 1.0, "the row is low"), step, now_s)

    def _is_stray(self, server: int) -> bool:
        """Whether a cap that is not ours is on the server: what is wanted there is something else."""
        return server in self.orphans and self.orphans[server] != self.ledger.targets[server]

    def _fail_safe(self, step: _Step, now_s: float) -> None:
        """Cap low priority whatever the policy does, without telemetry and while the row trains; then take it back."""
        control, targets = self.row.control, self.ledger.targets
        last_s = self._began_s if self.sample is None else self.sample.measured_at_s
        trains = self._watch_training(now_s)
        unsafe = (
            trains
            or self._policy_failed
            or now_s - last_s > control.lost_after_periods * self.row.row.telemetry_period_s
        )
        commands: list[Command] = []
        if unsafe:
            milder = [
                server
                for server, priority in enumerate(self.ledger.priorities)
                if priority == Priority.LOW and targets[server] > control.lost_level
            ]
            if milder:
                why = "training job in the row" if trains else "fail safe"
                self.held |= {server: targets[server] for server in milder}
                commands = [Command(Action.CAP, tuple(milder), control.lost_level, why)]
        elif self.held:
            by_level: dict[float, list[int]] = {}
            for server, level in self.held.items():
                if targets[server] == control.lost_level:  # else the policy has ordered something since
                    by_level.setdefault(level, []).append(server)
            commands = [Command(Action.CAP, tuple(own), level, "end of fail safe") for level, own in by_level.items()]
            self.held = {}
        for command in commands:
            self._submit(command, step, now_s)

    def _audit(self) -> None:
        """Ask for the levels of some servers, so that all are read once in `readback_period_s`."""
        if not self.live:
            return
        servers = sorted(self.live)
        share = self.row.row.telemetry_period_s / self.row.control.readback_period_s
        for _ in range(min(len(servers), math.ceil(len(servers) * share))):
            self._audited = (self._audited + 1) % len(servers)
            self.read_back(servers[self._audited])

    def read_back(self, server: int) -> None:
        """Ask a server for its level."""
        if self._carrier.read_back(server, self._expected(server)):
            self._overtaken.discard(server)

    def _decide(self, step: _Step, now_s: float) -> None:
        """Take the policy's commands. A defect in a policy must not end control: it counts as being blind."""
        try:
            for command in self.policy.decide(now_s, self.sample, self.view):
                self._submit(command, step, now_s)
            self._policy_state = self._read_policy_state()
        except Exception as error:
            self._policy_failed = True
            self._say_once("policy", f"{self.policy.name} failed: {type(error).__name__}: {error}")
        else:
            self._policy_failed = False
            self._said.pop("policy", None)

    def _read_policy_state(self) -> dict[str, Any]:
        state = self.policy.state()
        json.dumps(state, allow_nan=False)  # raises here, not in the middle of a commit
        return state

    def _submit(self, command: Command, step: _Step, now_s: float) -> None:
        step.writes += self.ledger.submit(command, now_s)
        step.commands.append(command)
        self._metrics.count_order(str(command.action), command.action is Action.BRAKE)
        say(f"{command.action} {self._named(command)}: {command.reason}")

    def _named(self, command: Command) -> str:
        """Whom a command is for, and the level that a cap sets."""
        if isinstance(command.servers, Priority):
            who = f"{command.servers.name.lower()} priority"
        else:
            who = (
                "all servers"
                if len(command.servers) == len(self.ledger.priorities)
                else f"{len(command.servers)} servers"
            )
        return f"{who} to {command.level:.3f}" if command.action is Action.CAP else who

    def _say_once(self, kind: str, text: str) -> None:
        """Say what goes on for many periods when it begins; numbers alone do not make it new."""
        gist = re.sub(r"[-+.\d]+", "#", text)
        if self._said.get(kind) != gist:
            self._said[kind] = gist
            self.event(kind, text)

    def _finish(self, step: _Step) -> None:
        """Commit, then send. A journal that cannot be written (a full disk) does not stop control."""
        now_s = self._clock.now_s()
        policy = {"name": self.policy.name, "state": self._policy_state}
        policy_text = json.dumps(policy, sort_keys=True)
        parts: dict[str, Any] = {} if policy_text == self._saved else {"policy": policy}
        # The ledger of a row of thousands is long; while nothing moves, only the time of its sample changes.
        if step.commands or step.writes or step.answers or now_s - self._saved_s >= SAVED_EVERY_S:
            parts["row"] = self.state()
        if parts or self._events:
            try:
                self._journal.commit(
                    parts | {"clock": self._clock.state()},
                    step.commands,
                    step.writes,
                    dry=not self.live,
                    control_s=now_s,
                    wall_s=self._clock.wall_s(),
                    answers=step.answers,
                    events=self._events,
                )
                if self._journal_error:
                    say("journal: it can be written again")
                self._events = []
                self._saved, self._journal_error = policy_text, ""
                self._saved_s = now_s if "row" in parts else self._saved_s
            except JournalError as error:
                del self._events[:-_MOST_EVENTS]
                self._journal_failed(error)
        self._overtaken.update(write.server for write in step.writes)
        self._carrier.send(step.writes)

    def _write_sample(self, power_w: float, budget_w: float) -> None:
        mode = str(self._policy_state.get("mode", ""))
        try:
            self._journal.sample(self._clock.now_s(), self._clock.wall_s(), power_w, budget_w, mode)
        except JournalError as error:
            self._journal_failed(error)

    def _journal_failed(self, error: JournalError) -> None:
        self._metrics.count(self._metrics.journal_errors)
        if not self._journal_error:
            say(f"journal: {error}; control goes on without it")
        self._journal_error = str(error)

    def _tell(self, now_s: float, lag_s: float) -> None:
        """Metrics, and a word when telemetry is lost or back."""
        age_s = math.inf if self.sample is None else now_s - self.sample.measured_at_s
        lost = age_s > 3 * self.row.row.telemetry_period_s
        if lost != self._lost:
            self._lost = lost
            self.event("telemetry", _lost(age_s) if lost else "fresh samples again")
        self._metrics.observe_state(
            mode=self._policy_state.get("mode"),
            brake=any(self.ledger.braked),
            age_s=age_s,
            in_flight=self.ledger.in_flight,
            given_up=len(self.ledger.given_up),
            dry=not self.live,
            lag_s=lag_s,
        )
        passed_s = now_s - self._observed_s if math.isfinite(self._observed_s) else 0.0
        self._observed_s = now_s
        self._metrics.observe_caps(
            self.ledger.priorities,
            self.ledger.cap_levels,
            self.ledger.braked,
            self.ledger.config.brake_level,
            passed_s,
        )


def _lost(age_s: float) -> str:
    return f"lost: the latest sample is {age_s:.1f} s old" if math.isfinite(age_s) else "lost: there is no sample yet"
