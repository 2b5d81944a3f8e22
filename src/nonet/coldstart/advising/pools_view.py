"""Pool sizes for people."""

from __future__ import annotations

from collections.abc import Sequence

from nonet.coldstart.advising.pools import PoolSize
from nonet.common.console import print_table


def print_pools(pools: Sequence[PoolSize]) -> None:
    """The pools as a table on stdout, or a line that none pays."""
    if not pools:
        print("no pool pays, or the trace tells no runtimes and allocation times")
        return
    rows = [
        [
            f"{pool.kind}, {pool.memory_mb} MB",
            pool.size,
            f"{pool.num_served:,} of {pool.num_cold:,}",
            f"-{pool.wait_saving:.1%}",
            f"{pool.low:.1%} to {pool.high:.1%}",
            pool.extra_gb_s_per_day,
            pool.usd_per_month,
        ]
        for pool in pools
    ]
    columns = ("pool", "pods", "cold starts served", "cold time", "less, 95 %", "memory GB s/day", "net $/month")
    print_table(columns, rows)
