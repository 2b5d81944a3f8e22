"""One source, several policies, the same calls: what the command `simulate` runs.

Policies that learn are fitted on the first part of the source; then all of them, also those that learn nothing, are
simulated on the rest, so that no policy is tried on what it was fitted on and all are tried on the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nonet.coldstart.generating.curves import REGIONS
from nonet.coldstart.generating.presets import generate
from nonet.coldstart.simulating.calls import Workload
from nonet.coldstart.simulating.engine import as_workload, simulate
from nonet.coldstart.simulating.observed_pools import observed_pools
from nonet.coldstart.simulating.platform import Platform
from nonet.coldstart.simulating.policies import parse_policy, policies
from nonet.coldstart.simulating.policies.base import Joined, RulePolicy
from nonet.coldstart.simulating.policies.training import fit, needs_training, split
from nonet.coldstart.simulating.regions import CombinedWorkload, Regions
from nonet.coldstart.simulating.results import Result
from nonet.coldstart.trace.store import Trace
from nonet.common.errors import InputError

_DAY_US = 86_400_000_000
_SIZE_POOLS = ("drops", "paper:pool", "paper:runtime")


def policy_names(text: str) -> list[str]:
    """The policies of a list with commas; a comma inside a policy's own value (`ttl:600,8GB`) belongs to it.

    >>> policy_names("ka:60,ttl:600,8GB,paper:timer+pool")
    ['ka:60', 'ttl:600,8GB', 'paper:timer+pool']
    """
    known = {name.partition(":")[0] for name in policies()}
    names: list[str] = []
    for piece in text.split(","):
        begins = piece.strip().partition(":")[0].partition("+")[0] in known
        if begins or not names:
            names.append(piece.strip())
        else:
            names[-1] += "," + piece.strip()
    return [name for name in names if name]


def open_workload(
    source: str,
    region: str | None,
    *,
    days: int = 31,
    scale: float = 1.0,
    seed: int = 0,
    default_cold_us: int | None = None,
) -> Workload:
    """The calls of a trace, or those of a generator's preset such as `huawei2025:R2` (then `days` and `scale` count).

    `default_cold_us` is how long a cold start takes in a trace that has none.

    Raises:
        InputError: neither a trace nor a preset, or a region that must be named.
    """
    if Path(source).exists():
        return as_workload(Trace.open(source), region, default_cold_us)
    if "/" in source or source.partition(":")[0] not in ("huawei2025", "poisson"):
        raise InputError(f"{source}: no such trace; give the folder of one, or a preset such as huawei2025:R2")
    return generate(source, days=days, scale=scale, seed=seed)


def open_regions(
    source: str,
    names: Sequence[str],
    *,
    rtt_us: int,
    capacity: Sequence[float] | None = None,
    **options: Any,
) -> tuple[CombinedWorkload, Regions]:
    """The calls of several regions of a trace or of `huawei2025` as one workload, all `rtt_us` apart.

    Args:
        source: as in `open_workload`, without a region.
        names: regions; none = all.
        rtt_us: round trip between any two of them.
        capacity: pods that each region holds, in the order of `names`; None = no limit.
        options: as in `open_workload`.

    Raises:
        InputError: no such regions, fewer than two, or another number of capacities.
    """
    stored = Path(source).exists()
    known = Trace.open(source).regions if stored else REGIONS if source == "huawei2025" else ()
    chosen = list(names) or list(known)
    unknown = [name for name in chosen if name not in known]
    if unknown or len(chosen) < 2 or len(set(chosen)) != len(chosen):
        raise InputError(
            f"{source}: expected two or more different regions out of {', '.join(known) or 'none'}, got "
            f"{', '.join(chosen) or 'none'}"
        )
    if rtt_us < 0:
        raise InputError(f"a round trip takes at least 0, got {rtt_us} us")
    regions = Regions.equidistant(chosen, rtt_us, capacity or None)
    parts = [
        open_workload(source, name, **options) if stored else open_workload(f"{source}:{name}", None, **options)
        for name in chosen
    ]
    return CombinedWorkload(parts, regions), regions


def _needs_pools(policy: RulePolicy) -> bool:
    parts = policy.parts if isinstance(policy, Joined) else [policy]
    return any(part.name.startswith(_SIZE_POOLS) for part in parts)


def run_policies(
    workload: Workload,
    names: Sequence[str],
    platform: Platform,
    *,
    train_days: float | None = None,
    seed: int = 0,
    shards: int = 1,
    progress: Callable[[int], None] | None = None,
    started: Callable[[str], None] | None = None,
) -> tuple[list[Result], Workload]:
    """Simulate each policy on the same calls.

    Args:
        workload: the calls.
        names: policies as `parse_policy` reads them.
        platform: the same for all.
        train_days: what comes first and is only learnt from, days; None means half of the workload when a policy
            learns, and nothing when none does.
        seed: see `simulate`.
        shards: see `simulate`.
        progress: called with the number of calls of each block that is done.
        started: called with the name of each policy before it runs.

    When a policy sizes pools and the platform tells none, all run with `observed_pools`.

    Returns:
        A result a policy, and the workload that they were tried on.

    Raises:
        InputError: unknown policies, or a training part that leaves nothing.
    """
    chosen = [parse_policy(name) for name in names]
    if not chosen:
        raise InputError("name at least one policy, such as ka:60")
    length_us = workload.end_us - workload.start_us
    if train_days is None:
        train_us = length_us // 2 if any(map(needs_training, chosen)) else 0
    else:
        train_us = round(train_days * _DAY_US)
    tried: Workload = workload
    if train_us:
        training, tried = split(workload, train_us)
        for policy in chosen:
            fit(policy, training)
    if platform.pools is None and any(map(_needs_pools, chosen)):
        base = simulate(
            tried, f"ka:{platform.keep_alive_us / 1e6:g}", platform, seed=seed, shards=shards, record="none"
        )
        platform = replace(platform, pools=observed_pools(tried, base.cold_by_function))
    results = []
    for policy in chosen:
        if started is not None:
            started(policy.name)
        results.append(simulate(tried, policy, platform, seed=seed, shards=shards, progress=progress))
    return results, tried
