"""When requests come and how long they are: published traces, and Poisson arrivals.

Formats are told by their contents: Azure's LLM inference trace (CSV `TIMESTAMP,ContextTokens,GeneratedTokens`),
BurstGPT (CSV `Timestamp,Model,Request tokens,Response tokens,...`), ShareGPT (one JSON array of conversations, without
times) and Mooncake (JSON lines with `timestamp` in ms, `input_length`, `output_length`, `hash_ids`).
"""

from __future__ import annotations

import csv
import json
import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from nonet.common.errors import InputError

_AZURE = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_BURSTGPT = ("Timestamp", "Request tokens", "Response tokens")
_FORMATS = "Azure's LLM trace (CSV), BurstGPT (CSV), ShareGPT (JSON) or Mooncake (JSON lines)"


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request of a trace.

    Args:
        arrival_s: seconds after the first one.
        input_tokens: of the prompt.
        output_tokens: of the answer, at least one.
        text: the prompt, "" where the trace has only its length.
        blocks: ids of the prompt's blocks, where the trace has them; the same id is the same content.
    """

    arrival_s: float
    input_tokens: int
    output_tokens: int
    text: str = ""
    blocks: tuple[int, ...] = ()


def poisson_times(num_requests: int, rate_per_s: float, *, seed: int = 0) -> list[float]:
    """Arrival times with exponential gaps; the first request comes at 0.

    Args:
        num_requests: how many.
        rate_per_s: on average.
        seed: the same seed at another rate gives the same times, stretched.

    Raises:
        InputError: a rate that is not above 0.

    >>> times = poisson_times(1000, 4.0)
    >>> times[0], round(999 / times[-1])
    (0.0, 4)
    """
    if not rate_per_s > 0:
        raise InputError(f"the rate of arrivals must be above 0 per second, not {rate_per_s:g}")
    draws = random.Random(seed)
    times, now = [], 0.0
    for _ in range(num_requests):
        times.append(now)
        now += draws.expovariate(1.0) / rate_per_s
    return times


def arrivals_of(
    path: str | Path,
    *,
    limit: int | None = None,
    count_tokens: Callable[[str], int] | None = None,
    rate_per_s: float | None = None,
    seed: int = 0,
) -> list[Arrival]:
    """Read a trace, sorted by arrival. Requests without an answer (BurstGPT's failures) are left out.

    Args:
        path: of the file; its format is told by its contents.
        limit: requests at most, the first of the file.
        count_tokens: of a text; ShareGPT only, which it needs.
        rate_per_s: Poisson arrivals at this rate instead of the trace's own times; ShareGPT has none, so that without a
            rate all its requests come at once.
        seed: of those.

    Raises:
        InputError: no such file, no known format, or what is wrong with which line.
    """
    place = Path(path)
    if not place.is_file():
        raise InputError(f"{path}: no such file")
    with place.open(encoding="utf-8-sig") as file:
        first = next((line.strip() for line in file if line.strip()), "")
    if first.startswith("["):
        if count_tokens is None:
            raise InputError(f"{path}: ShareGPT has texts and no token counts; give a tokenizer")
        found = _sharegpt(place, count_tokens)
    elif first.startswith("{"):
        found = _mooncake(place)
    else:
        found = _csv(place)
    arrivals = sorted(islice(found, limit), key=lambda one: one.arrival_s)
    if not arrivals:
        raise InputError(f"{path}: holds no requests")
    if rate_per_s is not None:
        times = poisson_times(len(arrivals), rate_per_s, seed=seed)
    else:
        times = [one.arrival_s - arrivals[0].arrival_s for one in arrivals]
    return [replace(one, arrival_s=time_s) for one, time_s in zip(arrivals, times, strict=True)]


def _csv(path: Path) -> Iterator[Arrival]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        columns = [name.strip() for name in reader.fieldnames or ()]
        reader.fieldnames = columns
        if set(_AZURE) <= set(columns):
            read, answer = _azure_row, _AZURE[2]
        elif set(_BURSTGPT) <= set(columns):
            read, answer = _burstgpt_row, _BURSTGPT[2]
        else:
            raise InputError(f"{path}:1: columns {', '.join(columns)[:200]!r} are none of {_FORMATS}")
        for row in reader:
            where = f"{path}:{reader.line_num}"
            if _count(row, answer, where):
                yield read(row, where)


def _azure_row(row: Mapping[str, Any], where: str) -> Arrival:
    text = str(row[_AZURE[0]])
    try:
        time_s = datetime.fromisoformat(text).timestamp()
    except ValueError as error:
        raise InputError(f"{where}: TIMESTAMP {text[:60]!r} is no time such as 2023-11-16 18:15:46.6805900") from error
    return Arrival(time_s, _count(row, _AZURE[1], where), _count(row, _AZURE[2], where))


def _burstgpt_row(row: Mapping[str, Any], where: str) -> Arrival:
    time_s = _number(row, _BURSTGPT[0], where)
    return Arrival(time_s, _count(row, _BURSTGPT[1], where), _count(row, _BURSTGPT[2], where))


def _mooncake(path: Path) -> Iterator[Arrival]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            where = f"{path}:{number}"
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise InputError(f"{where}: not JSON ({error.msg})") from error
            if not isinstance(record, dict):
                raise InputError(f"{where}: no object")
            blocks = record.get("hash_ids", [])
            if not isinstance(blocks, list) or not all(isinstance(one, int) for one in blocks):
                raise InputError(f'{where}: "hash_ids" is no list of numbers')
            time_s = _number(record, "timestamp", where) / 1000
            output = _count(record, "output_length", where)
            if output:
                yield Arrival(time_s, _count(record, "input_length", where), output, blocks=tuple(blocks))


def _sharegpt(path: Path, count_tokens: Callable[[str], int]) -> Iterator[Arrival]:
    for where, record in _array(path):
        turns = record.get("conversations", record.get("conversation")) if isinstance(record, dict) else None
        if not isinstance(turns, list):
            raise InputError(f'{where}: lacks "conversations", a list')
        texts = [turn.get("value") if isinstance(turn, dict) else None for turn in turns[:2]]
        if any(not isinstance(text, str) for text in texts):
            raise InputError(f'{where}: a turn lacks "value", a text')
        if len(texts) == 2 and texts[0] and (output := count_tokens(str(texts[1]))):
            yield Arrival(0.0, count_tokens(str(texts[0])), output, str(texts[0]))


def _array(path: Path) -> Iterator[tuple[str, Any]]:
    """The entries of a JSON array, each with the place where it begins."""
    text = path.read_text("utf-8-sig")
    decoder = json.JSONDecoder()
    at = text.index("[") + 1
    line, counted = 1, 0
    while True:
        while at < len(text) and text[at] in " \t\r\n,":
            at += 1
        if text[at : at + 1] == "]":
            return
        line, counted = line + text.count("\n", counted, at), at
        try:
            record, end = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise InputError(f"{path}:{error.lineno}: not JSON ({error.msg})") from error
        yield f"{path}:{line}", record
        at = end


def _count(record: Mapping[str, Any], name: str, where: str) -> int:
    value = _number(record, name, where)
    if value < 0 or value != int(value):
        raise InputError(f"{where}: {name} is {record.get(name)!r}, no number of tokens")
    return int(value)


def _number(record: Mapping[str, Any], name: str, where: str) -> float:
    value = record.get(name)
    try:
        number = float(value) if not isinstance(value, bool) else math.nan  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{where}: {name} is {str(value)[:60]!r}, no number")
    return number
