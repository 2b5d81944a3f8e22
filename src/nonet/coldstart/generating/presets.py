"""Named workloads: `huawei2025` (all regions), `huawei2025:R2`, `poisson:functions=100,rate=0.01,run_ms=50`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
import pyarrow as pa

from nonet.coldstart._random_kernels import keys, mix64, uniforms
from nonet.coldstart.generating import envelopes
from nonet.coldstart.generating._arrival_kernels import POISSON
from nonet.coldstart.generating.cold_events import ColdEvents
from nonet.coldstart.generating.cold_times import cold_times
from nonet.coldstart.generating.curves import REGIONS
from nonet.coldstart.generating.functions import PROCESS, FunctionTable, other_region, process_of, region_2
from nonet.coldstart.generating.stream import GeneratedWorkload
from nonet.coldstart.laws import PAPER_TOTAL
from nonet.coldstart.simulating.calls import ColdTimes
from nonet.common.errors import InputError

PRESETS = ("huawei2025", *(f"huawei2025:{region}" for region in REGIONS), "poisson:functions=100,rate=0.01,run_ms=50")
"""Names for help texts; the numbers after `poisson:` are free. Without `cold_ms`, cold times follow the paper's fit."""
_POISSON = {"functions": 100.0, "rate": 0.01, "run_ms": 50.0, "cold_ms": 0.0, "memory_mb": 128.0, "concurrency": 1.0}


class HuaweiWorkload(GeneratedWorkload):
    """A workload with published cold starts, so that these can be generated alone."""

    def cold_events(self, region: str) -> Iterator[pa.Table]:
        """The cold starts of a region at their published times, a table (schema COLDSTART) an hour.

        They are the paper's, not those that a simulation of the generated requests would give.

        Raises:
            InputError: a region that is not in this workload.
        """
        return self.cold_source(region).hours()

    def cold_source(self, region: str) -> ColdEvents:
        """What makes the cold starts of a region, for arrays instead of tables."""
        if region not in self.regions:
            raise InputError(f"{self.preset} has no region {region!r}; it has {', '.join(self.regions)}")
        frame = self.table.frame.filter(pl.Series(self.region == self.regions.index(region)))
        return ColdEvents(region, frame, seed=self.seed, num_hours=24 * self.days, scale=self.scale)


def generate(
    preset: str, *, days: int = 31, scale: float = 1.0, seed: int = 0, events: str = "all"
) -> GeneratedWorkload | HuaweiWorkload:
    """A workload by name; nothing is generated before it is read, and reading twice gives the same.

    Args:
        preset: one of PRESETS.
        days: 1 to 31, counted from the first day of the published month.
        scale: share of the functions, systematically sampled by trigger and number of requests; in (0, 1].
        seed: of all random choices.
        events: "all" (requests; cold starts come from a simulation) or "cold" (the published cold starts, without
            requests).

    Raises:
        InputError: an unknown preset, or a number out of its range.

    >>> workload = generate("poisson:functions=3,rate=2", days=1)
    >>> len(workload.functions), next(workload.blocks()).function.max().item()
    (3, 2)
    """
    if not 1 <= days <= envelopes.NUM_DAYS:
        raise InputError(f"days must be 1 to {envelopes.NUM_DAYS} (the published month), got {days}")
    if not 0.0 < scale <= 1.0:
        raise InputError(f"scale must be above 0 and at most 1, got {scale}")
    if events not in ("all", "cold"):
        raise InputError(f"events must be 'all' or 'cold', got {events!r}")
    name, _, rest = preset.partition(":")
    if name == "poisson":
        if events == "cold":
            raise InputError("the preset poisson has no published cold starts; use events='all'")
        return _poisson(preset, rest, days=days, scale=scale, seed=seed)
    if name != "huawei2025" or (rest and rest not in REGIONS):
        raise InputError(f"unknown preset {preset!r}; choose one of {', '.join(PRESETS)}")
    return _huawei(preset, (rest,) if rest else REGIONS, days=days, scale=scale, seed=seed, events=events)


def _huawei(
    preset: str, regions: tuple[str, ...], *, days: int, scale: float, seed: int, events: str
) -> HuaweiWorkload:
    tables, curves, times, parts = [], [], [], []
    for slot, region in enumerate(regions):
        frame = region_2() if region == "R2" else other_region(region)
        process = process_of(frame, seed, int(region[1:]))
        process["envelope"] += slot * len(envelopes.NAMES)
        tables.append(FunctionTable(frame, process).sample(scale))
        curves.append(envelopes.curves(region))
        own, rest = cold_times(region, tables[-1].frame)
        times.append(own)
        parts.append(rest)
    table = FunctionTable(pl.concat([t.frame for t in tables]), np.concatenate([t.process for t in tables]))
    region_of = np.repeat(np.arange(len(regions), dtype=np.int32), [t.frame.height for t in tables])
    return HuaweiWorkload(preset, regions, region_of, table, np.concatenate(curves), _stacked(times),
                          np.concatenate(parts), days=days, scale=scale, seed=seed, events=events)  # fmt: skip


def _stacked(times: list[ColdTimes]) -> ColdTimes:
    sizes = np.concatenate([np.diff(part.at) for part in times])
    return ColdTimes(
        at=np.concatenate(([0], np.cumsum(sizes))),
        allocation_us=np.concatenate([part.allocation_us for part in times]),
        rest_us=np.concatenate([part.rest_us for part in times]),
    )


def _paper_times(num: int, seed: int) -> ColdTimes:
    """Cold times by the paper's log-normal fit, 64 a function; the sum only."""
    shares = uniforms(np.uint64(mix64(seed, 21, 0)), 0, 64 * num)
    total_us = np.round(PAPER_TOTAL.quantile(shares) * 1e6).astype(np.int64)
    return ColdTimes(at=np.arange(num + 1) * 64, allocation_us=np.zeros_like(total_us), rest_us=total_us)


def _poisson(preset: str, text: str, *, days: int, scale: float, seed: int) -> GeneratedWorkload:
    values = dict(_POISSON)
    for part in filter(None, text.split(",")):
        key, _, value = part.partition("=")
        try:
            values[key] = float(value) if key in _POISSON else float("nan")
        except ValueError:
            values[key] = float("nan")
        if not (key in _POISSON and 0 < values[key] < 1e12):
            raise InputError(f"preset {preset!r}: {part!r} is not one of {', '.join(_POISSON)} with a positive number")
    num = max(round(values["functions"] * scale), 1)
    process = np.zeros(num, dtype=PROCESS)
    process["key"] = keys(seed, 7000, num)
    process["kind"], process["size"], process["run_us"] = POISSON, values["rate"], values["run_ms"] * 1000.0
    frame = pl.DataFrame({
        "function": [f"poisson-f{i:04d}" for i in range(num)],
        "trigger": ["unknown"] * num,
        "runtime": ["unknown"] * num,
        "class": ["300-128"] * num,
        "concurrency": [int(values["concurrency"])] * num,
        "requests": [round(values["rate"] * 86_400 * 31)] * num,
        "cold_starts": [None] * num,
    })  # fmt: skip
    times = ColdTimes.constant(num, round(values["cold_ms"] * 1000.0)) if values["cold_ms"] else _paper_times(num, seed)
    return GeneratedWorkload(
        preset,
        ("default",),
        np.zeros(num, dtype=np.int32),
        FunctionTable(frame, process),
        envelopes.curves("R2")[:1],
        times,
        None,
        days=days,
        scale=scale,
        seed=seed,
        events="all",
    )
