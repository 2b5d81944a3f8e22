"""Tables for the terminal whose last column, a template or a line, is cut where the terminal ends."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Any

_NARROWEST_TEXT = 24
_PIPE_WIDTH = 10_000


def terminal_width() -> int:
    """Columns of the terminal on stdout; a pipe has no end."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else _PIPE_WIDTH


def readable(text: str) -> str:
    r"""The text with U+FFFD for bytes that are not UTF-8.

    >>> readable("caf\udce9")
    'caf\ufffd'
    """
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def shortened(text: str, width: int) -> str:
    """One line of at most so many characters; what stands for other characters is shown as such.

    >>> shortened("a quick brown fox", 8), shortened("a\\tb", 8)
    ('a quick…', 'a b')
    """
    line = "".join(c if c.isprintable() else " " if c in "\t\n" else "\ufffd" for c in text)
    return line if len(line) <= width else line[: max(0, width - 1)] + "…"


def print_rows(columns: Sequence[str], rows: Iterable[Sequence[Any]], num_left: int, width: int) -> None:
    """A table without rules that fits the width: numbers on the right, the last column takes what is left.

    Args:
        columns: headings.
        rows: strings or `rich` texts; those of the last column are cut where the line ends.
        num_left: how many columns in front are numbers.
        width: characters of a line; more are used when the last column would get fewer than 24.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    body = [[Text(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    left = width
    for number, name in enumerate(columns[:-1]):
        needed = max([len(name), *(row[number].cell_len for row in body)])
        left -= needed + 2
        table.add_column(name, justify="right" if number < num_left else "left", no_wrap=True, width=needed)
    table.add_column(columns[-1], no_wrap=True)
    for row in body:
        lines = row[-1].split("\n")
        for line in lines:
            line.truncate(max(left, _NARROWEST_TEXT), overflow="ellipsis")
        table.add_row(*row[:-1], Text("\n").join(lines))
    Console(file=sys.stdout, width=max(width, width - left + _NARROWEST_TEXT), highlight=False).print(table)
