"""Row power from a CSV file that something else keeps appending to, or that was recorded.

The first line names the columns. Times are seconds or milliseconds since 1970 (told apart by their size), small
numbers (seconds of the recording), or ISO 8601 (UTC when no zone is given). A line counts once its newline is there.
A file that shrinks or is replaced (log rotation) is read from its start again. A line that cannot be read is skipped
and counted.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Literal

from pydantic import Field

from nonet.common.errors import InputError
from nonet.power.controlling.actuators.protocol import Server
from nonet.power.controlling.telemetry.protocol import (
    TELEMETRY,
    Reading,
    TelemetryConfig,
    TelemetryError,
    TelemetryKind,
)

_TAIL_BYTES = 1 << 16
_MAX_LINE_BYTES = 1 << 16
_TIME_NAMES = ("time", "timestamp", "t_s", "time_s", "measured_at_s", "unix_s", "datetime")
_POWER_NAMES = ("power_w", "row_power_w", "power_kw", "row_power_kw", "power", "watts", "value")
_MILLISECONDS_FROM = 1e11  # as seconds this is the year 5138


class FileConfig(TelemetryConfig):
    """Section `[telemetry]` with `source = "file"`."""

    path: Path = Field(description="The CSV file.")
    time_column: str | None = Field(None, description="Name of the time column; found by its name when left out.")
    power_column: str | None = Field(None, description="Name of the column with the power of the row.")
    unit: Literal["W", "kW"] | None = Field(
        None, description="Unit of the powers; from the name (_w, _kw) when left out."
    )
    server_columns: dict[str, str] = Field(default={}, description="Column of each server's own power, by server name.")


class _Columns:
    """Which field of a line is what."""

    def __init__(self, header: Sequence[str], config: FileConfig, servers: Sequence[Server]) -> None:
        names = [name.strip() for name in header]
        self.time = _column(names, config.time_column, _TIME_NAMES, "time_column", config.path)
        self.power = _column(names, config.power_column, _POWER_NAMES, "power_column", config.path)
        name = names[self.power].lower()
        if config.unit is None and not name.endswith(("_w", "_kw", "watts")):
            raise InputError(
                f"{config.path}: column {names[self.power]!r} does not say its unit; set telemetry.unit to W or kW"
            )
        self.factor = 1000.0 if (config.unit or ("kW" if name.endswith("_kw") else "W")) == "kW" else 1.0
        by_name = {server.name: server.index for server in servers}
        unknown = sorted(set(config.server_columns) - set(by_name))
        if unknown:
            raise InputError(f"telemetry.server_columns: no server {unknown[0]!r} in the row")
        self.servers = {
            by_name[server]: _column(names, column, (), f"server_columns.{server}", config.path)
            for server, column in config.server_columns.items()
        }

    def reading(self, fields: Sequence[str]) -> Reading | None:
        """The reading of a line, None when its time cannot be read. A power that is no number is NaN."""
        measured_s = parse_time_s(fields[self.time]) if len(fields) > self.time else None
        if measured_s is None:
            return None
        powers = {server: self._power(fields, column) for server, column in self.servers.items()}
        return Reading(self._power(fields, self.power), measured_s, powers or None)

    def _power(self, fields: Sequence[str], column: int) -> float:
        try:
            return float(fields[column]) * self.factor
        except (ValueError, IndexError):
            return math.nan


class FileTelemetry:
    """Tails a CSV file.

    Raises:
        InputError: the header lacks a column that is needed (at the first read, since the file may come later).
    """

    name = "file"

    def __init__(self, config: FileConfig, servers: Sequence[Server]) -> None:
        self._config = config
        self._servers = servers
        self._file: IO[bytes] | None = None
        self._columns: _Columns | None = None
        self._rest = b""
        self._latest: Reading | None = None
        self.skipped = 0

    def read(self) -> Reading | None:
        """The last whole line of the file now. See `Telemetry.read`."""
        try:
            self._reopen()
            if self._file is None or self._columns is None:
                return self._latest
            lines = (self._rest + self._file.read(_TAIL_BYTES * 16)).split(b"\n")
        except OSError as error:
            self.close()
            raise TelemetryError(f"{self._config.path}: {error.strerror}") from error
        self._rest = lines.pop()[-_MAX_LINE_BYTES:]
        for line in lines:
            self._take(line)
        return self._latest

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
        self._file = self._columns = None
        self._rest = b""

    def _take(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace").strip()
        reading = self._columns.reading(next(csv.reader([text]))) if text and self._columns else None
        if reading is not None:
            self._latest = reading
        elif text:
            self.skipped += 1

    def _reopen(self) -> None:
        path = self._config.path
        if self._file is not None:
            found = path.stat() if path.exists() else None
            own = os.fstat(self._file.fileno())
            if found and (found.st_ino, found.st_dev) == (own.st_ino, own.st_dev) and own.st_size >= self._file.tell():
                return
            self.close()
        self._file = path.open("rb")
        header = self._file.readline(_MAX_LINE_BYTES)
        if not header.endswith(b"\n"):
            self.close()  # not yet whole
            return
        self._columns = _Columns(next(csv.reader([header.decode("utf-8-sig", "replace")])), self._config, self._servers)
        tail = os.fstat(self._file.fileno()).st_size - _TAIL_BYTES
        if tail > self._file.tell():
            self._file.seek(tail)
            self._file.readline(_MAX_LINE_BYTES)


def recorded(config: FileConfig, servers: Sequence[Server] = ()) -> Iterator[Reading]:
    """The readings of a whole file, in its order; lines without a readable time are left out.

    Raises:
        InputError: no such file, or a header that lacks a needed column.
    """
    if not config.path.is_file():
        raise InputError(f"{config.path}: no such file; give the recorded row power as CSV")
    with config.path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        lines = csv.reader(file)
        header = next(lines, None)
        if header is None:
            raise InputError(f"{config.path}: the file is empty; its first line must name the columns")
        columns = _Columns(header, config, servers)
        for fields in lines:
            reading = columns.reading(fields)
            if reading is not None:
                yield reading


def parse_time_s(text: str) -> float | None:
    """Seconds since 1970 (or of the recording) of a time in any of the accepted forms; None when it is none.

    >>> [parse_time_s(text) for text in ("1700000000", "1700000000500", "2023-11-14T22:13:20Z", "-")]
    [1700000000.0, 1700000000.5, 1700000000.0, None]
    """
    text = text.strip()
    try:
        number = float(text)
    except ValueError:
        pass
    else:
        if not math.isfinite(number):
            return None
        return number / 1000.0 if abs(number) >= _MILLISECONDS_FROM else number
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _column(names: Sequence[str], given: str | None, usual: Sequence[str], setting: str, path: Path) -> int:
    if given is not None:
        if given in names:
            return names.index(given)
        raise InputError(f"{path}: no column {given!r} (telemetry.{setting}); its columns are {', '.join(names)}")
    lowered = [name.lower() for name in names]
    for name in usual:
        if name in lowered:
            return lowered.index(name)
    raise InputError(f"{path}: which column? set telemetry.{setting} to one of {', '.join(names)}")


TELEMETRY.add("file", TelemetryKind(FileConfig, FileTelemetry, "a CSV file that is appended to"))
