"""What the daemon tells Prometheus. Names start with `nonet_power_`, units are base units (watts, hertz, seconds)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from nonet.power.policies.protocol import Priority

_LATENCY_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120)


class RowMetrics:
    """The metrics of one row, in a registry of their own.

    Args:
        row: label of the row.
        max_clock_hz: the clock at level 1.

    >>> metrics = RowMetrics("a", 1.41e9)
    >>> metrics.observe_power(150e3, 200e3)
    >>> metrics.registry.get_sample_value("nonet_power_row_utilization_ratio", {"row": "a"})
    0.75
    """

    def __init__(self, row: str, max_clock_hz: float) -> None:
        self.registry = CollectorRegistry()
        self._row = row
        self._max_clock_hz = max_clock_hz
        self._power = self._gauge("row_power_watts", "Power of the row, latest usable sample.")
        self._budget = self._gauge("row_budget_watts", "Budget of the row now.")
        self._utilization = self._gauge("row_utilization_ratio", "Power over budget.")
        self._mode = self._gauge("policy_mode", "Mode of the policy (POLCA: 0 to 3).")
        self._brake = self._gauge("brake_engaged", "1 while the policy holds the brake.")
        self._age = self._gauge("telemetry_age_seconds", "Age of the latest usable sample.")
        self._in_flight = self._gauge("commands_in_flight", "1 while any command is neither confirmed nor given up.")
        self._given_up = self._gauge("servers_given_up", "Servers whose latest command was given up.")
        self._dry = self._gauge("dry_run", "1 when nothing is written.")
        self._training = self._gauge("training_suspected", "1 while the row swings as a training job does.")
        self._lag = self._gauge("loop_lag_seconds", "How late the last control period began.")
        self._level = self._gauge("cap_level_ratio", "Lowest cap in force, share of the highest clock.", "priority")
        self._clock = self._gauge("cap_clock_hertz", "Lowest cap in force as a clock.", "priority")
        self._capped_servers = self._gauge("capped_servers", "Servers under a cap.", "priority")
        self.commands = self._counter("commands", "Writes by back end and result.", "backend", "result")
        self.orders = self._counter("orders", "Commands of the policy.", "action")
        self._brakes = self._counter("brakes", "BRAKE commands of the policy.")
        self._capped_s = self._counter("capped_seconds", "Server-seconds under a cap.", "priority")
        self.rejected = self._counter("samples_rejected", "Samples that the guards refused.", "reason")
        self.telemetry_errors = self._counter("telemetry_errors", "Questions to the source without an answer.")
        self.journal_errors = self._counter("journal_errors", "Steps that could not be written down.")
        self.clock_jumps = self._counter("clock_jumps", "Jumps of the wall clock.")
        self.drifts = self._counter("drifts", "Read-backs that found another level than ours.")
        self.latency = Histogram(
            "nonet_power_command_latency_seconds",
            "From sending a write to its read-back.",
            ["row", "backend", "action"],
            registry=self.registry,
            buckets=_LATENCY_BUCKETS_S,
        )
        for metric in (self._brakes, self.telemetry_errors, self.journal_errors, self.clock_jumps, self.drifts):
            metric.labels(row)  # counters exist from the start, so that rate() sees the first increase
        for priority in Priority:
            self._capped_s.labels(row, priority.name.lower())

    def observe_power(self, power_w: float, budget_w: float) -> None:
        """A usable sample came."""
        self._power.labels(self._row).set(power_w)
        self._budget.labels(self._row).set(budget_w)
        self._utilization.labels(self._row).set(power_w / budget_w)

    def observe_training(self, trains: bool) -> None:
        """Whether a training job is suspected in the row."""
        self._training.labels(self._row).set(float(trains))

    def observe_state(
        self, *, mode: object, brake: bool, age_s: float, in_flight: bool, given_up: int, dry: bool, lag_s: float
    ) -> None:
        """After each control period."""
        for gauge, value in (
            (self._mode, float(mode) if isinstance(mode, (int, float)) else math.nan),
            (self._brake, float(brake)),
            (self._age, age_s),
            (self._in_flight, float(in_flight)),
            (self._given_up, float(given_up)),
            (self._dry, float(dry)),
            (self._lag, lag_s),
        ):
            gauge.labels(self._row).set(value)

    def observe_caps(
        self,
        priorities: Sequence[int],
        levels: Sequence[float],
        braked: Sequence[bool],
        brake_level: float,
        passed_s: float,
    ) -> None:
        """Levels in force, by server, and the time for which they have been so."""
        for priority in Priority:
            own = [
                brake_level if brake else level
                for level, brake, p in zip(levels, braked, priorities, strict=True)
                if p == priority
            ]
            lowest, capped = min(own, default=1.0), sum(level < 1.0 for level in own)
            labels = (self._row, priority.name.lower())
            self._level.labels(*labels).set(lowest)
            self._clock.labels(*labels).set(lowest * self._max_clock_hz)
            self._capped_servers.labels(*labels).set(capped)
            self._capped_s.labels(*labels).inc(capped * passed_s)

    def count_order(self, action: str, brake: bool) -> None:
        """A command of the policy."""
        self.orders.labels(self._row, action).inc()
        if brake:
            self._brakes.labels(self._row).inc()

    def count(self, metric: Counter, *labels: str) -> None:
        """One more, under this row."""
        metric.labels(self._row, *labels).inc()

    def observe_write(self, backend: str, action: str, result: str, took_s: float) -> None:
        """A write was answered."""
        self.commands.labels(self._row, backend, result).inc()
        self.latency.labels(self._row, backend, action).observe(took_s)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"nonet_power_{name}", text, ["row", *labels], registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"nonet_power_{name}", text, ["row", *labels], registry=self.registry)
