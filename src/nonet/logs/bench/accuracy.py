"""Accuracy: the default parser in one configuration, and the reference parsers against the published tables."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import pyarrow as pa

from nonet.common.findings import Finding, Rival
from nonet.logs.bench import inputs
from nonet.logs.evaluation.data import FULL, SAMPLE
from nonet.logs.evaluation.metrics import PairCounts, Scores
from nonet.logs.evaluation.published import published_row, read_table
from nonet.logs.mining.as_parser import parse_contents
from nonet.logs.mining.miner import Miner, merge
from nonet.logs.mining.template import restore
from nonet.logs.parsers import get_parser, settings
from nonet.logs.parsers.base import Parsed

if TYPE_CHECKING:
    import altair

    from nonet.logs.bench import Scale

ROOM = "logs"
EXACT_PARSERS = ("Drain", "AEL", "IPLoM", "LFA", "Spell", "LogCluster", "Logram", "SHISO", "LogSig")
QUICK_PARSERS = ("Drain", "AEL", "IPLoM", "LFA")
TOLERANCE = 0.001
_ROUNDING = 0.0005 + 1e-9  # the published cells have three digits
_METRICS = ("GA", "FGA", "PA", "FTA")
TUNED = "Preprocessed Drain (tuned by data set)"


def _scores(name: str, parsed: Parsed) -> Scores:
    log = inputs.labelled(name)
    assert log is not None
    pairs = PairCounts()
    predicted = pa.DictionaryArray.from_arrays(pa.array(parsed.labels), pa.array(parsed.templates, pa.string()))
    pairs.update(log.templates(), predicted)
    return pairs.scores(edit_distance=False)


@cache
def _default_scores(name: str) -> Scores | None:
    lines = inputs.lines_of(name)
    return None if lines is None else _scores(name, parse_contents(lines.contents))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def default_full(scale: Scale) -> list[Finding]:
    """The default parser on the full systems at hand, beside Preprocessed Drain's published values there."""
    found = {s: _default_scores(f"{FULL}/{s}") for s in inputs.FULL_SYSTEMS}
    scores = {s: score for s, score in found.items() if score is not None}
    if len(scores) < len(found):
        return []
    rows = read_table("preprocessed_drain")
    published = {row["system"]: row for row in rows if (row["variant"], row["slice"]) == ("preprocessed", "all")}
    findings = []
    for metric in ("FGA", "FTA"):
        values = [getattr(score, metric.lower()) for score in scores.values()]
        theirs = [float(published[s][metric.lower()]) for s in scores]
        mean = Rival(TUNED, _mean(theirs), "published", "Preprocessing-is-All-You-Need, result files")
        text = ", ".join(f"{s} {v:.3f} (theirs {t:.3f})" for s, v, t in zip(scores, values, theirs, strict=True))
        described = f"mean of {', '.join(scores)} (full Loghub-2.0), one configuration"
        findings.append(
            Finding(
                ROOM, f"default_{metric.lower()}", _mean(values), "", "higher", described, (mean,), mean.value, text
            )
        )
        worst = min(v - t for v, t in zip(values, theirs, strict=True))
        findings.append(
            Finding(
                ROOM,
                f"default_{metric.lower()}_worst_margin",
                worst,
                "",
                "higher",
                described,
                (),
                0.0,
                "smallest lead on one system",
            )
        )
    return findings


def default_2k(scale: Scale) -> list[Finding]:
    """The default parser on the fourteen 2,000-line samples, corrected labels."""
    found = [_default_scores(f"{SAMPLE}/{s}") for s in inputs.SAMPLE_SYSTEMS]
    scores = [score for score in found if score is not None]
    if len(scores) < len(found):
        return []
    described = f"mean of {len(scores)} Loghub 2k samples, corrected labels, one configuration"
    paper = published_row("Drain", "2k", "Average")
    findings = []
    for metric, promise in (("GA", 0.85), ("FGA", 0.74)):
        drain = Rival(
            "Drain (tuned by data set)",
            promise if paper is None else getattr(paper, metric.lower()),
            "published",
            "ISSTA 2024, 2k table",
        )
        value = _mean([getattr(s, metric.lower()) for s in scores])
        findings.append(
            Finding(ROOM, f"default_{metric.lower()}_2k", value, "", "higher", described, (drain,), promise)
        )
    for metric in ("pa", "fta"):
        value = _mean([getattr(s, metric) for s in scores])
        findings += [Finding(ROOM, f"default_{metric}_2k", value, "", "higher", described)]
    return findings


def _row_equal(parser: str, name: str, edition: str) -> tuple[bool, str]:
    """Whether our compat parser has the published row; and the row, for the note."""
    lines, system = inputs.lines_of(name), name.partition("/")[2]
    published = published_row(parser, edition, system)
    assert lines is not None
    if published is None:
        return False, f"{parser} {system}: nothing published"
    tuned = get_parser(parser)(
        mode="compat", masks=settings.masks_for(parser, system), **settings.parameters_for(parser, system)
    )
    score = _scores(name, tuned.parse(lines.contents))
    ours = [getattr(score, m.lower()) for m in _METRICS]
    theirs = [getattr(published, m.lower()) for m in _METRICS]
    equal = all(abs(o - t) <= TOLERANCE + _ROUNDING for o, t in zip(ours, theirs, strict=True))
    return equal, f"{parser} {system}: " + " ".join(
        f"{m} {o:.3f}/{t:.3f}" for m, o, t in zip(_METRICS, ours, theirs, strict=True)
    )


def _equal_rows(name: str, rows: Sequence[tuple[str, str, str]], promise: int, described: str) -> Finding:
    checked = [_row_equal(*row) for row in rows]
    missed = "; ".join(text for equal, text in checked if not equal)
    num_equal = sum(equal for equal, _ in checked)
    text = f"of {len(rows)}; ours/published of the others: {missed}" if missed else f"all {len(rows)}"
    return Finding(ROOM, name, num_equal, "rows", "higher", described, (), promise, text)


def compat_rows(scale: Scale) -> list[Finding]:
    """Published 2.0 rows that the reference parsers meet within .001 in all four metrics."""
    if any(inputs.lines_of(f"{FULL}/{s}") is None for s in inputs.FULL_SYSTEMS):
        return []
    parsers = EXACT_PARSERS if scale == "full" else QUICK_PARSERS
    rows = [(p, f"{FULL}/{s}", "2.0") for p in parsers for s in inputs.FULL_SYSTEMS]
    name = "compat_rows_equal" if scale == "full" else "compat_rows_equal_fast_parsers"
    return [_equal_rows(name, rows, len(rows), f"{', '.join(parsers)} in compat mode on full Linux and Proxifier")]


def drain_2k(scale: Scale) -> list[Finding]:
    """Drain on the samples; the published HDFS row is known to differ from what the reference code gives."""
    if any(inputs.lines_of(f"{SAMPLE}/{s}") is None for s in inputs.SAMPLE_SYSTEMS):
        return []
    rows = [("Drain", f"{SAMPLE}/{s}", "2k") for s in inputs.SAMPLE_SYSTEMS]
    return [_equal_rows("drain_2k_rows_equal", rows, 13, "14 Loghub 2k samples, corrected labels")]


def lossless(scale: Scale) -> list[Finding]:
    """Share of lines whose template, parameters and spacing are the Content, byte for byte."""
    names = [f"{SAMPLE}/{s}" for s in (*inputs.SAMPLE_SYSTEMS, *inputs.UNRATED_SAMPLES)]
    names += [f"{FULL}/{s}" for s in inputs.FULL_SYSTEMS]
    chosen = [lines for lines in map(inputs.lines_of, names) if lines is not None] or [inputs.twin_contents(20_000)]
    equal = total = 0
    for lines in chosen:
        table = Miner().add_lines(lines.contents)
        columns = (table[name].to_pylist() for name in ("template", "parameters", "spacing"))
        restored = (restore(*row) for row in zip(*columns, strict=True))
        equal += sum(line == content for line, content in zip(restored, lines.contents, strict=True))
        total += len(lines.contents)
    described = f"{len(chosen)} data sets, {total:,} lines" if len(chosen) > 1 else chosen[0].described
    return [Finding(ROOM, "lossless", equal / total, "", "match", described, (), 1.0)]


def shards(scale: Scale) -> list[Finding]:
    """Share of sharded runs (1, 2, 4, 8 shards, random lines, random order of merging) with identical templates, ids
    and counts.
    """
    chosen = inputs.speed_lines()
    same = runs = 0
    for lines in chosen:
        whole = _summary([list(lines.contents)])
        for num_shards in (1, 2, 4, 8):
            for seed in range(2 if scale == "quick" else 5):
                shuffled = list(lines.contents)
                rng = random.Random(seed)
                rng.shuffle(shuffled)
                parts = [shuffled[i::num_shards] for i in range(num_shards)]
                same += _summary(parts) == whole
                runs += 1
    described = "; ".join(lines.described for lines in chosen)
    return [Finding(ROOM, "shard_merge_identical", same / runs, "", "match", described, (), 1.0, f"{runs} runs")]


def _summary(parts: Sequence[list[str]]) -> list[tuple[str, str, int]]:
    miners = []
    for part in parts:
        miners.append(Miner())
        miners[-1].add_lines(part)
    return [(t.id, t.text, t.count) for t in merge(miners).templates()]


def scores_chart() -> altair.TopLevelMixin | None:
    """FGA and FTA of every published parser on the full systems at hand, with ours."""
    import altair as alt

    rows = []
    for system in inputs.FULL_SYSTEMS:
        score = _default_scores(f"{FULL}/{system}")
        if score is None:
            return None
        rows += [
            {"parser": "nonet", "system": system, "metric": m, "score": getattr(score, m.lower()), "kind": "measured"}
            for m in ("FGA", "FTA")
        ]
        for parser in settings_parsers():
            row = published_row(parser, "2.0", system)
            if row is not None:
                rows += [
                    {
                        "parser": parser,
                        "system": system,
                        "metric": m,
                        "score": getattr(row, m.lower()),
                        "kind": "published",
                    }
                    for m in ("FGA", "FTA")
                    if getattr(row, m.lower()) is not None
                ]
    return (
        alt.Chart(alt.Data(values=rows))
        .mark_bar()
        .encode(
            x=alt.X("score:Q", scale=alt.Scale(domain=[0, 1]), title=None),
            y=alt.Y("parser:N", sort="-x", title=None),
            color=alt.Color("kind:N", title=None),
            column=alt.Column("metric:N", title=None),
            row=alt.Row("system:N", title=None),
            tooltip=["parser:N", "system:N", "metric:N", "score:Q", "kind:N"],
        )
        .properties(width=220)
    )


def settings_parsers() -> tuple[str, ...]:
    """The parsers of the paper, in its order."""
    from nonet.logs.parsers.base import PARSERS

    return tuple(PARSERS)
