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
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

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


def release_groups(priorities: Sequence[int], num_groups: int) -> list[tuple[int, ...]]:
    """Servers in the order in which the brake is lifted: high priority first, groups of nearly equal size.

    >>> from nonet.power.policies.protocol import Priority
    >>> release_groups([Priority.LOW, Priority.HIGH, Priority.LOW, Priority.HIGH], 2)
    [(1, 3), (0, 2)]
    """
    order = sorted(range(len(priorities)), key=lambda server: (-int(priorities[server]), server))
    num = max(1, min(num_groups, len(order)))
    cuts = [len(order) * group // num for group in range(num + 1)]
    return [tuple(order[first:last]) for first, last in pairwise(cuts)]


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
        self.num_released = 0
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

    def next_group(self, now_s: float, power_w: float, view_step_s: float, groups: int) -> bool:
        """Whether the last step has landed and been seen, so that another one may be weighed."""
        if self.num_released == 0:
            self.braked_w = power_w
        return self.num_released < groups and now_s - self.last_step_s > view_step_s

    def step(self, now_s: float, groups: int) -> None:
        """One more group is released; the last one ends the brake."""
        self.num_released += 1
        self.last_step_s = now_s
        if self.num_released >= groups:
            self.pulled = False
