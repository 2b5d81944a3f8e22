"""What is learned: the table against a plain model, collisions, Algorithm 1, log-odds, and how fast it trains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nonet.common.console import note
from nonet.common.datasets import Dataset, locate
from nonet.common.findings import Finding, Rival
from nonet.recsys.data import ML_100K, ML_LATEST_SMALL
from nonet.recsys.example import ExampleBatch

if TYPE_CHECKING:
    import altair

_WORDS = {"movielens/100k": "ml-100k", "movielens/latest-small": "ml-latest-small"}


@dataclass(frozen=True, slots=True)
class Log:
    """Rows to learn from.

    Args:
        name: for the reader.
        rows: by time.
        is_published: a data set; otherwise the drift generator stands in, and nothing is promised.
    """

    name: str
    rows: ExampleBatch
    is_published: bool

    def promise(self, value: float | None) -> float | None:
        """What is promised of this log: of published rows only."""
        return value if self.is_published else None


def log_of(dataset: Dataset) -> Log:
    """Its rows; those of the drift generator, and a word on stderr, where it is not at hand."""
    from nonet.recsys.freshness.drift import Drift
    from nonet.recsys.reading.examples import read_sorted

    if files := locate(dataset):
        return Log(_WORDS[dataset.name], read_sorted(files["log"]), True)
    note(f"bench: {dataset.name} is not at hand; a generated log stands in for it, of which nothing is promised")
    return Log("synthetic drift, half-life 12 h", Drift(rows=30_000).log().examples, False)


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

    log = log_of(ML_100K)
    seen = collisions(log.rows, seeds=seeds)
    arms = seen.arms
    rates = ", ".join(f"{rate:.1%} of {feature}s" for feature, rate in arms["hashed"].collision_rate.items())
    source = f"{log.name}, DeepFM k=8, random 80/20, {len(seeds)} seeds, after 4 epochs"
    told = f"AUC {arms['collisionless'].final_auc:.4f} and {arms['hashed'].final_auc:.4f}; {rates} collide"
    if "quotient" in arms:
        told += f"; quotient and remainder {arms['quotient'].final_auc:.4f}"
    above = seen.above_every_epoch
    gap, every = log.promise(0.002), log.promise(1.0)
    return [
        Finding("recsys", "collision_auc_gap", seen.gap, "", "higher", source, promise=gap, note=told),
        Finding("recsys", "collisionless_above_every_epoch", above, "", "match", source, promise=every),
    ]


def online_findings(*, seeds: Sequence[int]) -> list[Finding]:
    """`online_minus_frozen_auc` by set and number of shards: Algorithm 1 of the paper.

    Args:
        seeds: a run for each.
    """
    from nonet.recsys.freshness.simulate import simulate

    findings: list[Finding] = []
    for dataset, promises in ((ML_100K, {10: 0.005, 50: 0.009}), (ML_LATEST_SMALL, {10: 0.03})):
        log = log_of(dataset)
        if not log.is_published and findings:
            continue
        for line in simulate(log.rows, shards=(10, 50, 100), seeds=seeds).table():
            source = f"{log.name}, {line.num_shards} shards of {line.interval_s / 3600:.1f} h, {len(seeds)} seeds"
            spread = "one seed" if line.gain_spread is None else f"spread over seeds {line.gain_spread:.4f}"
            told = (
                f"{line.online_auc:.4f} and {line.frozen_auc:.4f}, {spread}; pooled "
                f"{line.pooled_online_auc:.4f} and {line.pooled_frozen_auc:.4f}; {line.sync_rows:,.0f} rows a sync"
            )
            promise = log.promise(promises.get(line.num_shards))
            word = log.name.replace("-", "_") if log.is_published else "drift"
            title = f"online_minus_frozen_auc_{word}_{line.num_shards}"
            findings.append(Finding("recsys", title, line.gain, "", "higher", source, promise=promise, note=told))
    return findings


def log_odds_findings() -> list[Finding]:
    """`log_odds_auc_loss` and calibration with a tenth of the negatives."""
    from nonet.recsys.freshness.log_odds import implicit_negatives, log_odds

    log = log_of(ML_100K)
    lines = {line.stage: line for line in log_odds(implicit_negatives(log.rows))}
    source = f"{log.name}, nine items drawn for each liked one, a tenth of those kept"
    loss = lines["unsampled"].auc - lines["training"].auc
    told = ", ".join(f"{stage} {line.auc:.4f}" for stage, line in lines.items())
    findings = [
        Finding(
            "recsys", "log_odds_auc_loss", loss, "", "lower", source, promise=log.promise(0.005), note=f"AUC: {told}"
        )
    ]
    for stage in ("training", "serving"):
        title = f"calibration_error_corrected_in_{stage}"
        error = abs(lines[stage].calibration - 1)
        told = (
            f"sum of predictions over positives {lines[stage].calibration:.3f}; {lines['none'].calibration:.2f} without"
        )
        findings.append(Finding("recsys", title, error, "", "lower", source, promise=log.promise(0.1), note=told))
    return findings


def rate_findings(*, rounds: int) -> list[Finding]:
    """`train_rate_vs_river_fm` and `train_rate_vs_torch_embeddingbag`.

    Args:
        rounds: of each; the best counts.
    """
    from nonet.recsys.bench.rates import train_rates

    log = log_of(ML_100K)
    seen = train_rates(log.rows, rounds=rounds)
    size = min(seen.deepfm)
    worst = min(seen.deepfm, key=lambda n: seen.deepfm[n].rows_per_s / seen.torch[n].rows_per_s)
    ours = f"{seen.fm_batched.rows_per_s:,.0f} examples/s in batches of {size}; {seen.fm_single.rows_per_s:,.0f} singly"
    told = f"{seen.deepfm[worst].rows_per_s:,.0f} examples/s in batches of {worst}, the worse of {sorted(seen.deepfm)}"
    fm, deep = f"{log.name}, FM k=8", f"{log.name}, DeepFM k=8"
    river = Rival("river 0.26 FMClassifier", seen.river.rows_per_s, "measured")
    plain = Rival("EmbeddingBag(sparse=True)", seen.torch[worst].rows_per_s, "measured")
    rates = (seen.fm_batched.rows_per_s, seen.deepfm[worst].rows_per_s)
    return [
        Finding("recsys", "train_rate_vs_river_fm", seen.vs_river, "x", "higher", fm, (), 5.0, ours),
        Finding("recsys", "train_rate_vs_torch_embeddingbag", seen.vs_torch, "x", "higher", deep, (), 0.5, told),
        Finding("recsys", "train_fm_examples_per_s", rates[0], "examples/s", "higher", fm, (river,)),
        Finding("recsys", "train_deepfm_examples_per_s", rates[1], "examples/s", "higher", deep, (plain,)),
    ]


def tour_charts() -> list[tuple[str, altair.TopLevelMixin]]:
    """AUC by shard with and without syncs, and by epoch with and without collisions."""
    from nonet.recsys.freshness.charts import epoch_chart, shard_chart
    from nonet.recsys.freshness.collisions import collisions
    from nonet.recsys.freshness.simulate import simulate

    log = log_of(ML_100K)
    return [
        (f"Online against frozen: {log.name}", shard_chart(simulate(log.rows, shards=(10,), seeds=(0,)))),
        (f"With and without collisions: {log.name}", epoch_chart(collisions(log.rows, seeds=(0,)))),
    ]
