"""The headline experiments of the room: the paper's row, the simulator, calibration and the planner.

Files: `headline` (the base row, +30 % servers under four policies), `simulator` (speed, exactness), `calibration`
(errors on what was held out), `planner` (against a scan and closed forms), `tour_charts`;
`plain_row` is the slow, plain twin of the simulator.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nonet.common.console import note
from nonet.common.experiments import Experiment, Scale, run_experiments
from nonet.common.findings import Finding

if TYPE_CHECKING:
    import altair


def bench(scale: Scale = "quick", only: Sequence[str] = ()) -> list[Finding]:
    """Run the experiments; "quick" takes about two minutes on two cores, "full" several times as long.

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
    return {"simulator": _simulator, "headline": _headline, "calibration": _calibration, "planner": _planner}


def plots() -> list[tuple[str, altair.TopLevelMixin]]:
    """Charts for the tour: the fitted base row, and four policies at 30 % more servers."""
    from nonet.power.bench.tour_charts import charts

    return charts()


def _simulator(scale: Scale) -> list[Finding]:
    from nonet.power.bench.simulator import simulator_findings

    return simulator_findings(scale)


def _headline(scale: Scale) -> list[Finding]:
    from nonet.power.bench.headline import headline_findings

    return headline_findings(scale, workers=os.cpu_count() or 1, progress=lambda text: note(f"bench: headline: {text}"))


def _calibration(scale: Scale) -> list[Finding]:
    from nonet.power.bench.calibration import calibration_findings

    return calibration_findings()


def _planner(scale: Scale) -> list[Finding]:
    from nonet.power.bench.planner import planner_findings

    return planner_findings(scale, progress=lambda text: note(f"bench: planner: {text}"))
