"""The rows that a conversion refused, each with its file, line and reason, in one CSV file."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from pathlib import Path
from typing import IO

MAX_TEXT_CHARS = 400
MAX_ROWS = 1_000_000
COLUMNS = ("file", "line", "reason", "text")


class Quarantine:
    """Refused rows, appended to `<name>.part` and renamed by `close`; no file at all when there are none.

    At most `MAX_ROWS` rows are written out; all are counted. A text is cut at `MAX_TEXT_CHARS`.

    Attributes:
        counts: rows by reason.
    """

    def __init__(self, path: Path, counts: dict[str, int] | None = None, num_bytes: int = 0) -> None:
        self._path = path
        self._part = path.with_name(path.name + ".part")
        self.counts: Counter[str] = Counter(counts or {})
        self._file: IO[bytes] | None = None
        if num_bytes and self._part.is_file():
            os.truncate(self._part, num_bytes)
        else:
            self._part.unlink(missing_ok=True)

    @property
    def num_rows(self) -> int:
        """Rows refused so far."""
        return self.counts.total()

    def add(self, file: str, line: int | None, reason: str, text: str = "") -> None:
        """Refuse one row: its file, line (from 1, None when unknown), why, and what stood there."""
        self.counts[reason] += 1
        if self.num_rows > MAX_ROWS:
            return
        if self._file is None:
            self._file = self._part.open("ab")
            if self._file.tell() == 0:
                self._file.write(_csv_row(COLUMNS))
        self._file.write(_csv_row((file, "" if line is None else str(line), reason, text[:MAX_TEXT_CHARS])))

    def flush(self) -> int:
        """Bring the rows to the disk; the length of the file in bytes, 0 when there is none."""
        if self._file is None:
            return self._part.stat().st_size if self._part.is_file() else 0
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """Give the file its name."""
        self.flush()
        self.release()
        if self._part.is_file():
            self._part.replace(self._path)

    def release(self) -> None:
        """Close the file without giving it its name."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _csv_row(cells: tuple[str, ...]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode("utf-8", "backslashreplace")
