"""The answer to the clock of decode, power and time, from a sweep over clock and batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.power.profiles.clock import ClockResponse

COLUMNS = {
    "clock_mhz": ("clock_mhz", "sm_clock_mhz", "sm_clock", "clock", "freq_mhz", "frequency"),
    "batch": ("batch", "batch_size"),
    "watts": ("watts", "power_w", "avg_power_watts", "power"),
    "seconds": ("seconds", "latency_s", "seconds_per_token", "latency_ms", "token_time"),
}


@dataclass(frozen=True, slots=True)
class ClockRow:
    """One point of a sweep: clock MHz, sequences in the batch, W of each GPU, seconds of a token."""

    clock_mhz: float
    batch: float
    watts: float
    seconds: float


@dataclass(frozen=True, slots=True)
class ClockFit:
    """A fitted response; errors are root mean squares of the factors, of batches that were left out one at a time."""

    response: ClockResponse
    power_rmse: float
    time_rmse: float
    num_rows: int


def read_clock_table(path: Path) -> list[ClockRow]:
    """Read a sweep from CSV, columns by any name of `COLUMNS`; the unit of time does not matter to the fit.

    Raises:
        InputError: the file cannot be read, a column is missing, or a value is no number.
    """
    try:
        frame = pl.read_csv(path, infer_schema_length=None)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path}: cannot be read as CSV ({str(error).splitlines()[0]})") from error
    columns = []
    for names in COLUMNS.values():
        name = next((n for n in names if n in frame.columns), None)
        if name is None:
            raise InputError(f"{path}: no column of {', '.join(names)}")
        values = frame[name].cast(pl.Float64, strict=False)
        if values.null_count() or not values.is_finite().all():
            raise InputError(f"{path}: column {name} has a value that is no number; remove those rows")
        columns.append(values.to_list())
    return [ClockRow(*values) for values in zip(*columns, strict=True)]


def fit_clock(rows: Sequence[ClockRow], max_clock_mhz: float) -> ClockFit:
    """Fit power c + (1 - c) x^k and time (a0 + a1/x) / (a0 + a1) to the factors against the highest clock, by batch.

    Raises:
        InputError: fewer than three clocks, a batch without a row at `max_clock_mhz`, or a number is not positive.
    """
    if any(min(r.clock_mhz, r.batch, r.watts, r.seconds) <= 0 for r in rows):
        raise InputError("clock sweep: a clock, batch, power or time is not positive; remove those rows")
    if len({r.clock_mhz for r in rows}) < 3:
        raise InputError("clock sweep: a response to the clock needs at least three clocks")
    groups = {b: [r for r in rows if r.batch == b] for b in sorted({r.batch for r in rows})}
    factors = {batch: _factors(group, max_clock_mhz) for batch, group in groups.items()}
    response = _fit(list(factors.values()))
    power, time = [], []
    for batch, (x, p, t) in factors.items():
        others = [other for b, other in factors.items() if b != batch]
        model = _fit(others) if others else response
        power += [model.decode_power(float(xi)) - pi for xi, pi in zip(x, p, strict=True)]
        time += [model.decode_time(float(xi)) - ti for xi, ti in zip(x, t, strict=True)]
    return ClockFit(response, _rms(power), _rms(time), len(rows))


Factors = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def _factors(group: Sequence[ClockRow], max_clock_mhz: float) -> Factors:
    top = [r for r in group if abs(r.clock_mhz - max_clock_mhz) < 0.5]
    if not top:
        raise InputError(f"clock sweep: batch {group[0].batch:g} has no row at {max_clock_mhz:g} MHz to compare with")
    watts, seconds = np.mean([r.watts for r in top]), np.mean([r.seconds for r in top])
    x = np.array([min(1.0, r.clock_mhz / max_clock_mhz) for r in group])
    return x, np.array([r.watts for r in group]) / watts, np.array([r.seconds for r in group]) / seconds


def _fit(factors: Sequence[Factors]) -> ClockResponse:
    from scipy.optimize import least_squares

    x, power, time = (np.concatenate(columns) for columns in zip(*factors, strict=True))

    def residuals(p: NDArray[np.float64]) -> NDArray[np.float64]:
        return p[0] + (1 - p[0]) * x ** p[1] - power

    floor, exponent = least_squares(residuals, [0.5, 3.0], bounds=([0.0, 0.1], [0.99, 12.0])).x
    inverse = 1.0 / x - 1.0
    share = float(np.clip(inverse @ (time - 1.0) / max(float(inverse @ inverse), 1e-12), 1e-6, 1.0))
    return ClockResponse(
        decode_power_floor=float(floor),
        decode_power_exponent=float(exponent),
        decode_time_fixed=1.0 - share,
        decode_time_clocked=share,
        min_level=float(x.min()),
    )


def _rms(values: Sequence[float]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
