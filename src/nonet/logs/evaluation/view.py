"""An evaluation for people: scores beside the published ones, and means."""

from __future__ import annotations

from typing import Any

from nonet.logs.evaluation.published import METRICS
from nonet.logs.evaluation.table import EvaluationReport

_NOTE = "GA and PA weigh messages, FGA and FTA templates; below a score the published one and ours minus theirs"


def print_evaluation(report: EvaluationReport) -> None:
    """Two tables on stdout: a row a pair, and a row a parser."""
    from nonet.common.console import print_table

    columns = ["parser", "data", "mode", *(metric.upper() for metric in METRICS), "seconds", "lines/s", "MiB", "note"]
    print_table(columns, [_pair_cells(row) for row in report.table()], caption=_NOTE)
    means = [_mean_cells(row) for row in report.averages()]
    print_table(
        ["parser", "edition", "finished", *(m.upper() for m in METRICS), "seconds"],
        means,
        title="means over the finished",
    )
    print(f"template rules: {report.config['rules']}; run directory: {report.folder}")


def _pair_cells(row: dict[str, Any]) -> list[Any]:
    note = _trained_note(row) if row["status"] == "finished" else f"{row['status']} {row['error']}".strip()
    seconds, speed = row["seconds"], row["lines_per_s"]
    return [
        row["parser"],
        row["data"],
        row["mode"],
        *(_score(row, metric) for metric in METRICS),
        seconds and round(seconds, 2),
        speed and round(speed),
        round(row["peak_rss_mib"]),
        note,
    ]


def _trained_note(row: dict[str, Any]) -> str:
    if not row["num_trained_on"]:
        return ""
    return f"learnt {row['num_trained_on']:,} lines, {'also' if row['mode'] == 'compat' else 'not'} scored"


def _mean_cells(row: dict[str, Any]) -> list[Any]:
    finished = f"{row['num_finished']} of {row['num_pairs']}"
    scores = [_with_published(row[metric], row[f"published_{metric}"]) for metric in METRICS]
    return [row["parser"], row["edition"] or "-", finished, *scores, row["seconds"] and round(row["seconds"], 2)]


def _score(row: dict[str, Any], metric: str) -> str:
    return _with_published(row[metric], row[f"published_{metric}"])


def _with_published(ours: float | None, published: float | None) -> str:
    """A score with, below it, the published one and the difference.

    >>> _with_published(0.8412, 0.84), _with_published(0.8412, None), _with_published(None, 0.84)
    ('.841\\n.840 +.001', '.841', '-\\n.840')
    """
    text = "-" if ours is None else _three_digits(ours)
    if published is None:
        return text
    below = _three_digits(published)
    if ours is not None:
        below += f" {'+' if ours >= published else '-'}{_three_digits(abs(ours - published))}"
    return f"{text}\n{below}"


def _three_digits(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")
