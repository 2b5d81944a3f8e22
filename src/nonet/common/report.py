"""Reports: one HTML file that opens from disk without a network, prints well, and follows light or dark mode.

Tables can be taken away as CSV or JSON; charts are drawn by JavaScript that the file holds itself.
"""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nonet.common.atomic import atomic_write
from nonet.common.console import FINDING_COLUMNS, finding_rows, format_cell
from nonet.common.findings import Finding
from nonet.common.jsonable import dumps

if TYPE_CHECKING:
    import altair
    from jinja2 import Template

Tone = Literal["", "good", "bad", "dim", "code", "short"]


@dataclass(frozen=True, slots=True)
class Cell:
    """A table cell with a look: "good" green, "bad" red, "dim" grey, "code" in a fixed-width font, "short" the same on
    one line."""

    value: Any
    tone: Tone = ""


@dataclass(frozen=True, slots=True)
class Text:
    """Paragraphs of plain text (they are escaped, so log lines are safe in them)."""

    paragraphs: Sequence[str]


@dataclass(frozen=True, slots=True)
class Table:
    """A table; `rows` hold plain values or `Cell`s, in the order of `columns`."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    title: str = ""
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart with its heading and one line that says what to see in it."""

    title: str
    chart: altair.TopLevelMixin
    caption: str = ""


Block = Text | Table | Chart


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page; its title stands in the contents at the top."""

    title: str
    blocks: Sequence[Block] = field(default=())
    intro: str = ""


def write_report(path: str | Path, title: str, sections: Sequence[Section], *, subtitle: str = "") -> None:
    """Write the page atomically.

    Raises:
        InputError: the folder of `path` does not exist.
    """
    with atomic_write(path) as file:
        file.write(render_report(title, sections, subtitle=subtitle))


def render_report(title: str, sections: Sequence[Section], *, subtitle: str = "") -> str:
    """The page as HTML text; the drawing code (0.9 MB) is in it only when a section has a chart."""
    parts = [
        {
            "title": section.title,
            "intro": section.intro,
            "anchor": f"section-{number}",
            "blocks": [_rendered(block, f"{number}-{index}") for index, block in enumerate(section.blocks, start=1)],
        }
        for number, section in enumerate(sections, start=1)
    ]
    has_chart = any(isinstance(block, Chart) for section in sections for block in section.blocks)
    script = ""
    if has_chart:
        from nonet.common.plots import chart_script

        script = chart_script()
    return _template().render(title=title, subtitle=subtitle, sections=parts, script=script)


@cache
def _template() -> Template:
    from jinja2 import Environment, PackageLoader

    return Environment(loader=PackageLoader("nonet.common", "templates"), autoescape=True).get_template("report.html")


def _rendered(block: Block, number: str) -> dict[str, Any]:
    if isinstance(block, Text):
        return {"kind": "text", "paragraphs": block.paragraphs}
    if isinstance(block, Chart):
        from nonet.common.plots import chart_html

        return {"kind": "chart", "title": block.title, "caption": block.caption, "html": chart_html(block.chart)}
    rows = [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in block.rows]
    return {
        "kind": "table",
        "title": block.title,
        "caption": block.caption,
        "columns": block.columns,
        "numeric": [_is_numeric([row[i].value for row in rows]) for i in range(len(block.columns))],
        "rows": [[(format_cell(cell.value), cell.tone) for cell in row] for row in rows],
        "name": f"table-{number}",
        "csv": _data_link("text/csv", _csv_text(block.columns, rows)),
        "json": _data_link("application/json", _json_text(block.columns, rows)),
    }


def _is_numeric(values: Sequence[Any]) -> bool:
    numbers = [isinstance(v, (int, float)) and not isinstance(v, bool) for v in values if v is not None]
    return bool(numbers) and all(numbers)


def _csv_text(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows([cell.value for cell in row] for row in rows)
    return text.getvalue()


def _json_text(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    return dumps([dict(zip(columns, (cell.value for cell in row), strict=True)) for row in rows])


def _data_link(media_type: str, text: str) -> str:
    return f"data:{media_type};charset=utf-8;base64,{base64.b64encode(text.encode()).decode('ascii')}"


def findings_table(findings: Sequence[Finding], *, title: str = "Findings") -> Table:
    """The findings as a table: ours beside each rival, the promise, whether it is kept, the input and the sources."""
    tones: dict[str, Tone] = {"kept": "good", "NOT KEPT": "bad"}
    owners = [(finding, index) for finding in findings for index in range(max(1, len(finding.rivals)))]
    rows = []
    for cells, (finding, index) in zip(finding_rows(findings), owners, strict=True):
        source = finding.rivals[index].source if finding.rivals else ""
        about = (finding.input, finding.note) if index == 0 else ("", "")
        rows.append((*cells[:6], Cell(cells[6], tones.get(cells[6], "")), *about, Cell(source, "dim")))
    return Table((*FINDING_COLUMNS, "input", "note", "source"), rows, title=title)
