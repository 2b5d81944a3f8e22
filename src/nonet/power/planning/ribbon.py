"""Row power of a run by hour, and minute by minute on its worst day: what the power ribbon of the page draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVELS = (0.0, 0.05, 0.5, 0.95, 1.0)
_WARM_UP_S, _HOUR_S, _DAY_S = 600.0, 3600.0, 86_400.0


@dataclass(frozen=True, eq=False, slots=True)
class Ribbon:
    """Row power over budget.

    Args:
        hours: float32 (hours, 5), quantiles `LEVELS` of the samples of each hour; the last hour may be cut.
        worst_day: the day with the highest sample, from 0.
        minutes: float32 (minutes of that day, 2), mean and highest sample of each minute.
    """

    hours: NDArray[np.float32]
    worst_day: int
    minutes: NDArray[np.float32]


def ribbon(utilization: NDArray[np.float64], period_s: float, end_s: float) -> Ribbon:
    """The ribbon of a run up to `end_s`, when the last request arrives.

    Args:
        utilization: row power over budget by sample.
        period_s: time between samples.
        end_s: what comes later is left out, as are the first ten minutes of the first hour: the row starts empty.

    >>> found = ribbon(np.r_[np.full(1800, 0.5), np.full(1800, 0.75)], 2.0, 7200.0)
    >>> found.hours[:, 2].tolist(), found.worst_day, found.minutes.shape
    ([0.5, 0.75], 0, (120, 2))
    """
    u = utilization[: max(1, int(end_s / period_s))]
    parts = _parts(u, _HOUR_S / period_s)
    warm = int(_WARM_UP_S / period_s)
    if len(parts[0]) > 2 * warm:
        parts[0] = parts[0][warm:]
    hours = [np.quantile(part, LEVELS) for part in parts]
    worst_day = int(int(np.argmax(u)) * period_s // _DAY_S)
    day = u[int(worst_day * _DAY_S / period_s) : int((worst_day + 1) * _DAY_S / period_s)]
    minutes = [(part.mean(), part.max()) for part in _parts(day, 60.0 / period_s)]
    return Ribbon(np.array(hours, np.float32), worst_day, np.array(minutes, np.float32))


def _parts(values: NDArray[np.float64], length: float) -> list[NDArray[np.float64]]:
    edges = np.arange(1, int(np.ceil(len(values) / length))) * length
    return [part for part in np.split(values, edges.astype(int)) if len(part)]
