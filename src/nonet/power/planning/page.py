"""The page of a plan: the answer on top, then what it rests on; one HTML file without a network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nonet.common.report import Block, Cell, Chart, Section, Table, Text, render_report, write_report
from nonet.power.planning import charts
from nonet.power.planning.answers import PolicyPlan, Step
from nonet.power.planning.plan import Plan
from nonet.power.planning.slo import LATENCIES, NAMES, Slo, name_of, percent
from nonet.power.planning.sweep import Sweep, label

_PRICE_COLUMNS = [
    "added servers", "of the row", "verdict", "brakes", "HP P50", "HP P99", "LP P50", "LP P99",
    "HP tokens", "LP tokens", "HP capped", "LP capped", "peak", "peak without a policy", "longest overload s", "seeds",
]  # fmt: skip


def write_page(path: str | Path, plan: Plan, sweep: Sweep | None = None) -> None:
    """Write the page, atomically.

    Args:
        path: of the HTML file.
        plan: what `plan` found.
        sweep: thresholds against added servers, for the heat map.

    Raises:
        InputError: the folder of `path` does not exist.
    """
    write_report(path, plan.sentence(), sections(plan, sweep), subtitle=_subtitle(plan))


def page_html(plan: Plan, sweep: Sweep | None = None) -> str:
    """The page as text."""
    return render_report(plan.sentence(), sections(plan, sweep), subtitle=_subtitle(plan))


def sections(plan: Plan, sweep: Sweep | None = None) -> list[Section]:
    """The parts of the page."""
    found = [_answer(plan), _price(plan.best, plan.slo)]
    if sweep is not None:
        found.append(_thresholds(sweep))
    found.append(_power(plan))
    if len(plan.policies) > 1:
        found.append(_policies(plan))
    return [*found, _doubts(plan)]


def _subtitle(plan: Plan) -> str:
    row, days = plan.row, plan.shown.days
    return (
        f"{row.num_servers} servers ({row.num_high} of high, {row.num_low} of low priority) under"
        f" {row.budget.at(0.0) / 1e3:,.1f} kW; {len(plan.seeds)} seeds of {days:.1f} days of traffic"
    )


def _answer(plan: Plan) -> Section:
    best = plan.best
    limits = ", ".join(f"{name_of(name)} {value:.0%}" for name, value in plan.slo.limits.items() if name != "brakes")
    texts = [
        plan.sentence(),
        f"What must hold, on every seed and at every smaller size too: latency at most {limits} above that of the same"
        f" requests on the same servers without a budget, and at most {plan.slo.brakes} brakes.",
    ]
    rows = [[name_of(name), percent(fraction)] for name, fraction in sorted(best.limits.items(), key=lambda x: x[1])]
    blocks: list[Block] = [Text([*texts, *(f"Mind: {warning}" for warning in plan.warnings)])]
    if rows:
        blocks.append(Table(["limit", "breaks first at"], rows, caption="Of the sizes that were run."))
    seeds = [[seed, "the row as it is does not hold" if n < 0 else n] for seed, n in best.by_seed.items()]
    blocks.append(Table(["seed", "servers that fit"], seeds))
    return Section("The answer", blocks)


def _price(best: PolicyPlan, slo: Slo) -> Section:
    title = "Added servers against latency impact"
    caption = (
        "Worst seed. Dashed: the limits. Crosses: sizes that brake. The upright line is the answer."
        " Impacts beyond 1,000 %, and requests that never end, are drawn at 1,000 %."
    )
    chart = Chart(title, charts.pareto_chart(best, slo), caption)
    rows = [_price_row(step) for step in best.steps]
    table = Table(_PRICE_COLUMNS, rows, "Every size that was run", "Worst seed; capped shares are means over seeds.")
    return Section("What more servers cost", [chart, table])


def _price_row(step: Step) -> list[object]:
    verdict = Cell("holds", "good") if step.holds else Cell(", ".join(map(name_of, step.broken)), "bad")
    impacts = [percent(step.impact.get(name)) for name in NAMES if name != "brakes"]
    tokens = [percent(step.throughput.get(name)) for name in ("hp", "lp")]
    capped = [f"{step.capped[name]:.1%}" for name in ("hp", "lp")]
    peaks = [f"{step.peak:.1%}", f"{step.uncapped_peak:.1%}", step.longest_overload_s]
    brakes = Cell(step.brakes, "bad" if step.brakes else "")
    return [step.added, percent(step.fraction), verdict, brakes, *impacts, *tokens, *capped, *peaks, len(step.seeds)]


def _thresholds(sweep: Sweep) -> Section:
    caption = "Colour: the largest part of a latency limit that is used, worst seed. Numbers: brakes."
    chart = Chart("Thresholds against added servers", charts.heat_map(sweep), caption)
    columns = ["T1-T2", "added servers", "verdict", "brakes", *(name_of(n) for n in LATENCIES), "LP capped", "peak"]
    rows = [
        [
            label(pair),
            added,
            Cell("holds", "good") if cell.holds else Cell(", ".join(map(name_of, cell.broken)), "bad"),
            cell.brakes,
            *(percent(cell.impact.get(name)) for name in LATENCIES),
            f"{cell.capped['lp']:.1%}",
            f"{cell.peak:.1%}",
        ]
        for (pair, added), cell in sorted(sweep.cells.items())
    ]
    return Section(f"Thresholds of {sweep.policy}", [chart, Table(columns, rows)])


def _power(plan: Plan) -> Section:
    shown, thresholds = plan.shown, plan.thresholds.get(plan.best.policy, {})
    ribbon = Chart(
        "Power of the row",
        charts.ribbon_chart(shown, thresholds),
        "Above by hour: extremes, 5 % to 95 % of the samples, median. Below the day of the highest sample: mean and"
        " highest sample of each minute. Red: the budget; dashed: the thresholds.",
    )
    latency = Chart("Latency by class", charts.latency_chart(shown), "Dashed: the same requests without a budget.")
    levels = [
        [{"hp": "high", "lp": "low"}[name], f"{level:.3f}", f"{share:.2%}"]
        for name, by_level in shown.levels.items()
        for level, share in by_level.items()
    ]
    blocks: list[Block] = [ribbon, latency]
    if levels:
        blocks.append(Table(["priority", "clock over the highest", "part of the time"], levels, "Capped"))
    return Section(f"The row with {shown.added} more servers, seed {shown.seed}", blocks)


def _policies(plan: Plan) -> Section:
    plans = list(plan.policies.values())
    return Section(
        "Other policies",
        [
            Chart("Servers that fit", charts.seeds_chart(plans), "Points: seeds. Tick: the answer. Bar: the interval."),
            Chart("Brakes", charts.policies_chart(plans)),
            Text([found.sentence() for found in plans]),
        ],
    )


def _doubts(plan: Plan) -> Section:
    return Section("What this rests on", [Text(list(_assumptions(plan))), _extrapolations(plan)])


def _assumptions(plan: Plan) -> Iterator[str]:
    row = plan.row
    yield (
        f"Simulated: caps land within {row.cap_latency.most_s:g} s, brakes within {row.brake_latency.most_s:g} s,"
        f" telemetry every {row.telemetry_period_s:g} s. Traffic grows with the servers, the budget stays."
    )
    yield (
        "A simulation promises what its traffic shows: compare peak and rises of the simulated row with your own power"
        " log before you add servers. Capping in software does not replace a breaker."
    )
    yield (
        "Sizes that are not in the table were not run. The size of the answer and the next one were run on every seed,"
        " smaller ones at least on the first."
    )


def _extrapolations(plan: Plan) -> Table:
    shown = plan.shown
    rows = [
        ["prompts outside the measured range", f"{shown.extrapolated['prompts']:,.0f} of {shown.requests:,}"],
        ["decoding time at batches outside it", f"{shown.extrapolated['batch_share']:.2%}"],
        ["server time at clocks below the fitted ones", f"{shown.extrapolated['level_share']:.2%}"],
        ["largest rise within 2 s, without a policy", f"{shown.rise_2s:.1%}"],
        [f"largest rise within {plan.row.cap_latency.most_s:g} s", f"{shown.rise_cap:.1%}"],
        ["profiles", ", ".join(sorted({server.profile.name for server in plan.row.servers}))],
    ]
    return Table(["of the run shown", ""], rows)
