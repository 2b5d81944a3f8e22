"""`top` for people: a table that fits the terminal, and an HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nonet.logs.views.period import span_text
from nonet.logs.views.text_table import print_rows, shortened, terminal_width
from nonet.logs.views.timeline import Axis, sparkline
from nonet.logs.views.top import TopReport, TopRow

if TYPE_CHECKING:
    from rich.text import Text

_WIDE = 150  # from here on there is room for first and last times
_NARROW = 100  # up to here a new template has its mark in place of its trend


def column_text(width: int, axis: Axis) -> str:
    """How long a column of the trend is."""
    return span_text(width) if axis == "time" else f"{width:,} line{'s' if width > 1 else ''}"


def num_columns() -> int:
    """How many columns of the trend fit the terminal."""
    return 24 if terminal_width() >= _NARROW else 12


def print_top(report: TopReport, *, samples: bool = False) -> None:
    """The report as a table on stdout.

    Args:
        report: what `top` gave.
        samples: also print a line of every template below it.
    """
    from rich.text import Text

    width = terminal_width()
    is_wide = width >= _WIDE
    columns = ["count", "share", "trend", "id", *(["first seen", "last seen"] if is_wide else []), "template"]
    body = []
    for row in report.rows:
        template = Text(shortened(row.typed_template, width))
        if samples:
            template.append("\n" + shortened(row.sample, width), "dim")
        times = [_moment_cell(row.first_seen), _moment_cell(row.last_seen)] if is_wide else []
        body.append([f"{row.count:,}", f"{row.share:.1%}", _trend(row, width), row.template_id, *times, template])
    print_rows(columns, body, 2, width)
    print(f"\n{_caption(report)}\n{summary(report)}")


def _trend(row: TopRow, width: int) -> Text:
    """The course over time with a mark for new templates; on a narrow terminal the mark alone."""
    from rich.text import Text

    mark = Text("NEW", "bold yellow") if row.is_new else Text()
    if row.is_new and width < _NARROW:
        return mark
    return Text.assemble((sparkline(row.trend), "cyan"), " " if row.is_new else "", mark)


def _moment_cell(moment: str | int) -> str:
    return moment if isinstance(moment, str) else f"line {moment:,}"


def _caption(report: TopReport) -> str:
    left = report.num_templates - len(report.rows)
    more = f"{left:,} more templates (--limit 0 shows all); " if left else ""
    return f"{more}one column of the trend is {column_text(report.column_width, report.axis)}"


def summary(report: TopReport) -> str:
    """What was counted, in one or two lines.

    Lines without the header are named, since they are kept and counted like the others.
    """
    parts = [
        f"{report.num_lines:,} lines",
        f"{report.num_records:,} records",
        f"{report.num_templates:,} templates ({report.num_once:,} seen once)",
    ]
    for number, what in (
        (report.num_outside, "records outside of the period"),
        (report.num_unmatched, "records without the header (kept)"),
        (report.num_unplaced, "records of forgotten templates"),
    ):
        if number:
            parts.append(f"{number:,} {what}")
    when = "" if report.start is None else f"; {_span_of(report)}"
    header = "no header" if report.header is None else f"header {report.header}"
    return f"{report.source}: {', '.join(parts)}{when}; {header}"


def _span_of(report: TopReport) -> str:
    if report.axis == "time":
        return f"from {report.start} to {report.end}"
    return f"lines {report.start:,} to {report.end:,}"


def write_top_html(report: TopReport, path: str | Path) -> None:
    """The report as one self-contained HTML page.

    Raises:
        InputError: the folder of `path` does not exist.
    """
    from nonet.common.report import Cell, Chart, Section, Table, Text, write_report

    columns = ("count", "share", "trend", "", "id", "first seen", "last seen", "template", "sample")
    rows: list[list[Any]] = [
        [
            row.count,
            f"{row.share:.2%}",
            Cell(sparkline(row.trend), "short"),
            Cell("NEW" if row.is_new else "", "good"),
            Cell(row.template_id, "short"),
            Cell(row.first_seen, "short"),
            Cell(row.last_seen, "short"),
            Cell(row.typed_template, "code"),
            Cell(row.sample, "dim"),
        ]
        for row in report.rows
    ]
    blocks: list[Any] = [Text([summary(report)])]
    if report.rows and len(report.rows[0].trend) > 1:
        note = f"the {min(len(report.rows), _NUM_CHARTED)} first templates of the table; one column is "
        note += column_text(report.column_width, report.axis)
        blocks.append(Chart("Over time" if report.axis == "time" else "Along the file", _chart(report), note))
    blocks.append(Table(columns, rows, title="Templates", caption=_caption(report)))
    write_report(path, f"Templates of {report.source}", [Section("Templates", blocks)])


_NUM_CHARTED = 8


def _chart(report: TopReport) -> Any:
    import altair as alt

    charted: list[TopRow] = report.rows[:_NUM_CHARTED]
    points = [
        {"from": str(start), "records": count, "template": f"{row.template_id} {shortened(row.typed_template, 60)}"}
        for row in charted
        for start, count in zip(report.column_starts, row.trend, strict=True)
    ]
    order = [f"{row.template_id} {shortened(row.typed_template, 60)}" for row in charted]
    labels = alt.Header(labelAngle=0, labelAlign="left", labelLimit=420)
    return (
        alt.Chart(alt.Data(values=points), width=640, height=34)
        .mark_bar()
        .encode(
            x=alt.X(
                "from:O",
                title=None,
                sort=None,
                axis=alt.Axis(labelAngle=0, labelOverlap="greedy", labelSeparation=12, ticks=False),
            ),
            y=alt.Y("records:Q", axis=None),
            row=alt.Row("template:N", title=None, sort=order, header=labels),
            tooltip=["template:N", "from:N", "records:Q"],
        )
        .resolve_scale(y="independent")
    )
