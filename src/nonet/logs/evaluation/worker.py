"""The process of one (parser, system) pair: `python -m nonet.logs.evaluation.worker JOB.json`.

Timed: from opening the raw log to the CSV pair on disk, with header splitting, masks, parsing and parameters. Then
the result is scored against the labels and written beside the job. Whoever started the process enforces the limits.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nonet.common.atomic import atomic_write
from nonet.common.errors import InputError, NonetError
from nonet.common.jsonable import dumps
from nonet.logs.evaluation.compat_header import split_by_labels, split_contents
from nonet.logs.evaluation.contestants import parse_function
from nonet.logs.evaluation.job import Job, Timing
from nonet.logs.evaluation.logpai_csv import write_csv_pair
from nonet.logs.evaluation.metrics import PairCounts, lenient_scores
from nonet.logs.evaluation.parser_settings import TRAINING, labelled_lines
from nonet.logs.evaluation.scorecard import Scorecard
from nonet.logs.evaluation.supervision import die_with_parent
from nonet.logs.evaluation.template_columns import read_column
from nonet.logs.evaluation.wildcards import spellings_of
from nonet.logs.parsers.base import Parsed

JOB_FILE, DONE_FILE, RESULT_FILE, ERROR_FILE = "job.json", "written", "result.json", "error.txt"
LENIENT_PARSER = "uniparser"
_CHECKED_EVERY, _MOST_DIFFERING = 8, 0.1  # labels repair some Contents, so a few differ from the log


def run_job(job: Job) -> dict[str, Any]:
    """Parse, write and score one pair.

    Returns:
        `timing`, `num_lines`, `num_trained_on`, `scorecard` and `lenient` of the pair's `PairResult`, JSON-ready.

    Raises:
        InputError: unreadable files, or a parser or header format that does not give every label a line.
    """
    parse = parse_function(job.parser, job.log.system, job.mode, job.settings)
    # The optional parts of Arrow and compiled kernels are loaded on first use; like imports, that is no parser's time.
    pa.array([""])
    if ":" not in job.parser and TRAINING not in job.settings:
        parse(["", "a b 1"])
    started = time.perf_counter()
    contents, columns = split_log(job)
    split_s = time.perf_counter() - started
    check_alignment(job, contents)
    started = time.perf_counter()
    parsed = parse(contents)
    parse_s = time.perf_counter() - started
    if len(parsed.labels) != len(contents):
        raise InputError(f"{job.parser} labelled {len(parsed.labels):,} of {len(contents):,} lines")
    started = time.perf_counter()
    write_csv_pair(job.work_folder, job.log.log_path.name, contents, columns, parsed)
    timing = Timing(split_s, parse_s, time.perf_counter() - started)
    (job.work_folder / DONE_FILE).touch()
    trained_on = lines_trained_on(contents, job)
    pairs = count_pairs(parsed, job, None if job.mode == "compat" else ~trained_on)
    card = Scorecard.of(pairs, slices=job.slices, rules=job.rules, wildcards=spellings_of(job.parser))
    pa_lenient, fta_lenient = lenient_scores(pairs) if job.parser.lower() == LENIENT_PARSER else (None, None)
    return {
        "timing": timing,
        "num_lines": len(contents),
        "num_trained_on": int(trained_on.sum()),
        "scorecard": card.to_dict(),
        "lenient": {} if pa_lenient is None else {"pa": pa_lenient, "fta": fta_lenient},
    }


def split_log(job: Job) -> tuple[list[str], pa.Table]:
    """The Contents of the raw log, and its other header fields where the header format is known."""
    if job.log.header_format:
        return split_contents(job.log.log_path, job.log.header_format)
    contents = split_by_labels(job.log.log_path, _label_contents(job))
    return contents, pa.table({})


def check_alignment(job: Job, contents: Sequence[str]) -> None:
    """Refuse labels that are not, row by row, those of the lines that were split off; before any parsing."""
    num_labels = differing = 0
    first = ""
    for label, content in zip_longest(_label_contents(job), contents):
        if label is None:
            break
        num_labels += 1
        if content is not None and num_labels % _CHECKED_EVERY == 1 and label.split() != content.split():
            first = first or f"row {num_labels:,} has {label[:60]!r}, the log {content[:60]!r}"
            differing += 1
    if num_labels != len(contents):
        raise InputError(
            f"{job.log.log_path}: the header format {job.log.header_format!r} matches {len(contents):,} lines, "
            f"but {job.log.labels_path.name} has {num_labels:,} rows"
        )
    if differing * _CHECKED_EVERY > _MOST_DIFFERING * num_labels:
        raise InputError(
            f"{job.log.labels_path}: its rows are not in the order of the lines of {job.log.log_path.name}: {first}; "
            "sort them by LineId"
        )


def _label_contents(job: Job) -> Iterator[str]:
    for array in read_column(job.log.labels_path, "Content"):
        yield from (text.decode("utf-8", "replace") for text in array.cast(pa.binary()).to_pylist())


def lines_trained_on(contents: Sequence[str], job: Job) -> NDArray[np.bool_]:
    """Which lines have a text, blanks apart, that the parser was shown with its label."""
    known: set[str] = set()
    if TRAINING in job.settings:
        known = {" ".join(content.split()) for content, _ in labelled_lines(job.settings[TRAINING], job.log.system)}
    return np.fromiter((bool(known) and " ".join(c.split()) in known for c in contents), np.bool_, len(contents))


def count_pairs(parsed: Parsed, job: Job, scored: NDArray[np.bool_] | None = None) -> PairCounts:
    """Count (true, predicted) pairs from the label file and the parser's labels, streamed over the label file.

    Args:
        parsed: templates of all lines.
        job: names the label file.
        scored: which lines count; None for all.
    """
    pairs = PairCounts()
    templates = pa.array(parsed.templates, pa.string())
    start = 0
    for chunk in read_column(job.log.labels_path, "EventTemplate", empty_is_null=True):
        end = start + len(chunk)
        predicted = pa.DictionaryArray.from_arrays(pa.array(parsed.labels[start:end]), templates)
        if scored is None:
            pairs.update(chunk, predicted)
        else:
            chosen = pa.array(scored[start:end])
            pairs.update(chunk.filter(chosen), predicted.filter(chosen))
        start = end
    return pairs


def main(job_path: str) -> int:
    """Run the job of a file; 0 when its result is written, 2 for an error that the user can mend."""
    die_with_parent()
    folder = Path(job_path).parent
    job = Job.from_dict(json.loads(Path(job_path).read_text("utf-8")))
    try:
        result = run_job(job)
    except NonetError as error:
        (folder / ERROR_FILE).write_text(" ".join(str(error).splitlines()), "utf-8")
        return 2
    with atomic_write(folder / RESULT_FILE) as file:
        file.write(dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
