"""`top`: the templates of a log by how often they occur, with their course over time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nonet.common.errors import InputError
from nonet.logs.mining.template import WILDCARD, template_id
from nonet.logs.reading.sources import name_of, rereadable
from nonet.logs.views.activity import Activity, Observer
from nonet.logs.views.period import Period, moment_text
from nonet.logs.views.text_table import readable
from nonet.logs.views.timeline import Axis, Series

Sort = Literal["count", "rare", "new", "last"]
SORTS: tuple[Sort, ...] = ("count", "rare", "new", "last")
NEW_SHARE = 0.1
"""A template is NEW when it was first seen in the last tenth of the period."""


@dataclass(frozen=True, slots=True)
class TopRow:
    """One template.

    Attributes:
        count: records.
        share: of all records counted, 0 to 1.
        trend: records in each column of time; see `TopReport.column_width`.
        is_new: see `NEW_SHARE`.
        first_seen, last_seen: times, or line numbers where the log has no times.
        template_id, template, typed_template: the template; typed with the type of every parameter in its hole.
        sample: one line (Content), cut at 512 bytes.
    """

    count: int
    share: float
    trend: list[int]
    is_new: bool
    first_seen: str | int
    last_seen: str | int
    template_id: str
    template: str
    typed_template: str
    sample: str


@dataclass(frozen=True, slots=True)
class TopReport:
    """The templates of a log.

    Attributes:
        source, header: name of the log and its header format, None for none.
        axis: "time", or "position" for line numbers.
        start, end: first and last time or line number of the records counted; None without records.
        column_width: length of a column of `TopRow.trend`: microseconds, or lines.
        column_starts: when each column begins.
        num_lines: input lines.
        num_records: records counted (lines joined to one message are one record).
        num_outside: records outside of the period asked for.
        num_unmatched: records without the header, which are kept and counted as the others.
        num_unplaced: records that no template took, because there were too many kinds of lines.
        num_templates: templates with records in the period; `rows` are the first of them.
        num_once: templates seen once.
        sort: the order of `rows`.
        rows: the templates.
    """

    source: str
    header: str | None
    axis: Axis
    start: str | int | None
    end: str | int | None
    column_width: int
    column_starts: list[str | int]
    num_lines: int
    num_records: int
    num_outside: int
    num_unmatched: int
    num_unplaced: int
    num_templates: int
    num_once: int
    sort: Sort
    rows: list[TopRow]


def top(
    source: str | Path,
    *,
    since: str | None = None,
    until: str | None = None,
    limit: int = 20,
    sort: Sort = "count",
    max_columns: int = 24,
    **options: Any,
) -> TopReport:
    """The templates of a log, most frequent first.

    Args:
        source: a path, or "-" for standard input.
        since, until: bounds of the period; see `Period.parse`.
        limit: number of rows; 0 for all.
        sort: "count", "rare" (least frequent first), "new" (latest first) or "last" (last seen first).
        max_columns: columns of the trend, at most 48.
        options: miner, threads, progress, and options of `records.read_records`.

    Raises:
        InputError: the log cannot be read, or a bad option.
    """
    if sort not in SORTS:
        raise InputError(f"sort must be one of {', '.join(SORTS)}, got {sort!r}")
    if limit < 0:
        raise InputError(f"limit must be 0 (all) or more, got {limit}")
    with rereadable(source) as path:
        observer = Observer(**options)
        observer.learn(path)
        period = Period.parse(since, until, lambda: observer.newest_us(path))
        activity = observer.measure(path, period)
    return _report(replace(activity, source=name_of(source)), limit, sort, max_columns)


def _report(activity: Activity, limit: int, sort: Sort, max_columns: int) -> TopReport:
    timeline, read = activity.timeline, activity.read
    series = timeline.series(max_columns)
    present = np.flatnonzero(timeline.totals)
    order = _order(activity, present, sort)
    shown = order[:limit] if limit else order
    bounds = (
        [None, None] if timeline.range is None else [moment(tick, activity.timeline.axis) for tick in timeline.range]
    )
    return TopReport(
        source=activity.source,
        header=activity.header,
        axis=activity.timeline.axis,
        start=bounds[0],
        end=bounds[1],
        column_width=series.width,
        column_starts=[moment(series.start + i * series.width, timeline.axis) for i in range(series.counts.shape[1])],
        num_lines=read.lines,
        num_records=activity.num_records,
        num_outside=activity.num_outside,
        num_unmatched=read.unmatched_kept,
        num_unplaced=activity.num_unplaced,
        num_templates=len(present),
        num_once=int((timeline.totals == 1).sum()),
        sort=sort,
        rows=[_row(activity, series, int(row)) for row in shown],
    )


def _order(activity: Activity, rows: np.ndarray, sort: Sort) -> np.ndarray:
    timeline = activity.timeline
    by_count = -timeline.totals[rows]
    # Rows of templates are sorted by count and text already, so equal keys fall in that order.
    first_key = {
        "count": by_count,
        "rare": -by_count,
        "new": -timeline.first[rows],
        "last": -timeline.last[rows],
    }[sort]
    return rows[np.lexsort((rows, by_count, first_key))]


def _row(activity: Activity, series: Series, row: int) -> TopRow:
    timeline = activity.timeline
    count = int(timeline.totals[row])
    is_template = row < len(activity.templates)
    text = activity.templates[row].text if is_template else WILDCARD
    low, high = timeline.range or (0, 0)
    return TopRow(
        count=count,
        share=count / activity.num_records,
        trend=series.counts[row].tolist(),
        is_new=high > low and bool(timeline.first[row] > high - NEW_SHARE * (high - low)),
        first_seen=moment(int(timeline.first[row]), activity.timeline.axis),
        last_seen=moment(int(timeline.last[row]), activity.timeline.axis),
        template_id=template_id(text),
        template=readable(text),
        typed_template=readable(activity.templates[row].typed_text) if is_template else text,
        sample=activity.samples[row],
    )


def moment(tick: int, axis: Axis) -> str | int:
    """A time as text, a line number as it is."""
    return moment_text(tick) if axis == "time" else tick
