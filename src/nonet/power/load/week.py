"""Synthetic weeks: requests by service mix, with a measured weekly shape, Poisson arrivals and correlated bursts.

Every day of every stream draws from its own counter-based generator, so a day is the same bytes whether one day or six
weeks are asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from nonet.common.errors import InputError
from nonet.power.load.requests import RequestLoad
from nonet.power.load.services import POLCA_MIX, Service, check_mix
from nonet.power.policies.protocol import Priority

Floats = NDArray[np.float64]
DAY_S = 86_400.0
_MINUTES = 1440
_TABLE = Path(__file__).with_name("week_shape.csv")
_STEADY, _BURSTS, _EVEN = 1, 2, 3


class WeekConfig(BaseModel):
    """A synthetic week.

    Args:
        requests_per_s: mean over the week, of the whole row, bursts included.
        services: the mix.
        conv_share: weight of the conversation trace in the weekly shape; the rest is the code trace.
        flatness: 0 keeps the measured shape, 1 makes the rate constant; between, the shape's swing is scaled.
        burst_share: share of the requests that come in bursts.
        burst_size: mean requests of a burst, one more than a Poisson number. Grows with `scale`, as the row does; the
            bursts' rate does not.
        burst_spread_s: the requests of a burst come within this time, uniformly.
        scale: traffic and bursts over those of the base row.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    requests_per_s: float = Field(gt=0)
    services: tuple[Service, ...] = POLCA_MIX
    conv_share: float = Field(default=0.5, ge=0, le=1)
    flatness: float = Field(default=0.0, ge=0, le=1)
    burst_share: float = Field(default=0.0, ge=0, lt=1)
    burst_size: float = Field(default=8.0, ge=1)
    burst_spread_s: float = Field(default=2.0, gt=0)
    scale: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _mix(self) -> Self:
        check_mix(self.services)
        return self

    def scaled(self, factor: float) -> WeekConfig:
        """The same process for a row `factor` times as large: 1.3 for 30 % more servers."""
        return self.model_copy(update={"scale": self.scale * factor})

    def shape(self) -> Floats:
        """Rate by minute of the week from Monday 00:00, over its mean; float64 (10080,)."""
        hours = weekly_shape(self.conv_share)
        swing = 1 + (1 - self.flatness) * (hours - 1)
        minutes = (np.arange(7 * _MINUTES) + 0.5) / 60
        around = np.concatenate([swing[-1:], swing, swing[:1]])
        fine = np.interp(minutes, np.arange(-0.5, 169), around)
        return np.asarray(fine / fine.mean())


@cache
def _table() -> tuple[Floats, Floats]:
    rows = pl.read_csv(_TABLE, comment_prefix="#")
    return rows["code"].to_numpy(), rows["conv"].to_numpy()


def weekly_shape(conv_share: float = 0.5) -> Floats:
    """Requests of each hour of the week, from Monday 00:00 UTC, over the mean hour; float64 (168,).

    >>> shape = weekly_shape(1.0)
    >>> round(float(shape.max()), 2), round(float(shape.min()), 2)
    (1.67, 0.47)
    """
    code, conv = _table()
    return conv_share * conv + (1 - conv_share) * code


def generate_week(config: WeekConfig, *, days: float = 7.0, seed: int = 0, start_day: int = 0) -> RequestLoad:
    """Requests of `days` from Monday 00:00 on, plus `start_day`.

    Memory: about 60 bytes a request while it is made, 19 afterwards.

    Args:
        config: the process.
        days: length; the last day may be cut.
        seed: of every draw.
        start_day: first day, 0 for the first Monday; the clock starts there.

    Raises:
        InputError: `days` is not positive.

    >>> load = generate_week(WeekConfig(requests_per_s=0.5), days=1, seed=7)
    >>> two = generate_week(WeekConfig(requests_per_s=0.5), days=2, seed=7)
    >>> bool((two.arrival_s[: len(load)] == load.arrival_s).all()), load.service_names
    (True, ('summarize', 'search', 'chat'))
    """
    if not days > 0:
        raise InputError(f"days must be above 0, got {days}")
    shape = config.shape().reshape(7, _MINUTES)
    parts = []
    for day in range(int(np.ceil(days))):
        minute_rates = shape[(start_day + day) % 7]
        arrays = _day(config, minute_rates, seed, start_day + day)
        parts.append((arrays[0] + day * DAY_S, *arrays[1:]))
    columns = [np.concatenate([part[i] for part in parts]) for i in range(5)]
    # A burst may reach over midnight, by less than its spread.
    order = np.argsort(columns[0], kind="stable")
    order = order[columns[0][order] < days * DAY_S]
    times, prompts, outputs, priority, service = (column[order] for column in columns)
    names = tuple(s.name for s in config.services)
    return RequestLoad(times, prompts, outputs, priority, service, names)


def _day(config: WeekConfig, minute_rates: Floats, seed: int, day: int) -> tuple[NDArray[Any], ...]:
    total_per_s = config.requests_per_s * config.scale
    steady = _stream(seed, day, _STEADY)
    times = _arrivals(steady, minute_rates * total_per_s * (1 - config.burst_share) * 60)
    if config.burst_share > 0:
        draws = _stream(seed, day, _BURSTS)
        starts = _arrivals(draws, minute_rates * config.requests_per_s * config.burst_share / config.burst_size * 60)
        sizes = _sizes(draws, config.burst_size, config.scale, len(starts))
        spread_s = draws.random(int(sizes.sum())) * config.burst_spread_s
        times = np.concatenate([times, np.repeat(starts, sizes) + spread_s])
    times = np.sort(times)
    num = len(times)
    return times, *_properties(config.services, steady, num)


def even_requests(rates_per_s: Floats, step_s: float, services: Sequence[Service], *, seed: int = 0) -> RequestLoad:
    """Requests at given rates, one at a random moment of every stretch in which one is due.

    Args:
        rates_per_s: by steps of `step_s` seconds; not negative.
        step_s: length of a step.
        services: mix of the requests.
        seed: of every draw.

    >>> len(even_requests(np.array([0.5, 2.0]), 60.0, POLCA_MIX, seed=1))
    150
    """
    due = np.concatenate([[0.0], np.cumsum(np.maximum(rates_per_s, 0.0) * step_s)])
    num = int(due[-1] + 1e-9)
    draws = _stream(seed, 0, _EVEN)
    at = np.arange(num) + draws.random(num)
    # A flat stretch of `due` is a time without requests; the interpolation takes its end.
    times = np.interp(at, due, np.arange(len(due)) * step_s)
    return RequestLoad(times, *_properties(services, draws, num), tuple(s.name for s in services))


def _properties(services: Sequence[Service], draws: np.random.Generator, num: int) -> tuple[Any, Any, Any, Any]:
    shares = np.array([s.share for s in services])
    service = np.searchsorted(np.cumsum(shares / shares.sum())[:-1], draws.random(num), side="right").astype(np.int16)
    prompt_at, output_at, low_at = draws.random(num), draws.random(num), draws.random(num)
    prompts, outputs = np.empty(num, np.int32), np.empty(num, np.int32)
    priority = np.empty(num, np.int8)
    for index, kind in enumerate(services):
        own = service == index
        prompts[own] = kind.draw("prompt", prompt_at[own])
        outputs[own] = kind.draw("output", output_at[own])
        priority[own] = np.where(low_at[own] < kind.low_share, Priority.LOW, Priority.HIGH)
    return prompts, outputs, priority, service


def _arrivals(draws: np.random.Generator, per_minute: Floats) -> Floats:
    counts = draws.poisson(per_minute)
    minutes = np.repeat(np.arange(len(per_minute)), counts)
    return (minutes + draws.random(len(minutes))) * 60.0


def _sizes(draws: np.random.Generator, mean: float, scale: float, num: int) -> NDArray[np.int64]:
    return 1 + draws.poisson(max(0.0, mean * scale - 1), num)


def _stream(seed: int, day: int, stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed & (2**64 - 1), stream], counter=[0, 0, day, 0]))
