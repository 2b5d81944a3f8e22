"""`explain` for people."""

from __future__ import annotations

from nonet.coldstart.advising.explain import Cause, Explanation
from nonet.common.console import format_cell, print_table

_NUM_SHOWN = 3


def print_explanation(explanation: Explanation) -> None:
    """The causes as a table on stdout, an example of each below with what to do about it."""
    rows = [
        [k, f"{cause.share:.1%}", cause.num, cause.title, _functions(cause), cause.p50_s, cause.wait_s_per_day]
        for k, cause in enumerate(explanation.causes, 1)
    ]
    columns = ("", "share", "count", "cause", "functions", "p50 s", "user wait s/day")
    print_table(columns, rows)
    for k, cause in enumerate(explanation.causes, 1):
        print(f"{k}  {_evidence(cause)}")
        print(f"   to do: {cause.remedy}")
    print(f"\n{summary(explanation)}")


def _functions(cause: Cause) -> str:
    named = ", ".join(f"{name} ({num:,})" for name, num in cause.functions[:_NUM_SHOWN])
    left = cause.num_functions - min(len(cause.functions), _NUM_SHOWN)
    return f"{named}, {left:,} more" if left else named


def _evidence(cause: Cause) -> str:
    known = [f"{name} {format_cell(value)}" for name, value in cause.evidence.items() if value is not None]
    example = cause.example
    took = "" if example.total_s is None else f", {example.total_s:.3g} s"
    stages = ", ".join(f"{name} {value:.3g} s" for name, value in example.stages_s.items() if value)
    return (
        f"{cause.name}: {', '.join(known) or 'no numbers'}; "
        f"e.g. {example.function} at {example.time}{took}{f' ({stages})' if stages else ''}"
    )


def summary(explanation: Explanation) -> str:
    """What was counted, in a line."""
    kept = ", ".join(
        f"{region}: {keep.keep_alive_us / 1e6:g} s ({keep.source})"
        for region, keep in list(explanation.keep_alives.items())[:_NUM_SHOWN]
    )
    return (
        f"{explanation.num_cold:,} cold starts of {explanation.num_requests:,} requests in {explanation.days:.2f} days "
        f"({explanation.num_left_censored:,} left-censored and {explanation.num_ahead:,} made ahead, not counted); "
        f"keep-alive {kept}"
    )
