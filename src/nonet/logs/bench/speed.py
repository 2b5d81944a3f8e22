"""Speed against the rivals: the same lines in the same process, one after the other."""

from __future__ import annotations

import gzip
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from nonet.common.console import note
from nonet.common.errors import MissingExtraError
from nonet.common.findings import Finding, Rival
from nonet.logs.bench import inputs, rivals
from nonet.logs.drain3 import MaskingInstruction, TemplateMiner, TemplateMinerConfig
from nonet.logs.mining.miner import Miner
from nonet.logs.parse import parse_file

if TYPE_CHECKING:
    from nonet.logs.bench import Scale

ROOM = "logs"
_REPEATS = 3


def _ours_seconds(contents: Sequence[str], masks: Sequence[str]) -> float:
    """Median seconds of a new miner over all lines: masks, templates, and the parameters of every line."""

    def run() -> float:
        started = time.perf_counter()
        Miner(masks=masks).add_lines(contents)
        return time.perf_counter() - started

    run()  # loads the compiled kernels
    return statistics.median(run() for _ in range(_REPEATS))


def _try(rival: Callable[[], float]) -> float | None:
    try:
        return rival()
    except MissingExtraError as error:
        note(f"bench: {error}")
        return None


def _against(
    name: str,
    promise: float | None,
    seconds: float,
    num_lines: int,
    peers: Mapping[str, float | None],
    described: str,
    text: str,
) -> list[Finding]:
    """A ratio to the first peer, with lines per second of all."""
    first = next(iter(peers.values()))
    if first is None:
        return []
    rates = [Rival(f"{peer} (lines/s)", num_lines / s, "measured") for peer, s in peers.items() if s is not None]
    speed = Finding(ROOM, f"{name}_lines_per_s", num_lines / seconds, "lines/s", "higher", described, tuple(rates))
    return [Finding(ROOM, name, first / seconds, "x", "higher", described, (), promise, text), speed]


def parse_only(scale: Scale) -> list[Finding]:
    """The same lines and the same masks as Drain3; ours runs its general masks and extracts parameters besides.

    Measured on the logs as they are and, since a parser that runs for days sees the same statements again and again, on
    copies of them in a row. The promise is held on the copies; the single logs stand beside it.
    """
    copies = 4 if scale == "quick" else 10
    return [*_parse_speed(copies, "parse_speed_vs_drain3", 10.0), *_parse_speed(1, "parse_speed_short_logs", None)]


def _parse_speed(copies: int, name: str, promise: float | None) -> list[Finding]:
    chosen = inputs.speed_lines()
    ours = drain3 = tipping = 0.0
    num_lines = 0
    for lines in chosen:
        contents = lines.contents * copies
        peer = _try(partial(rivals.drain3_seconds, contents, lines.masks))
        other = _try(partial(rivals.tipping_seconds, contents))
        if peer is None or other is None:
            return []
        ours += _ours_seconds(contents, lines.masks)
        drain3, tipping, num_lines = drain3 + peer, tipping + other, num_lines + len(contents)
    described = "; ".join(lines.described for lines in chosen) + (f"; {copies} times in a row" if copies > 1 else "")
    text = "same masks; ours also applies its general masks and extracts parameters; all cores (Drain3 can use one)"
    peers = {"Drain3 0.9.11": drain3, "tipping 0.2.1": tipping}
    found = _against(name, promise, ours, num_lines, peers, described, text)
    if promise is not None:
        found.append(Finding(ROOM, "parse_speed_vs_tipping", tipping / ours, "x", "higher", described, (), 8.0))
    return found


def general_masks(scale: Scale) -> list[Finding]:
    """Fourteen general masks on both sides: our scanner, Drain3 with Python regular expressions."""
    copies = 3 if scale == "quick" else 10
    chosen = inputs.speed_lines()
    ours = theirs = 0.0
    num_lines = 0
    for lines in chosen:
        contents = lines.contents * copies
        peer = _try(partial(rivals.drain3_seconds, contents, rivals.GENERAL_MASKS))
        if peer is None:
            return []
        ours += _ours_seconds(contents, ())
        theirs, num_lines = theirs + peer, num_lines + len(contents)
    described = "; ".join(lines.described for lines in chosen) + f"; {copies} times in a row"
    peers = {"Drain3 with 14 masks by re": theirs}
    text = "ours on all cores (Drain3 can use one)"
    return _against("masked_speed_vs_drain3_re", 40.0, ours, num_lines, peers, described, text)


def line_by_line(scale: Scale) -> list[Finding]:
    """Single lines from Python, each answered at once: ours, and our adapter in the place of Drain3, with its masks."""
    copies = 1 if scale == "quick" else 5
    chosen = inputs.speed_lines()
    ours = adapter = drain3 = 0.0
    num_lines = 0
    for lines in chosen:
        contents = lines.contents * copies
        peer = _try(partial(rivals.drain3_seconds, contents, lines.masks))
        if peer is None:
            return []
        miner, config = Miner(masks=lines.masks), TemplateMinerConfig()
        config.masking_instructions = [MaskingInstruction(pattern, "*") for pattern in lines.masks]
        ours += _each_seconds(miner.add, contents)
        adapter += _each_seconds(TemplateMiner(config=config).add_log_message, contents)
        drain3, num_lines = drain3 + peer, num_lines + len(contents)
    described = "; ".join(lines.described for lines in chosen) + (f"; {copies} times in a row" if copies > 1 else "")
    peers = {"Drain3 0.9.11": drain3}
    text = "Miner.add; same masks; ours also applies its general masks and can give the parameters"
    return [
        *_against("line_by_line_vs_drain3", None, ours, num_lines, peers, described, text),
        *_against("adapter_vs_drain3", None, adapter, num_lines, peers, described, "nonet.logs.drain3 for drain3"),
    ]


def _each_seconds(add: Callable[[str], object], contents: Sequence[str]) -> float:
    started = time.perf_counter()
    for content in contents:
        add(content)
    return time.perf_counter() - started


def end_to_end(scale: Scale) -> list[Finding]:
    """Raw file to files on disk, parameters included: ours to Parquet, logparser3's Drain to its CSV pair."""
    name = "loghub2/Proxifier"
    log = inputs.labelled(name)
    if log is None:
        return []
    times = 20 if scale == "quick" else 100
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / f"{log.system}.log"
        packed = log.log_path.read_bytes()
        data = gzip.decompress(packed) if log.log_path.suffix == ".gz" else packed
        data += b"" if data.endswith(b"\n") else b"\n"
        raw.write_bytes(data)
        large = Path(folder) / "large.log"
        with large.open("wb") as file:
            for _ in range(times):
                file.write(data)
        theirs = _try(partial(rivals.logparser3_drain_seconds, raw, log.system))
        if theirs is None:
            return []
        num_lines = data.count(b"\n")
        parse_file(raw, out=Path(folder) / "warm")
        started = time.perf_counter()
        report = parse_file(large, out=Path(folder) / "out")
        ours = time.perf_counter() - started
    rate, their_rate = report.num_lines / ours, num_lines / theirs
    described = f"{name}: ours {times} copies ({report.num_lines:,} lines), theirs one ({num_lines:,} lines)"
    text = "header, masks, templates, parameters; ours to Parquet on all cores, theirs to CSV on the one it can use"
    peers = (Rival("logparser3 1.0.4 Drain (lines/s)", their_rate, "measured"),)
    return [
        Finding(ROOM, "end_to_end_vs_logparser3_drain", rate / their_rate, "x", "higher", described, (), 50.0, text),
        Finding(
            ROOM,
            "end_to_end_lines_per_s",
            rate,
            "lines/s",
            "higher",
            described,
            peers,
            note="the ambition is 1,000,000",
        ),
    ]


def start_up(scale: Scale) -> list[Finding]:
    """What a user waits for: `nonet --help`, and 2,000 lines from the shell once the kernels are compiled."""

    def seconds(*arguments: str) -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "nonet", *arguments], check=True, capture_output=True)
        return time.perf_counter() - started

    seconds("--help")
    help_s = statistics.median(seconds("--help") for _ in range(5))
    with inputs.twin_log(2_000) as log:
        command = ("logs", "parse", str(log), "--out", str(log.parent / "out"))
        seconds(*command)
        parse_s = statistics.median(seconds(*command) for _ in range(_REPEATS))
    return [
        Finding(ROOM, "help_seconds", help_s, "s", "lower", "nonet --help", (), 0.3),
        Finding(
            ROOM,
            "parse_2000_lines_seconds",
            parse_s,
            "s",
            "lower",
            "synthetic twin, 2,000 lines, whole command",
            (),
            2.0,
        ),
    ]
