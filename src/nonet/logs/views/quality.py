"""How good a parsing is when nobody has labelled the log: its size, exactness, and how well its groups hold together.

Runs of blanks count as one blank everywhere here, since most parsers do not keep them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import zstandard
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist

from nonet.logs.evaluation.logpai_csv import ParameterExtractor
from nonet.logs.parsers.base import WILDCARD, Parsed

_BLANKS = re.compile(r"[ \t\r\n]+")
ZSTD_LEVEL = 3
_SAMPLE_LINES = 400
_LINES_PER_MEDOID = 16
_COMPARED_CHARACTERS = 256


@dataclass(frozen=True, slots=True)
class Quality:
    """What can be said of a parsing without labels.

    Attributes:
        num_templates: templates.
        num_once: templates with one line.
        mean_holes: wildcards of the template, mean over lines.
        restored_share: lines that template and values give back.
        parsed_bytes: size of templates, template numbers and values by column, and of the lines not restored, zstd.
        lines_bytes: size of the lines alone, zstd at the same level.
        silhouette: see `medoid_silhouette`.
    """

    num_templates: int
    num_once: int
    mean_holes: float
    restored_share: float
    parsed_bytes: int
    lines_bytes: int
    silhouette: float

    @property
    def compression(self) -> float:
        """How many times smaller the parsed form is than the compressed lines; above 1 is a gain."""
        return self.lines_bytes / self.parsed_bytes if self.parsed_bytes else 1.0


def judge(contents: Sequence[str], parsed: Parsed, seed: int = 0) -> Quality:
    """Measure a parsing of `contents`; `seed` chooses the sample of the silhouette."""
    contents = [_BLANKS.sub(" ", content).strip(" ") for content in contents]
    counts = np.bincount(parsed.labels, minlength=len(parsed.templates))
    holes = np.array([template.count(WILDCARD) for template in parsed.templates], np.int64)
    parsed_bytes, num_restored = _encoded_bytes(contents, parsed)
    return Quality(
        num_templates=int((counts > 0).sum()),
        num_once=int((counts == 1).sum()),
        mean_holes=float(holes[parsed.labels].mean()) if contents else 0.0,
        restored_share=num_restored / len(contents) if contents else 1.0,
        parsed_bytes=parsed_bytes,
        lines_bytes=_zstd_bytes(contents),
        silhouette=medoid_silhouette(contents, parsed.labels, seed),
    )


def medoid_silhouette(contents: Sequence[str], labels: NDArray[np.integer], seed: int = 0) -> float:
    """How much nearer lines are to the middle of their own group than to that of any other, from -1 to 1.

    For a random sample of lines: (b - a) / max(a, b), where a is the distance to the medoid of the own group and b the
    smallest distance to the medoid of another sampled group; 0 for a group of one line and when there is one group.
    Distances are Levenshtein's, divided by the longer length; medoids are among a few random lines of a group.
    Source: the medoid silhouette (van der Laan, Pollard, Bryan 2003), as label-free scores of log parsers use it.

    >>> lines = ["user a in", "user b in", "disk 1 full", "disk 2 full"]
    >>> medoid_silhouette(lines, np.array([0, 0, 1, 1])) > 0.8 > medoid_silhouette(lines, np.array([0, 1, 0, 1]))
    True
    """
    generator = np.random.default_rng(seed)
    chosen = np.sort(generator.permutation(len(contents))[:_SAMPLE_LINES])
    groups = np.unique(labels[chosen])
    if len(groups) < 2:
        return 0.0
    members = _members(labels, groups)
    medoids = [_medoid(contents, generator.permutation(its)[:_LINES_PER_MEDOID]) for its in members]
    distances = _distances([contents[i] for i in chosen], medoids)
    own = np.searchsorted(groups, labels[chosen])
    a = distances[np.arange(len(chosen)), own]
    distances[np.arange(len(chosen)), own] = np.inf
    b = distances.min(axis=1)
    larger = np.maximum(a, b)
    scores = np.divide(b - a, larger, out=np.zeros(len(chosen)), where=larger > 0)
    is_alone = np.array([len(its) == 1 for its in members])[own]
    return float(np.where(is_alone, 0.0, scores).mean())


def _members(labels: NDArray[np.integer], groups: NDArray[np.integer]) -> list[NDArray[np.int64]]:
    """Lines of each of the groups."""
    order = np.argsort(labels, kind="stable")
    sorted_labels = labels[order]
    starts, ends = np.searchsorted(sorted_labels, groups), np.searchsorted(sorted_labels, groups, side="right")
    return [order[start:end] for start, end in zip(starts, ends, strict=True)]


def _medoid(contents: Sequence[str], candidates: NDArray[np.int64]) -> str:
    lines = [contents[i] for i in candidates]
    return lines[int(_distances(lines, lines).sum(axis=1).argmin())]


def _distances(lines: Sequence[str], others: Sequence[str]) -> NDArray[np.float64]:
    left, right = [x[:_COMPARED_CHARACTERS] for x in lines], [x[:_COMPARED_CHARACTERS] for x in others]
    found = cdist(left, right, scorer=Levenshtein.normalized_distance, dtype=np.float32)
    return np.asarray(found, np.float64)


def _encoded_bytes(contents: Sequence[str], parsed: Parsed) -> tuple[int, int]:
    """Size of the parsed form, and number of lines that it holds exactly."""
    extractors = [ParameterExtractor(template) for template in parsed.templates]
    pieces = [template.split(WILDCARD) for template in parsed.templates]
    columns: list[list[list[str]]] = [[[] for _ in its[1:]] for its in pieces]
    raw: list[str] = []
    is_raw = np.zeros(len(contents), np.uint8)
    for number, (line, label) in enumerate(zip(contents, parsed.labels.tolist(), strict=True)):
        values = extractors[label](line)
        its = pieces[label]
        if len(values) == len(its) - 1 and _filled(its, values) == line:
            for column, value in zip(columns[label], values, strict=True):
                column.append(value)
        else:
            raw.append(line)
            is_raw[number] = 1
    streams = ["\n".join(column) for template_columns in columns for column in template_columns]
    labels = parsed.labels.astype(np.min_scalar_type(len(parsed.templates)))
    sizes = _zstd_bytes(parsed.templates) + _zstd_bytes(streams) + _zstd_bytes(raw)
    return sizes + _compressed(labels.tobytes()) + _compressed(np.packbits(is_raw).tobytes()), len(contents) - len(raw)


def _filled(pieces: Sequence[str], values: Sequence[str]) -> str:
    return pieces[0] + "".join(value + piece for value, piece in zip(values, pieces[1:], strict=True))


def _zstd_bytes(texts: Sequence[str]) -> int:
    return _compressed("\n".join(texts).encode("utf-8", "surrogateescape"))


def _compressed(data: bytes) -> int:
    return len(zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(data))
