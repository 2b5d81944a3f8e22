"""Plots: Altair charts in one theme that reads well on white, on dark and on paper.

The page's style sheet colours the text of a chart (`fill: currentColor`), so one chart serves every background. The
JavaScript that draws is inlined once a page (`chart_script`); a chart is a small JSON specification (`chart_html`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import altair as alt

from nonet.common.console import format_cell
from nonet.common.findings import Finding, Rival

# Mid-tones that differ in lightness and stay apart for colour-blind readers, on white as on near-black.
PALETTE = ("#3f87d2", "#e08a3a", "#35a37a", "#c26ab0", "#b39b2f", "#7f7fd4", "#d2605c", "#4fb0c4")
OURS, RIVAL, PUBLISHED = PALETTE[0], "#98a2ad", "#c3a46b"

_GREY = "#8a929b"
THEME: dict[str, Any] = {
    "background": "transparent",
    "font": "system-ui, sans-serif",
    "view": {"stroke": "transparent", "continuousWidth": 560, "continuousHeight": 260, "discreteHeight": {"step": 20}},
    "axis": {
        "domainColor": _GREY,
        "tickColor": _GREY,
        "gridColor": _GREY,
        "gridOpacity": 0.25,
        "labelFontSize": 12,
        "labelLimit": 320,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
    },
    "legend": {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "orient": "top"},
    "title": {"fontSize": 13, "anchor": "start", "fontWeight": 600},
    "range": {"category": list(PALETTE)},
    "bar": {"color": OURS},
    "line": {"color": OURS, "strokeWidth": 2},
    "point": {"color": OURS, "filled": True, "size": 50},
}


def chart_spec(chart: alt.TopLevelMixin) -> dict[str, Any]:
    """The Vega-Lite specification of a chart, the theme under its own settings."""
    with alt.theme.enable("none"):
        spec: dict[str, Any] = chart.to_dict()
    spec["config"] = _merged(THEME, spec.get("config", {}))
    return spec


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(under)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = _merged(result[key], value) if both else value
    return result


def chart_html(chart: alt.TopLevelMixin) -> str:
    """The chart as an HTML fragment, drawn by `chart_script`, of which a page needs one copy."""
    # "<" must not appear inside a script element: the text may hold "</script>".
    spec = json.dumps(chart_spec(chart), allow_nan=False).replace("<", "\\u003c")
    return f'<div class="chart"><script type="application/json">{spec}</script></div>'


@cache
def chart_script() -> str:
    """The JavaScript that draws every `chart_html` of a page: Vega, Vega-Lite and Vega-Embed, about 0.9 MB."""
    import vl_convert

    bundle: str = vl_convert.javascript_bundle(_DRAW)
    return bundle.replace("</script", "<\\/script")


_DRAW = """
// A chart whose numbers are one CSV text lets them be taken away.
function offerNumbers(place, spec) {
  const data = spec.data && spec.data.name ? (spec.datasets || {})[spec.data.name] : spec.data && spec.data.values;
  if (typeof data !== "string") return;
  const link = document.createElement("a");
  link.textContent = "CSV";
  link.download = "chart.csv";
  link.href = "data:text/csv;charset=utf-8," + encodeURIComponent(data);
  const line = document.createElement("p");
  line.className = "downloads";
  line.append("Take what is drawn: ", link);
  place.after(line);
}
const options = {renderer: "svg", actions: {export: true, source: false, compiled: false, editor: false}};
for (const place of document.querySelectorAll(".chart")) {
  const spec = JSON.parse(place.querySelector("script").textContent);
  const canvas = document.createElement("div");
  place.appendChild(canvas);
  offerNumbers(place, spec);
  vegaEmbed(canvas, spec, options).catch(error => { canvas.textContent = "This chart could not be drawn: " + error; });
}
"""


def findings_chart(findings: Sequence[Finding]) -> alt.VConcatChart | None:
    """Ours beside every rival in its unit, one small bar chart a finding; None when no finding has such rivals."""
    charts = []
    for finding in findings:
        rivals = [rival for rival in finding.rivals if finding.unit_of(rival) == finding.unit]
        if rivals:
            charts.append(_finding_bars(finding, rivals))
    return alt.vconcat(*charts, spacing=18) if charts else None


def _finding_bars(finding: Finding, rivals: Sequence[Rival]) -> alt.LayerChart | alt.FacetChart:
    numbers = [("nonet", finding.value, "ours"), *((r.name, r.value, r.kind) for r in rivals)]
    # A rival that could not be measured is NaN: it has no bar.
    bars = [
        {"who": who, "value": value, "kind": kind, "label": format_cell(value)}
        for who, value, kind in numbers
        if math.isfinite(value)
    ]
    unit = f" ({finding.unit})" if finding.unit else ""
    kinds = alt.Scale(domain=["ours", "measured", "published"], range=[OURS, RIVAL, PUBLISHED])
    base = alt.Chart(alt.Data(values=bars), title=f"{finding.name}{unit}: {finding.better} is better")
    base = base.encode(
        y=alt.Y("who:N", title=None, sort=[who for who, _, _ in numbers]),
        x=alt.X("value:Q", title=None, axis=alt.Axis(grid=True, tickCount=5)),
        tooltip=[alt.Tooltip("who:N"), alt.Tooltip("value:Q"), alt.Tooltip("kind:N")],
    )
    drawn = base.mark_bar().encode(color=alt.Color("kind:N", title=None, scale=kinds, legend=None))
    layers = [drawn, base.mark_text(align="left", dx=4).encode(text="label:N")]
    if finding.promise is not None:
        rule = alt.Chart(alt.Data(values=[{"promise": finding.promise}])).mark_rule(strokeDash=[4, 3], color=PALETTE[6])
        layers.append(rule.encode(x="promise:Q", tooltip=alt.Tooltip("promise:Q")))
    return alt.layer(*layers)
