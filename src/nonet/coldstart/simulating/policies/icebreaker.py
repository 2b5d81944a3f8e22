"""IceBreaker: a Fourier forecast of each function's concurrency says how many pods the next minute holds.

The concurrency of a minute is the most requests under way at once, over the requests that a pod may run. At every
minute the last hour is extrapolated by one; so many pods are held through the minute. Pods beyond the forecast live
on for `keep_alive_us` after use.

Source: IceBreaker (ASPLOS 2022) in the form of FeMux (EuroSys 2026); specification A6.7. All nodes are alike here; the
paper's choice between cheap and dear nodes is left out.
"""

from __future__ import annotations

import numpy as np

from nonet.coldstart.simulating._overlap_kernels import peaks_by_function
from nonet.coldstart.simulating.forecasting import NUM_HARMONICS, WINDOW_MINUTES, pods_forecast
from nonet.coldstart.simulating.policies import register
from nonet.coldstart.simulating.policies.base import Orders, RulePolicy, Setup, TickView
from nonet.coldstart.simulating.policies.values import no_value

MINUTE_US = 60_000_000


class IceBreaker(RulePolicy):
    """Learns while it runs; the first hour forecasts from what there is, zeros before.

    Args:
        num_harmonics: harmonics kept.
        keep_alive_us: of pods beyond the forecast.
    """

    tick_us = MINUTE_US

    def __init__(self, num_harmonics: int = NUM_HARMONICS, keep_alive_us: int = MINUTE_US) -> None:
        self.name = "icebreaker"
        self.num_harmonics, self.keep_alive_us = num_harmonics, keep_alive_us

    def prepare(self, setup: Setup) -> None:
        """See `RulePolicy.prepare`."""
        num = len(setup.functions)
        setup.rules.keep_alive_us[:] = self.keep_alive_us
        self._concurrency = setup.rules.concurrency
        self._window = np.zeros((num, WINDOW_MINUTES))
        self._running_function, self._running_end_us = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self._begun = False

    def on_tick(self, now_us: int, view: TickView) -> Orders | None:
        """Add the minute that has passed to the window, forecast, and hold pods for the next one."""
        if not self._begun:
            self._begun = True
            return None
        self._window = np.roll(self._window, -1, axis=1)
        self._window[:, -1] = self._pods_needed(now_us, view)
        pods = pods_forecast(self._window, self.num_harmonics)
        wanted = np.flatnonzero(pods)
        if not len(wanted):
            return None
        ones = np.ones(len(wanted), np.int64)
        return Orders(wanted, now_us * ones, (now_us + MINUTE_US) * ones, pods[wanted], ones > 0)

    def _pods_needed(self, now_us: int, view: TickView) -> np.ndarray:
        """Pods that the passed minute needed, int64 (F,)."""
        before = len(self._running_function)
        function = np.concatenate([self._running_function, np.asarray(view.function, np.int64)])
        begin_us = np.concatenate([np.full(before, view.last_us, np.int64), view.arrive_us])
        end_us = np.concatenate([self._running_end_us, np.asarray(view.arrive_us) + view.run_us])
        still = end_us > now_us
        self._running_function, self._running_end_us = function[still], end_us[still]
        order = np.argsort(function, kind="stable")
        peak = peaks_by_function(function[order], begin_us[order], end_us[order], len(self._window))
        return -(-peak // self._concurrency)


@register("icebreaker", "pods by a Fourier forecast of each minute", "icebreaker")
def _make(text: str) -> RulePolicy:
    no_value("icebreaker", text)
    return IceBreaker()
