"""Charts for the tour: rows computed by mode, distance to full recomputation, and time to the first token."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import altair as alt

from nonet.common.console import track
from nonet.ragcache.bench.quality import Judged, Trialled
from nonet.ragcache.bench.questions import Evaluation
from nonet.ragcache.models.loading import LoadedModel
from nonet.ragcache.reuse.modes import DEFAULT_MODE

_MODES: tuple[tuple[str, float | None], ...] = (
    ("full", None),
    ("prefix", None),
    ("reuse", None),
    *((mode, share) for mode in ("random", "cachecraft", DEFAULT_MODE) for share in (0.15, 0.3)),
)
_STEPS = 8


def charts(model: LoadedModel, evaluation: Evaluation) -> list[tuple[str, alt.TopLevelMixin]]:
    """Title and chart of each; the questions are asked anew in each mode.

    Args:
        model: loaded.
        evaluation: what warms and what is asked.
    """
    trialled = Trialled.prepare(evaluation, model, max_tokens=_STEPS, with_logits=True)
    judged: dict[tuple[str, float | None], list[Judged]] = {setting: [] for setting in _MODES}
    for reference in track(trialled.references, "charts of the modes"):
        for mode, share in _MODES:
            judged[mode, share].append(trialled.judge(reference, mode, share))
    trialled.close()
    values = [_point(mode, share, rows) for (mode, share), rows in judged.items()]
    asked = f"{len(evaluation.asked)} questions of {evaluation.name}"
    return [
        (f"Rows computed and distance to full recomputation, {asked}", _distance(values)),
        (f"Time to the first token by mode, {asked}", _first_token(values)),
    ]


def _point(mode: str, share: float | None, rows: Sequence[Judged]) -> dict[str, object]:
    return {
        "mode": mode,
        "setting": mode if share is None else f"{mode} {share:.0%}",
        "rows": statistics.mean(one.computed for one in rows),
        "kl": statistics.mean(one.kl for one in rows),
        "agreement": statistics.mean(one.rouge_l for one in rows),
        "ttft_ms": statistics.median(one.ttft_s for one in rows) * 1e3,
    }


def _distance(values: Sequence[dict[str, object]]) -> alt.TopLevelMixin:
    points = (
        alt.Chart(alt.Data(values=values))
        .mark_point(size=110, filled=True)
        .encode(
            x=alt.X("rows:Q", title="rows of the prompt that are computed", axis=alt.Axis(format="%")),
            y=alt.Y("kl:Q", title="KL from the full run, nats a token"),
            color=alt.Color("mode:N", title=None),
            tooltip=["setting:N", "rows:Q", "kl:Q", "agreement:Q", "ttft_ms:Q"],
        )
    )
    return points.properties(width=420, height=240)


def _first_token(values: Sequence[dict[str, object]]) -> alt.TopLevelMixin:
    bars = (
        alt.Chart(alt.Data(values=values))
        .mark_bar()
        .encode(
            x=alt.X("ttft_ms:Q", title="time to the first token, ms (median)"),
            y=alt.Y("setting:N", title=None, sort=None),
            color=alt.Color("agreement:Q", title="ROUGE-L with the full answer"),
            tooltip=["setting:N", "rows:Q", "kl:Q", "agreement:Q", "ttft_ms:Q"],
        )
    )
    return bars.properties(width=420)
