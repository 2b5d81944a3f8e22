"""A stream of a billion requests: generated and simulated in a process of its own, nothing kept but the state."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from typing import Any

import numpy as np

from nonet.common.machine import peak_rss_mib


def measure_billion(*, days: int, without_largest: int, shards: int, seed: int = 1) -> dict[str, Any]:
    """Requests, seconds, peak memory (GiB) and a digest of the results by function, from a new process.

    Args:
        days: of Region 2, about 0.4 billion requests each.
        without_largest: leaves out so many functions with the most requests; the largest has two thirds of them.
        shards: threads; the digest must not depend on it.
    """
    arguments = json.dumps({"days": days, "without_largest": without_largest, "shards": shards, "seed": seed})
    run = [sys.executable, "-m", "nonet.coldstart.bench.scale", arguments]
    found: dict[str, Any] = json.loads(subprocess.run(run, check=True, capture_output=True, text=True).stdout)
    return found


def _run(days: int, without_largest: int, shards: int, seed: int) -> dict[str, Any]:
    from nonet.coldstart.generating.presets import generate
    from nonet.coldstart.simulating.engine import simulate

    workload = generate("huawei2025:R2", days=days, seed=seed)
    requests = workload.table.process["requests"]
    workload = workload.only(np.sort(np.argsort(requests, kind="stable")[: len(requests) - without_largest]))
    simulate(generate("huawei2025:R2", days=1, scale=0.001), "ka:60", record="none", shards=shards)  # compiles
    begin = time.perf_counter()
    result = simulate(workload, "ka:60", record="none", seed=seed, shards=shards)
    seconds = time.perf_counter() - begin
    digest = hashlib.sha256()
    for column in (result.requests_by_function, result.cold_by_function, result.idle_us, result.busy_us):
        digest.update(np.ascontiguousarray(column).tobytes())
    return {
        "requests": result.num_requests,
        "cold": result.num_cold,
        "seconds": seconds,
        "peak_gib": peak_rss_mib() / 1024,
        "digest": digest.hexdigest(),
    }


if __name__ == "__main__":
    print(json.dumps(_run(**json.loads(sys.argv[1]))))
