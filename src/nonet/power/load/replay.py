"""Follows a measured row-power series: requests that make a simulated row draw what the real one drew.

The rate of requests is sought minute by minute. A first guess comes from the row's power at constant rates, which is
simulated; then every minute's rate is corrected by what the replay drew too much or too little, until that no longer
helps. Requests are spaced evenly in expectation, so that chance adds little of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from nonet.common.errors import InputError
from nonet.power.load.requests import RequestLoad
from nonet.power.load.services import POLCA_MIX, Service
from nonet.power.load.week import even_requests
from nonet.power.simulating.engine import simulate
from nonet.power.simulating.row import Row

Floats = NDArray[np.float64]
_BIN_S = 60.0
_WARM_UP_S = 600.0
_CURVE_S = 7200.0
_GENTLE = 0.7


@dataclass(frozen=True)
class SeriesFit:
    """Requests that follow a series.

    Attributes:
        load: they start `warm_up_s` before the series does, since the simulated row begins empty.
        warm_up_s: that time, seconds.
        rates_per_s: requests per second, by minute from the warm-up's start.
        mape: mean |simulated - measured| / measured over the samples of the series.
        out_of_reach: share of the minutes in which the row cannot draw so little or so much at any rate.
    """

    load: RequestLoad
    warm_up_s: float
    rates_per_s: Floats
    mape: float
    out_of_reach: float


def fit_to_series(
    power_w: NDArray[np.floating],
    row: Row,
    *,
    services: Sequence[Service] = POLCA_MIX,
    rounds: int = 8,
    seed: int = 0,
) -> SeriesFit:
    """Requests under which `row` follows a series of row power.

    Args:
        power_w: mean watts of each telemetry period of the row, in order; NaN in gaps.
        row: what is simulated, without a policy.
        services: mix of the requests.
        rounds: corrections at most.
        seed: of lengths, services and priorities.

    Raises:
        InputError: fewer than a minute of samples, or values that are no watts.
    """
    measured = np.asarray(power_w, dtype=np.float64)
    per_bin = max(1, round(_BIN_S / row.telemetry_period_s))
    known = measured[~np.isnan(measured)]
    if len(known) < per_bin or not (np.isfinite(known) & (known > 0)).all():
        raise InputError("fit_to_series: needs at least a minute of samples above 0 W")
    warm_bins = round(_WARM_UP_S / _BIN_S)
    aimed_w = np.concatenate([np.full(warm_bins, np.nan), _bin_means(_filled(measured), per_bin)])
    aimed_w[:warm_bins] = aimed_w[warm_bins]
    rates, watts = _power_curve(row, services, float(np.nanmax(aimed_w)), seed)
    slopes = np.gradient(watts, rates)
    guess = np.interp(aimed_w, watts, rates)
    reach = float(((aimed_w < watts[0]) | (aimed_w > watts[-1])).mean())
    best: SeriesFit | None = None
    for _ in range(max(1, rounds)):
        load = even_requests(guess, _BIN_S, services, seed=seed)
        drawn = _replayed(row, load, len(measured))
        mape = _error(drawn, measured)
        if best is None or mape < best.mape:
            best = SeriesFit(load, _WARM_UP_S, guess, mape, reach)
        missing_w = np.concatenate([np.zeros(warm_bins), aimed_w[warm_bins:] - _bin_means(drawn, per_bin)])
        # A request is still served in the next minute: what is corrected is spread over its neighbours.
        step = uniform_filter1d(missing_w, 3, mode="nearest") / np.interp(guess, rates, slopes)
        guess = np.clip(guess + _GENTLE * step, rates[0], rates[-1])
    if best is None:
        raise InputError("fit_to_series: needs at least one round")
    return best


def replay_error(fitted: SeriesFit, power_w: NDArray[np.floating], row: Row) -> float:
    """Mean |simulated - measured| / measured of a replay, simulated anew."""
    measured = np.asarray(power_w, dtype=np.float64)
    return _error(_replayed(row, fitted.load, len(measured)), measured)


def _replayed(row: Row, load: RequestLoad, num_samples: int) -> Floats:
    first = round(_WARM_UP_S / row.telemetry_period_s)
    seconds = (first + num_samples) * row.telemetry_period_s
    result = simulate(row, load, duration_s=seconds, drain_s=0.0)
    return np.asarray(result.row_w[first : first + num_samples], dtype=np.float64)


def _error(drawn: Floats, measured: Floats) -> float:
    return float(np.nanmean(np.abs(drawn - measured) / measured))


def _power_curve(row: Row, services: Sequence[Service], highest_w: float, seed: int) -> tuple[Floats, Floats]:
    # Mean power at constant rates, doubling until the row draws enough or no more; rising by construction.
    rates, watts = [1e-3], [_mean_power(row, services, 1e-3, seed)]
    rate = 0.02
    while rate < 1e4:
        power_w = _mean_power(row, services, rate, seed)
        if power_w <= watts[-1] * 1.001 and rate > 1.0:
            break
        if power_w > watts[-1]:
            rates.append(rate)
            watts.append(power_w)
        if power_w > 1.05 * highest_w:
            break
        rate *= 1.35
    return np.array(rates), np.array(watts)


def _mean_power(row: Row, services: Sequence[Service], rate_per_s: float, seed: int) -> float:
    load = even_requests(np.full(int(_CURVE_S / _BIN_S), rate_per_s), _BIN_S, services, seed=seed)
    result = simulate(row, load, duration_s=_CURVE_S, drain_s=0.0)
    return float(result.row_w[int(_WARM_UP_S / row.telemetry_period_s) :].mean())


def _bin_means(values: Floats, per_bin: int) -> Floats:
    num_bins = -(-len(values) // per_bin)
    padded = np.concatenate([values, np.full(num_bins * per_bin - len(values), np.nan)])
    return np.asarray(np.nanmean(padded.reshape(num_bins, per_bin), axis=1))


def _filled(values: Floats) -> Floats:
    missing = np.isnan(values)
    at = np.arange(len(values))
    return np.interp(at, at[~missing], values[~missing])
