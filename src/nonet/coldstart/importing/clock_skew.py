"""Whether the clock of a log and that of the cluster agree, from the first request of each pod.

The request that asks for a pod arrives just before it is created (or, where the log sees it only then, when it is
ready). Where most first requests arrive at the same distance from their pod's creation, and that distance is no time
that an autoscaler takes, the clocks differ by it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SECOND_US = 1_000_000
_MIN_PODS = 10
_MIN_SHARE = 0.4
_EARLIEST_US, _LATEST_US = -6 * SECOND_US, 2 * SECOND_US
"""Three ticks of an autoscaler before the creation, and the resolution of Kubernetes after it."""


def clock_skew_us(first_us: Sequence[int], created_us: Sequence[int], ready_us: Sequence[int]) -> int | None:
    """By how much the log is ahead of the cluster (negative: behind), whole seconds; None where nothing speaks for it.

    Args:
        first_us: arrival of the first request of each pod, by the log.
        created_us, ready_us: of the pods, cut to the second.

    >>> created = [60 * SECOND_US * k for k in range(20)]
    >>> clock_skew_us([c + 3_500_000 for c in created], created, [c + (1 + k % 9) * SECOND_US for k, c in
    ...                                                            enumerate(created)]) // SECOND_US
    3
    """
    if len(first_us) < _MIN_PODS:
        return None
    after_created = np.array(first_us) - np.array(created_us)
    middle_us, share = _mode(after_created)
    if share < _MIN_SHARE or _EARLIEST_US <= middle_us <= _LATEST_US:
        return None
    if _mode(np.array(first_us) - np.array(ready_us))[1] >= share:
        return None  # requests that the log sees only when their pod is ready
    return round((middle_us - SECOND_US / 2) / SECOND_US) * SECOND_US


def _mode(distances_us: np.ndarray) -> tuple[float, float]:
    """The middle of the second and a half that holds most distances, and their share."""
    ordered = np.sort(distances_us)
    counts = np.searchsorted(ordered, ordered + 3 * SECOND_US // 2, side="right") - np.arange(len(ordered))
    best = int(counts.argmax())
    return float(np.median(ordered[best : best + counts[best]])), float(counts[best] / len(ordered))
