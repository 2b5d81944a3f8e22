"""What one (parser, system) pair of an evaluation is given and gives back; both travel as JSON."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from nonet.logs.evaluation.data import LabelledLog
from nonet.logs.parsers.base import Mode

Status = Literal["finished", "timeout", "out_of_memory", "failed"]
NONET = "nonet"
DEFAULT_MODE = "default"


@dataclass(frozen=True, slots=True)
class Job:
    """One pair to evaluate.

    Attributes:
        parser: "nonet", the name of a reference parser, or `package.module:Name` of a parser of your own.
        log: the labelled log.
        mode: mode of the reference parsers.
        settings: parameters of the parser that take the place of the tuned ones.
        rules: version of the template rules for scoring.
        slices: names of the slices to score.
        timeout_s: limit for reading to CSV, s; None for none.
        memory_gib: limit of the resident set; None for none.
        keep_outputs: keep the CSV pair in the run directory.
        out_dir: the run directory.
        run_id: tells this run's working folders from those of a killed one, whose processes may live a moment longer.
    """

    parser: str
    log: LabelledLog
    mode: Mode
    settings: dict[str, Any]
    rules: str
    slices: tuple[str, ...]
    timeout_s: float | None
    memory_gib: float | None
    keep_outputs: bool
    out_dir: Path
    run_id: str

    @property
    def shown_mode(self) -> str:
        """The mode as reports show it; our own miner has one only."""
        return DEFAULT_MODE if self.parser == NONET else self.mode

    @property
    def key(self) -> str:
        """A file name for the pair."""
        parts = (self.parser, self.log.name, self.shown_mode)
        return "__".join(re.sub(r"[^A-Za-z0-9.-]+", "_", part).strip("_") for part in parts)

    @property
    def work_folder(self) -> Path:
        """Where the pair's process writes."""
        return self.out_dir / "work" / f"{self.key}__{self.run_id}"

    @property
    def result_path(self) -> Path:
        """Where the pair's result is, once it is finished."""
        return self.out_dir / "pairs" / f"{self.key}.json"

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary that `from_dict` reads."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Job:
        """The job from its JSON form."""
        log = dict(values["log"])
        log["log_path"], log["labels_path"] = Path(log["log_path"]), Path(log["labels_path"])
        changed = {"log": LabelledLog(**log), "slices": tuple(values["slices"]), "out_dir": Path(values["out_dir"])}
        return cls(**{**values, **changed})


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of one pair, by phase; their sum is what the paper calls parsing time.

    Attributes:
        header_s: reading the raw log and splitting headers.
        parse_s: masks and parser.
        output_s: parameters and the CSV pair.
    """

    header_s: float
    parse_s: float
    output_s: float

    @property
    def seconds(self) -> float:
        """Reading the raw log to the CSV pair on disk."""
        return self.header_s + self.parse_s + self.output_s


@dataclass(frozen=True, slots=True)
class PairResult:
    """What came of one pair.

    Attributes:
        parser, data, system, edition, mode: which pair; `data` is the name of the labelled log.
        status: "finished", or why not.
        error: one line, for a pair that failed.
        timing: None unless finished.
        wall_s: life of the process, with imports and scoring.
        peak_rss_bytes: the most memory seen in the process and its descendants.
        num_lines: lines parsed.
        num_trained_on: of them, those whose text was among the labelled lines that the parser learnt from; they are
            scored in compat mode only, as the published runs did.
        scorecard: `Scorecard.to_dict()`; None unless finished.
        lenient: UniParser only: its lenient PA and FTA.
    """

    parser: str
    data: str
    system: str
    edition: str
    mode: str
    status: Status
    error: str = ""
    timing: Timing | None = None
    wall_s: float = 0.0
    peak_rss_bytes: int = 0
    num_lines: int | None = None
    num_trained_on: int = 0
    scorecard: dict[str, Any] | None = None
    lenient: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary that `from_dict` reads."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PairResult:
        """The result from its JSON form."""
        timing = values.get("timing")
        return cls(**{**values, "timing": Timing(**timing) if timing else None})
