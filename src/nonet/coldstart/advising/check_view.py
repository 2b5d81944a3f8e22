"""`check` for people."""

from __future__ import annotations

from collections.abc import Sequence

from nonet.coldstart.advising.check import Violation
from nonet.common.console import print_table


def print_violations(violations: Sequence[Violation]) -> None:
    """The bounds that do not hold as a table on stdout, or a line that all hold."""
    if not violations:
        print("all bounds hold")
        return
    rows = [
        [v.what, v.region, v.function or "all functions", _text(v, v.value), _text(v, v.bound), v.num_requests]
        for v in violations
    ]
    print_table(("bound", "region", "function", "found", "at most", "requests"), rows)


def _text(violation: Violation, value: float) -> str:
    return f"{value:.3%}" if violation.what == "cold rate" else f"{value:.4g} s"
