"""Collisionless embedding tables: a cuckoo index over an arena of rows, sparse optimizers, admission, expiry.

embedding_table.py  EmbeddingTable: lookup, apply_gradients, upsert, erase, expire, export
segments.py         Segment: a slice of the row with its own optimizer and initializer
optimizers/         the rules, a registry
initializers.py     first weights of a key
expiry.py           time to live, ceilings on keys and bytes
eviction.py         expiry by count and score, as TorchRec's virtual tables have it
interfaces.py       Admission: what decides about new keys
admission/          exact counts, a sliding sketch, chance
compressors.py      how rows travel to those who serve
snapshot.py         a table in a folder, and back bit for bit
reshard.py          from N shards to M
export.py           Parquet and safetensors
module.py           a table as a layer of a torch model (imports torch)
specs.py            options of registered things as plain values
touched.py          what has changed since the last sync
store.py            RowStore: index and arena, one writer, readers without locks
view.py             the arrays that kernels see
memory.py           memory that goes back to the system
_*_kernels.py       numba
"""

from nonet.recsys.table.admission import ADMISSIONS, ExactCount, Probabilistic, SlidingSketch
from nonet.recsys.table.compressors import COMPRESSORS, Compressor, Fixed8, Fp16, Fp32, OneBit, RowCodec
from nonet.recsys.table.embedding_table import Applied, EmbeddingTable, Exported
from nonet.recsys.table.eviction import BelowCount, LowestScore, OnlyAbove, Together
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
from nonet.recsys.table.reshard import regroup, reshard
from nonet.recsys.table.segments import Segment, row_codec
from nonet.recsys.table.snapshot import Saved, read_manifest
from nonet.recsys.table.touched import Touched

__all__ = [
    "ADMISSIONS",
    "COMPRESSORS",
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
    "BelowCount",
    "Compressor",
    "Constant",
    "EmbeddingTable",
    "ExactCount",
    "Expiry",
    "Exported",
    "Fixed8",
    "Fp16",
    "Fp32",
    "GroupAdagrad",
    "Initializer",
    "LeastFrequent",
    "LeastRecent",
    "LiveKeys",
    "LowestScore",
    "Momentum",
    "MovingAverage",
    "Normal",
    "OneBit",
    "OnlyAbove",
    "Optimizer",
    "Probabilistic",
    "RMSProp",
    "RowCodec",
    "Saved",
    "Segment",
    "Several",
    "SlidingSketch",
    "SmallestNorm",
    "TimeToLive",
    "Together",
    "Touched",
    "Uniform",
    "Zeros",
    "read_manifest",
    "regroup",
    "reshard",
    "row_codec",
]
