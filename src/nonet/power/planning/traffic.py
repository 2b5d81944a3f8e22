"""Requests that grow with the row: `make_load(fraction, seed)` as objects that can be sent to other processes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nonet.common.errors import InputError
from nonet.power.load.requests import RequestLoad
from nonet.power.load.week import WeekConfig, generate_week


@dataclass(frozen=True)
class WeekTraffic:
    """A synthetic week; each seed draws all requests anew.

    Args:
        week: the process, for the row without added servers.
        days: length.

    >>> traffic = WeekTraffic(WeekConfig(requests_per_s=0.2), days=0.5)
    >>> len(traffic(0.0, 1)) < len(traffic(0.5, 1))
    True
    """

    week: WeekConfig
    days: float = 7.0

    def __call__(self, fraction: float, seed: int) -> RequestLoad:
        """Requests for the row with `fraction` more servers."""
        return generate_week(self.week.scaled(1.0 + fraction), days=self.days, seed=seed)


@dataclass(frozen=True, eq=False)
class RecordedTraffic:
    """A recorded load, kept as it is; added servers bring copies of its requests.

    Each request gets a further one with the probability of the added fraction, of its tokens, service and priority, up
    to `spread_s` later: so bursts grow with the row, as when more of the same users come. What a seed draws is which
    requests are doubled, no more: recorded weeks of the past are the same under every seed, so that an interval over
    seeds says nothing about other weeks.

    Args:
        load: the recorded requests.
        spread_s: see above.
    """

    load: RequestLoad
    spread_s: float = 10.0

    def __post_init__(self) -> None:
        if not (self.spread_s >= 0 and math.isfinite(self.spread_s)):
            raise InputError(f"traffic: spread_s must not be negative, got {self.spread_s!r}")

    def __call__(self, fraction: float, seed: int) -> RequestLoad:
        """Requests for the row with `fraction` more servers."""
        draws = np.random.Generator(np.random.Philox(seed))
        # The same request is doubled first under every fraction: a larger row has the traffic of the smaller, and more.
        lot, later_s = draws.random(len(self.load)), draws.random(len(self.load)) * self.spread_s
        whole = math.floor(fraction)
        copies = whole + (lot < fraction - whole)
        extra = np.repeat(np.arange(len(self.load)), copies)
        times = np.r_[self.load.arrival_s, self.load.arrival_s[extra] + later_s[extra]]
        source = np.r_[np.arange(len(self.load)), extra]
        order = np.argsort(times, kind="stable")
        source, load = source[order], self.load
        return RequestLoad(
            times[order],
            load.prompt_tokens[source],
            load.output_tokens[source],
            load.priority[source],
            load.service[source],
            load.service_names,
            dict(load.repairs),
        )
