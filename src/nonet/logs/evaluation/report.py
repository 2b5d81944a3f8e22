"""The evaluation as one HTML page: scores beside the published ones, means, slices, time, and what did not finish."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nonet.common.report import Cell, Chart, Section, Table, Text, write_report
from nonet.logs.evaluation.published import METRICS, source_note

if TYPE_CHECKING:
    import altair as alt

    from nonet.logs.evaluation.table import EvaluationReport

_TOLERANCE = 0.001
_LABELS = {"ga": "GA", "fga": "FGA", "pa": "PA", "fta": "FTA"}


def write_html(report: EvaluationReport, path: Path | str) -> None:
    """Write the page of an evaluation; it needs no network.

    Raises:
        InputError: the folder of `path` does not exist.
    """
    rows = report.table()
    sections = [
        Section("Scores", [_score_chart(rows), _score_table(rows)], _SCORES_INTRO),
        Section("Means", [_average_table(report.averages())], _MEANS_INTRO),
        Section("Slices", _slice_blocks(report.slice_table()), _SLICES_INTRO),
        Section("Wildcards rewritten", [_normalised_table(rows)], _NORMALISED_INTRO),
        Section("Time and memory", [_time_chart(rows), _time_table(rows)], _TIME_INTRO),
        Section("What was run", [_config_text(report.config)]),
    ]
    failed = [row for row in rows if row["status"] != "finished"]
    if failed:
        sections.insert(1, Section("Not finished", [_failure_table(failed)]))
    num_finished = len(rows) - len(failed)
    rules = report.config["rules"]
    subtitle = f"{len(rows)} pairs, {num_finished} finished; template rules: {rules}"
    write_report(path, "Log parsing, evaluated", sections, subtitle=subtitle)


_SCORES_INTRO = (
    "GA and PA weigh messages, FGA and FTA weigh templates. A difference is ours minus the published value; green is "
    "within 0.001. Published values: "
) + source_note("rq2")
_MEANS_INTRO = (
    "Means over the pairs that finished, as the paper has them; then the means in which an unfinished pair counts as 0."
)
_SLICES_INTRO = (
    "The same scores on the messages of some templates only: by number of parameters, and the rarest and most frequent "
    "templates. Means over the systems in which a slice is not empty."
)
_NORMALISED_INTRO = (
    "A parser that does not write <*> for a variable scores near zero on PA and FTA whatever it found. Here foreign "
    "wildcards are rewritten and runs of blanks collapsed before comparing texts."
)
_TIME_INTRO = (
    "Seconds from opening the raw log to the CSV pair on disk: headers, masks, parsing, parameters and output. "
    "Published seconds are from other hardware."
)


def _score_table(rows: Sequence[dict[str, Any]]) -> Table:
    columns = ["parser", "data", "mode"]
    for name in METRICS:
        columns += [_LABELS[name], f"{_LABELS[name]} published", "difference"]
    body = []
    for row in rows:
        cells: list[Any] = [row["parser"], row["data"], row["mode"]]
        for name in METRICS:
            cells += [_rounded(row[name]), row[f"published_{name}"], _difference(row[f"difference_{name}"])]
        body.append(cells)
    return Table(columns, body)


def _difference(value: float | None) -> Cell:
    if value is None:
        return Cell(None, "dim")
    # Published values are rounded to three digits, so an equal one can be half a unit away.
    return Cell(_rounded(value), "good" if abs(value) <= _TOLERANCE + 1e-9 else "bad")


def _average_table(rows: Sequence[dict[str, Any]]) -> Table:
    columns = ["parser", "mode", "edition", "finished", *_LABELS.values(), "seconds"]
    columns += [f"{label} over all" for label in _LABELS.values()]
    body = [
        [
            *(row["parser"], row["mode"], row["edition"] or "-", f"{row['num_finished']} of {row['num_pairs']}"),
            *(_rounded(row[name]) for name in METRICS),
            _rounded(row["seconds"]),
            *(_rounded(row[f"{name}_all"]) for name in METRICS),
        ]
        for row in rows
    ]
    return Table(columns, body)


def _slice_blocks(rows: Sequence[dict[str, Any]]) -> list[Table | Chart]:
    means = _slice_means(rows)
    if not means:
        return []
    chart = Chart("Template accuracy by slice", _slice_chart(means), "FGA and FTA, mean over systems")
    return [chart, *(_slice_table(means, name) for name in METRICS)]


def _slice_table(means: Sequence[dict[str, Any]], metric: str) -> Table:
    slices = list(dict.fromkeys(mean["slice"] for mean in means))
    values = {(mean["parser"], mean["slice"]): mean[metric] for mean in means}
    parsers = dict.fromkeys(mean["parser"] for mean in means)
    body = [[parser, *(_rounded(values.get((parser, name))) for name in slices)] for parser in parsers]
    return Table(["parser", *slices], body, title=_LABELS[metric])


def _slice_means(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["parser"], row["slice"]), []).append(row)
    return [
        {"parser": parser, "slice": name} | {metric: _mean(row[metric] for row in found) for metric in METRICS}
        for (parser, name), found in groups.items()
    ]


def _normalised_table(rows: Sequence[dict[str, Any]]) -> Table:
    names = ("fga", "pa", "fta")
    columns = ["parser", "data"]
    for name in names:
        columns += [_LABELS[name], f"{_LABELS[name]} normalised"]
    body = []
    for row in rows:
        cells: list[Any] = [row["parser"], row["data"]]
        for name in names:
            strict, normalised = row[name], row[f"{name}_normalised"]
            moved = strict is not None and normalised is not None and abs(normalised - strict) > _TOLERANCE
            cells += [_rounded(strict), Cell(_rounded(normalised), "good" if moved else "")]
        body.append(cells)
    return Table(columns, body)


def _time_table(rows: Sequence[dict[str, Any]]) -> Table:
    columns = ["parser", "data", "lines", "seconds", "lines/s", "header s", "parse s", "output s", "peak MiB"]
    names = ("num_lines", "seconds", "lines_per_s", "header_s", "parse_s", "output_s", "peak_rss_mib")
    body = [
        [row["parser"], row["data"], *(_rounded(row[name]) for name in names), row["published_seconds"]] for row in rows
    ]
    return Table([*columns, "seconds published"], body)


def _failure_table(rows: Sequence[dict[str, Any]]) -> Table:
    body = [[row["parser"], row["data"], Cell(row["status"], "bad"), row["error"]] for row in rows]
    return Table(["parser", "data", "status", "why"], body)


def _config_text(config: dict[str, Any]) -> Text:
    shown = {**config, "data": ", ".join(item["name"] for item in config["data"])}
    return Text([f"{name}: {value}" for name, value in shown.items()])


def _score_chart(rows: Sequence[dict[str, Any]]) -> Chart:
    import altair as alt

    bars = [
        {
            "parser": row["parser"],
            "metric": _LABELS[name],
            "value": row[name],
            "system": row["system"],
            "data": row["data"],
        }
        for row in rows
        for name in METRICS
        if row[name] is not None
    ]
    base = alt.Chart(alt.Data(values=bars)).encode(
        x=alt.X("value:Q", title=None, scale=alt.Scale(domain=[0, 1])),
        y=alt.Y("parser:N", title=None, sort=list(dict.fromkeys(row["parser"] for row in rows))),
        tooltip=[alt.Tooltip("data:N"), alt.Tooltip("parser:N"), alt.Tooltip("value:Q", format=".3f")],
    )
    points = base.mark_point().encode(color=alt.Color("system:N", title=None))
    mean = base.mark_tick(thickness=2, color="#8a929b").encode(x="mean(value):Q", tooltip=alt.value(None))
    chart = (
        alt.layer(mean, points)
        .properties(width=220)
        .facet(alt.Facet("metric:N", title=None, sort=list(_LABELS.values())), columns=2)
    )
    return Chart("Scores by parser", chart, "A point a system, the tick is their mean")


def _slice_chart(means: Sequence[dict[str, Any]]) -> alt.FacetChart:
    import altair as alt

    values = [
        {"parser": m["parser"], "slice": m["slice"], "metric": _LABELS[name], "value": m[name]}
        for m in means
        for name in ("fga", "fta")
    ]
    chart: alt.FacetChart = (
        alt.Chart(alt.Data(values=values))
        .mark_point()
        .encode(
            x=alt.X("value:Q", title=None, scale=alt.Scale(domain=[0, 1])),
            y=alt.Y("slice:N", title=None, sort=list(dict.fromkeys(m["slice"] for m in means))),
            color=alt.Color("parser:N", title=None),
            tooltip=[alt.Tooltip("parser:N"), alt.Tooltip("value:Q", format=".3f")],
        )
        .properties(width=260)
        .facet(alt.Facet("metric:N", title=None))
    )
    return chart


def _time_chart(rows: Sequence[dict[str, Any]]) -> Chart:
    import altair as alt

    points = [
        {"parser": row["parser"], "lines": row["num_lines"], "seconds": row["seconds"], "data": row["data"]}
        for row in rows
        if row["seconds"]
    ]
    chart = (
        alt.Chart(alt.Data(values=points))
        .mark_point()
        .encode(
            x=alt.X("lines:Q", scale=alt.Scale(type="log")),
            y=alt.Y("seconds:Q", scale=alt.Scale(type="log")),
            color=alt.Color("parser:N", title=None),
            tooltip=[alt.Tooltip(f"{name}:N") for name in ("parser", "data", "lines", "seconds")],
        )
    )
    return Chart("Seconds by number of lines", chart, "Both axes logarithmic")


def _mean(values: Iterable[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return sum(found) / len(found) if found else None


def _rounded(value: float | None) -> float | None:
    return round(value, 4) if isinstance(value, float) else value
