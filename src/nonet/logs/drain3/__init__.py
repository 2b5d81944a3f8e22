"""For those who come from Drain3: the same classes, methods and result fields over this room's miner.

Change the import and keep the rest; the modules have the names of Drain3's too::

    from nonet.logs.drain3 import FilePersistence, MaskingInstruction, TemplateMiner, TemplateMinerConfig
    from nonet.logs.drain3.redis_persistence import RedisPersistence

What differs:

- Templates come from the miner of this room (general masks first, one configuration), so the settings of Drain's tree
  change nothing, and the tree itself (`drain3.drain.Drain`) is not here; `miner.drain` has its clusters.
- Two lines that differ in a word stay two clusters until there is evidence that the word varies: a third value after a
  word such as "user", an eighth elsewhere, once the miner settles (with every saved state, and in between as lines come
  in). Then the clusters become one: the oldest keeps its number, the others vanish from `miner.drain.clusters` for
  good. Whoever stored a `cluster_id` asks `match` with the line for the one that it has now.
- A change of a template is told with the next message of the cluster.
- Masks run in linear time, on the message as it came; what cannot be is refused with the reason.
- Parameters are exact. The state is a checksummed blob that holds no code, and files are written atomically.

The files: `template_miner` (`TemplateMiner`), `template_miner_config`, `masking`, `drain` (clusters), `delimiters`,
`parameters`, `simple_profiler` (measures nothing), and where a state is kept: `persistence_handler`,
`file_persistence`, `memory_buffer_persistence`, `redis_persistence`, `kafka_persistence`.
"""

from nonet.logs.drain3.drain import LogCluster
from nonet.logs.drain3.file_persistence import FilePersistence
from nonet.logs.drain3.masking import MaskingInstruction
from nonet.logs.drain3.memory_buffer_persistence import MemoryBufferPersistence
from nonet.logs.drain3.parameters import ExtractedParameter
from nonet.logs.drain3.persistence_handler import PersistenceHandler
from nonet.logs.drain3.template_miner import TemplateMiner
from nonet.logs.drain3.template_miner_config import TemplateMinerConfig

__all__ = [
    "ExtractedParameter",
    "FilePersistence",
    "LogCluster",
    "MaskingInstruction",
    "MemoryBufferPersistence",
    "PersistenceHandler",
    "TemplateMiner",
    "TemplateMinerConfig",
]
