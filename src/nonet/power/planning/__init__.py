"""The planner: how many more servers fit under a row's budget, what they cost in latency, and the page that shows it.

slo.py      what must hold; outcome.py: one run judged against its uncapped twin; ribbon.py: its power by hour
search.py   which steps to run; rounds.py: running them on all cores; interval.py: confidence over seeds
answers.py  from runs to answers; warnings.py: what to doubt in them; plan.py: `plan`
sweep.py    thresholds against added servers
charts.py   charts of both; page.py: the HTML page
traffic.py  requests that grow with the row; scenario.py: a planner's file (TOML) to all of the above
"""

from nonet.power.planning.answers import PolicyPlan, Step
from nonet.power.planning.outcome import Outcome
from nonet.power.planning.plan import Plan, plan
from nonet.power.planning.slo import Slo
from nonet.power.planning.sweep import Sweep, sweep, threshold_grid

__all__ = ["Outcome", "Plan", "PolicyPlan", "Slo", "Step", "Sweep", "plan", "sweep", "threshold_grid"]
