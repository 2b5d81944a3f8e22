"""Scenarios of the Knative autoscaler as data: run them and compare every decision.

The file holds `{"scenarios": [{"name", "spec": {...}, "steps": [{"t", "stable", "panic", "ready", "want",
"want_ebc"}]}]}`. Times in seconds; `want_ebc` is met within 1 (Knative's own tests allow for the platform's
rounding), null = not checked.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nonet.coldstart.simulating.kpa import Decision, KpaDecider, KpaSpec
from nonet.common.errors import InputError

_SPEC_FIELDS = {
    "panic_threshold": "panic_threshold",
    "max_up": "max_up",
    "max_down": "max_down",
    "stable_window_s": "stable_window_s",
    "utilization": "utilization",
    "reachable": "reachable",
    "activation_scale": "activation_scale",
    "scale_down_delay_s": "scale_down_delay_s",
    "target": "target_value",
    "tbc": "target_burst_capacity",
}
_OTHER_FIELDS = {"check_ebc", "initial_panic_age_s", "initial_max_panic_pods", "initial_ready", "metric"}
_MAX_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class ScenarioStep:
    """One decision of a scenario beside the wanted one."""

    scenario: str
    step: int
    decision: Decision
    want_pods: int
    want_excess_burst_capacity: int | None

    @property
    def exact(self) -> bool:
        """Pods equal, excess burst capacity within 1 where it is given."""
        want = self.want_excess_burst_capacity
        return self.decision.pods == self.want_pods and (
            want is None or abs(self.decision.excess_burst_capacity - want) <= 1
        )


def run_scenarios(path: Path) -> list[ScenarioStep]:
    """Run every scenario of a file. Raises `InputError` when the file is not of the form above."""
    if path.stat().st_size > _MAX_BYTES:
        raise InputError(f"{path}: larger than {_MAX_BYTES} bytes; scenarios are small files")
    try:
        scenarios = json.loads(path.read_text())["scenarios"]
        return [step for scenario in scenarios for step in run_scenario(scenario)]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a file of KPA scenarios ({error}); see the module's docstring") from None


def run_scenario(scenario: dict[str, Any]) -> list[ScenarioStep]:
    """The decisions of one scenario, step by step; a step may change the spec by its own `spec`."""
    fields = scenario["spec"]
    decider = _decider(fields, float(scenario["steps"][0]["t"]))
    results = []
    for number, step in enumerate(scenario["steps"]):
        if "spec" in step:
            decider.spec = replace(decider.spec, **_spec_arguments(step["spec"]))
        decision = decider.decide(step["t"], step["stable"], step["panic"], step["ready"])
        want_ebc = step.get("want_ebc") if fields.get("check_ebc", True) else None
        results.append(ScenarioStep(scenario["name"], number, decision, step["want"], want_ebc))
    return results


def _decider(fields: dict[str, Any], start_s: float) -> KpaDecider:
    age_s = fields.get("initial_panic_age_s")
    return KpaDecider(
        KpaSpec(**_spec_arguments(fields)),
        ready=fields.get("initial_ready", 0),
        now_s=start_s,
        panic_since_s=None if age_s is None else start_s - age_s,
        max_panic_pods=fields.get("initial_max_panic_pods", 0),
    )


def _spec_arguments(fields: dict[str, Any]) -> dict[str, Any]:
    unknown = set(fields) - set(_SPEC_FIELDS) - _OTHER_FIELDS
    if unknown:
        raise InputError(f"KPA scenario: unknown field {sorted(unknown)[0]!r} (known: {', '.join(_SPEC_FIELDS)})")
    return {_SPEC_FIELDS[name]: value for name, value in fields.items() if name in _SPEC_FIELDS}
