"""Analytics: laws and quantiles of a request CSV against Dask on the same file, and memory as the file grows."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nonet.coldstart.analytics.raw import column_histograms
from nonet.common.findings import Finding, Rival

if TYPE_CHECKING:
    import polars as pl

ROOM = "coldstart"
COLUMNS = ("totalCost_worker", "runtimeCost", "cpu_usage", "memory_usage")
SHARES = (0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
_BLOCK_ROWS = 250_000
_REPEATS = 3
_PROMISED_RATIO = 3.0
_ONE_PASS = "Dask, quantile and histogram in one pass"
_PROMISED_GIB = 2.0


def write_requests_csv(path: Path, *, num_rows: int | None = None, num_bytes: int | None = None, seed: int = 0) -> int:
    """Write a synthetic file in the schema of the Huawei release's `per_request` tables (about 186 bytes a row).

    Args:
        path: where to.
        num_rows: how many rows; or
        num_bytes: at least so many bytes, of one block of rows again and again.
        seed: of the random values.

    Returns:
        The number of rows written.
    """
    rng = np.random.default_rng(seed)
    written = 0
    with path.open("wb") as file:
        if num_bytes is not None:
            block = _block(rng, _BLOCK_ROWS).write_csv(include_header=False).encode()
            file.write(_block(rng, 0).write_csv().encode())
            while file.tell() < num_bytes:
                file.write(block)
                written += _BLOCK_ROWS
            return written
        for start in range(0, num_rows or 0, _BLOCK_ROWS):
            rows = _block(rng, min(_BLOCK_ROWS, (num_rows or 0) - start))
            rows.write_csv(file, include_header=start == 0)
            written += len(rows)
    return written


def _block(rng: np.random.Generator, num: int) -> pl.DataFrame:
    import polars as pl

    run_s = np.exp(rng.normal(-4.0, 2.0, num))
    function = rng.zipf(1.5, num) % 2400
    arrive_ms = np.sort(rng.random(num)) * 86.4e6 + 2.592e9
    serial = pl.Series(rng.integers(0, 10**6, num)).cast(pl.String).str.zfill(10)
    costs = {
        "totalCost_worker": run_s * 1.1,
        "workerCost": run_s * 1.05,
        "runtimeCost": run_s,
        "totalCost_frontend": run_s * 1.2,
        "frontendCost": run_s * 0.1,
        "busCost": run_s * 0.01,
        "readBodyCost": rng.random(num) * 1e-3,
        "writeRspCost": rng.random(num) * 1e-3,
        "cpu_usage": rng.random(num),
        "memory_usage": rng.random(num) * 128,
    }
    identity = {
        "time_worker": arrive_ms.round(3),
        "time_frontend": (arrive_ms - 1.0).round(3),
        "requestID": pl.Series(rng.integers(2**62, 2**63, num)).cast(pl.String).str.zfill(32),
        "clusterName": rng.integers(1, 5, num),
        "funcName": function,
        "podID": pl.select("pool22-300-128-" + serial).to_series(),
        "userID": function % 900,
    }
    values = {name: cost.round(6) for name, cost in costs.items()}
    return pl.DataFrame({**identity, **values, "requestBodySize": rng.integers(0, 10_000, num)})


def analytics_vs_dask(num_rows: int = 5_000_000) -> list[Finding]:
    """Quantiles and the whole law of four columns of a CSV: ours in one pass, Dask in two (quantile, histogram) or one.

    Ours and Dask run in turns, three times each; the medians are compared. Dask's ways: quantiles, then one histogram
    of each partition, added up (one question after the other, as a notebook asks them: the promise is held against
    this one); the same two in one `dask.compute`, which reads the file once; with `dask.array.histogram` of each
    column; and 201 quantiles taken for the law.
    """
    with tempfile.TemporaryDirectory(prefix="nonet-bench-") as folder:
        path = Path(folder) / "requests.csv"
        num_rows = write_requests_csv(path, num_rows=num_rows)
        num_bytes = path.stat().st_size
        ways: dict[str, Callable[[], Any]] = {
            "ours": lambda: _ours(path),
            "Dask, quantile and histogram": lambda: _dask_partitions(path),
            _ONE_PASS: lambda: _dask_one_pass(path),
            "Dask, quantile and dask.array.histogram": lambda: _dask_arrays(path),
            "Dask, 201 quantiles": lambda: _dask_quantiles(path),
        }
        _ours(path, warm_up=True)
        seconds = _in_turns(ways)
        error = _largest_error(_ours(path), _dask_partitions(path)[0])
    ours = seconds.pop("ours")
    described = f"synthetic CSV, {num_rows:,} rows, {num_bytes / 1e9:.2f} GB, {len(COLUMNS)} of 18 columns"
    rivals = tuple(Rival(f"{name} (s)", value, "measured") for name, value in seconds.items())
    ratio = seconds["Dask, quantile and histogram"] / ours
    note = f"quantiles of both within {error:.1%} of each other; bins of 1.16 %"
    once = "Dask asked for both at once, so that it reads the file once"
    return [
        Finding(ROOM, "analytics_vs_dask", ratio, "x", "higher", described, (), _PROMISED_RATIO, note),
        Finding(ROOM, "analytics_vs_dask_one_pass", seconds[_ONE_PASS] / ours, "x", "higher", described, note=once),
        Finding(ROOM, "analytics_seconds", ours, "s", "lower", described, rivals),
    ]


def _in_turns(ways: dict[str, Callable[[], Any]]) -> dict[str, float]:
    taken: dict[str, list[float]] = {name: [] for name in ways}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(_REPEATS):
            for name, way in ways.items():
                started = time.perf_counter()
                way()
                taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in taken.items()}


def _ours(path: Path, *, warm_up: bool = False) -> dict[str, Any]:
    if warm_up:  # loads the compiled kernel
        small = path.with_name("small.csv")
        write_requests_csv(small, num_rows=1000)
        return _ours(small)
    return {name: found.curve().quantile(SHARES) for name, found in column_histograms([path], COLUMNS).items()}


def _frame(path: Path) -> Any:
    import dask.dataframe as dd

    return dd.read_csv(path, usecols=list(COLUMNS))


def _edges() -> Any:
    return np.geomspace(1e-12, 1e18, 6001)


def _dask_partitions(path: Path) -> tuple[Any, Any]:
    frame = _frame(path)
    return frame.quantile(list(SHARES)).compute(), _dask_counts(frame).compute()


def _dask_one_pass(path: Path) -> tuple[Any, Any]:
    import dask

    frame = _frame(path)
    found: tuple[Any, Any] = dask.compute(frame.quantile(list(SHARES)), _dask_counts(frame))
    return found


def _dask_counts(frame: Any) -> Any:
    """One histogram of each column and partition, added up (not yet computed)."""
    edges = _edges()

    def counted(part: Any) -> Any:
        return part.apply(lambda column: np.histogram(column, bins=edges)[0]).reset_index()

    meta = {"index": "i8", **dict.fromkeys(COLUMNS, "i8")}
    return frame.map_partitions(counted, meta=meta).groupby("index").sum()


def _dask_arrays(path: Path) -> tuple[Any, Any]:
    import dask
    import dask.array as da

    frame = _frame(path)
    quantiles = frame.quantile(list(SHARES)).compute()
    return quantiles, dask.compute(*(da.histogram(frame[name].values, bins=_edges())[0] for name in COLUMNS))


def _dask_quantiles(path: Path) -> Any:
    return _frame(path).quantile(np.linspace(0.0, 1.0, 201)).compute()


def _largest_error(ours: dict[str, Any], theirs: Any) -> float:
    """The largest relative difference of a quantile (Dask's are approximate over partitions too)."""
    return float(max(np.abs(ours[name] / theirs[name].to_numpy() - 1).max() for name in COLUMNS))


def analytics_memory(gigabytes: Sequence[float] = (2.0, 4.0)) -> list[Finding]:
    """Peak memory of a process that makes the laws of four columns of a CSV, as the CSV grows.

    What is held is one batch and one histogram a column, so 20 GB take what 2 GB take; the finding is the largest of
    the sizes, the note has all.
    """
    peaks: dict[float, float] = {}
    with tempfile.TemporaryDirectory(prefix="nonet-bench-") as folder:
        path = Path(folder) / "requests.csv"
        for size in gigabytes:
            write_requests_csv(path, num_bytes=int(size * 1e9))
            peaks[size] = _child_peak_gib(path)
    note = ", ".join(f"{size:g} GB: {peak:.2f} GiB" for size, peak in peaks.items())
    described = f"synthetic CSV of {', '.join(f'{size:g}' for size in gigabytes)} GB"
    largest = max(peaks.values())
    return [Finding(ROOM, "analytics_rss_gib", largest, "GiB", "lower", described, (), _PROMISED_GIB, note)]


_CHILD = """
import sys
from nonet.coldstart.analytics.raw import column_histograms
from nonet.common.machine import peak_rss_mib
column_histograms([sys.argv[1]], sys.argv[2].split(","))
print(peak_rss_mib())
"""


def _child_peak_gib(path: Path) -> float:
    command = [sys.executable, "-c", _CHILD, str(path), ",".join(COLUMNS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout) / 1024
