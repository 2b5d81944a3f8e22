"""Reads request logs: Azure LLM traces (2023, 2024, 2025), BurstGPT, Mooncake, splitwise-sim, own CSV and Parquet.

The format is told by the columns: published ones by all their names, own ones by the usual names of time and tokens.
Files are CSV (also .gz), Parquet, or JSON lines (Mooncake).
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.common.registry import Registry
from nonet.power.load.requests import MAX_TOKENS, RequestLoad
from nonet.power.load.times import parse_times, undo_put_back
from nonet.power.policies.protocol import Priority

_TIMES = (
    "timestamp",
    "time",
    "arrival_time",
    "arrival_timestamp",
    "arrival_s",
    "start_time",
    "request_time",
    "created_at",
    "datetime",
    "date",
    "ts",
    "timestamp_ms",
    "timestamp_us",
    "timestamp_ns",
)
_PROMPTS = (
    "prompt_tokens",
    "input_tokens",
    "context_tokens",
    "contexttokens",
    "num_prompt_tokens",
    "prompt_len",
    "prompt_length",
    "input_length",
    "input_len",
    "prompt_size",
    "gen_ai.usage.input_tokens",
)
_OUTPUTS = (
    "output_tokens",
    "completion_tokens",
    "generated_tokens",
    "generatedtokens",
    "num_output_tokens",
    "output_len",
    "output_length",
    "completion_length",
    "token_size",
    "gen_ai.usage.output_tokens",
)
_LONGEST_JUMP_S = 3600.0
_EPOCH_FROM_S = 1e8
_EPOCH_S = (1e9, 1e10)
_MAX_SERVICES = 2**15 - 1


@dataclass(frozen=True, slots=True)
class RequestFormat:
    """Columns of a request log.

    Args:
        time: column of the arrivals.
        prompt: column of the tokens in.
        output: column of the tokens out.
        unit: of numeric times; "" is judged by size.
        service: column of the service, "" when there is none.
        priority: column of the priority (0 low, 1 high, or "low", "high"), "" when there is none.
    """

    time: str
    prompt: str
    output: str
    unit: str = ""
    service: str = ""
    priority: str = ""


FORMATS: Registry[RequestFormat] = Registry("request format")
FORMATS.add("nonet", RequestFormat("arrival_s", "prompt_tokens", "output_tokens", "s", "service", "priority"))
FORMATS.add("azure", RequestFormat("TIMESTAMP", "ContextTokens", "GeneratedTokens"))
FORMATS.add("burstgpt", RequestFormat("Timestamp", "Request tokens", "Response tokens", "s", "Model"))
FORMATS.add("mooncake", RequestFormat("timestamp", "input_length", "output_length", "ms"))
FORMATS.add("mooncake-reduced", RequestFormat("timestamp_ms", "input_tokens", "output_tokens", "ms"))
FORMATS.add("splitwise", RequestFormat("arrival_timestamp", "prompt_size", "token_size", "s"))


def read_requests(
    path: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    low_share: float | Mapping[str, float] = 0.5,
    seed: int = 0,
) -> RequestLoad:
    """Read a request log; time 0 is the first arrival.

    Rows without a time or with cells that are no numbers are left out and counted in `repairs`, as are rows with zero
    tokens; rows out of order are sorted. When more than half of the rows are unusable, the file is refused.

    Args:
        path: the log.
        columns: for own tables: `{"time": ..., "prompt": ..., "output": ..., "service": ..., "priority": ...}`, where
            the last two may be left out and "unit" says the unit of numeric times.
        low_share: share of low priority, one for all or by service; used when the log has no priorities.
        seed: of the priorities.

    Raises:
        InputError: no such file, unknown columns, too many unusable rows, no request that asks for tokens, or times of
            which some are dates and some are seconds of the log. Lines are named where one is to blame.
    """
    source = Path(path)
    frame = _read(source)
    layout = _mapped(columns, frame, source) if columns else _told_by_columns(frame, source)
    seconds, formats = parse_times(frame[layout.time], _unit(frame[layout.time], layout))
    prompts, outputs = (_numbers(frame[name]) for name in (layout.prompt, layout.output))
    seconds = np.where(np.abs(seconds) < 1e11, seconds, np.nan)
    usable = np.isfinite(seconds) & np.isfinite(prompts) & np.isfinite(outputs) & (prompts >= 0) & (outputs >= 0)
    repairs = {"unusable, left out": int((~usable).sum())} if not usable.all() else {}
    if usable.sum() * 2 < len(usable) or not usable.any():
        line = int(np.argmin(usable)) + _first_line(source)
        raise InputError(
            f"{source}: {int((~usable).sum())} of {len(usable)} rows are unusable, the first in line {line}"
        )
    if formats > 1:
        repairs["time formats"] = formats
    _check(source, seconds, prompts, outputs, usable)
    own = frame.filter(pl.Series(usable))
    times, put_back = undo_put_back(seconds[usable])
    if put_back:
        repairs["clock put back by an hour, later times moved"] = put_back
    jumps = int((np.abs(np.diff(times)) > _LONGEST_JUMP_S).sum())
    if jumps:
        repairs["jumps of more than an hour, kept"] = jumps
    services, names = _services(own, layout, source)
    load = RequestLoad.of(
        times - times.min(),
        prompts[usable],
        outputs[usable],
        priority=_priorities(own, layout, source),
        service=services,
        service_names=names,
        repairs=repairs,
    )
    return load if layout.priority else load.with_priorities(low_share, seed=seed)


def _unit(times: pl.Series, layout: RequestFormat) -> str:
    """The unit of numeric times; epoch seconds are no milliseconds of a trace, whatever their column is called."""
    least = times.cast(pl.Float64, strict=False).min() if layout.unit == "ms" else None
    return "" if least is not None and _EPOCH_S[0] <= float(str(least)) < _EPOCH_S[1] else layout.unit


def _read(path: Path) -> pl.DataFrame:
    try:
        if path.suffix == ".parquet":
            frame = pl.read_parquet(path)
        elif path.name.removesuffix(".gz").endswith((".jsonl", ".ndjson")):
            frame = _json_lines(path)
        else:
            frame = pl.read_csv(path, infer_schema=False, truncate_ragged_lines=True)
            if len(frame.columns) == 1 and ";" in frame.columns[0]:
                frame = pl.read_csv(path, infer_schema=False, truncate_ragged_lines=True, separator=";")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except (EOFError, zlib.error) as error:
        raise InputError(f"{path}: cut short or damaged ({error}); fetch it again") from error
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from error
    if frame.is_empty():
        raise InputError(f"{path}: no requests in it")
    return frame.rename({name: name.strip() for name in frame.columns})


def _json_lines(path: Path) -> pl.DataFrame:
    """Records of single values; lists (Mooncake's hash_ids) and nested objects are left out."""
    columns: dict[str, list[str | None]] = {}
    num = 0
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                record: Any = json.loads(line)
                plain = {name: value for name, value in record.items() if isinstance(value, str | int | float)}
            except (ValueError, AttributeError, RecursionError) as error:
                raise InputError(f"{path}, line {number}: no JSON object ({error})") from error
            for name, value in plain.items():
                columns.setdefault(name, [None] * num).append(str(value))
            num += 1
            for values in columns.values():
                values.extend([None] * (num - len(values)))
    return pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))


def _first_line(path: Path) -> int:
    """Where the first record is: JSON lines have no header."""
    return 1 if path.name.removesuffix(".gz").endswith((".jsonl", ".ndjson")) else 2


def _check(path: Path, seconds: Any, prompts: Any, outputs: Any, usable: NDArray[np.bool_]) -> None:
    dated = seconds >= _EPOCH_FROM_S
    if (dated & usable).any() and (~dated & usable).any():
        few = dated if (dated & usable).sum() * 2 < usable.sum() else ~dated
        line = int(np.argmax(few & usable)) + _first_line(path)
        raise InputError(f"{path}, line {line}: some times are dates and some seconds of the log; write them one way")
    for what, tokens in (("prompt", prompts), ("output", outputs)):
        wrong = usable & ((tokens != np.floor(tokens)) | (tokens > MAX_TOKENS))
        if wrong.any():
            at = int(np.argmax(wrong))
            where = f"{path}, line {at + _first_line(path)}"
            raise InputError(f"{where}: {what} tokens are no whole number up to {MAX_TOKENS}: {tokens[at]:g}")
    if not (usable & (prompts > 0) & (outputs > 0)).any():
        raise InputError(f"{path}: every request has zero tokens in or out")


def _told_by_columns(frame: pl.DataFrame, path: Path) -> RequestFormat:
    for name in FORMATS:
        known = FORMATS[name]
        if {known.time, known.prompt, known.output} <= set(frame.columns):
            service = known.service if known.service in frame.columns else ""
            priority = known.priority if known.priority in frame.columns else ""
            return RequestFormat(known.time, known.prompt, known.output, known.unit, service, priority)
    lowered = {name.lower(): name for name in reversed(frame.columns)}
    time, prompt, output = (
        next((lowered[name] for name in names if name in lowered), "") for names in (_TIMES, _PROMPTS, _OUTPUTS)
    )
    missing = [
        what for what, name in (("time", time), ("prompt tokens", prompt), ("output tokens", output)) if not name
    ]
    if missing:
        raise InputError(
            f"{path}: no column for {' and '.join(missing)}; rename one, for example to timestamp, prompt_tokens,"
            ' output_tokens, or name its columns, such as columns = { time = "a", prompt = "b", output = "c" }'
            f" (found {', '.join(frame.columns[:12])})"
        )
    unit = time.lower().rpartition("_")[2] if time.lower().startswith("timestamp_") else ""
    return RequestFormat(time, prompt, output, unit, lowered.get("service", ""), lowered.get("priority", ""))


def _mapped(columns: Mapping[str, str], frame: pl.DataFrame, path: Path) -> RequestFormat:
    unknown = set(columns) - {"time", "prompt", "output", "service", "priority", "unit"}
    missing = {"time", "prompt", "output"} - set(columns)
    if unknown or missing:
        raise InputError(f"{path}: column map has {sorted(unknown)} too many and {sorted(missing)} too few")
    if columns.get("unit", "") not in ("", "s", "ms", "us", "ns"):
        raise InputError(f"{path}: unit of times must be s, ms, us or ns, got {columns['unit']!r}")
    for field, name in columns.items():
        if field != "unit" and name not in frame.columns:
            raise InputError(f"{path}: no column {name!r} for {field}; found {', '.join(frame.columns[:12])}")
    return RequestFormat(**columns)


def _services(frame: pl.DataFrame, layout: RequestFormat, path: Path) -> tuple[Any, tuple[str, ...]]:
    if not layout.service:
        return 0, ("all",)
    column = frame[layout.service].cast(pl.String).fill_null("")
    names = tuple(sorted(column.unique().to_list()))
    if len(names) > _MAX_SERVICES:
        raise InputError(f"{path}: {len(names)} services in column {layout.service!r}; is it a request's own number?")
    places = {name: index for index, name in enumerate(names)}
    return column.replace_strict(places, return_dtype=pl.Int16).to_numpy(), names


def _priorities(frame: pl.DataFrame, layout: RequestFormat, path: Path) -> Any:
    if not layout.priority:
        return Priority.HIGH
    texts = frame[layout.priority].cast(pl.String).fill_null("").str.to_lowercase().str.replace(r"\.0$", "")
    known = {"0": 0, "low": 0, "lp": 0, "1": 1, "high": 1, "hp": 1}
    wrong = texts.filter(~texts.is_in(list(known)))
    if len(wrong):
        raise InputError(f"{path}: priority {wrong[0]!r} is not 0, 1, low or high")
    return texts.replace_strict(known, return_dtype=pl.Int8).to_numpy()


def _numbers(column: pl.Series) -> NDArray[np.float64]:
    return column.cast(pl.Float64, strict=False).fill_null(math.nan).to_numpy().astype(np.float64)
