"""What is learned: the table against a plain model, collisions, Algorithm 1, log-odds, and how fast it trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nonet.common.console import note
from nonet.common.datasets import Dataset, locate
from nonet.common.findings import Finding, Rival
from nonet.recsys.data import ML_100K, ML_LATEST_SMALL
from nonet.recsys.example import ExampleBatch

if TYPE_CHECKING:
    import altair

_WORDS = {"movielens/100k": "ml-100k", "movielens/latest-small": "ml-latest-small"}


def log_of(dataset: Dataset) -> tuple[str, ExampleBatch] | None:
    """Its rows in the order of time; None, and a word on stderr, where it is not at hand."""
    from nonet.recsys.reading.examples import read_sorted

    files = locate(dataset)
    if not files:
        note(f"bench: {dataset.name} is not at hand; its findings are left out")
        return None
    return _WORDS[dataset.name], read_sorted(files["log"])


def oracle_finding(num_operations: int) -> Finding:
    """`oracle_operations_equal`: mixed operations against a dict and NumPy.

    Args:
        num_operations: keys that go through an operation.
    """
    from nonet.recsys.table.oracle import compare_with_model

    seen = compare_with_model(num_operations)
    told = (
        f"{seen.differences} differences; the index grew {seen.growths} times, at {seen.lowest_load_at_growth:.2f} full"
    )
    source = f"synthetic: {seen.operations:,} operations on hostile keys"
    equal = float(seen.differences == 0)
    return Finding("recsys", "oracle_operations_equal", equal, "", "match", source, promise=1.0, note=told)


def optimizer_findings() -> list[Finding]:
    """`optimizer_error_max` and `restore_bitwise`, over every registered optimizer."""
    from nonet.recsys.table.optimizers import OPTIMIZERS
    from nonet.recsys.table.optimizers.oracles import is_restored_bitwise, largest_error

    made = {name: OPTIMIZERS[name]() for name in OPTIMIZERS}
    errors = {name: largest_error(one) for name, one in made.items()}
    worst = max(errors, key=lambda name: errors[name])
    restored = [is_restored_bitwise(one) for one in made.values()]
    source = f"synthetic: 1,000 steps of 200 keys, {len(made)} optimizers"
    return [
        Finding(
            "recsys",
            "optimizer_error_max",
            errors[worst],
            "",
            "lower",
            source,
            promise=1e-4,
            note=f"relative, against formulas in float64; the worst is {worst}",
        ),
        Finding(
            "recsys",
            "restore_bitwise",
            sum(restored) / len(restored),
            "",
            "match",
            source,
            promise=1.0,
            note="stopped half way, restored from a snapshot, and gone on: the same bits",
        ),
    ]


def collision_findings(*, seeds: Sequence[int]) -> list[Finding]:
    """`collision_auc_gap` and `collisionless_above_every_epoch`.

    Args:
        seeds: a run of each arm for each.
    """
    from nonet.recsys.freshness.collisions import collisions

    if (found := log_of(ML_100K)) is None:
        return []
    name, rows = found
    seen = collisions(rows, seeds=seeds)
    arms = seen.arms
    rates = ", ".join(f"{rate:.1%} of {feature}s" for feature, rate in arms["hashed"].collision_rate.items())
    source = f"{name}, DeepFM k=8, random 80/20, {len(seeds)} seeds, after 4 epochs"
    told = f"AUC {arms['collisionless'].final_auc:.4f} and {arms['hashed'].final_auc:.4f}; {rates} collide"
    if "quotient" in arms:
        told += f"; quotient and remainder {arms['quotient'].final_auc:.4f}"
    above = seen.above_every_epoch
    return [
        Finding("recsys", "collision_auc_gap", seen.gap, "", "higher", source, promise=0.002, note=told),
        Finding("recsys", "collisionless_above_every_epoch", above, "", "match", source, promise=1.0),
    ]


def online_findings(*, seeds: Sequence[int]) -> list[Finding]:
    """`online_minus_frozen_auc` by set and number of shards: Algorithm 1 of the paper.

    Args:
        seeds: a run for each.
    """
    from nonet.recsys.freshness.simulate import simulate

    findings = []
    for dataset, promises in ((ML_100K, {10: 0.005, 50: 0.009}), (ML_LATEST_SMALL, {10: 0.03})):
        if (found := log_of(dataset)) is None:
            continue
        name, rows = found
        for line in simulate(rows, shards=(10, 50, 100), seeds=seeds).table():
            source = f"{name}, {line.num_shards} shards of {line.interval_s / 3600:.1f} h, {len(seeds)} seeds"
            told = (
                f"{line.online_auc:.4f} and {line.frozen_auc:.4f}, spread over seeds {line.gain_spread:.4f}; pooled "
                f"{line.pooled_online_auc:.4f} and {line.pooled_frozen_auc:.4f}; {line.sync_rows:,.0f} rows a sync"
            )
            promise = promises.get(line.num_shards)
            title = f"online_minus_frozen_auc_{name.replace('-', '_')}_{line.num_shards}"
            findings.append(Finding("recsys", title, line.gain, "", "higher", source, promise=promise, note=told))
    return findings


def log_odds_findings() -> list[Finding]:
    """`log_odds_auc_loss` and calibration with a tenth of the negatives."""
    from nonet.recsys.freshness.log_odds import implicit_negatives, log_odds

    if (found := log_of(ML_100K)) is None:
        return []
    name, rows = found
    lines = {line.stage: line for line in log_odds(implicit_negatives(rows))}
    source = f"{name}, nine items drawn for each liked one, a tenth of those kept"
    loss = lines["unsampled"].auc - lines["training"].auc
    told = ", ".join(f"{stage} {line.auc:.4f}" for stage, line in lines.items())
    findings = [Finding("recsys", "log_odds_auc_loss", loss, "", "lower", source, promise=0.005, note=f"AUC: {told}")]
    for stage in ("training", "serving"):
        title = f"calibration_error_corrected_in_{stage}"
        error = abs(lines[stage].calibration - 1)
        told = (
            f"sum of predictions over positives {lines[stage].calibration:.3f}; {lines['none'].calibration:.2f} without"
        )
        findings.append(Finding("recsys", title, error, "", "lower", source, promise=0.1, note=told))
    return findings


def rate_findings(*, rounds: int) -> list[Finding]:
    """`train_rate_vs_river_fm` and `train_rate_vs_torch_embeddingbag`.

    Args:
        rounds: of each; the best counts.
    """
    from nonet.recsys.freshness.rates import train_rates

    if (found := log_of(ML_100K)) is None:
        return []
    name, rows = found
    seen = train_rates(rows, rounds=rounds)
    size = min(seen.deepfm)
    worst = min(seen.deepfm, key=lambda n: seen.deepfm[n].rows_per_s / seen.torch[n].rows_per_s)
    ours = f"{seen.fm_batched.rows_per_s:,.0f} examples/s in batches of {size}; {seen.fm_single.rows_per_s:,.0f} singly"
    river = Rival("river 0.26 FMClassifier (examples/s)", seen.river.rows_per_s, "measured")
    plain = Rival("EmbeddingBag(sparse=True) (examples/s)", seen.torch[worst].rows_per_s, "measured")
    told = f"{seen.deepfm[worst].rows_per_s:,.0f} examples/s in batches of {worst}, the worse of {sorted(seen.deepfm)}"
    return [
        Finding(
            "recsys", "train_rate_vs_river_fm", seen.vs_river, "x", "higher", f"{name}, FM k=8", (river,), 5.0, ours
        ),
        Finding(
            "recsys",
            "train_rate_vs_torch_embeddingbag",
            seen.vs_torch,
            "x",
            "higher",
            f"{name}, DeepFM k=8",
            (plain,),
            0.5,
            told,
        ),
    ]


def tour_charts() -> list[tuple[str, altair.TopLevelMixin]]:
    """AUC by shard with and without syncs, on MovieLens where it is at hand, else on the drift generator."""
    from nonet.recsys.freshness.charts import shard_chart
    from nonet.recsys.freshness.drift import Drift
    from nonet.recsys.freshness.simulate import simulate

    name, rows = log_of(ML_100K) or ("synthetic drift", Drift(rows=30_000).log().examples)
    return [(f"Online against frozen: {name}", shard_chart(simulate(rows, shards=(10,), seeds=(0,))))]
