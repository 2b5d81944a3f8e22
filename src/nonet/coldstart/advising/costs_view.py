"""Costs for people."""

from __future__ import annotations

from collections.abc import Sequence

from nonet.coldstart.advising.costs import Costs
from nonet.common.console import print_table


def print_costs(costs: Sequence[tuple[str, Costs]]) -> None:
    """Costs of several things as a table on stdout, one row each; below it, where the prices are from."""
    rows = [
        [name, c.init_usd, c.compute_usd, c.idle_usd, c.request_usd, c.wait_s / 3600, c.wait_usd] for name, c in costs
    ]
    columns = ("", "init $", "runs $", "idle $", "requests $", "waited h", "wait worth $")
    print_table(columns, rows, title="per month of 30 days")
    for source in dict.fromkeys(f"{c.prices}: {c.price_source}, {c.price_date}" for _, c in costs):
        print(source)
