"""The lines that the experiments run on: real ones where they are at hand, else a synthetic twin that says so."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from nonet.common.console import note
from nonet.common.errors import InputError
from nonet.logs.evaluation import data
from nonet.logs.evaluation.compat_header import split_contents
from nonet.logs.parsers import settings

FULL_SYSTEMS = ("Linux", "Proxifier")
SAMPLE_SYSTEMS = (
    *("Apache", "BGL", "HDFS", "HPC", "Hadoop", "HealthApp", "Linux"),
    *("Mac", "OpenSSH", "OpenStack", "Proxifier", "Spark", "Thunderbird", "Zookeeper"),
)
"""The fourteen systems of the paper; Android and Windows exist as samples only and are in none of its averages."""
UNRATED_SAMPLES = ("Android", "Windows")


@dataclass(frozen=True, slots=True)
class Lines:
    """Contents of one system.

    Attributes:
        system: picks the masks of the reference evaluation; "" for none.
        contents: Content of every line that the header format matches.
        described: what they are, for `Finding.input`.
    """

    system: str
    contents: tuple[str, ...]
    described: str

    @property
    def masks(self) -> tuple[str, ...]:
        """The masks that the reference evaluation gives Drain here."""
        return settings.masks_for("Drain", self.system) if self.system else ()


@cache
def labelled(name: str) -> data.LabelledLog | None:
    """A data set that is on this machine, or None with a note (nothing is downloaded for a benchmark)."""
    try:
        return data.load(name, download=False)
    except InputError as error:
        note(f"bench: {name} is not at hand ({error})")
        return None


@cache
def lines_of(name: str) -> Lines | None:
    """Contents of a labelled log, or None when it is not at hand."""
    log = labelled(name)
    if log is None:
        return None
    contents, _ = split_contents(log.log_path, log.header_format)
    return Lines(log.system, tuple(contents), f"{name}, {len(contents):,} lines")


@cache
def twin_contents(num_lines: int) -> Lines:
    """Synthetic lines from the built-in template list."""
    from nonet.logs.evaluation.twin import builtin_templates, twin

    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "twin.log"
        twin(builtin_templates(), num_lines, seed=1, out_log=log, header=False)
        contents = tuple(log.read_text().splitlines())
    return Lines("", contents, f"synthetic twin of a web service, {num_lines:,} lines")


def speed_lines() -> list[Lines]:
    """What the parse-only experiments run on: the two full systems, else a twin."""
    real = [lines for lines in (lines_of(f"{data.FULL}/{s}") for s in FULL_SYSTEMS) if lines is not None]
    return real or [twin_contents(45_000)]


@contextmanager
def twin_log(num_lines: int) -> Iterator[Path]:
    """A synthetic log with headers in a temporary folder."""
    from nonet.logs.evaluation.twin import builtin_templates, twin

    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "twin.log"
        twin(builtin_templates(), num_lines, seed=1, out_log=log)
        yield log
