"""The state of a simulation: arrays for the kernel, made from a row and a load, and what may be asked of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nonet.power.policies.protocol import Priority
from nonet.power.simulating._engine_kernels import begin, run, settle_all
from nonet.power.simulating.layout import CLOCK, INSTANCE, NONE, OUTSIDE, POOL, SERVER, Arrays
from nonet.power.simulating.tables import Tables

if TYPE_CHECKING:
    from nonet.power.load.requests import RequestLoad
    from nonet.power.profiles.profile import PowerProfile
    from nonet.power.simulating.row import Row

_NO_TIMES = np.empty(0)
_NO_SERVERS = np.empty(0, np.int64)
_NO_VALUES = np.empty((0, 5))
_KEPT_VALUES = 4096


class RowState:
    """A row at work, moved forward by `run_until`.

    Memory: 33 bytes a request, 8 bytes a telemetry tick (and 4 for each node), a few kilobytes a server.

    Args:
        row: servers and telemetry.
        load: requests; their `arrival_s`, `prompt_tokens`, `output_tokens` and `priority` are used.
        num_ticks: telemetry periods that can be recorded.
    """

    def __init__(self, row: Row, load: RequestLoad, num_ticks: int) -> None:
        self.row = row
        self.num_ticks = num_ticks
        profiles: list[PowerProfile] = []
        self.profile_of = [_index(server.profile, profiles) for server in row.servers]
        largest = max(server.max_batch for server in row.servers)
        self.tables = Tables.of(profiles, largest, load.prompt_tokens)
        self._values: dict[tuple[tuple[int, ...], float], tuple[NDArray[np.int64], NDArray[np.float64]]] = {}
        servers, instances = self._servers(), self._instances()
        slots = int(instances["slots"].max())
        self.base_w = self._base_w()
        self.arrays = self._arrays(load, servers, instances, slots)
        self._tick = np.asarray(self.arrays.clock["tick"])  # a view
        self.lag_ticks = int(self.arrays.clock["lag_ticks"][0])
        """Age of the newest sample that a policy can see, in periods."""
        begin(self.arrays)

    # -- moving on

    def run_until(
        self,
        until_s: float,
        low_w: float = -math.inf,
        high_w: float = math.inf,
        landings: Sequence[tuple[float, Sequence[int], float]] | None = None,
    ) -> bool:
        """Go on up to and with `until_s`; True when it stopped before, after a tick whose visible sample is outside.

        Args:
            until_s: seconds.
            low_w, high_w: bounds of the sample, both outside.
            landings: (time, servers, level), ascending, none after `until_s`; those after a tick with a sample outside
                are lost.
        """
        if landings:
            times, who, values = self._landing_arrays(landings)
        else:
            times, who, values = _NO_TIMES, _NO_SERVERS, _NO_VALUES
        return bool(run(self.arrays, until_s, low_w, high_w, times, who, values) == OUTSIDE)

    def set_level(self, server: int, level: float, time_s: float) -> None:
        """Go on up to `time_s` and change the clock of a server there."""
        self.run_until(time_s, landings=[(time_s, (server,), level)])

    def settle(self, time_s: float) -> None:
        """Book energy and work of every server up to `time_s`, at or after the last event."""
        settle_all(self.arrays, time_s)

    # -- asking

    @property
    def ticks(self) -> int:
        """Telemetry periods done."""
        return int(self._tick[0])

    @property
    def num_done(self) -> int:
        """Requests finished."""
        return int(self.arrays.clock[0]["num_done"])

    def server_power_w(self) -> NDArray[np.float64]:
        """Power of each server at this moment, watts, (servers,)."""
        instances = self.arrays.instances
        total = instances["idle_w"] + instances["prefill_w"] + instances["decode_w"]
        return self.base_w + np.bincount(instances["server"], weights=total, minlength=self.row.num_servers)

    # -- building

    def _landing_arrays(
        self, landings: Sequence[tuple[float, Sequence[int], float]]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
        """Time, server and values of each server whose clock changes."""
        parts = [self._level_values(tuple(servers), level) for _, servers, level in landings]
        if len(landings) == 1:
            who, values = parts[0]
            return np.full(len(who), landings[0][0]), who, values
        times = np.repeat([time_s for time_s, _, _ in landings], [len(who) for who, _ in parts])
        return times, np.concatenate([who for who, _ in parts]), np.concatenate([values for _, values in parts])

    def _level_values(self, servers: tuple[int, ...], level: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        key = (servers, level)
        found = self._values.get(key)
        if found is None:
            if len(self._values) > _KEPT_VALUES:
                self._values.clear()
            who = np.array(servers, np.int64)
            by_profile = np.array([self.tables.level_values(k, level) for k in range(len(self.tables.profiles))])
            found = self._values[key] = who, by_profile[np.array(self.profile_of)[who]]
        return found

    def _base_w(self) -> NDArray[np.float64]:
        base_w = np.empty(self.row.num_servers)
        for i, server in enumerate(self.row.servers):
            profile = self.tables.profiles[self.profile_of[i]]
            unused = profile.gpus_per_server - server.instances * profile.gpus_per_instance
            base_w[i] = profile.server_base_w + profile.server_gpu_factor * unused * profile.idle_w
        return base_w

    def _groups(self) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """Group of each server, and which groups are below which node."""
        nodes = self.row.nodes
        if not nodes:
            return np.zeros(self.row.num_servers, np.int32), np.zeros((0, 0), np.bool_)
        below = np.zeros((self.row.num_servers, len(nodes)), np.bool_)
        for k, node in enumerate(nodes):
            below[list(node.servers), k] = True
        kinds, group = np.unique(below, axis=0, return_inverse=True)
        return group.astype(np.int32).reshape(-1), np.ascontiguousarray(kinds.T)

    def _servers(self) -> NDArray[np.void]:
        servers = np.zeros(self.row.num_servers, SERVER)
        group, self._node_groups = self._groups()
        first = 0
        for i, server in enumerate(self.row.servers):
            profile = self.tables.profiles[self.profile_of[i]]
            servers[i]["profile"] = self.profile_of[i]
            servers[i]["pool"] = 0 if self.row.shared else int(server.priority)
            servers[i]["group"] = group[i]
            servers[i]["min_batch"], servers[i]["max_batch"] = math.ceil(profile.min_batch), int(profile.max_batch)
            servers[i]["idle_gpu_w"] = profile.idle_w
            servers[i]["wall_w_per_gpu_w"] = profile.server_gpu_factor * profile.gpus_per_instance
            servers[i]["first_instance"], servers[i]["num_instances"] = first, server.instances
            first += server.instances
        for name in ("level", "prefill_speed", "prefill_power", "decode_speed", "decode_power"):
            servers[name] = 1.0
        return servers

    def _instances(self) -> NDArray[np.void]:
        owner = np.repeat(np.arange(self.row.num_servers), [server.instances for server in self.row.servers])
        instances = np.zeros(len(owner), INSTANCE)
        instances["server"] = owner
        instances["slots"] = [self.row.servers[i].max_batch for i in owner]
        instances["current"] = NONE
        instances["next_target"] = np.inf
        return instances

    def _pools(self, servers: NDArray[np.void], load: RequestLoad) -> tuple[NDArray[np.void], NDArray, NDArray]:
        """Pools, the pool of each request, and the requests in order of pool and arrival."""
        pool_of = np.zeros(len(load), np.int8) if self.row.shared else load.priority.astype(np.int8)
        order = np.argsort(pool_of, kind="stable").astype(np.int32)
        pools = np.zeros(len(Priority), POOL)
        counts = np.bincount(pool_of, minlength=len(pools))
        pools["head"] = pools["tail"] = np.cumsum(counts) - counts
        ring = 0
        for k in range(len(pools)):
            batches = [s.max_batch for s, pool in zip(self.row.servers, servers["pool"], strict=True) if pool == k]
            pools[k]["first_ring"], pools[k]["max_load"] = ring, max(batches, default=0)
            ring += max(batches, default=0) + 1
        return pools, pool_of, order

    def _arrays(self, load: RequestLoad, servers: NDArray[np.void], instances: NDArray[np.void], slots: int) -> Arrays:
        num, num_nodes = len(load), len(self.row.nodes)
        pools, pool_of, order = self._pools(servers, load)
        clock = np.zeros(1, CLOCK)
        leaves = 1 << max(1, math.ceil(math.log2(len(instances))))
        period_s = self.row.telemetry_period_s
        clock[0]["period_s"], clock[0]["prefill_share"] = period_s, self.row.prefill_share
        clock[0]["lag_ticks"] = math.ceil(self.row.telemetry_lag_s / period_s - 1e-9)
        clock[0]["base_w"], clock[0]["leaves"] = self.base_w.sum(), leaves
        num_groups = self._node_groups.shape[1]
        by_group = np.bincount(servers["group"], weights=self.base_w, minlength=num_groups)
        groups = by_group[:num_groups].astype(np.float64)
        row_w = np.empty(self.num_ticks, np.float32)
        rings = int(pools["first_ring"][-1] + pools["max_load"][-1]) + 1
        return Arrays(
            clock=clock.view(np.recarray),
            servers=servers.view(np.recarray),
            instances=instances.view(np.recarray),
            pools=pools.view(np.recarray),
            rings=np.full(rings, NONE, np.int32),
            tree=np.full(2 * leaves, np.inf),
            arrival_s=np.ascontiguousarray(load.arrival_s, np.float64),
            prompt_row=np.ascontiguousarray(self.tables.prompt_row, np.int32),
            output_tokens=np.ascontiguousarray(load.output_tokens, np.int32),
            pool_of=pool_of,
            order=order,
            first_token_s=np.full(num, np.nan),
            finish_s=np.full(num, np.nan),
            slot_target=np.empty((len(instances), slots)),
            slot_request=np.empty((len(instances), slots), np.int32),
            waiting=np.empty((len(instances), slots), np.int32),
            prefill_s=self.tables.prefill_s,
            prefill_gpu_w=self.tables.prefill_gpu_w,
            decode_s=self.tables.decode_s,
            decode_gpu_w=self.tables.decode_gpu_w,
            group_w=groups,
            group_j=np.zeros(num_groups),
            group_since_s=np.zeros(num_groups),
            node_groups=self._node_groups,
            node_budget_w=np.append([b.at(0.0) for b in self.row.node_budgets], self.row.row_budget.at(0.0)),
            row_w=row_w,
            seen_w=np.empty(self.num_ticks, np.float32) if num_nodes else row_w,
            node_w=np.empty((num_nodes, self.num_ticks), np.float32),
        )


def _index(profile: PowerProfile, profiles: list[PowerProfile]) -> int:
    """Where a profile stands in the list; it is appended when it is new."""
    for k, known in enumerate(profiles):
        if known is profile or known == profile:
            return k
    profiles.append(profile)
    return len(profiles) - 1
