"""The headline experiments of the room: our parser, its rivals and the published tables in one run.

Files: `inputs` (which lines are measured on), `rivals` (Drain3, logparser3, tipping as their users run them), `speed`,
`accuracy` (default parser and reference parsers against labels), `scale` (memory and cost as sizes grow).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from nonet.common.console import note
from nonet.common.findings import Finding

if TYPE_CHECKING:
    import altair

Scale = Literal["quick", "full"]


def bench(scale: Scale = "quick") -> list[Finding]:
    """Run the experiments; "quick" takes half a minute on two cores, "full" some minutes.

    Rivals run in the same process on the same lines. What an experiment lacks (labelled data, a rival that is not
    installed) is said on stderr and leaves its findings out; nothing else is skipped.
    """
    from nonet.logs.bench import accuracy, speed
    from nonet.logs.bench import scale as scaling

    experiments: list[Callable[[Scale], list[Finding]]] = [
        speed.parse_only,
        speed.general_masks,
        speed.line_by_line,
        speed.end_to_end,
        speed.start_up,
        accuracy.default_full,
        accuracy.default_2k,
        accuracy.drain_2k,
        accuracy.compat_rows,
        accuracy.lossless,
        accuracy.shards,
        scaling.cost_grows_linearly,
        scaling.hostile_memory,
        scaling.evaluate_many_lines,
    ]
    findings: list[Finding] = []
    for experiment in experiments:
        note(f"bench: {experiment.__name__.replace('_', ' ')} ...")
        findings += experiment(scale)
    return findings


def plots() -> list[tuple[str, altair.TopLevelMixin]]:
    """Charts for the tour: published scores of all parsers beside our default on the same systems."""
    from nonet.logs.bench.accuracy import scores_chart

    chart = scores_chart()
    return [] if chart is None else [("Template accuracy against the published parsers", chart)]
