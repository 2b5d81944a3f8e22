"""What the policies of this room have in common: judging a sample, going blind, the brake, settling, state.

A policy derives from `RowPolicy` and answers `_regulate` (a usable sample), `_when_blind` (none for a while)
and `_bounds` (within which power it would do nothing). Then:

* A sample is *usable* when it is a positive finite number that is neither dated in the future nor stale.
  More than `IMPLAUSIBLE_U` times the budget is believed only when the next sample (another one, not the same seen
  again) says so too. An unusable sample changes nothing; after `stale_after_periods` periods without a usable one the
  policy is blind.
* Blind policies only tighten. Nothing is uncapped and no brake released without a usable sample.
* The brake falls at `brake_at`, once for each excursion, whatever else is on its way; `release` says how it ends.
* `settled`: nothing is in flight, and `cap_latency_s` and one period have passed since the last change, so that the
  sample shows what the change did. Hysteresis on noisy samples without it oscillates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, Field, ValidationError

from nonet.common.errors import InputError
from nonet.power.policies.protocol import Action, Command, Priority, Quiet, Sample, View
from nonet.power.policies.release import BrakeConfig, BrakeState, next_group, step_gain_u

IMPLAUSIBLE_U = 2.0
"""No row draws twice its budget for long: its breaker would have tripped."""
CLOSE = 1e-9
"""Relative safety of the bounds of a promise against rounding."""
PATIENCE_S = 600.0
"""A fully braked row too small for its steps to fit releases the first one after this long."""

C = TypeVar("C", bound=BaseModel)


class RowConfig(BrakeConfig):
    """What every policy with a brake can be told."""

    stale_after_periods: float = Field(default=3.0, ge=1, description="Blind after so many periods without a sample.")
    hysteresis: float = Field(default=0.05, gt=0, lt=1, description="A mode is left this far below where it begins.")


def checked_config(model: type[C], values: Mapping[str, Any], where: str) -> C:
    """A config from keywords or a TOML table.

    Raises:
        InputError: an unknown key or a bad value; one line.
    """
    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        known = f" (known: {', '.join(model.model_fields)})" if first["type"] == "extra_forbidden" else ""
        raise InputError(f"{where}: {name or 'values'}: {first['msg'].removeprefix('Value error, ')}{known}") from None


class RowPolicy:
    """Base of the policies; see the module."""

    name: str = "row"
    config_model: ClassVar[type[RowConfig]] = RowConfig

    def __init__(self, config: RowConfig | None = None, **values: Any) -> None:
        self.config: Any = config or checked_config(self.config_model, values, self.name)
        self.reset()

    # -- what a policy says

    @property
    def release_below_u(self) -> float:
        """Row power over budget below which a brake may be released."""
        return self.config.brake_at - self.config.hysteresis

    @property
    def room_u(self) -> float:
        """Row power over budget under which a step of a release has to stay."""
        return self.config.brake_at

    def _regulate(self, now_s: float, u: float, view: View, settled: bool) -> list[Command]:
        raise NotImplementedError

    def _when_blind(self, now_s: float, view: View, settled: bool) -> list[Command]:
        raise NotImplementedError

    def _bounds(self, now_s: float, view: View, settled: bool) -> tuple[float, float] | None:
        """(low, high) in row power over budget between which `_regulate` does nothing; None when there are none."""
        raise NotImplementedError

    def _saved(self) -> dict[str, Any]:
        """Own state, JSON values."""
        return {}

    def _load(self, state: dict[str, Any]) -> None:
        """Take own state."""

    # -- the protocol

    def reset(self) -> None:
        """Forget everything."""
        self.brake = BrakeState()
        self.last_change_s = -math.inf
        self._good_s = -math.inf
        self._suspect_s = -math.inf  # when the sample was measured that the next one has to confirm
        self._promised = False

    def decide(self, now_s: float, sample: Sample | None, view: View) -> Sequence[Command]:
        """See `Policy`."""
        self.last_change_s = min(self.last_change_s, now_s)  # a clock that fell back (restart): settle anew
        self.brake.since_s = min(self.brake.since_s, now_s)
        self.brake.last_step_s = min(self.brake.last_step_s, now_s)
        settled = self._settled(now_s, view)
        power_w = self._usable_w(now_s, sample, view)
        self._promised = False
        if now_s - self._good_s > self.config.stale_after_periods * view.telemetry_period_s:
            return [] if self.brake.whole_row else self._when_blind(now_s, view, settled)
        if power_w is None:
            return []
        u = power_w / view.budget_w
        commands = self._brake(now_s, power_w, u, view)
        if not self.brake.whole_row:
            commands += self._regulate(now_s, u, view, settled)
        return commands

    def quiet(self, now_s: float, view: View) -> Quiet | None:
        """See `Policy`."""
        if self._suspect_s > -math.inf or self._good_s == -math.inf:
            return None
        low, high, until_s = self._brake_bounds(now_s, view)
        if not self.brake.whole_row:
            settled = self._settled(now_s, view)
            bounds = self._bounds(now_s, view, settled)
            if bounds is None:
                return None
            low, high = max(low, bounds[0]), min(high, bounds[1])
            if not settled and not view.in_flight:
                until_s = min(until_s, self.last_change_s + self._settling_s(view) - 1e-6)
        self._promised = True
        high = min(high, IMPLAUSIBLE_U)
        return Quiet(max(0.0, low * view.budget_w * (1 + CLOSE)), high * view.budget_w * (1 - CLOSE), until_s)

    def state(self) -> dict[str, object]:
        """See `Policy`."""
        brake = {name: _finite(value) for name, value in vars(self.brake).items()}
        common = {"last_change_s": _finite(self.last_change_s), "good_s": _finite(self._good_s)}
        common |= {"suspect_s": _finite(self._suspect_s), "promised": self._promised}
        return {"policy": self.name, **common, "brake": brake, **self._saved()}

    def restore(self, state: dict[str, Any]) -> None:
        """See `Policy`.

        Raises:
            InputError: the state of another policy, or one that cannot be read.
        """
        if state.get("policy") != self.name:
            raise InputError(f"state of policy {state.get('policy')!r} given to {self.name!r}; start afresh instead")
        self.reset()
        try:
            self.last_change_s, self._good_s = _number(state["last_change_s"]), _number(state["good_s"])
            self._suspect_s, self._promised = _number(state["suspect_s"]), bool(state["promised"])
            self.brake.load(state["brake"])
            self._load(state)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self.reset()
            raise InputError(f"state of policy {self.name!r} cannot be read: {error!r}; start afresh instead") from None

    # -- inside

    def _settling_s(self, view: View) -> float:
        return view.cap_latency_s + view.telemetry_period_s

    def _settled(self, now_s: float, view: View) -> bool:
        return not view.in_flight and now_s - self.last_change_s > self._settling_s(view)

    def _usable_w(self, now_s: float, sample: Sample | None, view: View) -> float | None:
        """The sample's power when it can be believed; keeps when the last such sample was measured."""
        period_s = view.telemetry_period_s
        if self._good_s == -math.inf:
            self._good_s = now_s  # the first call: blind from here on if nothing comes
        self._good_s = min(self._good_s, now_s + period_s)
        if sample is None:
            return None
        if self._promised:
            self._good_s = max(self._good_s, min(sample.measured_at_s, now_s) - period_s)
        age_s = now_s - sample.measured_at_s
        dated = -period_s <= age_s <= self.config.stale_after_periods * period_s
        if not (dated and 0.0 < sample.power_w < math.inf):
            return None
        implausible = sample.power_w > IMPLAUSIBLE_U * view.budget_w
        confirmed = self._suspect_s not in (-math.inf, sample.measured_at_s)  # by another sample, not by itself again
        self._suspect_s = sample.measured_at_s if implausible else -math.inf
        if implausible and not confirmed:
            return None
        self._good_s = max(self._good_s, sample.measured_at_s)
        return sample.power_w

    def _brake(self, now_s: float, power_w: float, u: float, view: View) -> list[Command]:
        brake, config = self.brake, self.config
        if u > config.brake_at and not brake.whole_row:
            brake.pull(now_s, power_w)
            everyone = tuple(range(len(view.priorities)))
            return [Command(Action.BRAKE, everyone, reason=f"u {u:.3f} > {config.brake_at:g}")]
        held = now_s - brake.since_s > config.brake_min_hold_s
        if not (brake.pulled and held and u < self.release_below_u):
            return []
        brake.weigh(power_w)
        if now_s - brake.last_step_s <= self._step_wait_s(view):
            return []
        servers = self._next_group(view)
        if u + self._gain_u(view, len(servers)) >= self.room_u and not self._patience_ended(now_s):
            return []
        num = len(view.priorities)
        brake.step(now_s, num, len(servers))
        what = f"{brake.num_released} of {num} servers" if len(servers) < num else "all servers"
        return [Command(Action.RELEASE, servers, reason=f"release of {what}: u {u:.3f} < {self.release_below_u:g}")]

    def _next_group(self, view: View) -> tuple[int, ...]:
        num_groups = 1 if self.config.release == "immediate" else self.config.release_groups
        return next_group(view.priorities, self.brake.num_released, num_groups)

    def _gain_u(self, view: View, size: int) -> float:
        if self.config.release == "immediate":
            return -math.inf
        before_u, braked_u = self.brake.before_w / view.budget_w, self.brake.braked_w / view.budget_w
        return step_gain_u(size, len(view.priorities), before_u, braked_u, self.config.release_margin)

    def _patience_ended(self, now_s: float) -> bool:
        return self.brake.whole_row and now_s - self.brake.since_s > self.config.brake_min_hold_s + PATIENCE_S

    def _step_wait_s(self, view: View) -> float:
        return view.brake_latency_s + view.telemetry_period_s

    def _brake_bounds(self, now_s: float, view: View) -> tuple[float, float, float]:
        """(low, high, until) between which the brake stays as it is, in row power over budget."""
        brake = self.brake
        if not brake.pulled:
            return -math.inf, self.config.brake_at, math.inf
        high = math.inf if brake.whole_row else self.config.brake_at
        free_s = max(brake.since_s + self.config.brake_min_hold_s, brake.last_step_s + self._step_wait_s(view))
        if now_s < free_s - 1e-6:
            return -math.inf, high, free_s - 1e-6
        low = self.release_below_u
        if not brake.whole_row:
            low = min(low, self.room_u - self._gain_u(view, len(self._next_group(view))))
        return low, high, math.inf


class CappingPolicy(RowPolicy):
    """A policy that sets a level for each class; remembers what it has ordered."""

    def reset(self) -> None:
        """Forget everything; nothing is capped."""
        super().reset()
        self.desired = {Priority.LOW: 1.0, Priority.HIGH: 1.0}

    def _order(self, now_s: float, low: float, high: float, view: View, reason: str) -> list[Command]:
        """Commands for the classes that have servers and whose level is another than ordered last."""
        commands = []
        for priority, level in ((Priority.LOW, low), (Priority.HIGH, high)):
            if level != self.desired[priority]:
                self.desired[priority] = level
                if priority in view.priorities:
                    commands.append(Command(Action.CAP, priority, level, reason))
        return commands

    def _saved(self) -> dict[str, Any]:
        return {"desired": {priority.name.lower(): level for priority, level in self.desired.items()}}

    def _load(self, state: dict[str, Any]) -> None:
        self.desired = {priority: float(state["desired"][priority.name.lower()]) for priority in Priority}


def _finite(value: Any) -> Any:
    return value if math.isfinite(value) else None


def _number(value: Any) -> float:
    return -math.inf if value is None else float(value)
