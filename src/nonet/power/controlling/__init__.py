"""The controller of a live row: the policy that was judged in simulation, between a power meter and GPUs.

`daemon.py` runs the loop of `controller.py` on the readings of `telemetry/`, sends what comes out of it through
`writing.py` to the back ends of `actuators/`, writes everything down in `journal.py` first, and tells `metrics.py`.
`config.py` is the row file; `starting.py` and `guardian.py` are what happens before and after; `clock.py` and
`sampling.py` keep time honest. `dashboards/` holds a Grafana dashboard and Prometheus rules.

Software caps do not replace breakers. Nothing is written without `apply` and an allow-list.
"""

from nonet.power.controlling.config import RowFile, load_row_file
from nonet.power.controlling.daemon import RunOptions, RunReport, run_row

__all__ = ["RowFile", "RunOptions", "RunReport", "load_row_file", "run_row"]
