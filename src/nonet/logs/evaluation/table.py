"""The results of an evaluation as tables: a row a pair beside the published row, and means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from nonet.common.atomic import atomic_path, atomic_write
from nonet.common.jsonable import dumps
from nonet.logs.evaluation.job import PairResult
from nonet.logs.evaluation.published import METRICS, published_row

_OWN_COLUMNS = (
    *("pga", "rga", "pta", "rta", "edit_distance", "normalised_edit_distance"),
    *("num_true_templates", "num_predicted_templates"),
)
_NORMALISED = ("fga", "pa", "fta")


@dataclass(frozen=True)
class EvaluationReport:
    """What an evaluation gave.

    Attributes:
        folder: the run directory.
        config: what was asked.
        results: one entry a pair, data sets in order and parsers within them.
    """

    folder: Path
    config: dict[str, Any]
    results: Sequence[PairResult]

    def table(self) -> list[dict[str, Any]]:
        """One row a pair: status, seconds, metrics, normalised metrics, published values, and ours minus theirs.

        The published columns are None for parsers, systems, modes or parameters that the paper does not have.
        """
        return [_pair_row(result, self.config) for result in self.results]

    def slice_table(self) -> list[dict[str, Any]]:
        """One row a finished pair and slice, "all" first: the metrics, and the normalised ones with `_normalised`."""
        return [row for result in self.results for row in _slice_rows(result, self.config["rules"])]

    def averages(self) -> list[dict[str, Any]]:
        """One row a parser and edition: means over the pairs that finished (as the paper has them) and over all.

        A pair that did not finish counts as 0 in the means over all (`_all`).
        """
        rows = self.table()
        groups = dict.fromkeys((row["parser"], row["mode"], row["edition"]) for row in rows)
        return [_average(key, [row for row in rows if _group(row) == key]) for key in groups]

    def save(self) -> None:
        """Write `metrics.jsonl` and `results.parquet` into the run directory, each atomically."""
        with atomic_write(self.folder / "metrics.jsonl") as file:
            file.writelines(dumps(row) + "\n" for row in self.slice_table())
        with atomic_path(self.folder / "results.parquet") as path:
            pl.DataFrame(self.table(), infer_schema_length=None).write_parquet(path)

    def write_html(self, path: Path | str) -> None:
        """Write a self-contained page with tables and plots."""
        from nonet.logs.evaluation.report import write_html

        write_html(self, path)


def _group(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["parser"], row["mode"], row["edition"]


def _pair_row(result: PairResult, config: dict[str, Any]) -> dict[str, Any]:
    scores = (result.scorecard or {}).get("scores") or {}
    normalised = (result.scorecard or {}).get("normalised") or {}
    seconds = result.timing.seconds if result.timing else None
    row: dict[str, Any] = {
        "parser": result.parser,
        "system": result.system,
        "data": result.data,
        "edition": result.edition,
        "mode": result.mode,
        "rules": config["rules"],
        "status": result.status,
        "error": result.error,
        **{name: scores.get(name) for name in METRICS},
        **_published(result, scores, config),
        **{f"{name}_normalised": normalised.get(name) for name in _NORMALISED},
        **{name: scores.get(name) for name in _OWN_COLUMNS},
        "pa_lenient": result.lenient.get("pa"),
        "fta_lenient": result.lenient.get("fta"),
        "num_lines": result.num_lines,
        "num_trained_on": result.num_trained_on,
        "seconds": seconds,
        "lines_per_s": result.num_lines / seconds if result.num_lines and seconds else None,
        "header_s": result.timing.header_s if result.timing else None,
        "parse_s": result.timing.parse_s if result.timing else None,
        "output_s": result.timing.output_s if result.timing else None,
        "peak_rss_mib": result.peak_rss_bytes / 2**20,
    }
    return row


def _published(result: PairResult, scores: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """The paper's row and the differences, for results that answer the same question as the paper."""
    tuned_anew = set(config["settings"].get(result.parser, ())) - {"training", "encoder"}
    comparable = result.mode == "compat" and config["rules"] == "none" and not tuned_anew
    published = published_row(result.parser, result.edition, result.system) if comparable else None
    values: dict[str, Any] = {f"published_{name}": getattr(published, name, None) for name in (*METRICS, "seconds")}
    for name in METRICS:
        ours, theirs = scores.get(name), values[f"published_{name}"]
        values[f"difference_{name}"] = None if ours is None or theirs is None else ours - theirs
    return values


def _slice_rows(result: PairResult, rules: str) -> list[dict[str, Any]]:
    card = result.scorecard
    if card is None:
        return []
    about = {"parser": result.parser, "system": result.system, "data": result.data, "edition": result.edition}
    about |= {"mode": result.mode, "rules": rules}
    pairs = [("all", card["scores"], card["normalised"])]
    pairs += [(name, strict, card["normalised_slices"][name]) for name, strict in card["slices"].items()]
    return [
        {**about, "slice": name, **strict, **{f"{key}_normalised": value for key, value in (normalised or {}).items()}}
        for name, strict, normalised in pairs
        if strict
    ]


def _average(key: tuple[str, str, str], rows: list[dict[str, Any]]) -> dict[str, Any]:
    parser, mode, edition = key
    finished = [row for row in rows if row["status"] == "finished"]
    result: dict[str, Any] = {
        "parser": parser,
        "mode": mode,
        "edition": edition,
        "num_pairs": len(rows),
        "num_finished": len(finished),
    }
    for name in (*METRICS, *(f"{metric}_normalised" for metric in _NORMALISED), "seconds"):
        values = [row[name] for row in finished if row[name] is not None]
        result[name] = sum(values) / len(values) if values else None
    for name in METRICS:
        result[f"{name}_all"] = sum(row[name] or 0.0 for row in rows) / len(rows)
        published = [row[f"published_{name}"] for row in rows if row[f"published_{name}"] is not None]
        result[f"published_{name}"] = sum(published) / len(published) if published else None
    return result
