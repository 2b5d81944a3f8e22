"""How many more GPU servers fit under a row's breaker, and a controller that keeps them there.

Paper: Patel et al., "Characterizing Power Management Opportunities for LLMs in the Cloud" (POLCA), ASPLOS 2024. Rows of
inference servers peak near 79 % of their budget; with low-priority work capped first, 30 % more servers fit. The room
holds the simulator that shows it, the planner that asks it of a row of your own, and the controller that does it.

Map, in the order in which data flow:

- `profiles`: power and time of prompts and decoding by model, batch and clock; their calibration from logs and tables;
- `load`: requests (recorded or a synthetic week), row-power logs, rises, the fit of a base row to them;
- `policies`: what a policy sees and says, POLCA and others, the ledger of commands, shadow mode;
- `simulating`: row, load and policy to power, latency and brakes, event by event;
- `planning`: how many more servers, thresholds against servers, one page;
- `controlling`: the daemon with its back ends and telemetry sources;
- `bench`: the headline experiments; `cli`: the command line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nonet.power.load.base_row import load_base_row
    from nonet.power.load.fit import fit
    from nonet.power.load.requests import RequestLoad
    from nonet.power.load.rises import analyse_rises
    from nonet.power.planning.plan import plan
    from nonet.power.planning.sweep import sweep
    from nonet.power.policies.polca import Polca
    from nonet.power.policies.protocol import Policy
    from nonet.power.policies.registry import build_policy
    from nonet.power.profiles.calibration.from_files import calibrate_logs, calibrate_table
    from nonet.power.profiles.profile import PowerProfile
    from nonet.power.profiles.published import PROFILES
    from nonet.power.simulating.engine import simulate
    from nonet.power.simulating.impact import impact
    from nonet.power.simulating.result import Result
    from nonet.power.simulating.row import Row

__all__ = [
    "PROFILES",
    "Polca",
    "Policy",
    "PowerProfile",
    "RequestLoad",
    "Result",
    "Row",
    "analyse_rises",
    "build_policy",
    "calibrate_logs",
    "calibrate_table",
    "fit",
    "impact",
    "load_base_row",
    "plan",
    "simulate",
    "sweep",
]

_HOMES = {
    "PROFILES": "profiles.published",
    "Polca": "policies.polca",
    "Policy": "policies.protocol",
    "PowerProfile": "profiles.profile",
    "RequestLoad": "load.requests",
    "Result": "simulating.result",
    "Row": "simulating.row",
    "analyse_rises": "load.rises",
    "build_policy": "policies.registry",
    "calibrate_logs": "profiles.calibration.from_files",
    "calibrate_table": "profiles.calibration.from_files",
    "fit": "load.fit",
    "impact": "simulating.impact",
    "load_base_row": "load.base_row",
    "plan": "planning.plan",
    "simulate": "simulating.engine",
    "sweep": "planning.sweep",
}


def __getattr__(name: str) -> Any:
    """Import on first use: the command line must start without compiling kernels."""
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"nonet.power.{_HOMES[name]}"), name)
