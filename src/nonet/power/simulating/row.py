"""A row: its servers, what feeds them, how fast telemetry and commands are, and what can go wrong on the way."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from nonet.common.errors import InputError
from nonet.power.policies.protocol import Priority
from nonet.power.simulating.budget import BudgetSchedule, FeedFailure, PowerNode, with_failures
from nonet.power.simulating.faults import ActuationFaults, Latency, TelemetryFault

if TYPE_CHECKING:
    from nonet.power.profiles.profile import PowerProfile

BRAKE_LEVEL = 288 / 1410
_FEWEST_OF_IDLE = 0.02
"""A budget below this part of what idle GPUs draw is in another unit."""


@dataclass(frozen=True)
class Server:
    """One server.

    Args:
        name: unique in the row.
        priority: the class whose commands it obeys, and whose requests it serves.
        profile: power and time of what it runs.
        instances: model instances on it; times the profile's GPUs per instance at most its GPUs.
        max_batch: requests that an instance holds at most.
    """

    name: str
    priority: Priority
    profile: PowerProfile
    instances: int = 1
    max_batch: int = 16


@dataclass(frozen=True)
class Row:
    """A row of servers under one budget.

    Each class has its own servers and its own queue, so that a cap on one never touches the other; with `shared`, all
    servers serve both classes, each through a pod of its own, and the strictest level of the two holds for the server.

    Args:
        servers: at least one, names unique.
        budget: what the row may draw.
        nodes: what else feeds parts of the row, each with its budget (`PowerNode`).
        failures: feeds that fail.
        shared: both classes on all servers.
        prefill_share: part of an instance that a prompt gets while others decode: 1.0 stops their decoding until the
            prompt is done, less interleaves the two (chunked prefill).
        telemetry_period_s: time between samples, each the mean power since the last.
        telemetry_lag_s: how long a sample takes to the policy.
        cap_latency, brake_latency: how long a CAP, and a BRAKE or RELEASE, take to land.
        brake_level: level under the brake.
        actuation_faults, telemetry_faults: what goes wrong.

    Raises:
        InputError: duplicate or missing servers, instances that do not fit, nodes that name servers beyond the row, a
            budget in kW where watts are meant.

    >>> from nonet.power.profiles import PROFILES
    >>> row = Row.uniform(40, PROFILES["a100-llama2-70b-tp8"], budget_w=203_000, cap_latency=Latency.constant(1.0))
    >>> row.with_added(0.3).num_servers, row.cap_latency.most_s
    (52, 1.0)
    """

    servers: tuple[Server, ...]
    budget: BudgetSchedule
    nodes: tuple[PowerNode, ...] = ()
    failures: tuple[FeedFailure, ...] = ()
    shared: bool = False
    prefill_share: float = 1.0
    telemetry_period_s: float = 2.0
    telemetry_lag_s: float = 0.0
    cap_latency: Latency = field(default_factory=lambda: Latency.constant(40.0))
    brake_latency: Latency = field(default_factory=lambda: Latency.constant(5.0))
    brake_level: float = BRAKE_LEVEL
    actuation_faults: ActuationFaults = field(default_factory=ActuationFaults)
    telemetry_faults: tuple[TelemetryFault, ...] = ()

    def __post_init__(self) -> None:
        self._check_servers()
        self._check_numbers()
        names = [node.name for node in self.nodes]
        known = {*names, "row"}
        if len(known) != len(names) + 1:
            raise InputError("row: nodes need names of their own, none of them 'row'")
        for node in self.nodes:
            if not node.servers or not all(0 <= i < len(self.servers) for i in node.servers):
                raise InputError(f"row: node {node.name!r} feeds servers that the row of {len(self.servers)} has not")
        for failure in self.failures:
            if failure.node not in known:
                raise InputError(f"row: a feed of {failure.node!r} fails, but the nodes are {sorted(known)}")

    def _check_servers(self) -> None:
        if not self.servers:
            raise InputError("row: no servers")
        twice = [name for name, count in Counter(server.name for server in self.servers).items() if count > 1]
        if twice:
            raise InputError(f"row: server {twice[0]!r} is there twice; give each server its own name")
        for server in self.servers:
            if server.instances < 1 or server.max_batch < 1:
                raise InputError(f"row: server {server.name!r} needs at least one instance and a batch of one")
            gpus = server.instances * server.profile.tensor_parallel
            if gpus > server.profile.server.num_gpus:
                raise InputError(
                    f"row: server {server.name!r}: {server.instances} instances x {server.profile.tensor_parallel} GPUs"
                    f" do not fit on its {server.profile.server.num_gpus}"
                )

    def _check_numbers(self) -> None:
        if not 0.0 < self.prefill_share <= 1.0:
            raise InputError(f"row: prefill_share must be in (0, 1], got {self.prefill_share!r}")
        if not 0.0 < self.telemetry_period_s < math.inf or not 0.0 <= self.telemetry_lag_s < math.inf:
            raise InputError("row: telemetry_period_s must be above 0 and telemetry_lag_s not negative, both finite")
        if not 0.0 < self.brake_level <= 1.0:
            raise InputError(f"row: brake_level must be in (0, 1], got {self.brake_level!r}")
        for dead in self.actuation_faults.dead_servers:
            if not 0 <= dead < len(self.servers):
                raise InputError(f"row: dead server {dead} is not in the row of {len(self.servers)} servers")
        idle_w = sum(s.profile.idle_w * s.profile.server.num_gpus * s.profile.server.gpu_factor for s in self.servers)
        if min(self.budget.watts) < _FEWEST_OF_IDLE * idle_w:
            raise InputError(
                f"row: a budget of {min(self.budget.watts):g} W for servers whose idle GPUs draw {idle_w:.0f} W; is it"
                " in kW or MW? Give watts"
            )

    @classmethod
    def uniform(
        cls,
        num_servers: int,
        profile: PowerProfile,
        *,
        budget_w: float | BudgetSchedule,
        low_priority_share: float = 0.5,
        instances_per_server: int = 1,
        max_batch: int = 16,
        **options: object,
    ) -> Row:
        """A row of like servers, the two classes interleaved in the given proportion.

        Args:
            num_servers: how many.
            profile: of all.
            budget_w: watts, constant or a schedule.
            low_priority_share: part of the servers that serve low priority; rounded to whole servers.
            instances_per_server: see `Server`.
            max_batch: see `Server`.
            options: other fields of `Row`.

        >>> from nonet.power.profiles import PROFILES
        >>> row = Row.uniform(40, PROFILES["a100-bloom-176b-tp8"], budget_w=203_000)
        >>> row.num_low, row.num_high, row.with_added(0.3).num_servers
        (20, 20, 52)
        """
        if num_servers < 1 or not 0.0 <= low_priority_share <= 1.0:
            raise InputError("row: needs at least one server and a low_priority_share in [0, 1]")
        low = _spread(num_servers, round(num_servers * low_priority_share))
        servers = tuple(
            Server(
                f"server{i:03d}", Priority.LOW if low[i] else Priority.HIGH, profile, instances_per_server, max_batch
            )
            for i in range(num_servers)
        )
        budget = budget_w if isinstance(budget_w, BudgetSchedule) else BudgetSchedule.constant(budget_w)
        return cls(servers, budget, **options)  # type: ignore[arg-type]

    def with_added(self, fraction: float) -> Row:
        """This row with `fraction` more servers in the same mix of classes, under the same budget.

        The added servers are copies of the first of their class. Nodes stay as they are: added servers hang on the row.
        """
        if not 0.0 <= fraction < math.inf:
            raise InputError(f"row: the added fraction must be finite and not negative, got {fraction!r}")
        total = round(self.num_servers * (1.0 + fraction))
        num_low = round(total * self.num_low / self.num_servers) - self.num_low
        added = [(Priority.LOW, num_low), (Priority.HIGH, total - self.num_servers - num_low)]
        new: list[Server] = []
        before = sum(server.name.startswith("added") for server in self.servers)
        for priority, count in added:
            for _ in range(count):
                model = next(server for server in self.servers if server.priority == priority)
                new.append(replace(model, name=f"added{before + len(new):03d}"))
        return replace(self, servers=(*self.servers, *new))

    @property
    def num_servers(self) -> int:
        """Number of servers."""
        return len(self.servers)

    @property
    def num_low(self) -> int:
        """Servers of low priority."""
        return sum(server.priority is Priority.LOW for server in self.servers)

    @property
    def num_high(self) -> int:
        """Servers of high priority."""
        return self.num_servers - self.num_low

    @property
    def row_budget(self) -> BudgetSchedule:
        """The budget of the row with its feed failures."""
        return with_failures("row", self.budget, self.failures)

    @property
    def node_budgets(self) -> tuple[BudgetSchedule, ...]:
        """The budgets of the nodes with their feed failures."""
        return tuple(with_failures(node.name, node.budget, self.failures) for node in self.nodes)

    def with_budget(self, watts: float) -> Row:
        """This row with another constant budget."""
        return replace(self, budget=BudgetSchedule.constant(watts))

    def with_profile(self, profile: PowerProfile) -> Row:
        """This row with another profile on all servers."""
        return replace(self, servers=tuple(replace(server, profile=profile) for server in self.servers))


def _spread(num: int, chosen: int) -> Sequence[bool]:
    # `chosen` of `num` places, evenly: the i-th is taken where the running share passes a whole number.
    return [(i + 1) * chosen // num > i * chosen // num for i in range(num)]
