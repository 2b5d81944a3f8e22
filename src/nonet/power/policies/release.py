"""Releasing a brake. Braking is metastable, so how it ends matters more than how it begins.

A row under the brake serves a fraction of its traffic and builds a backlog. Released at once, every server starts on
that backlog together, the row draws more than before the brake and brakes again: a loop that can last for hours. A
staged release lifts the brake from one group of servers after the other. A step is taken only when the last one has
landed and been seen in telemetry, and only when the row would stay under T2 if the whole group went to the power that
it drew when the brake fell, with a margin for the backlog. Groups for which there is no room stay braked until there
is; if the row passes the brake threshold in between, everything is braked again and the release starts afresh.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class BrakeConfig(BaseModel):
    """When the brake falls and how it is released."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    brake_at: float = Field(default=1.0, gt=0, le=2, description="Row power over budget above which the brake falls.")
    brake_min_hold_s: float = Field(default=60.0, ge=0, description="Shortest time under the brake, seconds.")
    release: Literal["staged", "immediate"] = Field(default="staged", description="All at once, or group by group.")
    release_groups: int = Field(default=8, ge=1, description="Steps of a staged release.")
    release_margin: float = Field(
        default=1.1, ge=1, description="Released servers may draw this much more than before."
    )


def next_group(priorities: Sequence[int], num_released: int, num_groups: int) -> tuple[int, ...]:
    """Servers of the next step: high priority first, groups of nearly equal size.

    The step ends where a group ends, wherever the release stands: a restart may have changed the number of groups.

    Args:
        priorities: of each server.
        num_released: servers on which the brake has been lifted already.
        num_groups: steps of a whole release.

    >>> from nonet.power.policies.protocol import Priority
    >>> row = [Priority.LOW, Priority.HIGH, Priority.LOW, Priority.HIGH]
    >>> next_group(row, 0, 2), next_group(row, 2, 2), next_group(row, 3, 1)
    ((1, 3), (0, 2), (2,))
    """
    order = sorted(range(len(priorities)), key=lambda server: (-int(priorities[server]), server))
    num = max(1, min(num_groups, len(order)))
    cuts = (len(order) * group // num for group in range(1, num + 1))
    return tuple(order[num_released : next((cut for cut in cuts if cut > num_released), len(order))])


def step_gain_u(group_size: int, num_servers: int, before_u: float, braked_u: float, margin: float) -> float:
    """What releasing a group can add to row power over budget, at most.

    Args:
        group_size: servers in the group.
        num_servers: servers in the row.
        before_u: row power over budget when the brake fell.
        braked_u: row power over budget under the brake.
        margin: how much more a released server may draw than before.

    >>> step_gain_u(5, 50, before_u=1.0, braked_u=0.4, margin=1.0)
    0.06
    """
    return group_size / num_servers * max(0.0, margin * before_u - braked_u)


class BrakeState:
    """Where a brake stands: not pulled, pulled, or released in part. Part of a policy; holds no clock."""

    def __init__(self) -> None:
        self.pulled = False
        self.since_s = -math.inf
        self.num_released = 0  # servers
        self.last_step_s = -math.inf
        self.before_w = 0.0
        self.braked_w = 0.0

    @property
    def whole_row(self) -> bool:
        """Every server is under the brake."""
        return self.pulled and self.num_released == 0

    def pull(self, now_s: float, power_w: float) -> None:
        """The brake falls on every server."""
        self.pulled, self.since_s, self.num_released = True, now_s, 0
        self.last_step_s, self.before_w, self.braked_w = -math.inf, power_w, 0.0

    def weigh(self, power_w: float) -> None:
        """Keep what the row draws under the brake, until the first step changes it."""
        if self.num_released == 0:
            self.braked_w = power_w

    def step(self, now_s: float, num_servers: int, size: int) -> None:
        """`size` more of the row's servers are released; the last ones end the brake."""
        self.num_released += size
        self.last_step_s = now_s
        self.pulled = self.num_released < num_servers

    def load(self, saved: Mapping[str, Any]) -> None:
        """Take the values of `vars`, with None for the infinite ones."""
        self.pulled, self.num_released = bool(saved["pulled"]), int(saved["num_released"])
        for name in ("since_s", "last_step_s", "before_w", "braked_w"):
            setattr(self, name, -math.inf if saved[name] is None else float(saved[name]))
