"""Collisionless embedding tables: a cuckoo index over an arena of rows, sparse optimizers, admission, expiry.

embedding_table.py  EmbeddingTable: lookup, apply_gradients, upsert, erase, expire, export
segments.py         Segment: a slice of the row with its own optimizer and initializer
optimizers/         the rules, a registry
initializers.py     first weights of a key
expiry.py           time to live, ceilings on keys and bytes
interfaces.py       Admission: what decides about new keys
touched.py          what has changed since the last sync
store.py            RowStore: index and arena, one writer, readers without locks
view.py             the arrays that kernels see
memory.py           memory that goes back to the system
_*_kernels.py       numba
"""

from nonet.recsys.table.embedding_table import Applied, EmbeddingTable, Exported
from nonet.recsys.table.expiry import (
    EXPIRIES,
    Expiry,
    LeastFrequent,
    LeastRecent,
    LiveKeys,
    Several,
    SmallestNorm,
    TimeToLive,
)
from nonet.recsys.table.initializers import INITIALIZERS, Constant, Initializer, Normal, Uniform, Zeros
from nonet.recsys.table.interfaces import Admission
from nonet.recsys.table.optimizers import (
    FTRL,
    OPTIMIZERS,
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    AMSGrad,
    BatchSoftmax,
    GroupAdagrad,
    Momentum,
    MovingAverage,
    Optimizer,
    RMSProp,
)
from nonet.recsys.table.segments import Segment
from nonet.recsys.table.touched import Touched

__all__ = [
    "EXPIRIES",
    "FTRL",
    "INITIALIZERS",
    "OPTIMIZERS",
    "SGD",
    "AMSGrad",
    "Adadelta",
    "Adagrad",
    "Adam",
    "Admission",
    "Applied",
    "BatchSoftmax",
    "Constant",
    "EmbeddingTable",
    "Expiry",
    "Exported",
    "GroupAdagrad",
    "Initializer",
    "LeastFrequent",
    "LeastRecent",
    "LiveKeys",
    "Momentum",
    "MovingAverage",
    "Normal",
    "Optimizer",
    "RMSProp",
    "Segment",
    "Several",
    "SmallestNorm",
    "TimeToLive",
    "Touched",
    "Uniform",
    "Zeros",
]
