"""All that makes a server: what the command line collects and, with replicas, each of them is started from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from nonet.ragcache.scheduling.engine import Engine
from nonet.ragcache.scheduling.settings import EngineConfig
from nonet.ragcache.serving.app import ServerConfig
from nonet.ragcache.store.chunk_store import ChunkStore


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """A server's settings; can be pickled.

    Args:
        model: name or path.
        dtype: of weights and KV.
        store: tiers, the fastest first.
        eviction: a name of `EVICTIONS`.
        engine: sizes and defaults.
        server: what is allowed; with an empty name, the model's.
        metrics_compat: whose metric names are shown beside ours.
    """

    model: str = "smollm2"
    dtype: str = "float32"
    store: str = "ram:4GB"
    eviction: str = "value"
    engine: EngineConfig = field(default_factory=EngineConfig)
    server: ServerConfig = field(default_factory=lambda: ServerConfig(""))
    metrics_compat: tuple[str, ...] = ()

    def open_engine(self) -> tuple[Engine, ServerConfig]:
        """Load the model, open the store, and name the server.

        Raises:
            InputError: no such model, store or eviction.
        """
        store = ChunkStore.from_spec(self.store, eviction=self.eviction)
        engine = Engine.from_pretrained(self.model, dtype=self.dtype, store=store, config=self.engine)
        name = self.server.served_model_name or str(self.model)
        return engine, replace(self.server, served_model_name=name)
