"""Hybrid histogram of idle times (Shahrad et al., "Serverless in the Wild", ATC 2020; section A6.3)."""

from __future__ import annotations

from nonet.coldstart.simulating.policies import register
from nonet.coldstart.simulating.policies.base import IdleRule, RulePolicy, Setup
from nonet.common.errors import InputError


class HybridHistogram(RulePolicy):
    """A histogram of the idle times of each function: 240 bins of a minute.

    An idle time lasts from the end of a request, no other being there, to the next arrival. After an execution:
    when at least half of the idle times are longer than 4 hours, the next one is predicted by an autoregression of
    order 1 over the last 10 (the paper fits ARIMA; see `predict_idle_us`): load at 85 % of it, keep for 30 % of it.
    Else, when the bin counts have a coefficient of variation below 2 or there are none: keep for 4 hours. Else
    unload, load again at 90 % of the 5th percentile (lower edge of its bin), and keep until 110 % of the 99th (upper
    edge).

    A pod that falls idle while its function has other requests is kept until the end of that window. A load that
    comes due while the function has any pod, or after a new request, is left out.
    """

    name = "hist"

    def prepare(self, setup: Setup) -> None:
        """See `RulePolicy`."""
        setup.rules.idle_rule = IdleRule.HISTOGRAM


@register("hist", "hybrid histogram of idle times (Shahrad et al., ATC 2020)")
def _histogram(value: str) -> RulePolicy:
    if value:
        raise InputError(f"policy 'hist' takes no value, got {value!r}")
    return HybridHistogram()
