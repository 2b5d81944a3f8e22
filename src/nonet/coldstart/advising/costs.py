"""What cold starts and idle memory cost: a small table of prices, with source and date, that a TOML file overrides.

`wait_usd_per_s` is no price: it is what a second that a user waits is worth to the operator, and decides which changes
pay. Its default, 0.001 USD, is a choice.
"""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from nonet.common.errors import InputError

if TYPE_CHECKING:
    from nonet.coldstart.simulating.results import Result
    from nonet.coldstart.trace.store import Trace

MONTH_S = 30 * 86_400.0
DEFAULT_MEMORY_MB = 128
_TABLE = Path(__file__).with_name("prices.toml")


@dataclass(frozen=True)
class Prices:
    """Prices of one platform, US dollars; a GB is 1,024 MB.

    Attributes:
        name: of the table.
        source, date: where the prices are from, and when they held.
        compute_usd_per_gb_s: while a request runs.
        request_usd: of one request.
        provisioned_usd_per_gb_s: of a pod that is held ready (provisioned concurrency, min-scale).
        provisioned_compute_usd_per_gb_s: while a request runs on such a pod.
        init_billed: whether initialisation is billed like a run.
        idle_usd_per_gb_s: of a pod that is idle within its keep-alive; 0 where the platform bears it.
        wait_usd_per_s: what a second of a waiting user is worth.
    """

    name: str
    source: str
    date: str
    compute_usd_per_gb_s: float
    request_usd: float
    provisioned_usd_per_gb_s: float
    provisioned_compute_usd_per_gb_s: float
    init_billed: bool
    idle_usd_per_gb_s: float
    wait_usd_per_s: float = 0.001


@dataclass(frozen=True)
class Costs:
    """US dollars a month of 30 days, at the rate of a trace or a simulation.

    Attributes:
        prices: name of the table; price_source, price_date: see `Prices`.
        days: length of what was looked at.
        init_usd, compute_usd, idle_usd, request_usd: starts, runs, idle pods, requests.
        init_gb_s, compute_gb_s, idle_gb_s: the same, GB s a month; `idle_gb_s` is None where the source does not tell.
        wait_s: seconds that users waited for cold starts in a month, and `wait_usd`, what they are worth.
    """

    prices: str
    price_source: str
    price_date: str
    days: float
    init_usd: float
    compute_usd: float
    idle_usd: float | None
    request_usd: float
    init_gb_s: float
    compute_gb_s: float
    idle_gb_s: float | None
    wait_s: float
    wait_usd: float


def load_prices(name: str = "lambda-x86", override: str | Path | None = None) -> Prices:
    """A table of prices.

    Args:
        name: "lambda-x86", "lambda-arm", "cluster", or a table of the override.
        override: a TOML file whose tables replace, or add to, those that come with the package, key by key.

    Raises:
        InputError: an unknown table or key, a missing or negative price, or an unreadable file.

    >>> load_prices("lambda-arm").provisioned_usd_per_gb_s
    3.3334e-06
    """
    tables = _read(_TABLE)
    for table, values in (_read(Path(override)) if override is not None else {}).items():
        if not isinstance(values, dict):
            raise InputError(f"{override}: {table} stands outside of a table; write it below a line [{name}]")
        tables[table] = {**tables.get(table, {}), **values}
    if name not in tables:
        raise InputError(f"no prices {name!r}; there are {', '.join(tables)}")
    values = tables[name]
    known = {field.name: field for field in fields(Prices) if field.name != "name"}
    unknown = [key for key in values if key not in known]
    if unknown:
        raise InputError(f"prices {name}: unknown key {unknown[0]!r}; known: {', '.join(known)}")
    missing = [key for key in known if key not in values and key != "wait_usd_per_s"]
    if missing:
        raise InputError(f"prices {name}: {missing[0]} is missing")
    for key, value in values.items():
        _check(name, key, value, str(known[key].type))
    return Prices(name=name, **values)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot read ({error.strerror or error})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: no TOML ({error})") from error


def _check(table: str, key: str, value: Any, kind: str) -> None:
    if kind == "float" and (isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0):
        raise InputError(f"prices {table}: {key} must be a number of at least 0, got {value!r}")
    if kind == "bool" and not isinstance(value, bool):
        raise InputError(f"prices {table}: {key} must be true or false, got {value!r}")
    if kind == "str" and not isinstance(value, str):
        raise InputError(f"prices {table}: {key} must be a text, got {value!r}")


def costs_of_result(result: Result, prices: Prices) -> Costs:
    """Costs of a simulation."""
    to_gb_s = 1 / (1024 * 1e6)
    span_s = max((result.end_us - result.start_us) / 1e6, 1e-6)
    wait_us = result.cold_total_us.sum() if result.pods is not None else result.allocation_us + result.rest_us
    return _costs(
        prices,
        span_s,
        init_gb_s=result.start_mb_us * to_gb_s,
        compute_gb_s=result.busy_mb_us * to_gb_s,
        idle_gb_s=result.idle_mb_us * to_gb_s,
        num_requests=result.num_requests,
        wait_s=float(wait_us) / 1e6,
    )


def costs_of_trace(trace: Trace, prices: Prices) -> Costs:
    """Costs of a trace: its cold starts and runs as they were; idle time is not in a trace (simulate it).

    Functions without a known memory count as 128 MB.
    """
    memory = trace.scan("function").select("region", "function", "memory_mb").unique(["region", "function"])
    gb = pl.col("memory_mb").fill_null(DEFAULT_MEMORY_MB) / 1024
    keys = ["region", "function"]
    starts = trace.scan("coldstart").join(memory, on=keys, how="left")
    totals = starts.select(gb_s=(pl.col("total_us") * gb).sum() / 1e6, wait_s=pl.col("total_us").sum() / 1e6).collect()
    requests = trace.scan("request").drop("memory_mb").join(memory, on=keys, how="left")
    run_us = (pl.col("end_us") - pl.coalesce("start_us", "arrive_us")).clip(lower_bound=0)
    runs = requests.select(gb_s=(run_us * gb).sum() / 1e6, num=pl.len()).collect(engine="streaming")
    return _costs(
        prices,
        max(((trace.end_us or 0) - (trace.start_us or 0)) / 1e6, 1e-6),
        init_gb_s=float(totals["gb_s"][0] or 0),
        compute_gb_s=float(runs["gb_s"][0] or 0),
        idle_gb_s=None,
        num_requests=int(runs["num"][0]),
        wait_s=float(totals["wait_s"][0] or 0),
    )


def _costs(
    prices: Prices,
    span_s: float,
    *,
    init_gb_s: float,
    compute_gb_s: float,
    idle_gb_s: float | None,
    num_requests: int,
    wait_s: float,
) -> Costs:
    months = span_s / MONTH_S
    return Costs(
        prices=prices.name,
        price_source=prices.source,
        price_date=prices.date,
        days=span_s / 86_400,
        init_usd=init_gb_s * prices.compute_usd_per_gb_s * prices.init_billed / months,
        compute_usd=compute_gb_s * prices.compute_usd_per_gb_s / months,
        idle_usd=None if idle_gb_s is None else idle_gb_s * prices.idle_usd_per_gb_s / months,
        request_usd=num_requests * prices.request_usd / months,
        init_gb_s=init_gb_s / months,
        compute_gb_s=compute_gb_s / months,
        idle_gb_s=None if idle_gb_s is None else idle_gb_s / months,
        wait_s=wait_s / months,
        wait_usd=wait_s * prices.wait_usd_per_s / months,
    )


def describe_prices(override: str | Path | None = None) -> list[dict[str, Any]]:
    """Every table that comes with the package, with the override applied.

    Raises:
        InputError: as `load_prices`.
    """
    return [asdict(load_prices(name, override)) for name in _read(_TABLE)]
