"""Two thresholds in thirty lines, for tests of the daemon: what it does with a policy, not what a good policy does."""

from __future__ import annotations

from nonet.power.policies.protocol import Action, Command, Priority

LEVELS = {0: 1.0, 1: 1275 / 1410, 2: 1110 / 1410}


class SmallPolicy:
    """Mode 1 above 80 %, mode 2 above 89 %, brake above 100 %; down when 5 % below; caps when telemetry is old."""

    name = "small"

    def __init__(self, stale_after_periods: float = 3.0) -> None:
        self._stale_after_periods = stale_after_periods
        self.reset()

    def reset(self) -> None:
        self.mode, self.brake, self.good_s = 0, False, float("-inf")

    def decide(self, now_s, sample, view):
        if sample is None:
            return []
        if 0.0 <= sample.power_w < 3.0 * view.budget_w:
            self.good_s = sample.measured_at_s
        if now_s - self.good_s > self._stale_after_periods * view.telemetry_period_s:
            return self._to(max(self.mode, 2), "telemetry lost")
        if self.good_s != sample.measured_at_s:
            return []
        u = sample.power_w / view.budget_w
        if u > 1.0 and not self.brake:
            self.brake = True
            return [Command(Action.BRAKE, p, reason=f"u {u:.2f}") for p in Priority]
        if self.brake and u < 0.8:
            self.brake = False
            return [Command(Action.RELEASE, p, reason=f"u {u:.2f}") for p in Priority]
        if u > 0.89:
            return self._to(2, f"u {u:.2f}")
        if u > 0.80:
            return self._to(max(self.mode, 1), f"u {u:.2f}")
        if u < (0.84 if self.mode == 2 else 0.75) and not view.in_flight:
            return self._to(max(self.mode - 1, 0), f"u {u:.2f}")
        return []

    def _to(self, mode, reason):
        if mode == self.mode:
            return []
        self.mode = mode
        return [Command(Action.CAP, Priority.LOW, LEVELS[mode], reason)]

    def quiet(self, now_s, view):
        return None

    def state(self):
        return {"mode": self.mode, "brake": self.brake}

    def restore(self, state):
        self.mode, self.brake = state["mode"], state["brake"]
