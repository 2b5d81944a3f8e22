"""The headline experiments of the room: the table and its rivals, learning online, the joiner, sync, serving, failure.

Files: `tables` (speed beside TFRA, TorchRec and torch; memory), `our_table`, `tfra_rival`, `mch_rival` (run in
processes), `learning` (collisions, Algorithm 1, log-odds), `rates` (training beside river and torch), `loop` (joiner,
sync, freshness, failure, retrieval).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nonet.common.experiments import Experiment, Scale, run_experiments
from nonet.common.findings import Finding

if TYPE_CHECKING:
    import altair


def bench(scale: Scale = "quick", only: Sequence[str] = ()) -> list[Finding]:
    """Run the experiments; "quick" takes two minutes on two cores, "full" about twenty.

    What an experiment lacks (published data, a rival that is not installed) is said on stderr and leaves its findings
    out; nothing else is skipped.

    Args:
        scale: which sizes.
        only: names from `experiments()`; none means all.

    Raises:
        InputError: a name that is not one.
    """
    return run_experiments(experiments(), scale, only)


def experiments() -> dict[str, Experiment]:
    """The experiments by name, in the order in which they run."""
    return {
        "speed": _speed,
        "memory": _memory,
        "oracle": _oracle,
        "optimizers": _optimizers,
        "collisions": _collisions,
        "online": _online,
        "log_odds": _log_odds,
        "rates": _rates,
        "joiner": _joiner,
        "sync": _sync,
        "freshness": _freshness,
        "failure": _failure,
        "retrieval": _retrieval,
    }


def plots() -> list[tuple[str, altair.TopLevelMixin]]:
    """Charts for the tour: AUC by shard, online and frozen; AUC by epoch, with and without collisions."""
    from nonet.recsys.bench.learning import tour_charts

    return tour_charts()


def _speed(scale: Scale) -> list[Finding]:
    from nonet.recsys.bench.tables import Workload, speed_findings

    if scale == "full":
        return speed_findings(Workload())
    return speed_findings(Workload(num_keys=200_000, num_lookups=200_000, batch=200_000), rounds=1)


def _memory(scale: Scale) -> list[Finding]:
    from nonet.recsys.bench.tables import memory_findings

    return memory_findings(2_000_000) if scale == "full" else memory_findings(200_000, rounds=2)


def _oracle(scale: Scale) -> list[Finding]:
    from nonet.recsys.bench.learning import oracle_finding

    return [oracle_finding(2_000_000 if scale == "full" else 100_000)]


def _optimizers(_scale: Scale) -> list[Finding]:
    from nonet.recsys.bench.learning import optimizer_findings

    return optimizer_findings()


def _collisions(scale: Scale) -> list[Finding]:
    from nonet.recsys.bench.learning import collision_findings

    return collision_findings(seeds=(0, 1, 2) if scale == "full" else (0,))


def _online(scale: Scale) -> list[Finding]:
    from nonet.recsys.bench.learning import online_findings

    return online_findings(seeds=(0, 1, 2) if scale == "full" else (0,))


def _log_odds(_scale: Scale) -> list[Finding]:
    from nonet.recsys.bench.learning import log_odds_findings

    return log_odds_findings()


def _rates(scale: Scale) -> list[Finding]:
    from nonet.recsys.bench.learning import rate_findings

    return rate_findings(rounds=3 if scale == "full" else 1)


def _joiner(scale: Scale) -> list[Finding]:
    from nonet.recsys.bench.loop import joiner_findings

    return joiner_findings(1_000_000 if scale == "full" else 20_000)


def _sync(scale: Scale) -> list[Finding]:
    from nonet.recsys.bench.loop import sync_findings

    return sync_findings(reads=1_000_000 if scale == "full" else 50_000)


def _freshness(scale: Scale) -> list[Finding]:
    from nonet.recsys.bench.loop import freshness_findings

    return freshness_findings(probes=15 if scale == "full" else 3)


def _failure(scale: Scale) -> list[Finding]:
    from nonet.recsys.bench.loop import failure_findings

    return failure_findings("process" if scale == "full" else "thread")


def _retrieval(scale: Scale) -> list[Finding]:
    from nonet.recsys.bench.loop import retrieval_findings

    return retrieval_findings(20_000 if scale == "full" else 3_000)
