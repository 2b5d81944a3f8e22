"""The terminal: results on stdout, progress and notes on stderr.

Tables adapt to a terminal's width and are never cut when the output goes to a file or a pipe. `NO_COLOR` and `--quiet`
are honoured. rich is imported on first use, which keeps `nonet --help` quick.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TextIO, TypeVar

from nonet.common.findings import Finding, Rival
from nonet.common.jsonable import dumps

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T")

# A pipe has no width; this is wide enough that rich folds nothing.
_PIPE_WIDTH = 10_000
_state = {"quiet": False}


def set_quiet(quiet: bool) -> None:
    """Silence progress and notes from now on (`--quiet`); results and errors are still printed."""
    _state["quiet"] = quiet


def is_quiet() -> bool:
    """Whether notes and progress are silenced, by `set_quiet` or by NONET_QUIET=1."""
    return _state["quiet"] or os.environ.get("NONET_QUIET", "").lower() in ("1", "true", "yes", "on")


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    class Terminal(Console):
        """A rich console that leaves a reader's early end to the command line."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # the command line knows what to do then; rich would exit with 1

    return Terminal(file=stream, width=None if stream.isatty() else _PIPE_WIDTH, highlight=False, soft_wrap=False)


def note(message: str) -> None:
    """One line on stderr, unless quiet."""
    if not is_quiet():
        print(message, file=sys.stderr, flush=True)


def print_error(message: str) -> None:
    """`error: message` on stderr, always one line."""
    line = " ".join(message.split("\n"))
    print(f"error: {line}", file=sys.stderr, flush=True)


def emit_json(value: Any) -> None:
    """One JSON document on stdout; dataclasses, NumPy values, paths and times are converted, NaN becomes null."""
    sys.stdout.write(dumps(value, indent=2) + "\n")


def emit_jsonl(values: Iterable[Any]) -> None:
    """One JSON value a line on stdout, written as they come."""
    for value in values:
        sys.stdout.write(dumps(value) + "\n")


def format_cell(value: Any) -> str:
    """A value for a person: thousands separated, floats to four significant digits, None as "-".

    >>> [format_cell(v) for v in (1234567, 0.123456, 41.96, 123456.7, None, True, "a")]
    ['1,234,567', '0.1235', '41.96', '123,457', '-', 'yes', 'a']
    """
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if hasattr(value, "item"):  # NumPy scalars
        value = value.item()
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if math.isnan(value):
            return "-"
        return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"
    return str(value)


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    title: str = "",
    caption: str = "",
) -> None:
    """A table on stdout. Numbers are right-aligned and formatted by `format_cell`; text may fold on a narrow terminal.

    Args:
        columns: the headings.
        rows: cells in the order of `columns`; a `rich` renderable stays what it is.
        title: a line above.
        caption: a line below.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    body = [list(row) for row in rows]
    table = Table(
        title=title or None, caption=caption or None, box=box.SIMPLE_HEAD, title_justify="left", caption_justify="left"
    )
    for index, name in enumerate(columns):
        numeric = any(_is_number(row[index]) for row in body) and all(
            row[index] is None or _is_number(row[index]) for row in body
        )
        table.add_column(Text(name), justify="right" if numeric else "left", overflow="fold", no_wrap=numeric)
    for row in body:
        table.add_row(*(cell if hasattr(cell, "__rich_console__") else Text(format_cell(cell)) for cell in row))
    _console(sys.stdout).print(table)


def _is_number(value: Any) -> bool:
    return (isinstance(value, (int, float)) and not isinstance(value, bool)) or hasattr(value, "item")


FINDING_COLUMNS = ("finding", "ours", "rival", "theirs", "ratio", "promise", "kept")


def finding_rows(findings: Sequence[Finding]) -> list[tuple[str, ...]]:
    """The findings as cells under FINDING_COLUMNS: one row each, and one more for every further rival."""
    rows: list[tuple[str, ...]] = []
    for finding in findings:
        rivals: Sequence[Rival | None] = finding.rivals or (None,)
        for index, rival in enumerate(rivals):
            name, ours, promise, kept = _finding_cells(finding) if index == 0 else ("", "", "", "")
            rows.append((name, ours, *_rival_cells(finding, rival), promise, kept))
    return rows


def _finding_cells(finding: Finding) -> tuple[str, str, str, str]:
    sign = {"higher": ">=", "lower": "<=", "match": "="}[finding.better]
    promise = "" if finding.promise is None else f"{sign} {format_cell(finding.promise)}"
    kept = {True: "kept", False: "NOT KEPT", None: ""}[finding.kept]
    return finding.name, _with_unit(finding.value, finding.unit), promise, kept


def _rival_cells(finding: Finding, rival: Rival | None) -> tuple[str, str, str]:
    if rival is None:
        return "", "", ""
    label = rival.name if rival.kind == "measured" else f"{rival.name} (published)"
    unit = finding.unit_of(rival)
    ratio = f"{finding.value / rival.value:.3g}x" if rival.value and unit == finding.unit else ""
    return label, _with_unit(rival.value, unit), ratio


def _with_unit(value: float, unit: str) -> str:
    return f"{format_cell(value)} {unit}".rstrip()


def print_findings(findings: Sequence[Finding], *, title: str = "") -> None:
    """The findings on stdout: ours, each rival beside it, their ratio in one unit, the promise and whether it is kept.

    Below the table, a line a finding: the input it was measured on, its note, and where a published value is from. A
    measured rival ran in this command on this input.
    """
    from rich.text import Text

    styles = {"kept": "green", "NOT KEPT": "bold red"}
    rows = [(*row[:6], Text(row[6], styles.get(row[6], ""))) for row in finding_rows(findings)]
    print_table(FINDING_COLUMNS, rows, title=title)
    out = _console(sys.stdout)
    for finding in findings:
        sources = [f"{r.name}: {r.source}" for r in finding.rivals if r.source]
        details = "; ".join(part for part in (finding.input, finding.note, *sources) if part)
        out.print(Text.assemble((finding.name, "bold"), f": {details}"))
    held = [f.kept for f in findings if f.kept is not None]
    print(f"{len(findings)} findings, {sum(held)} of {len(held)} promises kept")


class Progress(Protocol):
    """A running count that a long job feeds."""

    def advance(self, amount: float = 1) -> None:
        """That much more is done."""

    def describe(self, text: str) -> None:
        """Change the text beside the bar."""


class _Silent:
    def advance(self, amount: float = 1) -> None:
        pass

    def describe(self, text: str) -> None:
        pass


class _Bar:
    def __init__(self, bar: Any, task: Any) -> None:
        self._bar, self._task = bar, task

    def advance(self, amount: float = 1) -> None:
        self._bar.advance(self._task, amount)

    def describe(self, text: str) -> None:
        self._bar.update(self._task, description=text)


@contextmanager
def progress(total: float | None, description: str, *, unit: str = "") -> Iterator[Progress]:
    """A progress bar with rate and time left on stderr; nothing at all when quiet or when stderr is no terminal.

    Args:
        total: how much there is to do, None when unknown.
        description: what is being done.
        unit: "bytes" shows sizes, anything else is named after the count.
    """
    if is_quiet() or not sys.stderr.isatty():
        yield _Silent()
        return
    from rich import progress as bars

    count: bars.ProgressColumn = bars.DownloadColumn() if unit == "bytes" else bars.MofNCompleteColumn()
    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        count,
        bars.TextColumn(unit if unit != "bytes" else ""),
    )
    with bars.Progress(
        *columns, bars.TimeElapsedColumn(), bars.TimeRemainingColumn(), console=_console(sys.stderr), transient=True
    ) as bar:
        yield _Bar(bar, bar.add_task(description, total=total))


def track(items: Iterable[T], description: str, *, total: float | None = None, unit: str = "") -> Iterator[T]:
    """Yield the items under a progress bar."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with progress(total, description, unit=unit) as bar:
        for item in items:
            yield item
            bar.advance()
