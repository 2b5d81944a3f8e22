"""The online joiner: features and actions, out of order, become examples, each exactly once.

settings.py      what a joiner is told and what it counts
labels.py        labels, waits, late positives;  sampling.py  negative sampling
watermarks.py    event time
window.py        rows that wait, in memory;  store.py  on disk, with the checkpoint
intake.py        events as they come in, checked
settling.py      from a row's actions to its examples
outbox.py        output that goes out once;  dead_letters.py  what could not be joined
joiner.py        `Joiner`, which runs all of it
generating.py    negatives for streams that hold positives only
trials.py        the joiner, killed, against a database; trial_events.py, trial_worker.py  its events and its process
"""

from nonet.recsys.joining.dead_letters import REASONS, DeadLetter, decode_letter
from nonet.recsys.joining.generating import Generating, NegativeGenerator
from nonet.recsys.joining.joiner import Joiner
from nonet.recsys.joining.labels import Label, fake_negative_weights
from nonet.recsys.joining.sampling import SAMPLINGS, ActionRate, ConstantRate, FeatureRate, Sampling
from nonet.recsys.joining.settings import JoinCounts, Joining
from nonet.recsys.joining.store import SpillError
from nonet.recsys.joining.trials import JoinTrial, trial

__all__ = [
    "REASONS",
    "SAMPLINGS",
    "ActionRate",
    "ConstantRate",
    "DeadLetter",
    "FeatureRate",
    "Generating",
    "JoinCounts",
    "JoinTrial",
    "Joiner",
    "Joining",
    "Label",
    "NegativeGenerator",
    "Sampling",
    "SpillError",
    "decode_letter",
    "fake_negative_weights",
    "trial",
]
