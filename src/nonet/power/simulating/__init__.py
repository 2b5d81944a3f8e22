"""The row simulator: requests, servers, clocks and power, event by event.

row.py           a row: servers, latencies; budget.py: budgets over time and the power tree; faults.py: what goes wrong
engine.py        `simulate`; state.py, layout.py, tables.py, _engine_kernels.py: the compiled event loop under it
plant.py         what a policy sees of the row; channel.py: commands on their way to the servers
result.py        what a run found; impact.py: what a policy cost; assembling.py: from state to result
"""

from nonet.power.simulating.budget import BudgetSchedule, FeedFailure, PowerNode
from nonet.power.simulating.engine import simulate
from nonet.power.simulating.faults import ActuationFaults, Latency, TelemetryFault
from nonet.power.simulating.impact import Impact, impact
from nonet.power.simulating.result import Result
from nonet.power.simulating.row import Row, Server

__all__ = [
    "ActuationFaults",
    "BudgetSchedule",
    "FeedFailure",
    "Impact",
    "Latency",
    "PowerNode",
    "Result",
    "Row",
    "Server",
    "TelemetryFault",
    "impact",
    "simulate",
]
