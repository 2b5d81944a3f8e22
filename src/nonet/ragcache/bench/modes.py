"""The modes beside each other at equal budgets: distance to full recomputation, answers, and what they compute.

Ratios of KL come with the upper end of their paired bootstrap interval as a finding of its own: a promise about a ratio
is kept only where the interval keeps it, too.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from nonet.common.console import track
from nonet.common.findings import Finding
from nonet.ragcache.bench.agreement import Ratio, paired_ratio
from nonet.ragcache.bench.quality import Judged, Reference, Trialled
from nonet.ragcache.bench.questions import Evaluation
from nonet.ragcache.models.loading import LoadedModel
from nonet.ragcache.reuse.modes import DEFAULT_MODE
from nonet.ragcache.reuse.planner import Planner
from nonet.ragcache.reuse.prompt import Prompt
from nonet.ragcache.scheduling.settings import EngineConfig

ROUGE_L = 0.88
"""Promised for the default mode with 30 % of the reused rows."""
CALIBRATIONS = {"": 0.8, "_strict": ROUGE_L}
"""ROUGE-L on average that a calibrated share must reach, by the end of its findings' names.

From 0.8 on the readers of the paper's study held answers to be nearly indistinguishable; the strict one is what is
promised of 30 %.
"""
SHARES = (0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
_PAPER = "cachecraft"
_ENOUGH_QUESTIONS = 100


class Setting(NamedTuple):
    """A way to answer.

    Args:
        mode: a name of `MODES`.
        share: of the reused rows that are computed anew; None leaves it to the mode.
        is_charged: it may repair as many rows more as a probe of the question computes, so that a mode without a probe
            computes as much as one with it.
        is_unmoved: rows that are not repaired stay as they are, where the mode would let them follow the others.
    """

    mode: str
    share: float | None = None
    is_charged: bool = False
    is_unmoved: bool = False

    def share_of(self, prompt: Prompt, planner: Planner) -> float | None:
        """The share for one question."""
        if self.share is None or not self.is_charged:
            return self.share
        parts = planner.plan(prompt, "reuse").segments
        reused = sum(part.segment.num_tokens for part in parts if part.decision == "reused")
        return min(1.0, self.share + prompt.question.num_tokens / reused) if reused else self.share


_REUSE, _RANDOM = Setting("reuse"), Setting("random", 0.3)
_PAPERS = {share: Setting(_PAPER, share) for share in (0.15, 0.3)}
_CHARGED = {share: Setting(_PAPER, share, is_charged=True) for share in (0.15, 0.3)}
_OURS = {share: Setting(DEFAULT_MODE, share) for share in SHARES}
_BASELINES = (
    *(Setting(mode, share) for mode in ("h2o", "blend", "epic", "qsel") for share in (0.15, 0.3)),
    Setting("random", 0.15),
    *(Setting(DEFAULT_MODE, share, is_unmoved=True) for share in (0.15, 0.3)),
)
_PAIRS: dict[str, tuple[Setting, Setting, float | None]] = {
    "kl_paper_vs_random_30": (_PAPERS[0.3], _RANDOM, 0.75),
    "kl_paper_vs_reuse_30": (_PAPERS[0.3], _REUSE, 0.5),
    "kl_default_vs_paper_15": (_OURS[0.15], _PAPERS[0.15], 0.7),
    "kl_default_vs_paper_30": (_OURS[0.3], _PAPERS[0.3], 0.7),
    "kl_default_vs_paper_15_rows": (_OURS[0.15], _CHARGED[0.15], None),
    "kl_default_vs_paper_30_rows": (_OURS[0.3], _CHARGED[0.3], None),
}
# As a server does unless it is told a share: each chunk's fix overhead says how many of its rows are computed anew.
_SERVED = Setting(DEFAULT_MODE)
_MOVED, _UNMOVED = _OURS[0.3], Setting(DEFAULT_MODE, 0.3, is_unmoved=True)


def quality_findings(
    model: LoadedModel,
    evaluation: Evaluation,
    *,
    max_tokens: int = 16,
    num_calibrating: int = 0,
) -> tuple[list[Finding], dict[str, float]]:
    """Quality of the paper's mode and of ours beside no repair and rows drawn by chance.

    Args:
        model: loaded.
        evaluation: what warms and what is asked; promises are made from 100 reported questions on.
        max_tokens: of an answer; KL is measured along the full run's.
        num_calibrating: the last questions of those asked choose our share and are not reported.

    Returns:
        Findings whose names end in the evaluation's name unless that is "xquad"; and for each of `CALIBRATIONS` the
        smallest of `SHARES` at which our answers to the calibrating questions agree so well with full recomputation's,
        1.0 when none does, or when there are none.
    """
    trialled = Trialled.prepare(evaluation, model, max_tokens=max_tokens, with_logits=True)
    reported = trialled.references[: len(trialled.references) - num_calibrating]
    calibrating = trialled.references[len(reported) :]
    tried = _tried(trialled, calibrating)
    shares = {name: _smallest(tried, target) for name, target in CALIBRATIONS.items()}
    answered = dict.fromkeys((_REUSE, *_PAPERS.values(), _OURS[0.15], _OURS[0.3]))
    answered |= {_OURS[share]: None for share in shares.values() if share in _OURS}
    judged = _judged(trialled, reported, (*answered, _RANDOM, *_CHARGED.values()), answered, evaluation.name)
    tail, source = _tail(evaluation), _source(evaluation, reported, max_tokens)
    has_promise = len(reported) >= _ENOUGH_QUESTIONS
    findings = [
        *_ratios(judged, _PAIRS, tail, source, has_promise=has_promise),
        *_agreements(judged, tail, source, has_promise=has_promise),
        *(_row(setting, rows, tail, source) for setting, rows in judged.items()),
    ]
    if calibrating:
        findings += _calibration(tried, judged, tail, f"{source}; chosen on {len(calibrating)} others")
    return findings, shares


def baseline_findings(model: LoadedModel, evaluation: Evaluation, *, max_tokens: int = 16) -> list[Finding]:
    """KL of the other ways to choose rows, and of ours where rows do not follow, with 15 and 30 % of the reused rows.

    And of ours as a server does it unless it is told a share, with its answers.
    `kl_moved_vs_unmoved_30` is what it brings that they follow.

    Args:
        model: loaded.
        evaluation: what warms and what is asked.
        max_tokens: of the full run's answer, along which KL is measured.
    """
    trialled = Trialled.prepare(evaluation, model, max_tokens=max_tokens, with_logits=True)
    asked = trialled.references
    judged = _judged(trialled, asked, (*_BASELINES, _SERVED, _MOVED), (_SERVED,), evaluation.name)
    tail, source = _tail(evaluation), _source(evaluation, asked, max_tokens)
    pairs = {"kl_moved_vs_unmoved_30": (_MOVED, _UNMOVED, 0.6)}
    ratios = _ratios(judged, pairs, tail, source, has_promise=len(asked) >= _ENOUGH_QUESTIONS)
    return [*ratios, *(_row(setting, judged[setting], tail, source) for setting in (*_BASELINES, _SERVED))]


def _judged(
    trialled: Trialled,
    references: Sequence[Reference],
    settings: Iterable[Setting],
    answered: Container[Setting],
    name: str,
) -> dict[Setting, list[Judged]]:
    """All questions in all settings; the engine is stopped afterwards."""
    planner = trialled.engine.planner
    judged: dict[Setting, list[Judged]] = {setting: [] for setting in settings}
    for reference in track(references, f"modes on {name}"):
        for setting, rows in judged.items():
            share, planner.carry = setting.share_of(reference.prompt, planner), not setting.is_unmoved
            rows.append(trialled.judge(reference, setting.mode, share, answers=setting in answered))
    trialled.close()
    return judged


def _tail(evaluation: Evaluation) -> str:
    return "" if evaluation.name == "xquad" else f"_{evaluation.name.replace(' ', '_')}"


def _source(evaluation: Evaluation, asked: Sequence[Reference], max_tokens: int) -> str:
    size = np.mean([len(one.prompt.ids) for one in asked])
    return f"{evaluation.name}: {len(asked)} questions of {size:.0f} tokens, {max_tokens} steps"


def _tried(trialled: Trialled, references: Sequence[Reference]) -> dict[float, float]:
    """ROUGE-L on the calibrating questions by share, up to the first share that would keep the promise of 30 %, too."""
    tried: dict[float, float] = {}
    for share in SHARES if references else ():
        asked = track(references, f"calibrating at {share:.0%}")
        tried[share] = float(
            np.mean([trialled.judge(replace(one, logits=None), DEFAULT_MODE, share).rouge_l for one in asked])
        )
        if tried[share] >= ROUGE_L:
            break
    return tried


def _smallest(tried: Mapping[float, float], target: float) -> float:
    return min((share for share, rouge in tried.items() if rouge >= target), default=1.0)


def _calibration(
    tried: Mapping[float, float], judged: Mapping[Setting, Sequence[Judged]], tail: str, source: str
) -> list[Finding]:
    told = "on those others " + ", ".join(f"{share:.0%}: {rouge:.3f}" for share, rouge in tried.items())
    findings = []
    for name, target in CALIBRATIONS.items():
        share = _smallest(tried, target)
        setting = Setting(DEFAULT_MODE, share)
        note = f"smallest share with ROUGE-L {target:g} on average; {told}"
        if setting in judged:
            note += f"; {_mean(judged[setting], 'rouge_l'):.3f} on the reported questions"
        findings.append(Finding("ragcache", f"calibrated_share{name}{tail}", share, "", "lower", source, note=note))
    return findings


def _ratios(
    judged: Mapping[Setting, Sequence[Judged]],
    pairs: Mapping[str, tuple[Setting, Setting, float | None]],
    tail: str,
    source: str,
    *,
    has_promise: bool,
) -> list[Finding]:
    findings = []
    for name, (first, second, bar) in pairs.items():
        ratio = paired_ratio([one.kl for one in judged[first]], [one.kl for one in judged[second]])
        promise = bar if has_promise else None
        budget = "as many rows computed, our probe counted; " if second.is_charged else ""
        note = budget + (
            f"{_mean(judged[first], 'kl'):.4f} and {_mean(judged[second], 'kl'):.4f} nats; "
            f"95 % interval {ratio.low:.2f} to {ratio.high:.2f}"
        )
        findings += [
            Finding("ragcache", f"{name}{tail}", ratio.value, "x", "lower", source, promise=promise, note=note),
            _upper_end(f"{name}{tail}_high", ratio, source, promise),
        ]
    return findings


def _upper_end(name: str, ratio: Ratio, source: str, promise: float | None) -> Finding:
    return Finding(
        "ragcache", name, ratio.high, "x", "lower", source, promise=promise, note="upper end of the interval"
    )


def _agreements(
    judged: Mapping[Setting, Sequence[Judged]], tail: str, source: str, *, has_promise: bool
) -> list[Finding]:
    ours, reuse = judged[_OURS[0.3]], judged[_REUSE]
    paper = _mean(judged[_PAPERS[0.3]], "rouge_l")
    return [
        Finding(
            "ragcache",
            f"rougel_default_30{tail}",
            _mean(ours, "rouge_l"),
            "",
            "higher",
            source,
            promise=ROUGE_L if has_promise else None,
            note=f"against the full run's answer; mode {_PAPER} {paper:.3f}",
        ),
        Finding(
            "ragcache",
            f"rougel_reuse{tail}",
            _mean(reuse, "rouge_l"),
            "",
            "lower",
            source,
            promise=0.85 if has_promise else None,
            note="reuse without repair must be visibly worse, or the test has no power",
        ),
    ]


def _row(setting: Setting, rows: Sequence[Judged], tail: str, source: str) -> Finding:
    budget = "" if setting.share is None else f"_{round(setting.share * 100)}"
    budget += ("_rows" if setting.is_charged else "") + ("_unmoved" if setting.is_unmoved else "")
    note = (
        f"same likeliest token {_mean(rows, 'same_top'):.1%}, ROUGE-L {_mean(rows, 'rouge_l'):.3f}, "
        f"gold F1 {_mean(rows, 'gold_f1'):.3f}, "
        if not np.isnan(rows[0].rouge_l)
        else f"same likeliest token {_mean(rows, 'same_top'):.1%}, "
    )
    note += f"{_mean(rows, 'computed'):.0%} of rows computed"
    if setting == _SERVED:
        note += f", {_mean(rows, 'repaired'):.0%} of the reused ones anew: alpha {EngineConfig().alpha:g}, as a server"
    return Finding(
        "ragcache", f"kl_{setting.mode}{budget}{tail}", _mean(rows, "kl"), "nats", "lower", source, note=note
    )


def _mean(rows: Sequence[Judged], name: str) -> float:
    return float(np.mean([getattr(one, name) for one in rows]))
