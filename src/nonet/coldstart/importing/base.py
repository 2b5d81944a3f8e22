"""`ingest`: sources in, a trace and a report out; and what an importer works with (`Intake`).

An importer is a function that reads the files of an `Intake` and gives rows to it. It never sees a damaged archive, and
what it refuses goes to the quarantine with file, line and reason.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from nonet.coldstart.importing.formats import IMPORTERS, Importer
from nonet.coldstart.importing.sources import LineSafeStream, SourceFile, UnusableFileError, expand
from nonet.coldstart.trace.schema import TABLES
from nonet.coldstart.trace.writer import QUARANTINE_NAME, SPOOL_NAME, TraceWriter
from nonet.common.console import Progress, progress
from nonet.common.errors import InputError

if TYPE_CHECKING:
    import polars as pl

_BATCH_ROWS = 50_000

Reject = Callable[[int | None, str, str], None]


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What a conversion did.

    Attributes:
        path: the trace.
        formats: the importers, in the order they ran.
        num_requests, num_pods, num_functions: rows of the tables.
        num_cold_starts: rows of their table, or requests known as cold where those are more (a log that flags cold
            requests without the length of their starts).
        num_left_censored: first calls (of a function or a pod) that nobody can tell to be cold or warm; not counted as
            cold.
        quarantined: refused rows by reason; `quarantine_path` has them, None when there are none.
        warnings: counts of what was kept but looked odd (clock skew, repeated request ids, ...), by what it is.
        regions: names.
        start_us, end_us, epoch: the window of the trace.
        num_resumed: files that an interrupted run had finished already.
    """

    path: Path
    formats: tuple[str, ...]
    num_requests: int
    num_pods: int
    num_cold_starts: int
    num_functions: int
    num_left_censored: int
    quarantined: dict[str, int]
    quarantine_path: Path | None
    warnings: dict[str, int]
    regions: tuple[str, ...]
    start_us: int
    end_us: int
    epoch: str | None
    num_resumed: int = 0

    @property
    def num_quarantined(self) -> int:
        """Refused rows."""
        return sum(self.quarantined.values())

    def lines(self) -> list[str]:
        """The report for a person."""
        first = (
            f"{self.num_requests:,} requests, {self.num_pods:,} pods, {self.num_cold_starts:,} cold starts "
            f"({self.num_left_censored:,} left-censored, not counted), {self.num_functions:,} functions, "
            f"{self.num_quarantined:,} rows quarantined"
        )
        if self.quarantine_path is not None:
            first += f" -> {self.quarantine_path}"
        reasons = [f"  quarantined: {count:,} x {reason}" for reason, count in self.quarantined.items()]
        return [first, *reasons, *(f"  note: {count:,} x {text}" for text, count in self.warnings.items())]


class Intake:
    """What an importer works with: files to read, rows to give, a place for what is refused.

    Attributes:
        files: the sound files, in order.
        options: the importer's own options.
        region: the region that the user named.
        shared: what an earlier importer left for later ones ("pods").
        warnings: counts of oddities that were kept.
    """

    def __init__(
        self,
        writer: TraceWriter,
        files: Sequence[SourceFile],
        options: Mapping[str, str],
        region: str,
        shared: dict[str, Any],
        bar: Progress,
    ) -> None:
        self.files, self.options, self.region, self.shared = list(files), dict(options), region, shared
        self.warnings: Counter[str] = Counter()
        self._writer, self._bar = writer, bar
        self._rows: dict[tuple[str, str], list[dict[str, Any]]] = {}

    @property
    def spool(self) -> Path:
        """A file beside the trace for what is needed twice; whoever uses it removes it."""
        return self._writer.path / SPOOL_NAME

    @property
    def num_left_censored(self) -> int:
        """First calls whose kind is unknown, so far."""
        return self.shared.setdefault("num_left_censored", 0)

    def censor(self, count: int = 1) -> None:
        """Count first calls that may have been cold or warm."""
        self.shared["num_left_censored"] = self.num_left_censored + count

    def each(self, files: Sequence[SourceFile] | None = None, *, resumable: bool = False) -> Iterator[SourceFile]:
        """The files one after another, with progress; unsound ones are refused.

        Args:
            files: some of `files`; all by default.
            resumable: nothing has to be remembered between two files, so that an interrupted run goes on after the last
                one that was finished.
        """
        for file in self.files if files is None else files:
            self._bar.describe(Path(file.inner).name)
            if not (resumable and file.name in self._writer.done) and self.is_sound(file):
                yield file
                self.flush()
                if resumable:
                    memory = {**self.warnings, _CENSORED: self.num_left_censored}
                    self._writer.checkpoint(file.name, memory)
            self._bar.advance(file.num_bytes)

    def is_sound(self, file: SourceFile) -> bool:
        """Whether its packed data matches its checksum; otherwise the file is refused as a whole."""
        reason = file.damage()
        if reason:
            self.refuse(file)(None, f"no row is used: the packed data is damaged ({reason[:120]})", "")
        return not reason

    def header(self, file: SourceFile) -> list[str]:
        """The names of the columns of a CSV or Parquet file; none when it is empty or damaged, which is refused."""
        from nonet.coldstart.importing.tabular import UNUSABLE, header_of

        try:
            return header_of(file)
        except UnusableFileError as error:
            self.refuse(file)(None, UNUSABLE, str(error))
            return []

    def lines(self, file: SourceFile) -> Iterator[tuple[int, str]]:
        """Number and text of every line that is not blank."""
        with file.open() as stream:
            for number, line in stream.lines():
                if line.strip():
                    yield number, line.decode("utf-8", "replace")
            self.note_end(file, stream)

    def values(self, file: SourceFile, inside: tuple[str, ...]) -> Iterator[tuple[int, Any]]:
        """Line and value of every JSON object of a file (see `json_values`); what is no JSON is refused."""
        from nonet.coldstart.importing.json_values import Damage, json_values

        reject = self.refuse(file)
        with file.open() as stream:
            for line, value in json_values(stream, inside):
                if isinstance(value, Damage):
                    reject(line, "not JSON", value.text)
                elif not isinstance(value, dict):
                    reject(line, "a JSON object was expected", str(value)[:200])
                else:
                    yield line, value
            self.note_end(file, stream)

    def note_end(self, file: SourceFile, stream: LineSafeStream) -> None:
        """Refuse the rest of a file that was cut short."""
        if stream.failure:
            reason = f"the file is cut short: {stream.failure[:120]}"
            self.refuse(file)(stream.num_lines + 1, reason, stream.lost.decode("utf-8", "replace"))

    def refuse(self, file: SourceFile) -> Reject:
        """How to refuse rows of this file: line, reason, text."""

        def reject(line: int | None, reason: str, text: str = "") -> None:
            self._writer.quarantine(file.name, line, reason, text)

        return reject

    def warn(self, what: str, count: int = 1) -> None:
        """Count something that was kept but looks odd."""
        if count:
            self.warnings[what] += count

    def add(self, table: str, **values: Any) -> None:
        """One row; `region` among the values names another region than the user's. Functions are taken once."""
        region = values.pop("region", self.region)
        if table == "function" and not self._is_new(region, values["function"]):
            return
        rows = self._rows.setdefault((table, region), [])
        rows.append(values)
        if len(rows) >= _BATCH_ROWS:
            self._flush(table, region)

    def append(self, table: str, frame: pl.DataFrame, region: str | None = None) -> None:
        """The rows of a frame; columns that the table does not have are left out. Functions are taken once."""
        names = [name for name in frame.columns if name in TABLES[table].names]
        place = region or self.region
        if table == "function":
            frame = frame.filter([self._is_new(place, name) for name in frame["function"]])
        self._writer.append(table, place, frame.select(names).to_arrow())

    def _is_new(self, region: str, function: str) -> bool:
        """Whether this function was not given before, here or in an interrupted run."""
        known: dict[str, set[str]] = self.shared.setdefault("functions", {})
        if region not in known:
            known[region] = set(self._writer.scan_parts("function", region).collect()["function"].to_list())
        before = len(known[region])
        known[region].add(function)
        return len(known[region]) > before

    def given(self, table: str, region: str) -> pl.LazyFrame:
        """What was given of a table and region so far, in this run or an interrupted one."""
        if (table, region) in self._rows:
            self._flush(table, region)
        return self._writer.scan_parts(table, region)

    @property
    def regions(self) -> tuple[str, ...]:
        """Regions that were named or given rows so far."""
        return self._writer.regions

    def add_region(self, region: str) -> None:
        """Name a region that may have no rows."""
        self._writer.add_region(region)

    def keep(self, name: str, value: Any) -> None:
        """Keep a JSON value in the notes of the trace."""
        self._writer.notes[name] = value

    def flush(self) -> None:
        """Hand the rows of `add` to the writer."""
        for table, region in list(self._rows):
            self._flush(table, region)

    def _flush(self, table: str, region: str) -> None:
        rows = self._rows.pop((table, region))
        schema = TABLES[table]
        names = {name for row in rows for name in row}
        try:
            columns = {
                name: pa.array([row.get(name) for row in rows], schema.field(name).type) for name in sorted(names)
            }
        except (pa.ArrowInvalid, OverflowError) as error:
            raise InputError(f"table {table}: a value is out of range ({str(error).splitlines()[0]})") from None
        self._writer.append(table, region, pa.table(columns))


_CENSORED = "left-censored"


def ingest(
    sources: Sequence[tuple[str, Sequence[str | Path]]],
    out: str | Path,
    *,
    region: str = "default",
    options: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> IngestReport:
    """Convert logs or a published trace; memory is bounded (rows about 192 MiB, and what a join must remember of pods).

    Interrupted conversions of formats whose files stand alone go on after the last finished file when the same command
    runs again; others start anew. Until the end there is no `trace.json`, and `Trace.open` refuses the folder.

    Args:
        sources: format (a name of `IMPORTERS`) and its files, folders or zip archives; several formats are joined
            (Kubernetes pods with request logs).
        out: folder of the trace, new or empty.
        region: for sources that do not say.
        options: options of the importers, by name.
        overwrite: replace a trace that is there.

    Raises:
        InputError: an unknown format or option, a missing file or column, formats that cannot be joined, a full
            disk, or nothing but refused rows.
    """
    options = dict(options or {})
    jobs = sorted(((IMPORTERS[name], paths) for name, paths in sources), key=lambda job: job[0].rank)
    _check(jobs, options)
    found = [(importer, *expand(paths, importer.endings)) for importer, paths in jobs]
    names = tuple(importer.name for importer, _, _ in found)
    source = "; ".join(f"{importer.name}: {', '.join(map(str, paths))}" for importer, paths in jobs)
    total = sum(file.num_bytes for _, files, _ in found for file in files)
    shared: dict[str, Any] = {}
    job = _job_name(found, options, region)
    with TraceWriter(out, source, _epoch(jobs, options), overwrite, job=job) as writer:
        num_resumed = len(writer.done)
        warnings = Counter(dict(writer.memory))
        shared["num_left_censored"] = warnings.pop(_CENSORED, 0)
        with progress(total, "ingest", unit="bytes") as bar:
            for importer, files, damaged in found:
                intake = Intake(writer, files, options, region, shared, bar)
                intake.warnings = warnings
                if not num_resumed:
                    for name, reason in damaged:
                        writer.quarantine(name, None, f"no row is used: {reason}")
                importer.load()(intake)
                intake.flush()
            for finish in shared.get("finish", ()):
                finish()
        _refuse_nothing(writer)
        writer.notes.update(formats=list(names), warnings=dict(warnings), num_left_censored=shared["num_left_censored"])
    return _report(writer, names, warnings, shared["num_left_censored"], num_resumed)


def _check(jobs: Sequence[tuple[Importer, Sequence[str | Path]]], options: Mapping[str, str]) -> None:
    if not jobs:
        raise InputError("nothing to ingest; name a format and its files")
    known = {name: text for importer, _ in jobs for name, text in importer.options.items()}
    unknown = [name for name in options if name not in known]
    if unknown:
        raise InputError(f"unknown option {unknown[0]!r}; this format has {', '.join(known) or 'none'}")


def _epoch(jobs: Sequence[tuple[Importer, Sequence[str | Path]]], options: Mapping[str, str]) -> str | None:
    epochs = {importer.epoch_of(options) for importer, _ in jobs}
    if len(epochs) > 1:
        names = ", ".join(importer.name for importer, _ in jobs)
        raise InputError(f"{names}: times since 1970 and relative times cannot go into one trace; ingest them apart")
    return epochs.pop()


def _job_name(
    found: Sequence[tuple[Importer, list[SourceFile], list[tuple[str, str]]]], options: Mapping[str, str], region: str
) -> str:
    files = [(i.name, f.name, f.num_bytes, f.path.stat().st_mtime_ns) for i, listed, _ in found for f in listed]
    return hashlib.sha256(json.dumps([files, sorted(options.items()), region]).encode()).hexdigest()


def _refuse_nothing(writer: TraceWriter) -> None:
    if any(writer.counts.values()):
        return
    writer.discard()
    reasons = writer.quarantined
    if reasons:
        most = max(reasons, key=lambda reason: reasons[reason])
        raise InputError(
            f"no row could be used: {sum(reasons.values()):,} refused, most often: {most}; is this the right format?"
        )
    raise InputError("the sources hold no rows; is this the right format?")


def _report(
    writer: TraceWriter, names: tuple[str, ...], warnings: Counter[str], num_left_censored: int, num_resumed: int
) -> IngestReport:
    manifest = writer.manifest
    if manifest is None:
        raise RuntimeError("the writer has not finished")
    counts = manifest.counts
    quarantine = writer.path / QUARANTINE_NAME
    return IngestReport(
        path=writer.path,
        formats=names,
        num_requests=counts["request"],
        num_pods=counts["pod"],
        num_cold_starts=max(counts["coldstart"], _num_cold_requests(writer.path)),
        num_functions=counts["function"],
        num_left_censored=num_left_censored,
        quarantined=manifest.quarantined,
        quarantine_path=quarantine if quarantine.is_file() else None,
        warnings=dict(warnings),
        regions=manifest.regions,
        start_us=manifest.start_us,
        end_us=manifest.end_us,
        epoch=manifest.epoch,
        num_resumed=num_resumed,
    )


def _num_cold_requests(path: Path) -> int:
    from nonet.coldstart.trace.store import Trace

    trace = Trace.open(path)
    if not trace.counts.get("request"):
        return 0
    return int(trace.sql("select count(*) filter (cold) as num from request").to_pylist()[0]["num"])


def describe_importers() -> list[dict[str, Any]]:
    """Every format with its help, the files it expects and its options."""
    return [{**asdict(IMPORTERS[name]), "options": dict(IMPORTERS[name].options)} for name in IMPORTERS]
