"""From the state at the end of a run to its `Result`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from nonet.common.arrow import arrow_array, arrow_strings
from nonet.power.policies.protocol import Action, Priority
from nonet.power.simulating.result import Extrapolation, Result

if TYPE_CHECKING:
    from nonet.power.load.requests import RequestLoad
    from nonet.power.policies.protocol import Command
    from nonet.power.simulating.state import RowState


@dataclass
class Record:
    """What is written down while a run goes on.

    Args:
        policy: name.
        seed: of the run.
        commands: (time, command) as ordered.
        landings: (time, action, units, level in force from then on) as landed.
        capped_s: see `Result`.
        counts: of the command ledger.
        strictest_s: see `Result`.
        below_fit_s: server seconds at levels below those that the clock response was fitted on.
    """

    policy: str
    seed: int
    commands: list[tuple[float, Command]] = field(default_factory=list)
    landings: list[tuple[float, Action, tuple[int, ...], float]] = field(default_factory=list)
    capped_s: dict[tuple[Priority, float], float] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    strictest_s: float = 0.0
    below_fit_s: float = 0.0

    @property
    def brakes(self) -> int:
        """BRAKE commands of the policy."""
        return sum(command.action is Action.BRAKE for _, command in self.commands)


def assemble(state: RowState, load: RequestLoad, record: Record) -> Result:
    """Settle the state at its last tick and read it; the state must not go on afterwards."""
    row, arrays, ticks = state.row, state.arrays, state.ticks
    duration_s = ticks * row.telemetry_period_s
    state.settle(duration_s)
    servers, instances = arrays.servers, arrays.instances
    energy_j = {"base": state.base_w * duration_s}
    for phase in ("idle", "prefill", "decode"):
        energy_j[phase] = servers[f"{phase}_j"].copy()
    arrays.first_token_s[:] -= arrays.arrival_s
    arrays.finish_s[:] -= arrays.arrival_s
    row_w = arrays.row_w[:ticks]
    return Result(
        row=row,
        load=load,
        policy=record.policy,
        seed=record.seed,
        duration_s=duration_s,
        row_w=row_w,
        seen_w=arrays.seen_w[:ticks],
        node_w=arrays.node_w[:, :ticks],
        ttft_s=arrays.first_token_s,
        e2e_s=arrays.finish_s,
        energy_j=energy_j,
        row_energy_j=float(arrays.clock[0]["total_j"]),
        tokens_done=_by_server(state, instances["tokens_done"]),
        prefill_done_s=_by_server(state, instances["prefill_done_s"]),
        capped_s=record.capped_s,
        brakes=record.brakes,
        commands=_command_table(record.commands),
        landings=_landing_table(record.landings),
        extrapolation=_extrapolation(state, load, record, duration_s),
        ledger_counts=record.counts,
        strictest_s=record.strictest_s,
    )


def _by_server(state: RowState, values: np.ndarray) -> np.ndarray:
    return np.bincount(state.arrays.instances["server"], weights=values, minlength=state.row.num_servers)


def _extrapolation(state: RowState, load: RequestLoad, record: Record, duration_s: float) -> Extrapolation:
    profiles = state.tables.profiles
    low = max(profile.min_tokens for profile in profiles)
    high = min(profile.max_tokens for profile in profiles)
    outside = int(((load.prompt_tokens < low) | (load.prompt_tokens > high)).sum())
    instances = state.arrays.instances
    total_s = duration_s * len(instances)
    return Extrapolation(
        prompts=outside,
        batch_share=float(instances["outside_s"].sum()) / total_s if total_s else 0.0,
        level_share=record.below_fit_s / (duration_s * state.row.num_servers) if duration_s else 0.0,
    )


def _command_table(commands: list[tuple[float, Command]]) -> pa.Table:
    classes = [c.servers.name.lower() if isinstance(c.servers, Priority) else "" for _, c in commands]
    return pa.table(
        {
            "time_s": arrow_array(np.array([time_s for time_s, _ in commands], np.float64)),
            "action": arrow_strings([str(c.action) for _, c in commands]),
            "priority": arrow_strings(classes),
            "servers": _lists([() if isinstance(c.servers, Priority) else c.servers for _, c in commands]),
            "level": arrow_array(np.array([c.level for _, c in commands], np.float64)),
            "reason": arrow_strings([c.reason for _, c in commands]),
        }
    )


def _landing_table(landings: list[tuple[float, Action, tuple[int, ...], float]]) -> pa.Table:
    return pa.table(
        {
            "time_s": arrow_array(np.array([landing[0] for landing in landings], np.float64)),
            "action": arrow_strings([str(landing[1]) for landing in landings]),
            "servers": _lists([landing[2] for landing in landings]),
            "level": arrow_array(np.array([landing[3] for landing in landings], np.float64)),
        }
    )


def _lists(values: Sequence[Sequence[int]]) -> pa.Array:
    offsets = np.zeros(len(values) + 1, np.int32)
    np.cumsum([len(value) for value in values], out=offsets[1:])
    flat = np.fromiter(chain.from_iterable(values), np.int32, int(offsets[-1]))
    return pa.ListArray.from_arrays(arrow_array(offsets), arrow_array(flat))
