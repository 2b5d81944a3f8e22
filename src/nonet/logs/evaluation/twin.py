"""Synthetic twins: labelled logs of any size from a list of templates with counts.

Templates are drawn by their number of lines; their holes are filled with values harvested from a small labelled log
of the same system, or by type. Line k depends on the templates, the values, the seed and k only: a longer twin begins
with the shorter one, and any part can be made apart from the rest. Randomness comes from counter-based generators
(Philox), one a block of lines.

Memory: one block of lines (131,072), whatever the size of the twin.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from nonet.common.atomic import atomic_path
from nonet.common.datasets import DATASETS, locate
from nonet.common.errors import InputError
from nonet.logs.evaluation.data import FULL, SAMPLE, load
from nonet.logs.evaluation.template_columns import read_column
from nonet.logs.evaluation.twin_values import FILLERS, Filler, HarvestedValues
from nonet.logs.outputs import event_id
from nonet.logs.parsers.base import WILDCARD

BLOCK_LINES = 1 << 17
HEADER_FORMAT = "<Date> <Time> <Level> <Component>: <Content>"
_PLAIN_FORMAT = "<Content>"
_EPOCH = np.datetime64("2026-01-05T00:00:00.000")
_STEP_MS = 5  # time between two lines
_HOLE = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class TwinTemplate:
    """One template of a twin.

    Attributes:
        text: with `<*>` for the holes.
        weight: how often it is drawn, relative to the others.
        fillers: one a hole.
        level, component: what stands in the header of its lines.
    """

    text: str
    weight: float
    fillers: tuple[Filler, ...]
    level: str = "INFO"
    component: str = "app"


@dataclass(frozen=True, slots=True)
class TwinReport:
    """What was written.

    Attributes:
        num_lines: lines.
        num_templates: distinct templates in the list; with few lines, rare ones may not have been drawn.
        header_format: how to split a line of the log.
    """

    num_lines: int
    num_templates: int
    header_format: str


def builtin_templates() -> list[TwinTemplate]:
    """A web service's templates, made up for this package.

    >>> len(builtin_templates())
    42
    """
    text = files("nonet.logs.evaluation").joinpath("twin_templates.csv").read_text("utf-8")
    return [
        TwinTemplate(
            _HOLE.sub(WILDCARD, row["template"]),
            float(row["weight"]),
            tuple(FILLERS[kind] for kind in _HOLE.findall(row["template"])),
            row["level"],
            row["component"],
        )
        for row in csv.DictReader(text.splitlines())
    ]


def templates_from_csv(path: Path | str, values: HarvestedValues | None = None) -> list[TwinTemplate]:
    """Templates and counts of a `templates.csv` (EventTemplate, Occurrences).

    Args:
        path: the file.
        values: what fills the holes; without, whole numbers do.

    Raises:
        InputError: no such file, missing columns, or a count that is no positive number.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    if not rows or not {"EventTemplate", "Occurrences"} <= rows[0].keys():
        found = ", ".join(rows[0]) if rows else "no rows"
        raise InputError(f"{path}: expected the columns EventTemplate and Occurrences, found {found}")
    counts = []
    for number, row in enumerate(rows, 2):
        if not re.fullmatch(r"\d+", row["Occurrences"] or "") or row["Occurrences"] == "0":
            raise InputError(
                f"{path}, line {number}: Occurrences must be a whole number above 0, got {row['Occurrences']!r}"
            )
        counts.append(int(row["Occurrences"]))
    return with_values([row["EventTemplate"] for row in rows], counts, values)


def system_templates(system: str) -> list[TwinTemplate]:
    """Templates of a Loghub-2.0 system with their true counts, holes filled from its 2,000-line sample.

    Counts come from the label file where it is at hand, else from the list of templates (which differs a little).

    Raises:
        InputError: neither is at hand, or the sample is not.
    """
    sample = load(f"{SAMPLE}/{system}", download=False)
    lines, labels = (column.cast(pa.string()).to_pylist() for column in (sample.contents(), sample.templates()))
    values = HarvestedValues.from_lines(lines, labels)
    paths = locate(DATASETS[f"{FULL}/{system}"])
    if "labels" in paths:
        column = pa.chunked_array(list(read_column(paths["labels"], "EventTemplate"))).unify_dictionaries()
        counted = sorted(pc.value_counts(column.cast(pa.string())).to_pylist(), key=lambda entry: entry["values"])
        return with_values([entry["values"] for entry in counted], [entry["counts"] for entry in counted], values)
    if "templates" in paths:
        return templates_from_csv(paths["templates"], values)
    raise InputError(f"{FULL}/{system}: neither labels nor a template list at hand; set NONET_MIRROR, or fetch it")


def with_values(texts: Sequence[str], counts: Sequence[float], values: HarvestedValues | None) -> list[TwinTemplate]:
    """Templates whose holes are filled from harvested values."""
    source = values or HarvestedValues()
    return [
        TwinTemplate(text, count, tuple(source.filler(text, hole) for hole in range(text.count(WILDCARD))))
        for text, count in zip(texts, counts, strict=True)
    ]


class TwinSource:
    """The endless twin of some templates: any stretch of its lines, always the same.

    Args:
        templates: at least one, weights above 0.
        seed: 0 to 2**64 - 1.

    Raises:
        InputError: no templates, weights that are not positive, or a bad seed.
    """

    def __init__(self, templates: Sequence[TwinTemplate], seed: int = 0) -> None:
        if not templates:
            raise InputError("a twin needs at least one template")
        weights = np.array([template.weight for template in templates], np.float64)
        if not (np.isfinite(weights) & (weights > 0)).all():
            raise InputError("every template needs a weight above 0")
        if not 0 <= seed < 2**64:
            raise InputError(f"the seed must be 0 to 2**64 - 1, got {seed}")
        self.templates = list(templates)
        self._cumulative = np.cumsum(weights) / weights.sum()
        self._pieces = [template.text.split(WILDCARD) for template in templates]
        self._seed = seed
        self._texts = pa.array([template.text for template in templates])
        self._ids = pa.array([event_id(template.text) for template in templates])
        self._heads = pa.array([f"{template.level} {template.component}: " for template in templates])

    def block(self, number: int) -> pa.Table:
        """Block `number` of BLOCK_LINES lines: columns `LineId`, `Content`, `EventId`, `EventTemplate`, `Header`."""
        rng = np.random.Generator(np.random.Philox(key=self._seed, counter=number << 128))
        drawn = np.searchsorted(self._cumulative, rng.random(BLOCK_LINES), side="right")
        drawn = np.minimum(drawn, len(self.templates) - 1)
        codes = pa.array(drawn.astype(np.int32))
        line_ids = np.arange(number * BLOCK_LINES, (number + 1) * BLOCK_LINES, dtype=np.int64)
        return pa.table(
            {
                "LineId": line_ids + 1,
                "Content": self._contents(rng, drawn),
                "EventId": pa.DictionaryArray.from_arrays(codes, self._ids),
                "EventTemplate": pa.DictionaryArray.from_arrays(codes, self._texts),
                "Header": self._headers(rng, line_ids, codes),
            }
        )

    def lines(self, start: int, stop: int) -> Iterator[pa.Table]:
        """Lines start..stop-1 (from 0), cut at block boundaries."""
        for number in range(start // BLOCK_LINES, -(-stop // BLOCK_LINES)):
            first = max(start - number * BLOCK_LINES, 0)
            last = min(stop - number * BLOCK_LINES, BLOCK_LINES)
            yield self.block(number).slice(first, last - first)

    def _contents(self, rng: np.random.Generator, drawn: NDArray[np.int64]) -> pa.Array:
        """Make the lines template by template, then put them into the drawn order."""
        order = np.argsort(drawn, kind="stable")
        counts = np.bincount(drawn, minlength=len(self.templates))
        parts = [self._filled(rng, int(index), int(counts[index])) for index in np.flatnonzero(counts)]
        place = np.empty(len(drawn), np.int64)
        place[order] = np.arange(len(drawn))
        return pa.concat_arrays(parts).take(pa.array(place))

    def _filled(self, rng: np.random.Generator, index: int, count: int) -> pa.Array:
        pieces = self._pieces[index]
        if len(pieces) == 1:
            return pa.repeat(pieces[0], count)
        parts: list[pa.Array | str] = [pieces[0]]
        for filler, piece in zip(self.templates[index].fillers, pieces[1:], strict=True):
            parts += [filler.draw(rng, count), piece]
        return pc.binary_join_element_wise(*parts, "")

    def _headers(self, rng: np.random.Generator, line_ids: NDArray[np.int64], codes: pa.Array) -> pa.Array:
        milliseconds = line_ids * _STEP_MS + rng.integers(0, _STEP_MS, len(line_ids))
        times = pa.array(_EPOCH + milliseconds.astype("timedelta64[ms]"))
        return pc.binary_join_element_wise(times.cast(pa.string()), self._heads.take(codes), " ")


def twin(
    templates: Sequence[TwinTemplate],
    num_lines: int,
    seed: int = 0,
    out_log: Path | str | None = None,
    out_truth: Path | str | None = None,
    *,
    header: bool = True,
    progress: Callable[[int], None] | None = None,
) -> TwinReport:
    """Write a synthetic labelled log; nothing half-written is left behind.

    Args:
        templates: see `builtin_templates`, `system_templates`, `templates_from_csv`.
        num_lines: how many lines, 0 or more.
        seed: the same seed gives the same bytes.
        out_log: the raw log; compressed if the name ends in `.gz` or `.zst`.
        out_truth: labels with `LineId, Content, EventId, EventTemplate`, `.parquet` or `.csv`.
        header: put time, level and component before the content, as `HEADER_FORMAT` says.
        progress: called with the number of lines of every block written.

    Raises:
        InputError: bad templates, seed or number of lines; nothing to write; or an unknown kind of label file.
    """
    if num_lines < 0:
        raise InputError(f"the number of lines must not be negative, got {num_lines}")
    if out_log is None and out_truth is None:
        raise InputError("nothing to write: name a log or a label file")
    source = TwinSource(templates, seed)
    with ExitStack() as stack:
        sinks: list[Callable[[pa.Table], object]] = []
        if out_log is not None:
            sinks.append(_log_sink(stack, out_log, header))
        if out_truth is not None:
            sinks.append(_truth_sink(stack, Path(out_truth)))
        for block in source.lines(0, num_lines):
            for write in sinks:
                write(block)
            if progress is not None:
                progress(block.num_rows)
    return TwinReport(num_lines, len(source.templates), HEADER_FORMAT if header else _PLAIN_FORMAT)


def _log_sink(stack: ExitStack, path: Path | str, header: bool) -> Callable[[pa.Table], object]:
    """Writes the raw lines of a block; the compression follows from the name."""
    stream = stack.enter_context(pa.output_stream(str(stack.enter_context(atomic_path(path)))))

    def write(block: pa.Table) -> None:
        columns = [*((block["Header"],) if header else ()), block["Content"], "\n"]
        lines = pc.binary_join_element_wise(*columns, "").combine_chunks()
        # The lines of an Arrow column lie one after the other in one buffer.
        offsets = np.frombuffer(lines.buffers()[1], np.int32)[lines.offset : lines.offset + len(lines) + 1]
        stream.write(lines.buffers()[2].slice(int(offsets[0]), int(offsets[-1] - offsets[0])))

    return write


def _truth_sink(stack: ExitStack, path: Path) -> Callable[[pa.Table], object]:
    """Writes the labels of a block as Parquet or CSV."""
    if path.suffix not in (".parquet", ".csv"):
        raise InputError(f"{path}: labels are written to a file named *.parquet or *.csv")
    repeated = pa.dictionary(pa.int32(), pa.string()) if path.suffix == ".parquet" else pa.string()
    schema = pa.schema(
        [("LineId", pa.int64()), ("Content", pa.string()), ("EventId", repeated), ("EventTemplate", repeated)]
    )
    beside = stack.enter_context(atomic_path(path))
    writer: pq.ParquetWriter | pa_csv.CSVWriter
    if path.suffix == ".parquet":
        writer = pq.ParquetWriter(beside, schema, use_dictionary=["EventId", "EventTemplate"])
    else:
        writer = pa_csv.CSVWriter(beside, schema)
    stack.enter_context(writer)
    return lambda block: writer.write_table(block.select(schema.names).cast(schema))
