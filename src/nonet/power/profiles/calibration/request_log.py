"""The requests of one server as a log has them: when, how many tokens, and, where it says so, how long they took."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.power.profiles.calibration.gpu_log import to_seconds

ALIASES = {
    "arrival": (
        "arrival_s",
        "time",
        "timestamp",
        "arrival_timestamp",
        "arrival_time",
        "TIMESTAMP",
        "Timestamp",
        "start",
    ),
    "prompt": ("prompt_tokens", "prompt_size", "ContextTokens", "input_tokens", "input_length", "prompt_len"),
    "output": ("output_tokens", "token_size", "GeneratedTokens", "completion_tokens", "output_length", "output_len"),
    "ttft": ("ttft_s", "ttft", "time_to_first_token"),
    "e2e": ("e2e_s", "e2e", "latency_s", "duration_s"),
}
_OPTIONAL = ("ttft", "e2e")


@dataclass(frozen=True, eq=False, slots=True)
class RequestLog:
    """Requests of one instance, in order of arrival, float64 (n,) each.

    Attributes:
        arrival_s: on the clock of the GPU log.
        prompt_tokens: at least 1.
        output_tokens: at least 1.
        ttft_s: until the first token; None when the log does not say.
        e2e_s: until the last token; None when the log does not say.
        num_refused: rows left out: a cell that is no positive number.
    """

    arrival_s: NDArray[np.float64]
    prompt_tokens: NDArray[np.float64]
    output_tokens: NDArray[np.float64]
    ttft_s: NDArray[np.float64] | None
    e2e_s: NDArray[np.float64] | None
    num_refused: int = 0


def read_request_log(path: Path) -> RequestLog:
    """Read CSV or Parquet; columns by any name of `ALIASES`, latencies also with `_ms` and in milliseconds.

    Rows with a cell that is no positive number, such as zero tokens, are left out and counted.

    Raises:
        InputError: it cannot be read, times or tokens are missing, or more than half of the rows are unusable.
    """
    try:
        frame = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path, infer_schema_length=None)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from error
    columns = {key: _column(frame, key, names) for key, names in ALIASES.items()}
    for key, names in ALIASES.items():
        if columns[key] is None and key not in _OPTIONAL:
            raise InputError(f"{path}: no column of {', '.join(names)} (found {', '.join(frame.columns[:12])})")
    known = {key: column for key, column in columns.items() if column is not None}
    good = np.logical_and.reduce([np.isfinite(v) if key == "arrival" else v > 0 for key, v in known.items()])
    if 2 * good.sum() < max(1, len(good)):
        raise InputError(f"{path}: {int((~good).sum())} of {len(good)} rows have a cell that is no positive number")
    order = np.flatnonzero(good)[np.argsort(known["arrival"][good], kind="stable")]
    arrival, prompt, output, ttft, e2e = (None if v is None else v[order] for v in columns.values())
    if arrival is None or prompt is None or output is None:
        raise InputError(f"{path}: no times or no tokens")
    return RequestLog(arrival, prompt, output, ttft, e2e, int((~good).sum()))


def _column(frame: pl.DataFrame, key: str, names: Sequence[str]) -> NDArray[np.float64] | None:
    name = next((n for n in names if n in frame.columns), None)
    scale = 1.0
    if name is None and key in _OPTIONAL:
        milliseconds = [f"{n.removesuffix('_s')}_ms" for n in names]
        name, scale = next((n for n in milliseconds if n in frame.columns), None), 1e-3
    if name is None:
        return None
    column = to_seconds(frame[name]) if key == "arrival" else frame[name].cast(pl.Float64, strict=False)
    return column.fill_null(math.nan).to_numpy().astype(np.float64) * scale
