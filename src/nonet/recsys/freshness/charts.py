"""Charts of a simulation and of a comparison of collisions, for `nonet.common.plots.chart_html`."""

from __future__ import annotations

import math
from typing import Any

import altair as alt
import numpy as np

from nonet.common.plots import PALETTE, RIVAL
from nonet.recsys.freshness.collisions import Collisions
from nonet.recsys.freshness.simulate import Simulation


def shard_chart(simulation: Simulation) -> alt.Chart:
    """AUC of every shard over event time, means over the seeds: one line for each number of shards, one frozen."""
    most = max(shard.num_shards for shard in simulation.shards)
    points: dict[tuple[str, int], list[float]] = {}
    for shard in simulation.shards:
        points.setdefault((f"{shard.num_shards} syncs", shard.first_ts_ms), []).append(shard.online_auc)
        if shard.num_shards == most:
            points.setdefault(("never synced", shard.first_ts_ms), []).append(shard.frozen_auc)
    rows: list[dict[str, Any]] = [
        {"model": model, "time": ts_ms, "auc": float(np.mean(aucs))}
        for (model, ts_ms), aucs in points.items()
        if not math.isnan(float(np.mean(aucs)))
    ]
    names = [*dict.fromkeys(model for model, _ in points if model != "never synced"), "never synced"]
    colours = [*PALETTE[: len(names) - 1], RIVAL]
    chart: alt.Chart = (
        alt.Chart(alt.Data(values=rows), title="AUC on rows that were not trained on yet")
        .mark_line(point=True)
        .encode(
            x=alt.X("time:T", title=None),
            y=alt.Y("auc:Q", title="AUC", scale=alt.Scale(zero=False)),
            color=alt.Color("model:N", title=None, scale=alt.Scale(domain=names, range=colours)),
            tooltip=[alt.Tooltip("model:N"), alt.Tooltip("time:T"), alt.Tooltip("auc:Q", format=".4f")],
        )
    )
    return chart


def cost_chart(simulation: Simulation) -> alt.Chart:
    """What fresher syncs buy and cost: AUC over all rows against bytes per day of event time."""
    lines = simulation.table()
    rows = [
        {"sync": f"{line.num_shards} syncs", "bytes": line.bytes_per_day, "auc": line.pooled_online_auc}
        for line in lines
        if line.bytes_per_day > 0 and math.isfinite(line.pooled_online_auc)
    ]
    chart: alt.Chart = (
        alt.Chart(alt.Data(values=rows), title="What fresher syncs buy, and what they cost")
        .mark_line(point=True)
        .encode(
            x=alt.X("bytes:Q", title="bytes synced per day of event time", scale=alt.Scale(type="log")),
            y=alt.Y("auc:Q", title="AUC over all rows", scale=alt.Scale(zero=False)),
            tooltip=[alt.Tooltip("sync:N"), alt.Tooltip("bytes:Q", format=".3s"), alt.Tooltip("auc:Q", format=".4f")],
        )
    )
    return chart


def epoch_chart(seen: Collisions) -> alt.Chart:
    """AUC on held-out rows after each epoch, means over the seeds: one line for each way to name ids."""
    rows = [
        {"ids": arm.name, "epoch": epoch, "auc": float(value)}
        for arm in seen.arms.values()
        for epoch, value in enumerate(arm.auc.mean(0), 1)
    ]
    names = list(seen.arms)
    colours = [PALETTE[0], RIVAL, *PALETTE[1:]][: len(names)]
    chart: alt.Chart = (
        alt.Chart(alt.Data(values=rows), title="AUC on rows that were held out")
        .mark_line(point=True)
        .encode(
            x=alt.X("epoch:O", title="epochs"),
            y=alt.Y("auc:Q", title="AUC", scale=alt.Scale(zero=False)),
            color=alt.Color("ids:N", title=None, scale=alt.Scale(domain=names, range=colours)),
            tooltip=[alt.Tooltip("ids:N"), alt.Tooltip("epoch:O"), alt.Tooltip("auc:Q", format=".4f")],
        )
    )
    return chart
