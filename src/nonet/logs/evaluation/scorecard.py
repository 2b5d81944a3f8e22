"""The scorecard of one parsing result: all metrics, paper-compatible and normalised, over all lines and by slice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nonet.logs.evaluation.metrics import PairCounts, Scores
from nonet.logs.evaluation.rules import NO_RULES, rule_set
from nonet.logs.evaluation.slices import Slice, parse_slices
from nonet.logs.evaluation.template_columns import read_column, zip_columns
from nonet.logs.evaluation.wildcards import COMMON_SPELLINGS, collapse_blanks, wildcard_normaliser


@dataclass(frozen=True, slots=True)
class Scorecard:
    """What one comparison gave.

    Attributes:
        rules: version of the template rules applied to both sides before scoring ("none": compared as written).
        scores: the paper-compatible metrics over all lines.
        normalised: the same after rewriting foreign wildcards as `<*>` and collapsing blanks.
        slices: by slice name, the paper-compatible metrics; None where the slice holds no template.
        normalised_slices: the same, normalised.
    """

    rules: str
    scores: Scores
    normalised: Scores
    slices: dict[str, Scores | None] = field(default_factory=dict)
    normalised_slices: dict[str, Scores | None] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        pairs: PairCounts,
        *,
        slices: Sequence[str] | None = None,
        rules: str | None = None,
        wildcards: Sequence[str] = COMMON_SPELLINGS,
        edit_distance: bool = True,
    ) -> Scorecard:
        """Score pair counts.

        Args:
            pairs: the counted lines.
            slices: slice names as `Slice.parse` reads them; None means the paper's nine, () none.
            rules: version of the template rules to apply to both sides; None means none.
            wildcards: the predicted side's spellings of the wildcard, for the normalised columns.
            edit_distance: compute the edit distance too (once a distinct pair).

        Raises:
            InputError: unknown slice or rule version.
        """
        chosen = parse_slices(slices)
        version = rules or NO_RULES
        rewrite = rule_set(version)
        strict = pairs if version == NO_RULES else pairs.mapped(rewrite, rewrite)
        spell = wildcard_normaliser(wildcards)
        normal = pairs.mapped(lambda t: rewrite(collapse_blanks(t)), lambda u: rewrite(spell(u)))
        return cls(
            version,
            strict.scores(edit_distance=edit_distance),
            normal.scores(edit_distance=edit_distance),
            _by_slice(strict, chosen),
            _by_slice(normal, chosen),
        )

    def table(self) -> list[dict[str, Any]]:
        """One row for all lines and one a slice; normalised metrics have the suffix `_normalised`."""
        rows = [("all", self.scores, self.normalised)]
        rows += [(name, s, n) for name, s in self.slices.items() if s and (n := self.normalised_slices[name])]
        return [
            {
                "slice": name,
                "rules": self.rules,
                **s.to_dict(),
                **{f"{key}_normalised": value for key, value in n.to_dict().items()},
            }
            for name, s, n in rows
        ]

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary; slices without templates are None."""
        return {
            "rules": self.rules,
            "scores": self.scores.to_dict(),
            "normalised": self.normalised.to_dict(),
            "slices": {name: s and s.to_dict() for name, s in self.slices.items()},
            "normalised_slices": {name: s and s.to_dict() for name, s in self.normalised_slices.items()},
        }


def _by_slice(pairs: PairCounts, chosen: Sequence[Slice]) -> dict[str, Scores | None]:
    return {which.name: pairs.slice(which) for which in chosen}


def count_files(
    predicted: Path | str,
    truth: Path | str,
    *,
    predicted_column: str = "EventTemplate",
    truth_column: str = "EventTemplate",
) -> PairCounts:
    """Count the pairs of two files row by row, streamed; see `evaluate_files` for the arguments and errors."""
    pairs = PairCounts()
    predictions = read_column(predicted, predicted_column)
    truths = read_column(truth, truth_column, empty_is_null=True)
    for predicted_chunk, true_chunk in zip_columns(predictions, truths, (str(predicted), str(truth))):
        pairs.update(true_chunk, predicted_chunk)
    return pairs


def evaluate_files(
    predicted: Path | str,
    truth: Path | str,
    *,
    slices: Sequence[str] | None = None,
    rules: str | None = None,
    wildcards: Sequence[str] = COMMON_SPELLINGS,
    edit_distance: bool = True,
    predicted_column: str = "EventTemplate",
    truth_column: str = "EventTemplate",
) -> Scorecard:
    """Score a file of predicted templates against a file of labels, in one pass and bounded memory.

    Args:
        predicted: Parquet or CSV (.gz) file with one row a line.
        truth: label file with the same rows in the same order.
        slices, rules, wildcards, edit_distance: as in `Scorecard.of`.
        predicted_column, truth_column: the columns that hold the templates.

    Raises:
        InputError: a missing or damaged file, a missing column, different numbers of rows, an unknown slice or rule
            version.
    """
    parse_slices(slices)
    rule_set(rules or NO_RULES)
    pairs = count_files(predicted, truth, predicted_column=predicted_column, truth_column=truth_column)
    return Scorecard.of(pairs, slices=slices, rules=rules, wildcards=wildcards, edit_distance=edit_distance)
