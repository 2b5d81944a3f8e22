"""Rows that lead: computed anew, in one step, so that the other rows of their chunk can follow their change."""

from __future__ import annotations

import numpy as np
import torch

from nonet.ragcache.reuse.plan import Plan
from nonet.ragcache.scheduling.running import rows_tensor


def led(plan: Plan, most: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Of each chunk that carries: the rows that lead, the first of those computed anew, and the rows that follow.

    Args:
        plan: with its rows chosen.
        most: rows of a chunk that may lead, since they must be computed in one step.
    """
    parts = [part for part in plan.segments if part.may_carry]
    return [(rows_tensor(part.rows[:most]), rows_tensor(np.setdiff1d(part.all_rows, part.rows))) for part in parts]


def num_together(plan: Plan, pending: torch.Tensor, left: int, most: int) -> int:
    """How many pending rows to take so that no chunk's leading rows are parted: what follows them follows them all.

    Where steps end depends on other requests, and an answer must not.

    Args:
        plan: of the request.
        pending: its rows that are still to be computed, rising.
        left: rows that this step has room for; more are taken where the first chunk alone has more that lead.
        most: rows of a chunk that lead.
    """
    if left >= len(pending):
        return len(pending)
    for part in plan.segments:
        if part.may_carry:
            leading = part.rows[:most]
            first, last = np.searchsorted(pending.numpy(), (leading[0], leading[-1] + 1))
            if first < left < last:
                return int(first or last)
    return left
