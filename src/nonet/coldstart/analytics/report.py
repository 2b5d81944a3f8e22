"""The analyses of a trace as one HTML page, on request beside the published curves with the distances.

Every figure that the trace supports is drawn; of the others the page says which columns they lack. The page needs no
network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from nonet.coldstart.analytics.audit import CONTRADICTED, SUPPORTED, Checked, counts
from nonet.coldstart.analytics.charts import figure_chart
from nonet.coldstart.analytics.context import FigureOptions
from nonet.coldstart.analytics.distances import Distance, compare
from nonet.coldstart.analytics.engine import MEMORY, TraceFiles
from nonet.coldstart.analytics.figures import FIGURES, Figures
from nonet.coldstart.analytics.published import REGIONS, SOURCE, Published
from nonet.coldstart.analytics.result import FigureResult
from nonet.common.errors import InputError
from nonet.common.report import Block, Cell, Chart, Section, Table, Text, write_report

_POOLED = ("10b", "10d")
_GOOD_KS, _GOOD_PEARSON = 0.05, 0.9
_PARTS = (
    ("Regions, load and users", ("1", "3", "4", "5", "6", "7")),
    ("Pods and functions", ("8", "9", "14", "17")),
    ("Cold starts", ("10", "11", "12", "13")),
    ("Cold starts by runtime and trigger", ("15", "16")),
)


class ReportedTrace(TraceFiles, Protocol):
    """A trace that also says what it was made from."""

    source: str


@dataclass(frozen=True, slots=True)
class Analysed:
    """What the report shows.

    Attributes:
        figures: results by name, in the order of the paper.
        missing: figures that could not be made, with the reason.
        distances: ours against the published; empty unless asked for.
    """

    figures: dict[str, FigureResult] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    distances: list[Distance] = field(default_factory=list)


def analyse(
    trace: TraceFiles,
    *,
    published: Published | None = None,
    names: Sequence[str] | None = None,
    options: FigureOptions | None = None,
    memory: str = MEMORY,
    progress: Callable[[str], None] | None = None,
) -> Analysed:
    """Make all figures that a trace supports, and compare them.

    Args:
        trace: which trace.
        published: the published curves to compare with; None compares nothing.
        names: only these figures.
        options: choices that the paper leaves open.
        memory: what DuckDB may hold.
        progress: called with the name of each figure before it is made.

    Raises:
        InputError: an unknown figure, or a file of the trace is damaged.
    """
    found = Analysed()
    with Figures(trace, options, memory=memory) as figures:
        for name in FIGURES if names is None else names:
            lacking = figures.missing(name)
            if lacking is not None:
                found.missing[name] = f"the trace lacks {lacking}"
                continue
            if progress is not None:
                progress(name)
            try:
                found.figures[name] = figures.figure(name)
            except InputError as error:
                found.missing[name] = str(error)
    if published is not None:
        for name, result in found.figures.items():
            if _is_comparable(name, trace, published):
                found.distances.extend(compare(result, published.figure(name)))
    return found


def _is_comparable(name: str, trace: TraceFiles, published: Published) -> bool:
    """Whether the published figure is of the same thing: pooled curves only beside a trace of all five regions."""
    return published.has(name) and (name not in _POOLED or set(REGIONS) <= set(trace.regions))


def write_trace_report(
    trace: ReportedTrace,
    path: str | Path,
    analysed: Analysed,
    *,
    published: Published | None = None,
    audited: Sequence[Checked] = (),
) -> None:
    """Write the page.

    Args:
        trace: what was analysed.
        path: where the page goes.
        analysed: the results of `analyse`.
        published: drawn beside ours when given.
        audited: a claims audit to show, see `nonet.coldstart.analytics.audit`.

    Raises:
        InputError: the folder of `path` does not exist.
    """
    beside = {
        name: published.figure(name)
        for name in analysed.figures
        if published is not None and _is_comparable(name, trace, published)
    }
    sections = [Section("What is here", _overview(trace, analysed, published is not None))]
    for title, numbers in _PARTS:
        names = [name for name in analysed.figures if name.rstrip("abcdef") in numbers]
        blocks = [b for name in names for b in _blocks(analysed, name, beside.get(name), trace.epoch)]
        if blocks:
            sections.append(Section(title, blocks))
    if analysed.missing:
        sections.append(Section("Not in this trace", [_missing_table(analysed)]))
    if analysed.distances:
        sections.append(Section("Ours and the published", [distance_table(analysed.distances)], _DISTANCE_INTRO))
    if audited:
        sections.append(audit_section(audited))
    days = (trace.end_us - trace.start_us) / 86_400e6
    subtitle = f"{trace.source}; {len(trace.regions)} region{'s' * (len(trace.regions) != 1)}, {days:.1f} days"
    write_report(path, "Where cold starts come from", sections, subtitle=subtitle)


_DISTANCE_INTRO = (
    "KS is the largest vertical distance of two laws over the part that both show; within reading error allows every "
    "x to be off by 0.5 %, since the published curves were read off a plot. Green: KS <= 0.05, Pearson >= 0.9. "
) + SOURCE


def _overview(trace: ReportedTrace, analysed: Analysed, is_compared: bool) -> list[Block]:
    made, left = len(analysed.figures), len(analysed.missing)
    lines = [f"{made} figures of the paper were made from this trace; {left} could not be (see the end of the page)."]
    if is_compared:
        lines.append(
            "Published curves are dashed, or in a panel of their own; regions are compared with those of the same "
            "name. The distance stands under each figure, all of them in a table after the figures."
        )
    lines.append("Quantiles are within 1.2 %: laws are histograms with 200 bins a decade.")
    return [Text([f"Source: {trace.source}", *lines])]


def _blocks(analysed: Analysed, name: str, published: FigureResult | None, epoch: str | None) -> list[Block]:
    spec, result = FIGURES[name], analysed.figures[name]
    caption = ". ".join(filter(None, ["; ".join(result.notes), _distance_line(analysed.distances, name)]))
    chart = figure_chart(spec, result, published, epoch)
    blocks: list[Block] = [Chart(f"Figure {name}. {spec.title}", chart, caption)]
    numbers = _numbers(result)
    return blocks if numbers is None else [*blocks, numbers]


def _distance_line(distances: Sequence[Distance], name: str) -> str:
    """The distances of one figure in a line, e.g. "To the published: KS R2 0.117"; those within reading error left out.

    A figure of several facets or groups has many; they are by measure, in the order of the figure.
    """
    own: dict[str, list[str]] = {}
    for d in distances:
        if d.figure == name and d.measure != "KS within reading error" and not math.isnan(d.value):
            place = " ".join(filter(None, (d.facet if d.facet != d.group else "", d.group)))
            own.setdefault(d.measure, []).append(f"{place} {d.value:.3g}")
    found = "; ".join(f"{measure} {', '.join(values)}" for measure, values in own.items())
    return f"To the published: {found}" if found else ""


_SHARES = (0.1, 0.5, 0.9, 0.99)


def _numbers(result: FigureResult) -> Table | None:
    """A small table below some figures: quantiles of laws, parameters of fits, marked peaks, quartiles."""
    if result.kind == "law":
        rows = [
            [facet, group, curve.num or None, *(_rounded(q) for q in curve.quantile(list(_SHARES)))]
            for (facet, group), curve in result.curves.items()
        ]
        fit = ", ".join(f"{key} {_shown(value)}" for key, value in result.extra.items())
        return Table(["region", "group", "values", *(f"p{share:.0%}"[:-1] for share in _SHARES)], rows, caption=fit)
    if result.kind == "spread":
        columns = result.rows.columns
        return Table(columns, [[_rounded(cell) for cell in row] for row in result.rows.iter_rows()])
    if "daily_peaks" in result.extra:
        peaks = result.extra["daily_peaks"]
        rows = [
            [region, minute // 1440, minute, _rounded(load)]
            for region, found in peaks.items()
            for minute, load in found
        ]
        return Table(["region", "day shown", "peak at minute", "load"], rows)
    return None


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return None if math.isnan(value) else float(f"{value:.4g}")
    return value


def distance_table(distances: Sequence[Distance]) -> Table:
    """The distances as a table of a report."""
    rows = [
        [d.figure, d.facet, d.group, d.measure, Cell(_rounded(d.value), _tone(d)), _rounded(d.at), d.num or None]
        for d in distances
    ]
    return Table(["figure", "facet", "group", "measure", "value", "at", "values"], rows)


def _tone(distance: Distance) -> Any:
    if math.isnan(distance.value):
        return "dim"
    if distance.measure.startswith("KS"):
        return "good" if distance.value <= _GOOD_KS else "bad"
    if distance.measure == "Pearson":
        return "good" if distance.value >= _GOOD_PEARSON else "bad"
    return ""


def _missing_table(analysed: Analysed) -> Table:
    rows = [[name, FIGURES[name].title, reason] for name, reason in analysed.missing.items()]
    return Table(["figure", "what it shows", "why it is not here"], rows)


def audit_section(results: Sequence[Checked]) -> Section:
    """A claims audit as a section of a report."""
    tones = {SUPPORTED: "good", CONTRADICTED: "bad"}
    rows = [
        [
            Cell(r.claim.id, "code"),
            r.claim.section,
            r.claim.text,
            r.claim.stated(),
            _rounded(r.computed),
            Cell(r.verdict, tones.get(r.verdict, "dim")),  # type: ignore[arg-type]
            r.reason,
            Cell(", ".join(f"{name} {_shown(value)}" for name, value in r.evidence.items()), "dim"),
        ]
        for r in results
    ]
    number = counts(results)
    intro = f"{len(results)} claims: " + ", ".join(f"{num} {verdict}" for verdict, num in number.items()) + "."
    columns = ["claim", "stated in", "what it says", "states", "computed", "verdict", "remark", "evidence"]
    return Section("Claims", [Table(columns, rows)], intro)


def write_audit_report(path: str | Path, results: Sequence[Checked], *, source: str) -> None:
    """A page with the audit alone.

    Args:
        path: where it goes.
        results: what `audit` gave.
        source: what the claims were checked against.

    Raises:
        InputError: the folder of `path` does not exist.
    """
    write_report(path, "Claims, checked", [audit_section(results)], subtitle=f"against {source}")
