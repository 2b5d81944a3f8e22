"""Tables over several shards: threads, processes or Ray actors, with the same class.

shard.py     Shard: what a shard can be asked
wire.py      calls as bytes;  process.py  a shard's process
backends.py  thread, process, ray
sharded.py   ShardedTable: the face of one table; another number of shards
failure.py   failure_trial: a shard is killed, in snapshot mode and in replay mode (not imported here: a shard's process
             needs no model)
"""

from nonet.recsys.sharding.backends import BACKENDS, ShardDownError
from nonet.recsys.sharding.shard import Shard
from nonet.recsys.sharding.sharded import ShardedTable

__all__ = ["BACKENDS", "Shard", "ShardDownError", "ShardedTable"]
