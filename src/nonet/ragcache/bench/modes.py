"""The modes beside each other at equal budgets: distance to full recomputation, answers, and what they compute.

Ratios of KL come with the upper end of their paired bootstrap interval as a finding of its own: a promise about a ratio
is kept only where the interval keeps it, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nonet.common.console import track
from nonet.common.findings import Finding
from nonet.ragcache.bench.agreement import Ratio, paired_ratio
from nonet.ragcache.bench.quality import Judged, Trialled
from nonet.ragcache.bench.questions import Evaluation
from nonet.ragcache.models.loading import LoadedModel
from nonet.ragcache.reuse.modes import DEFAULT_MODE

Setting = tuple[str, float | None]

ROUGE_L = 0.88
SHARES = (0.15, 0.2, 0.25, 0.3)
_PAPER = "cachecraft"
_NEEDED: tuple[Setting, ...] = (
    ("reuse", None),
    ("random", 0.3),
    *((mode, share) for mode in (_PAPER, DEFAULT_MODE) for share in (0.15, 0.3)),
)
_BASELINES: tuple[Setting, ...] = tuple(
    (mode, share) for mode in ("h2o", "blend", "epic", "qsel", "random") for share in (0.15, 0.3)
)
_ENOUGH_QUESTIONS = 100


def quality_findings(
    model: LoadedModel, evaluation: Evaluation, *, max_tokens: int = 16, with_baselines: bool = False
) -> tuple[list[Finding], float]:
    """Quality of the paper's mode and of ours, and of the other ways to choose rows.

    Args:
        model: loaded.
        evaluation: what warms and what is asked; promises are made from 100 questions on.
        max_tokens: of an answer; KL is measured along the full run's.
        with_baselines: all modes of `MODES` that repair.

    Returns:
        Findings whose names end in the evaluation's name unless that is "xquad", and the smallest of `SHARES` at which
        our answers agree with full recomputation's by ROUGE-L 0.88 on average; 1.0 when none does.
    """
    trialled = Trialled.prepare(evaluation, model, max_tokens=max_tokens, with_logits=True)
    settings = dict.fromkeys((*_NEEDED, *(_BASELINES if with_baselines else ())))
    settings |= dict.fromkeys((DEFAULT_MODE, share) for share in SHARES)
    judged: dict[Setting, list[Judged]] = {setting: [] for setting in settings}
    for reference in track(trialled.references, f"modes on {evaluation.name}"):
        for mode, share in settings:
            judged[mode, share].append(trialled.judge(reference, mode, share))
    trialled.close()
    tail = "" if evaluation.name == "xquad" else f"_{evaluation.name}"
    source = (
        f"{evaluation.name}: {len(trialled.references)} questions of "
        f"{np.mean([len(one.prompt.ids) for one in trialled.references]):.0f} tokens, {max_tokens} steps"
    )
    has_promise = len(trialled.references) >= _ENOUGH_QUESTIONS
    findings = [
        *_ratios(judged, tail, source, has_promise=has_promise),
        *_agreements(judged, tail, source, has_promise=has_promise),
        *(_row(setting, rows, tail, source) for setting, rows in judged.items()),
    ]
    fits = [share for share in SHARES if _mean(judged[DEFAULT_MODE, share], "rouge_l") >= ROUGE_L]
    return findings, min(fits, default=1.0)


def _ratios(judged: Mapping[Setting, Sequence[Judged]], tail: str, source: str, *, has_promise: bool) -> list[Finding]:
    pairs: dict[str, tuple[Setting, Setting, float]] = {
        "kl_paper_vs_random_30": ((_PAPER, 0.3), ("random", 0.3), 0.75),
        "kl_paper_vs_reuse_30": ((_PAPER, 0.3), ("reuse", None), 0.5),
        "kl_default_vs_paper_15": ((DEFAULT_MODE, 0.15), (_PAPER, 0.15), 0.7),
        "kl_default_vs_paper_30": ((DEFAULT_MODE, 0.3), (_PAPER, 0.3), 0.7),
    }
    findings = []
    for name, (first, second, bar) in pairs.items():
        ratio = paired_ratio([one.kl for one in judged[first]], [one.kl for one in judged[second]])
        promise = bar if has_promise else None
        note = (
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
    ours, reuse = judged[DEFAULT_MODE, 0.3], judged["reuse", None]
    paper = _mean(judged[_PAPER, 0.3], "rouge_l")
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
    mode, share = setting
    budget = "" if share is None else f"_{round(share * 100)}"
    note = (
        f"same likeliest token {_mean(rows, 'same_top'):.1%}, ROUGE-L {_mean(rows, 'rouge_l'):.3f}, "
        f"gold F1 {_mean(rows, 'gold_f1'):.3f}, {_mean(rows, 'computed'):.0%} of rows computed"
    )
    return Finding("ragcache", f"kl_{mode}{budget}{tail}", _mean(rows, "kl"), "nats", "lower", source, note=note)


def _mean(rows: Sequence[Judged], name: str) -> float:
    return float(np.mean([getattr(one, name) for one in rows]))
