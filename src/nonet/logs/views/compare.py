"""`compare`: our miner and chosen reference parsers on a log of the user's own, for which there are no labels.

Every parser runs in a process of its own with a time limit (`compare_worker`) on the same messages. What is compared
needs no truth: number of templates, how exactly and how compactly a parsing holds the lines, how well its groups hold
together, and time. Memory: the messages, once here and once in the process that parses them.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from nonet.common.errors import InputError
from nonet.common.jsonable import dumps
from nonet.logs.evaluation.contestants import parser_names
from nonet.logs.evaluation.parser_settings import parse_settings
from nonet.logs.evaluation.supervision import run_limited
from nonet.logs.mining.masks import UserMask
from nonet.logs.parsers.base import Mode
from nonet.logs.reading.records import read_records
from nonet.logs.reading.sources import name_of, rereadable
from nonet.logs.views.quality import Quality

Status = Literal["finished", "timeout", "failed"]
DEFAULT_PARSERS = ("nonet", "Drain", "AEL", "IPLoM", "LFA", "Spell")
DEFAULT_MAX_LINES = 100_000
MESSAGES_FILE, JOB_FILE, RESULT_FILE, ERROR_FILE = "messages.arrow", "job.json", "result.json", "error"


@dataclass(frozen=True, slots=True)
class ComparedParser:
    """One parser.

    Attributes:
        parser: its name.
        status: "finished", "timeout" or "failed".
        error: why it failed, else "".
        seconds: of parsing (reading the file and extracting values are not in it), None unless finished.
        lines_per_s: messages a second, None unless finished.
        peak_rss_bytes: largest resident set of its process.
        quality: None unless finished.
    """

    parser: str
    status: Status
    error: str
    seconds: float | None
    lines_per_s: float | None
    peak_rss_bytes: int
    quality: Quality | None


@dataclass(frozen=True, slots=True)
class CompareReport:
    """Parsers on one log.

    Attributes:
        source, header: name of the log and its header format, None for none.
        num_lines: messages that were parsed.
        is_whole: whether those are all of the log.
        masks: masks that every parser was given.
        mode: mode of the reference parsers.
        parsers: in the order asked for.
    """

    source: str
    header: str | None
    num_lines: int
    is_whole: bool
    masks: tuple[str, ...]
    mode: Mode
    parsers: list[ComparedParser]


def compare(
    source: str | Path,
    parsers: str | Sequence[str] = DEFAULT_PARSERS,
    *,
    max_lines: int = DEFAULT_MAX_LINES,
    timeout_s: float = 300.0,
    masks: Sequence[str] = (),
    mode: Mode = "fixed",
    settings: Sequence[str] = (),
    seed: int = 0,
    progress: Callable[[ComparedParser], None] | None = None,
    **reading: Any,
) -> CompareReport:
    """Run parsers on one log and compare what they make of it.

    Args:
        source: a path, or "-" for standard input.
        parsers: names, as `contestants.parser_names` reads them; reference parsers run with their default set of
            parameters, since tuned ones exist for the systems of the published evaluation only.
        max_lines: take so many messages from the front; 0 for all.
        timeout_s: limit for each parser, s; judging what it found is within it.
        masks: regular expressions that every parser is given; our miner also has its general masks.
        mode: mode of the reference parsers.
        settings: `PARSER.NAME=VALUE`, which take the place of default parameters; see `parser_settings`.
        seed: chooses the sample of lines of the silhouette.
        progress: called after each parser.
        reading: options of `records.read_records`.

    Raises:
        InputError: unknown parsers, a log that cannot be read or has no lines, or bad limits.
    """
    names = parser_names(parsers)
    chosen = parse_settings(settings, names)
    if max_lines < 0 or timeout_s <= 0:
        raise InputError(f"max_lines must be 0 or more and timeout_s above 0, got {max_lines} and {timeout_s}")
    for mask in masks:
        UserMask(mask)
    with rereadable(source) as path:
        contents, header, is_whole = _messages(path, max_lines, reading)
    if not contents:
        raise InputError(f"{name_of(source)}: there are no lines to parse")
    compared = []
    with tempfile.TemporaryDirectory(prefix="nonet-compare-") as folder:
        _write_messages(Path(folder), contents)
        for name in names:
            job = {"mode": mode, "masks": list(masks), "settings": chosen.get(name, {}), "seed": seed}
            compared.append(_run(Path(folder), name, len(contents), job, timeout_s))
            if progress is not None:
                progress(compared[-1])
    return CompareReport(name_of(source), header, len(contents), is_whole, tuple(masks), mode, compared)


def _messages(path: Path, max_lines: int, reading: dict[str, Any]) -> tuple[list[str], str | None, bool]:
    contents: list[str] = []
    reader = read_records(path, **reading)
    for batch in reader:
        contents += [content.decode("utf-8", "surrogateescape") for content in batch.contents()]
        if max_lines and len(contents) > max_lines:
            break
    header = None if reader.header is None else reader.header.text
    is_whole = not max_lines or len(contents) <= max_lines
    return contents if is_whole else contents[:max_lines], header, is_whole


def _write_messages(folder: Path, contents: Sequence[str]) -> None:
    column = pa.array([content.encode("utf-8", "surrogateescape") for content in contents], pa.large_binary())
    table = pa.table({"content": column})
    with pa.ipc.new_file(str(folder / MESSAGES_FILE), table.schema) as writer:
        writer.write_table(table)


def _run(folder: Path, name: str, num_lines: int, job: dict[str, Any], timeout_s: float) -> ComparedParser:
    for left in (RESULT_FILE, ERROR_FILE):
        (folder / left).unlink(missing_ok=True)
    (folder / JOB_FILE).write_text(dumps({"parser": name, **job}), "utf-8")
    log = folder / "output.txt"
    command = [sys.executable, "-m", "nonet.logs.views.compare_worker", str(folder)]
    ran = run_limited(command, stderr=log, timeout_s=timeout_s)
    if ran.ending == "timeout":
        return ComparedParser(name, "timeout", f"over {timeout_s:g} s", None, None, ran.peak_rss_bytes, None)
    if ran.exit_code != 0:
        return ComparedParser(name, "failed", _reason(folder, log, ran.exit_code), None, None, ran.peak_rss_bytes, None)
    result = json.loads((folder / RESULT_FILE).read_text("utf-8"))
    seconds, quality = float(result["seconds"]), Quality(**result["quality"])
    return ComparedParser(name, "finished", "", seconds, num_lines / seconds, ran.peak_rss_bytes, quality)


def _reason(folder: Path, log: Path, exit_code: int) -> str:
    """What a failed process said: its message, else the last line that it printed."""
    if (folder / ERROR_FILE).is_file():
        return (folder / ERROR_FILE).read_text("utf-8")
    printed = log.read_text("utf-8", "replace").strip().splitlines()
    return printed[-1] if printed else f"exit code {exit_code}"
