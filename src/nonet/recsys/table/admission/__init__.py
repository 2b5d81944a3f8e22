"""Admission: which keys that are new get a row. The table asks once a batch, with the keys that it does not have.

exact.py   ExactCount: at the threshold-th occurrence, about 25 bytes a waiting key
sketch.py  SlidingSketch: the same among the keys that came lately, about 6 bytes a key, with a stated false-admit rate
chance.py  Probabilistic: by chance, without memory
"""

from nonet.recsys.table.admission.chance import Probabilistic
from nonet.recsys.table.admission.exact import ExactCount
from nonet.recsys.table.admission.registry import ADMISSIONS
from nonet.recsys.table.admission.sketch import SlidingSketch

__all__ = ["ADMISSIONS", "ExactCount", "Probabilistic", "SlidingSketch"]
