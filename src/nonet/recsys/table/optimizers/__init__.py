"""Sparse optimizers: a registry of frozen dataclasses, each with one numba kernel over a dense block of rows.

base.py       the contract, the registry
descent.py    SGD, momentum
adaptive.py   Adagrad, RMSProp, Adadelta
adam.py       Adam, AMSGrad
proximal.py   FTRL, group lasso: exact zeros
averaging.py  moving average, batch softmax: rows that are statistics
"""

from nonet.recsys.table.optimizers.adam import Adam, AMSGrad
from nonet.recsys.table.optimizers.adaptive import Adadelta, Adagrad, RMSProp
from nonet.recsys.table.optimizers.averaging import BatchSoftmax, MovingAverage
from nonet.recsys.table.optimizers.base import OPTIMIZERS, Optimizer
from nonet.recsys.table.optimizers.descent import SGD, Momentum
from nonet.recsys.table.optimizers.proximal import FTRL, GroupAdagrad

__all__ = [
    "FTRL",
    "OPTIMIZERS",
    "SGD",
    "AMSGrad",
    "Adadelta",
    "Adagrad",
    "Adam",
    "BatchSoftmax",
    "GroupAdagrad",
    "Momentum",
    "MovingAverage",
    "Optimizer",
    "RMSProp",
]
