"""`diff` for people: a table that fits the terminal, and an HTML page."""

from __future__ import annotations

import math
from pathlib import Path

from nonet.logs.views.diff import CHANGES, Change, DiffReport, DiffRow, RateRatio
from nonet.logs.views.text_table import print_rows, shortened, terminal_width

_STYLES: dict[Change, str] = {"new": "green", "gone": "red", "more": "yellow", "less": "cyan"}


def print_diff(report: DiffReport, *, samples: bool = False) -> None:
    """The report as a table on stdout.

    Args:
        report: what `diff` gave.
        samples: also print a line of every template below it.
    """
    from rich.text import Text

    width = terminal_width()
    body = []
    for row in report.rows:
        template = Text(shortened(row.typed_template, width))
        if samples:
            template.append("\n" + shortened(row.sample, width), "dim")
        mark = Text(row.change, _STYLES[row.change])
        body.append([f"{row.before:,}", f"{row.after:,}", _ratio_text(row), mark, row.template_id, template])
    print_rows(["before", "after", "rate", "change", "id", "template"], body, 3, width)
    print(f"\n{summary(report)}")


def _ratio_text(row: DiffRow) -> str:
    if row.change in ("new", "gone"):
        return "-"
    return f"x{_number(row.rate.ratio)}"


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def interval_text(rate: RateRatio) -> str:
    """An interval for people.

    >>> interval_text(RateRatio(2.0, 1.25, math.inf))
    '1.25 to inf'
    """
    return f"{_number(rate.low)} to {'inf' if math.isinf(rate.high) else _number(rate.high)}"


def summary(report: DiffReport) -> str:
    """What was compared and how much of it changed."""
    changes = ", ".join(f"{report.num_changes[change]:,} {change}" for change in CHANGES)
    shown = len(report.rows)
    left = sum(report.num_changes.values()) - shown
    more = f" ({left:,} of them not shown; --limit 0 shows all)" if left else ""
    return (
        f"before: {report.before}, {report.num_before:,} records\n"
        f"after:  {report.after}, {report.num_after:,} records\n"
        f"{report.num_templates:,} templates: {changes}{more}; {report.num_same:,} as before "
        f"(rate: share of all records; chance of any false 'more' or 'less': {report.error_rate:.0%})"
    )


def write_diff_html(report: DiffReport, path: str | Path) -> None:
    """The report as one self-contained HTML page.

    Raises:
        InputError: the folder of `path` does not exist.
    """
    from nonet.common.report import Cell, Section, Table, Text, write_report

    titles = {"new": "New", "gone": "Gone", "more": "More frequent", "less": "Less frequent"}
    sections = [Section("Summary", [Text(summary(report).split("\n"))])]
    columns = ("before", "after", "rate ratio", "interval", "id", "template", "sample")
    for change in CHANGES:
        rows = [
            [
                row.before,
                row.after,
                None if change in ("new", "gone") else row.rate.ratio,
                "" if change in ("new", "gone") else interval_text(row.rate),
                Cell(row.template_id, "short"),
                Cell(row.typed_template, "code"),
                Cell(row.sample, "dim"),
            ]
            for row in report.rows
            if row.change == change
        ]
        if rows:
            sections.append(Section(titles[change], [Table(columns, rows)]))
    write_report(path, f"{report.before} and {report.after}", sections)
