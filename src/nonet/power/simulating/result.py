"""What a simulation found: power by tick, latency by request, energy by phase, commands, and what to doubt."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from nonet.common.arrow import arrow_array
from nonet.common.atomic import atomic_path, atomic_write
from nonet.common.errors import InputError
from nonet.common.jsonable import dumps
from nonet.power.policies.protocol import Priority

if TYPE_CHECKING:
    from nonet.power.load.requests import RequestLoad
    from nonet.power.simulating.budget import BudgetSchedule
    from nonet.power.simulating.row import Row

PHASES = ("base", "idle", "prefill", "decode")
QUANTILES = (0.5, 0.9, 0.99)


@dataclass(frozen=True, eq=False)
class Extrapolation:
    """How much of a run stands on numbers that nobody measured.

    Args:
        prompts: requests whose prompt lies outside the profile's range.
        batch_share: part of the decoding time at a batch outside it.
        level_share: part of the server time at a level below the clocks that the profile's response was fitted on.
    """

    prompts: int
    batch_share: float
    level_share: float

    def __bool__(self) -> bool:
        return self.prompts > 0 or self.batch_share > 0 or self.level_share > 0


@dataclass(frozen=True, eq=False)
class Result:
    """One simulated run.

    Args:
        row, load: what was simulated.
        policy: name of the policy, "none" without.
        seed: of the faults and latencies.
        duration_s: end of the last telemetry period.
        row_w: float32 (ticks), mean power of the row in each telemetry period, watts.
        seen_w: float32 (ticks), what the telemetry told before faults: `row_w`, or the tightest node of the power tree
            in terms of the row's budget.
        node_w: float32 (nodes, ticks).
        ttft_s, e2e_s: float64 (requests), arrival to first and last token; NaN for what had not come by the end.
        energy_j: by phase, float64 (servers).
        row_energy_j: integral of the row's power.
        tokens_done, prefill_done_s: float64 (servers), decoded tokens, and prompt work in seconds at level 1.
        capped_s: seconds of a class's servers together, by (class, level), for levels below 1.
        brakes: BRAKE commands of the policy.
        commands: what the policy ordered, one row each: time_s, action, priority, servers, level, reason.
        landings: what took effect: time_s, action, servers, level in force on them from then on (of shared servers
            the pods: server, or server + number of servers for high priority).
        ledger_counts: writes sent, resent, landed, late, refused, given up.
        extrapolation: what to doubt.
        strictest_s: server seconds in which high-priority requests ran at a level that only the low class was told
            (shared servers).

    >>> from nonet.power import RequestLoad, Row, PROFILES, simulate
    >>> row = Row.uniform(2, PROFILES["a100-bloom-176b-tp8"], budget_w=12_000)
    >>> result = simulate(row, RequestLoad.of([0.0, 1.0], [1024, 512], [200, 10], priority=[0, 1]))
    >>> result.unfinished(), result.tokens(Priority.LOW), result.brakes, 0.4 < result.peak < 1
    (0, 200, 0, True)
    """

    row: Row
    load: RequestLoad
    policy: str
    seed: int
    duration_s: float
    row_w: NDArray[np.float32]
    seen_w: NDArray[np.float32]
    node_w: NDArray[np.float32]
    ttft_s: NDArray[np.float64]
    e2e_s: NDArray[np.float64]
    energy_j: Mapping[str, NDArray[np.float64]]
    row_energy_j: float
    tokens_done: NDArray[np.float64]
    prefill_done_s: NDArray[np.float64]
    capped_s: Mapping[tuple[Priority, float], float]
    brakes: int
    commands: pa.Table
    landings: pa.Table
    extrapolation: Extrapolation
    ledger_counts: Mapping[str, int] = field(default_factory=dict)
    strictest_s: float = 0.0

    @property
    def period_s(self) -> float:
        """Telemetry period, seconds."""
        return self.row.telemetry_period_s

    @property
    def utilization(self) -> NDArray[np.float64]:
        """Row power over the row's budget, by tick."""
        return self.row_w.astype(np.float64) / _budget_by_tick(self.row.row_budget, len(self.row_w), self.period_s)

    @property
    def peak(self) -> float:
        """Largest utilization of a tick."""
        return float(self.utilization.max(initial=0.0))

    @property
    def overload_s(self) -> float:
        """Seconds of periods whose mean power was above the row's budget."""
        return float((self.utilization > 1.0).sum()) * self.period_s

    @property
    def longest_overload_s(self) -> float:
        """Longest run of such periods, seconds."""
        return longest_run(self.utilization > 1.0) * self.period_s

    def node_overloads(self) -> dict[str, tuple[float, float, float]]:
        """For each node of the power tree: (peak utilization, seconds above its budget, longest such run)."""
        found = {}
        for node, budget, watts in zip(self.row.nodes, self.row.node_budgets, self.node_w, strict=True):
            used = watts / _budget_by_tick(budget, len(watts), self.period_s)
            over = used > 1.0
            longest_s = longest_run(over) * self.period_s
            found[node.name] = (float(used.max(initial=0.0)), float(over.sum()) * self.period_s, longest_s)
        return found

    def latency_s(self, q: float, priority: Priority | None = None, what: str = "e2e") -> float:
        """Quantile of the latency of a class, seconds; what is not finished counts as infinite.

        Args:
            q: in [0, 1]; linear interpolation between ranks.
            priority: None is all requests together.
            what: "e2e" or "ttft".
        """
        values = {"e2e": self.e2e_s, "ttft": self.ttft_s}[what]
        if priority is not None:
            values = values[self.load.priority == int(priority)]
        return quantile(values, q)

    def unfinished(self, priority: Priority | None = None) -> int:
        """Requests without their last token at the end."""
        missing = np.isnan(self.e2e_s)
        return int(missing.sum() if priority is None else missing[self.load.priority == int(priority)].sum())

    def tokens(self, priority: Priority) -> int:
        """Output tokens of the finished requests of a class."""
        done = ~np.isnan(self.e2e_s) & (self.load.priority == int(priority))
        return int(self.load.output_tokens[done].sum(dtype=np.int64))

    def capped_share(self, priority: Priority, level: float | None = None) -> float:
        """Part of the time that a server of the class was capped, at `level` or at any level below 1."""
        seconds = [s for (p, at), s in self.capped_s.items() if p == priority and (level is None or at == level)]
        servers = sum(self.row.shared or server.priority == priority for server in self.row.servers) or 1
        return sum(seconds) / (servers * self.duration_s) if self.duration_s else 0.0

    def summary(self) -> dict[str, Any]:
        """The run in numbers, JSON-ready."""
        by_class = {
            priority.name.lower(): {
                "requests": int((self.load.priority == int(priority)).sum()),
                "unfinished": self.unfinished(priority),
                "output_tokens": self.tokens(priority),
                **{f"e2e_p{round(q * 100)}_s": self.latency_s(q, priority) for q in QUANTILES},
                **{f"ttft_p{round(q * 100)}_s": self.latency_s(q, priority, "ttft") for q in QUANTILES},
                "capped_share": self.capped_share(priority),
            }
            for priority in Priority
        }
        return {
            "policy": self.policy,
            "seed": self.seed,
            "servers": self.row.num_servers,
            "duration_s": self.duration_s,
            "peak_utilization": self.peak,
            "brakes": self.brakes,
            "overload_s": self.overload_s,
            "longest_overload_s": self.longest_overload_s,
            "nodes": self.node_overloads(),
            "energy_j": {phase: float(self.energy_j[phase].sum()) for phase in PHASES},
            "commands": dict(self.ledger_counts),
            "strictest_s": self.strictest_s,
            "extrapolated_prompts": self.extrapolation.prompts,
            "extrapolated_batch_share": self.extrapolation.batch_share,
            "extrapolated_level_share": self.extrapolation.level_share,
            **by_class,
        }

    def write(self, folder: str | Path) -> Path:
        """Write a run directory: `summary.json`, `power.parquet`, `requests.parquet`, `commands.parquet`, ...

        Raises:
            InputError: the parent folder does not exist.
        """
        out = Path(folder)
        if not out.parent.is_dir():
            raise InputError(f"cannot write {out}: the folder {out.parent} does not exist; create it first")
        out.mkdir(exist_ok=True)
        tables = {"power": self._power_table(), "requests": self._request_table(), "servers": self._server_table()}
        for name, table in {**tables, "commands": self.commands, "landings": self.landings}.items():
            with atomic_path(out / f"{name}.parquet") as path:
                pq.write_table(table, path, compression="zstd")
        with atomic_write(out / "summary.json") as file:
            file.write(json.dumps(json.loads(dumps(self.summary())), indent=1) + "\n")
        return out

    def _power_table(self) -> pa.Table:
        times = np.arange(1, len(self.row_w) + 1) * self.period_s
        nodes = {f"{node.name}_w": watts for node, watts in zip(self.row.nodes, self.node_w, strict=True)}
        columns: dict[str, NDArray[Any]] = {"time_s": times, "row_w": self.row_w, "seen_w": self.seen_w, **nodes}
        return pa.table({name: arrow_array(values) for name, values in columns.items()})

    def _request_table(self) -> pa.Table:
        load = self.load
        columns: dict[str, NDArray[Any]] = {
            "arrival_s": load.arrival_s,
            "prompt_tokens": load.prompt_tokens,
            "output_tokens": load.output_tokens,
            "priority": load.priority,
            "ttft_s": self.ttft_s,
            "e2e_s": self.e2e_s,
        }
        return pa.table({name: arrow_array(values) for name, values in columns.items()})

    def _server_table(self) -> pa.Table:
        names = pa.array([server.name for server in self.row.servers], pa.string())
        priority = np.array([int(server.priority) for server in self.row.servers], np.int8)
        energies = {f"{phase}_j": arrow_array(self.energy_j[phase]) for phase in PHASES}
        return pa.table({"name": names, "priority": arrow_array(priority), **energies})


def quantile(values: NDArray[np.float64], q: float) -> float:
    """Quantile with NaN counted as infinite, linear between ranks; NaN of nothing.

    >>> quantile(np.array([1.0, 3.0, np.nan, 2.0]), 0.5), quantile(np.array([1.0, np.nan]), 0.99)
    (2.5, inf)
    """
    if not len(values):
        return float("nan")
    at = q * (len(values) - 1)
    low = int(at)
    high = min(low + 1, len(values) - 1)
    # NaN sorts behind everything, as infinity does.
    parted = np.partition(values, (low, high))
    first, second = (float("inf") if np.isnan(parted[k]) else float(parted[k]) for k in (low, high))
    return first if at == low or first == second else first + (at - low) * (second - first)


def longest_run(flags: NDArray[np.bool_]) -> int:
    """Length of the longest run of true values.

    >>> longest_run(np.array([True, False, True, True, False]))
    2
    """
    edges = np.diff(np.concatenate(([0], flags.astype(np.int8), [0])))
    return int((np.flatnonzero(edges == -1) - np.flatnonzero(edges == 1)).max(initial=0))


def _budget_by_tick(budget: BudgetSchedule, num_ticks: int, period_s: float) -> NDArray[np.float64] | float:
    if len(budget.watts) == 1:
        return budget.watts[0]
    return budget.series(np.arange(num_ticks, dtype=np.float64) * np.float64(period_s))
