"""How long requests of one function run, learned from a log, and what that says of a request that may have waited."""

from __future__ import annotations

import numpy as np

_LEAST_US = 100.0
_BINS_PER_E = 10
_NUM_BINS = 230
"""Bins of a tenth, from 100 us to a week."""
_SPREAD = np.array([0.25, 0.5, 0.25])
_FLOOR_PER_S = 1e-3
"""Density of any time at all: no run is impossible."""
RESOLUTION_US = 1_000_000


class RunTimes:
    """A histogram of run times. Memory: 2 KB."""

    def __init__(self) -> None:
        self.counts = np.zeros(_NUM_BINS, np.int64)

    def __len__(self) -> int:
        return int(self.counts.sum())

    def add(self, times_us: np.ndarray) -> None:
        """Count times, int64 (n,)."""
        places = np.log(np.maximum(times_us, _LEAST_US) / _LEAST_US) * _BINS_PER_E
        self.counts += np.bincount(np.minimum(places.astype(np.int64), _NUM_BINS - 1), minlength=_NUM_BINS)

    def with_times(self, times_us: np.ndarray) -> RunTimes:
        """This and more times; this one stays as it is."""
        both = RunTimes()
        both.counts += self.counts
        both.add(times_us)
        return both

    def log_odds(self, took_us: np.ndarray, left_us: np.ndarray) -> np.ndarray:
        """How much likelier requests began to run when a pod was ready than when they arrived, as a logarithm.

        Args:
            took_us: from arrival to end, float64 (n,).
            left_us: from the second in which the pod was ready to the end, float64 (n,).
        """
        smooth = np.convolve(self.counts, _SPREAD, mode="same")
        share = np.concatenate([[0.0], np.cumsum(smooth)]) / max(smooth.sum(), 1e-9)
        began = self._density(share, left_us - RESOLUTION_US, left_us)
        ran = self._density(share, took_us * np.exp(-1 / _BINS_PER_E), took_us * np.exp(1 / _BINS_PER_E))
        return np.log(began) - np.log(ran)

    def _density(self, share: np.ndarray, low_us: np.ndarray, high_us: np.ndarray) -> np.ndarray:
        """Runs a second between two times, where `share` are shorter than the edges of the bins."""
        edges = np.arange(_NUM_BINS + 1)
        low, high = (np.log(np.maximum(t, _LEAST_US) / _LEAST_US) * _BINS_PER_E for t in (low_us, high_us))
        inside = np.interp(high, edges, share) - np.interp(low, edges, share)
        return inside / (np.maximum(high_us - low_us, 1.0) / RESOLUTION_US) + _FLOOR_PER_S
