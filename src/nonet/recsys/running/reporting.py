"""The page of a freshness simulation, and what it says in a sentence."""

from __future__ import annotations

from pathlib import Path

from nonet.recsys.freshness.simulate import Freshness, Simulation

COLUMNS = ("syncs", "a sync each", "AUC online", "AUC frozen", "gain", "+-", "AUC of all rows", "MB a sync", "MB a day")
_WORTH = 0.001
"""A gain of AUC below this is not worth anybody's evening."""


def freshness_rows(simulation: Simulation) -> list[list[object]]:
    """A line for each number of syncs, under `COLUMNS`."""
    return [
        [
            line.num_shards,
            span(line.interval_s),
            line.online_auc,
            line.frozen_auc,
            line.gain,
            line.gain_spread,
            line.pooled_online_auc,
            line.sync_bytes / 1e6,
            line.bytes_per_day / 1e6,
        ]
        for line in simulation.table()
    ]


def verdict(simulation: Simulation) -> str:
    """Whether fresher syncs pay, with the numbers that say so.

    A gain counts when it is above 0.001 of AUC and above its spread over the seeds. Different numbers of syncs are
    compared by the AUC over all rows at once.
    """
    lines = simulation.table()
    best = max(lines, key=lambda line: line.pooled_online_auc)
    sure = [line for line in lines if line.gain > max(_WORTH, line.gain_spread or 0.0)]
    if not sure:
        most = max(lines, key=lambda line: line.gain)
        return (
            f"Online training does not pay on this log: the most that syncs bring is {most.gain:+.4f} AUC over a model "
            f"that is never synced ({_spread(most)})."
        )
    gain = best.pooled_online_auc - best.pooled_frozen_auc
    said = f"Online training pays: {gain:+.4f} AUC over all rows with a sync each {span(best.interval_s)}."
    doubt = " One seed says nothing of chance; try --seeds 3." if best.gain_spread is None else ""
    return f"{said} {_fresher(lines, best)}{doubt}"


def _spread(line: Freshness) -> str:
    return "one seed, spread unknown" if line.gain_spread is None else f"spread {line.gain_spread:.4f}"


def _fresher(lines: list[Freshness], best: Freshness) -> str:
    slowest = min(lines, key=lambda line: line.num_shards)
    if len(lines) == 1:
        return "Try several --shards to see whether fresher syncs pay more."
    step = best.pooled_online_auc - slowest.pooled_online_auc
    if best is slowest or step < _WORTH:
        return f"Fresher than each {span(slowest.interval_s)} does not pay ({step:+.4f})."
    cost = (best.bytes_per_day - slowest.bytes_per_day) / 1e6
    return (
        f"Fresher syncs pay: {step:+.4f} from one each {span(slowest.interval_s)} to one each {span(best.interval_s)}, "
        f"for {cost:,.1f} MB a day and replica more."
    )


def span(seconds: float) -> str:
    """A length of time for a person.

    >>> [span(s) for s in (0.2, 45, 600, 7200, 400_000, 22_000_000)]
    ['0.2 s', '45 s', '10 min', '2 h', '4.6 d', '255 d']
    """
    for unit, size in (("d", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size or (unit == "h" and seconds >= size):
            return f"{_short(seconds / size)} {unit}"
    return f"{_short(seconds)} s"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def write_page(path: str | Path, simulation: Simulation, source: str) -> None:
    """The simulation as one HTML file that needs no network.

    Args:
        path: of the file.
        simulation: of `freshness.simulate`.
        source: what was simulated on.

    Raises:
        InputError: the folder of `path` does not exist.
    """
    from nonet.common.report import Chart, Section, Table, Text, write_report
    from nonet.recsys.freshness.charts import cost_chart, shard_chart

    how = (
        f"The first {simulation.history_rows:,} rows by time are the batch stage; the {simulation.online_rows:,} after "
        "them are cut into shards. Before each shard the serving copy is synced and scored on rows that nobody has "
        "learned; then they are learned. The frozen model is the same, never synced again.",
        "AUC online and frozen are means over shards and seeds, the gain is their difference. Different numbers of "
        "syncs are compared by the AUC of all rows at once.",
    )
    sections = [
        Section(
            "What fresher syncs buy",
            [Text([verdict(simulation)]), Table(COLUMNS, freshness_rows(simulation)), Text(how)],
        ),
        Section("Over time", [Chart("AUC of each shard", shard_chart(simulation))]),
    ]
    if any(line.bytes_per_day > 0 for line in simulation.table()):
        sections.append(Section("Cost", [Chart("AUC and bytes", cost_chart(simulation))]))
    write_report(path, "What fresher syncs would buy", sections, subtitle=source)
