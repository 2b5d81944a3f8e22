"""`diff`: which templates are new, gone, more or less frequent in one log than in another, or after a time than before.

Both sides are learned together, so a template means the same on both. A rate is the share of a template among the
records of its side. Two counts a of n and b of m records are compared as Poisson counts: given a + b, the second one is
binomial with odds (rate ratio) x m / n, so an interval for that probability (Wilson's) is one for the rate ratio. A
change is reported when the interval leaves out 1. Its level is 1 - `error_rate` / number of templates (Bonferroni), so
that a report on two samples of the same log lists a change with probability `error_rate` at most.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any, Literal

from nonet.common.errors import InputError
from nonet.logs.mining.template import Template
from nonet.logs.reading.sources import name_of, rereadable
from nonet.logs.views.activity import Activity, Observer
from nonet.logs.views.period import Period, moment_text
from nonet.logs.views.text_table import readable

Change = Literal["new", "gone", "more", "less"]
CHANGES: tuple[Change, ...] = ("new", "gone", "more", "less")


@dataclass(frozen=True, slots=True)
class RateRatio:
    """How much more frequent a template is on the second side, with its interval; 0 and infinity are possible."""

    ratio: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class DiffRow:
    """One template that changed.

    Attributes:
        change: "new" (only on the second side), "gone" (only on the first), "more" or "less" frequent.
        before, after: records on the two sides.
        rate: ratio of the rates, after by before.
        template_id, template, typed_template, sample: the template and one of its lines.
    """

    change: Change
    before: int
    after: int
    rate: RateRatio
    template_id: str
    template: str
    typed_template: str
    sample: str


@dataclass(frozen=True, slots=True)
class DiffReport:
    """What changed.

    Attributes:
        before, after: names of the sides.
        num_before, num_after: records.
        num_templates: templates on either side.
        num_same: templates on both sides whose rate did not change beyond chance.
        error_rate: see the module.
        num_changes: changed templates by kind, also those that `rows` leaves out.
        rows: changed templates: new, gone, more, less; within a kind the largest first.
    """

    before: str
    after: str
    num_before: int
    num_after: int
    num_templates: int
    num_same: int
    error_rate: float
    num_changes: dict[Change, int]
    rows: list[DiffRow]


def diff(
    before: str | Path,
    after: str | Path | None = None,
    *,
    at: str | None = None,
    limit: int = 20,
    error_rate: float = 0.01,
    **options: Any,
) -> DiffReport:
    """Compare two logs, or one log before and after a time.

    Args:
        before: a path, or "-" for standard input.
        after: the second log; None with `at`.
        at: the time that splits one log; see `Period.parse`.
        limit: rows of each kind of change; 0 for all.
        error_rate: probability of any false "more" or "less" in the report; at most 0.5.
        options: miner, threads, progress, and options of `records.read_records`.

    Raises:
        InputError: neither or both of `after` and `at`, an unreadable log, a bad option, or a side without lines.
    """
    if (after is None) == (at is None):
        raise InputError("diff needs two logs, or one log and the time that splits it (--at)")
    if not 0 < error_rate <= 0.5:
        raise InputError(f"error_rate must be above 0 and at most 0.5, got {error_rate}")
    if limit < 0:
        raise InputError(f"limit must be 0 (all) or more, got {limit}")
    if str(before) == "-" and after is not None and str(after) == "-":
        raise InputError("only one of the two logs can be standard input")
    observer = Observer(**options)
    with rereadable(before) as first, rereadable(before if after is None else after) as second:
        if after is not None:
            observer.learn(first, second)
            sides = (observer.measure(first), observer.measure(second))
            names = (name_of(before), name_of(after))
        else:
            observer.learn(first)
            split_us = Period.parse(at, None, lambda: observer.newest_us(first)).since_us
            sides = (observer.measure(first, Period(None, split_us)), observer.measure(first, Period(split_us, None)))
            split = moment_text(split_us or 0)
            names = (f"{name_of(before)} before {split}", f"{name_of(before)} from {split}")
    return _compare(sides, names, limit, error_rate)


def rate_ratio(before: int, num_before: int, after: int, num_after: int, level: float) -> RateRatio:
    """The ratio of two rates with a Wilson interval of the conditional binomial; see the module.

    Args:
        before, after: counts, not both 0.
        num_before, num_after: records they are of, above 0.
        level: of the interval, e.g. 0.99.

    >>> rate_ratio(10, 100, 20, 100, 0.95).ratio
    2.0
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    count = before + after
    share = after / count
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    odds = num_before / num_after

    def ratio(probability: float) -> float:
        return math.inf if probability >= 1 else max(0.0, probability) / (1 - probability) * odds

    exact = math.inf if before == 0 else after / before * odds
    low = 0.0 if after == 0 else ratio(centre - half)
    high = math.inf if before == 0 else ratio(centre + half)
    return RateRatio(exact, low, high)


def _compare(sides: tuple[Activity, Activity], names: tuple[str, str], limit: int, error_rate: float) -> DiffReport:
    num_before, num_after = (side.num_records for side in sides)
    for side, name in zip(sides, names, strict=True):
        if not side.num_records:
            raise InputError(f"{name}: there are no lines to compare with")
    counts = list(zip(sides[0].timeline.totals.tolist(), sides[1].timeline.totals.tolist(), strict=True))
    pairs = zip(sides[0].templates, counts[:-1], strict=True)
    present = [(row, t, a, b) for row, (t, (a, b)) in enumerate(pairs) if a or b]
    level = 1 - error_rate / max(1, len(present))
    rows: dict[Change, list[DiffRow]] = {change: [] for change in CHANGES}
    for row, template, a, b in present:
        rate = rate_ratio(a, num_before, b, num_after, level)
        change = _change(a, b, rate)
        if change is not None:
            sample = sides[1].samples[row] if row in sides[1].samples else sides[0].samples[row]
            rows[change].append(_row(change, template, a, b, rate, sample))
    shown: list[DiffRow] = []
    for its in rows.values():
        shown += sorted(its, key=_importance)[: limit or None]
    num_changes: dict[Change, int] = {change: len(its) for change, its in rows.items()}
    num_same = len(present) - sum(num_changes.values())
    return DiffReport(*names, num_before, num_after, len(present), num_same, error_rate, num_changes, shown)


def _change(before: int, after: int, rate: RateRatio) -> Change | None:
    if before == 0:
        return "new"
    if after == 0:
        return "gone"
    if rate.low > 1:
        return "more"
    return "less" if rate.high < 1 else None


def _row(change: Change, template: Template, before: int, after: int, rate: RateRatio, sample: str) -> DiffRow:
    typed = readable(template.typed_text)
    return DiffRow(change, before, after, rate, template.id, readable(template.text), typed, sample)


def _importance(row: DiffRow) -> tuple[float, int, str]:
    """New and gone by count; more and less by the end of the interval that is nearest to 1."""
    key = {"new": -row.after, "gone": -row.before, "more": -row.rate.low, "less": row.rate.high}[row.change]
    return (key, -row.before - row.after, row.template)
