"""`recommend` as a page: cold rate against memory, the changes, and what was tried and does not pay."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nonet.coldstart.advising.recommend import Advice
from nonet.coldstart.advising.recommend_view import summary
from nonet.common.report import Block, Cell, Chart, Section, Table, Text, write_report

if TYPE_CHECKING:
    import altair as alt

TODAY, ALONE, TOGETHER, REJECTED = "today", "one change", "all together", "not recommended"
_MAX_REJECTED = 200


def write_page(advice: Advice, path: str | Path) -> Path:
    """Write the page; it needs no other file.

    Raises:
        InputError: the folder of `path` does not exist, or cannot be written to.
    """
    sections = [_changes(advice)]
    if advice.rejected:
        rows = [
            [r.title, Cell(_percent(-r.saving)), _percent(r.extra_memory), r.reason]
            for r in advice.rejected[:_MAX_REJECTED]
        ]
        rejected = Table(["change", "cold starts", "memory", "why not"], rows)
        left = len(advice.rejected) - len(rows)
        intro = f"{left:,} more are in advice.json." if left else ""
        sections.append(Section("Tried, not recommended", [rejected], intro))
    sections.append(Section("How it was found out", [Text(summary(advice).split("\n"))]))
    title = f"What would cut the cold starts of {advice.region}"
    write_report(path, title, sections, subtitle=f"platform {advice.platform}; {advice.source}")
    return Path(path)


def points(advice: Advice) -> list[dict[str, Any]]:
    """The points of the plot: cold rate with its 95 % interval and memory in GB s a day, today and with each change."""
    found = [
        _point(advice, TODAY, TODAY, 0.0, 0.0),
        *(_point(advice, ALONE, r.title, r.saving, r.extra_memory, r.low, r.high) for r in advice.recommendations),
        *(_point(advice, REJECTED, r.title, r.saving, r.extra_memory) for r in advice.rejected[:_MAX_REJECTED]),
    ]
    if advice.recommendations:
        whole = _point(advice, TOGETHER, TOGETHER, advice.saving, advice.extra_memory, advice.low, advice.high)
        found.append(whole)
    return found


def _point(
    advice: Advice, kind: str, change: str, saving: float, extra: float,
    low: float | None = None, high: float | None = None,
) -> dict[str, Any]:  # fmt: skip
    rate = advice.num_cold / max(advice.num_requests, 1)
    return {
        "kind": kind,
        "change": change,
        "memory": advice.gb_s_per_day * (1 + extra),
        "rate": rate * (1 - saving),
        "low": rate * (1 - (saving if high is None else high)),
        "high": rate * (1 - (saving if low is None else low)),
    }


def _changes(advice: Advice) -> Section:
    rows = [
        [
            rec.title,
            _percent(-rec.saving),
            f"{rec.low:.1%} to {rec.high:.1%}",
            _percent(-rec.wait_saving),
            _percent(rec.extra_memory),
            round(rec.usd_per_month, 2),
        ]
        for rec in advice.recommendations
    ]
    columns = ["change", "cold starts", "fewer, 95 %", "user wait", "memory", "net $/month"]
    caption = "Left is less memory, down is fewer cold starts; lines are 95 % intervals. Each change stands alone."
    blocks: list[Block] = [Chart("Cold rate against memory", _plot(points(advice)), caption)]
    if not rows:
        return Section("Changes", blocks, "No change pays.")
    intro = (
        f"Together: {_percent(-advice.saving)} cold starts ({advice.low:.1%} to {advice.high:.1%} fewer), "
        f"memory {_percent(advice.extra_memory)}."
    )
    return Section("Changes", [*blocks, Table(columns, rows)], intro)


def _plot(rows: list[dict[str, Any]]) -> alt.LayerChart | alt.FacetChart:
    import altair as alt

    from nonet.common.plots import OURS, PALETTE, RIVAL

    kinds = [TODAY, ALONE, TOGETHER, REJECTED]
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("memory:Q", title="memory of all pods, GB s a day", scale=alt.Scale(zero=False)),
        color=alt.Color(
            "kind:N", title=None, scale=alt.Scale(domain=kinds, range=[PALETTE[6], OURS, PALETTE[2], RIVAL])
        ),
        tooltip=[
            alt.Tooltip("change:N"),
            alt.Tooltip("rate:Q", title="cold rate", format=".3%"),
            alt.Tooltip("low:Q", title="at least", format=".3%"),
            alt.Tooltip("high:Q", title="at most", format=".3%"),
            alt.Tooltip("memory:Q", title="GB s a day", format=",.0f"),
        ],
    )
    intervals = base.mark_rule().encode(
        y=alt.Y("low:Q", title="cold starts per request", axis=alt.Axis(format=".2%")), y2="high:Q"
    )
    return alt.layer(intervals, base.mark_point().encode(y="rate:Q"))


def _percent(share: float) -> str:
    return f"{share:+.1%}"
