"""Quoted fields of CSV (RFC 4180), as pandas writes them; each must end in the line in which it begins."""

from __future__ import annotations

import csv

UNIT = "\x1f"
"""Parts the fields of lines whose quotes were taken off."""


def fields_of(line: str, separator: str) -> list[str]:
    """The fields of a line, without the quotes of CSV.

    >>> fields_of('"user","a, b",c', ",")
    ['user', 'a, b', 'c']
    """
    if separator == "," and '"' in line:
        return next(csv.reader([line]), [])
    return line.split(separator)


def unquoted(block: bytes) -> bytes:
    """Lines of CSV with their fields parted by `UNIT`, without quotes.

    A line that is none, as one whose quotes do not close, stays as it is; it has the wrong number of fields then.

    Args:
        block: whole lines.

    >>> unquoted(b'1,"a, b"\\n2,"open\\n')
    b'1\\x1fa, b\\n2,"open\\n'
    """
    lines = []
    for line in block.split(b"\n"):
        try:
            lines.append(UNIT.join(next(csv.reader([line.decode()], strict=True), [])).encode())
        except (csv.Error, UnicodeDecodeError):
            lines.append(line)
    return b"\n".join(lines)
