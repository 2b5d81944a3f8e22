"""A synthetic stream of clicks whose truth moves: how much freshness is worth when interests have a known half-life.

Tastes p_u(t) of users and properties q_i(t) of items are Ornstein-Uhlenbeck processes with half-life H, exact at every
tick; items are born by a Poisson process, live for a lognormal time and are popular by Zipf's law;
logit = b + <p_u, q_i> + trend_i(t). The true logit stands beside every row: its AUC is the ceiling for any model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.recsys.example import ActionEvent, Bags, ExampleBatch, FeatureEvent, Floats, Ints
from nonet.recsys.features.encoder import FeatureEncoder
from nonet.recsys.training.metrics import auc

_START_MS = 1_700_000_000_000
_TICKS_PER_HALF_LIFE = 16
_MAX_TICKS = 100_000


@dataclass(frozen=True, slots=True)
class DriftLog:
    """What was shown, clicked, and true.

    Args:
        examples: rows by time, features `user` and `item`.
        logit: float32 [n], true log-odds of a click.
        delay_ms: int64 [n], from the row to its click, where it has one.
        user: int64 [n], number of the user.
        item: int64 [n], number of the item.
    """

    examples: ExampleBatch
    logit: Floats
    delay_ms: Ints
    user: Ints
    item: Ints

    @property
    def oracle_auc(self) -> float:
        """AUC of the true log-odds."""
        return auc(self.examples.label, self.logit)

    def events(self) -> Iterator[FeatureEvent | ActionEvent]:
        """The rows as events, by time; a click comes after its delay."""
        ids = {name: bags.values for name, bags in self.examples.ids.items()}
        shown = self.examples.ts_ms
        clicked = np.flatnonzero(self.examples.label > 0.5)
        times = np.concatenate([shown, shown[clicked] + self.delay_ms[clicked]])
        rows = np.concatenate([np.arange(len(shown)), clicked])
        for at in np.argsort(times, kind="stable").tolist():
            row = int(rows[at])
            request, item, ts_ms = f"drift:{row}".encode(), str(self.item[row]).encode(), int(times[at])
            if at < len(shown):
                bags = {name: [int(values[row])] for name, values in ids.items()}
                yield FeatureEvent(request_id=request, item_id=item, ts_ms=ts_ms, ids=bags)
            else:
                yield ActionEvent(request_id=request, item_id=item, ts_ms=ts_ms)


@dataclass(frozen=True, slots=True)
class Drift:
    """A stream to generate.

    Args:
        rows: how many are shown.
        users: how many there are.
        items: alive on average.
        hours: length in event time.
        half_life_hours: H of tastes, properties and trends; larger than `hours` for hardly any drift.
        dim: of tastes and properties.
        scale: standard deviation of <p_u, q_i>.
        trend_scale: standard deviation of the trend of an item.
        base_logit: b.
        lifetime_hours: median lifetime of an item; its logarithm has standard deviation 1.
        zipf: exponent of popularity.
        seed: of everything.

    Raises:
        InputError: a size that is not positive, or more ticks than 100,000.

    >>> log = Drift(rows=1000, seed=1).log()
    >>> len(log.examples), 0.6 < log.oracle_auc < 1
    (1000, True)
    """

    rows: int = 100_000
    users: int = 1000
    items: int = 500
    hours: float = 48.0
    half_life_hours: float = 12.0
    dim: int = 4
    scale: float = 1.5
    trend_scale: float = 0.7
    base_logit: float = -1.0
    lifetime_hours: float = 96.0
    zipf: float = 1.1
    seed: int = 0

    def __post_init__(self) -> None:
        sizes = (self.rows, self.users, self.items, self.hours, self.half_life_hours, self.dim, self.lifetime_hours)
        if min(sizes) <= 0 or min(self.scale, self.trend_scale, self.zipf) < 0:
            raise InputError(f"a drifting stream has positive sizes: {self}")
        if self.num_ticks > _MAX_TICKS:
            raise InputError(
                f"{self.hours} h at a half-life of {self.half_life_hours} h are {self.num_ticks:,} ticks; "
                f"at most {_MAX_TICKS:,} are possible: shorten the stream or lengthen the half-life"
            )

    @property
    def num_ticks(self) -> int:
        """Steps in which the truth moves: at least 16 a half-life and 100 in all."""
        return max(100, int(np.ceil(self.hours / self.half_life_hours * _TICKS_PER_HALF_LIFE)))

    def log(self) -> DriftLog:
        """Generate it; memory is 50 bytes a row and 16 (users + items) dim."""
        random = np.random.default_rng(self.seed)
        ticks = self.num_ticks
        tick_hours = self.hours / ticks
        truth = _Truth(self, random, tick_hours)
        at_hours = np.sort(random.uniform(0, self.hours, self.rows))
        bounds = np.searchsorted(at_hours, np.arange(ticks + 1) * tick_hours)
        bounds[-1] = self.rows
        user = random.integers(0, self.users, self.rows)
        item, logit = np.empty(self.rows, np.int64), np.empty(self.rows, np.float32)
        for tick in range(ticks):
            now = slice(int(bounds[tick]), int(bounds[tick + 1]))
            item[now] = truth.draw_items(now.stop - now.start, tick * tick_hours)
            logit[now] = truth.logits(user[now], item[now])
            truth.advance()
        label = (random.random(self.rows) < 1 / (1 + np.exp(-logit))).astype(np.float32)
        ones = np.ones(self.rows, np.float32)
        examples = ExampleBatch(
            {"user": _bags(1, "user", user), "item": _bags(2, "item", item)},
            np.zeros((self.rows, 0), np.float32),
            label,
            ones,
            ones.copy(),
            _START_MS + (at_hours * 3_600_000).astype(np.int64),
        )
        return DriftLog(examples, logit, _delays_ms(random, self.rows), user, item)


class _Truth:
    """Latent state of users and of every item that will ever live."""

    def __init__(self, drift: Drift, random: np.random.Generator, tick_hours: float) -> None:
        self._random, self._drift = random, drift
        # exp(mu + 1/2) is the mean of a lognormal with log-deviation 1, so that `items` are alive on average.
        mean_hours = drift.lifetime_hours * np.exp(0.5)
        births = random.poisson(drift.items * drift.hours / mean_hours)
        alive = drift.items
        count = alive + births
        lifetime = drift.lifetime_hours * np.exp(random.normal(size=count))
        self._born = np.concatenate([np.zeros(alive), np.sort(random.uniform(0, drift.hours, births))])
        self._dies = self._born + lifetime
        self._dies[0] = np.inf  # somebody is always there
        self._popularity = (1.0 + random.permutation(count)) ** -drift.zipf
        # A product of two normal vectors has variance dim * sigma^4.
        sigma = np.sqrt(drift.scale / np.sqrt(drift.dim))
        self._processes = [
            _Process(random, (drift.users, drift.dim), sigma, drift.half_life_hours, tick_hours),
            _Process(random, (count, drift.dim), sigma, drift.half_life_hours, tick_hours),
            _Process(random, (count,), drift.trend_scale, drift.half_life_hours, tick_hours),
        ]

    def draw_items(self, size: int, hours: float) -> Ints:
        """Living items, by popularity."""
        living = np.flatnonzero((self._born <= hours) & (self._dies > hours))
        mass = np.cumsum(self._popularity[living])
        return living[np.searchsorted(mass, self._random.random(size) * mass[-1], side="right")]

    def logits(self, user: Ints, item: Ints) -> NDArray[np.float64]:
        """True log-odds of a click now."""
        taste, property_, trend = (process.value for process in self._processes)
        return self._drift.base_logit + (taste[user] * property_[item]).sum(1) + trend[item]

    def advance(self) -> None:
        """One tick."""
        for process in self._processes:
            process.advance()


class _Process:
    """Stationary Ornstein-Uhlenbeck, exact at ticks: x' = a x + sigma sqrt(1 - a^2) noise, a = 2^(-tick / H)."""

    def __init__(
        self, random: np.random.Generator, shape: tuple[int, ...], sigma: float, half_life: float, tick: float
    ) -> None:
        self._random, self._sigma = random, sigma
        self._kept = 2.0 ** (-tick / half_life)
        self.value = sigma * random.normal(size=shape)

    def advance(self) -> None:
        """One tick."""
        noise = self._sigma * np.sqrt(1 - self._kept**2)
        self.value = self._kept * self.value + noise * self._random.normal(size=self.value.shape)


def _bags(slot: int, name: str, numbers: Ints) -> Bags:
    return Bags.single(FeatureEncoder(name, slot).ids(numbers))


def _delays_ms(random: np.random.Generator, size: int) -> Ints:
    """Exponential with mean 30 s; one in twenty lognormal with a median of a day."""
    quick = random.exponential(30.0, size)
    slow = 86_400 * np.exp(random.normal(size=size))
    return (np.where(random.random(size) < 0.05, slow, quick) * 1000).astype(np.int64)
