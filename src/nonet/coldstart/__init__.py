"""Where cold starts come from, exactly, and what would cut them: traces and logs in, causes, policies and costs out.

Paper: Joosen et al., "Serverless Cold Starts and Where to Find Them", EuroSys 2025, and its data release (Huawei).
The room holds the paper's analyses as queries, a generator calibrated by its published curves, and an exact simulator
under which policies, the paper's own proposals among them, are compared on the same calls.

Map, in the order in which data flow:

- `importing`: logs and published traces of other platforms into one schema; `data`: where the published ones are;
- `trace`: that schema as Parquet on disk, written so that what is half-done never looks finished;
- `laws`: the two laws that the paper fits; shared by what generates and what analyses;
- `generating`: synthetic traces after the published curves, any number of shards giving the same bytes;
- `simulating`: calls, platform and policy to cold starts, waits, memory; `simulating.policies`: the policies;
- `advising`: causes, recommended changes with their price, configuration files, gates;
- `analytics`: the paper's figures over a trace, beside the published curves; the audit of its claims;
- `bench`: the headline experiments; `cli`: the command line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nonet.coldstart.generating.presets import generate
    from nonet.coldstart.importing.base import IngestReport, ingest
    from nonet.coldstart.simulating.calls import Workload
    from nonet.coldstart.simulating.engine import simulate
    from nonet.coldstart.simulating.platform import Platform, Pools
    from nonet.coldstart.simulating.policies import parse_policy
    from nonet.coldstart.simulating.policies.base import Policy
    from nonet.coldstart.simulating.results import Result, compare
    from nonet.coldstart.simulating.sweep import sweep
    from nonet.coldstart.trace.store import Trace

__all__ = [
    "IngestReport",
    "Platform",
    "Policy",
    "Pools",
    "Result",
    "Trace",
    "Workload",
    "compare",
    "generate",
    "ingest",
    "parse_policy",
    "simulate",
    "sweep",
]

_HOMES = {
    "IngestReport": "importing.base",
    "Platform": "simulating.platform",
    "Policy": "simulating.policies.base",
    "Pools": "simulating.platform",
    "Result": "simulating.results",
    "Trace": "trace.store",
    "Workload": "simulating.calls",
    "compare": "simulating.results",
    "generate": "generating.presets",
    "ingest": "importing.base",
    "parse_policy": "simulating.policies",
    "simulate": "simulating.engine",
    "sweep": "simulating.sweep",
}


def __getattr__(name: str) -> Any:
    """Import on first use: the command line must start without compiling kernels."""
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"nonet.coldstart.{_HOMES[name]}"), name)
