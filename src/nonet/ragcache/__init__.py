"""An inference server that reuses the KV cache of retrieved chunks wherever they stand in the prompt.

Paper: Agarwal et al., "Cache-Craft: Managing Chunk-Caches for Efficient Retrieval-Augmented Generation", SIGMOD 2025.
Retrieved chunks come back in other orders and neighbourhoods, so prefix caches miss; their KV can be reused all the
same when the few rows that the neighbours changed most are computed anew. All other rows are not computed at all.

Map, in the order in which data flow:

- `models`: GGUF files and safetensors folders to a decoder with its tokenizer and chat template;
- `front`: documents to chunks to an index, by words and by meaning;
- `reuse`: prompts in segments, the measures of a stored chunk under new neighbours, modes, plans, calibration, warm-up;
- `store`: variants of chunks in memory, on disk, in Redis and S3, with eviction and reads layer by layer;
- `engine`: the forward over a set of active rows, paged KV, sampling;
- `scheduling`: the engine's face, and many requests at a time;
- `serving`: OpenAI's API, metrics, the chat page;
- `bench`: the headline experiments; `cli`: the command line.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# Torch's threads spin for some 15 ms after an operation, on the cores that `engine.team` works on. Read when torch is
# imported; about 1 ms is enough to wait for the next operation of a layer.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")

if TYPE_CHECKING:
    from nonet.ragcache.front.documents import read_documents
    from nonet.ragcache.front.embedding import Embedder
    from nonet.ragcache.front.index import ChunkIndex
    from nonet.ragcache.models.loading import LoadedModel, load_model
    from nonet.ragcache.models.toy import toy_model
    from nonet.ragcache.reuse.abstain import Guard, calibrated_guard, exposure
    from nonet.ragcache.reuse.calibrating import Trial, calibrate
    from nonet.ragcache.reuse.modes import MODES
    from nonet.ragcache.reuse.plan import Plan
    from nonet.ragcache.reuse.planner import Planner
    from nonet.ragcache.reuse.prompt import Prompt
    from nonet.ragcache.scheduling.engine import Engine
    from nonet.ragcache.scheduling.prompting import ChunkText
    from nonet.ragcache.scheduling.request import ChunkReport, Generation, RequestReport, SamplingParams
    from nonet.ragcache.scheduling.settings import EngineConfig
    from nonet.ragcache.scheduling.shadow import ShadowConfig
    from nonet.ragcache.serving.app import ServerConfig
    from nonet.ragcache.serving.server import Address, RagServer
    from nonet.ragcache.store.chunk_store import ChunkStore

__all__ = [
    "MODES",
    "Address",
    "ChunkIndex",
    "ChunkReport",
    "ChunkStore",
    "ChunkText",
    "Embedder",
    "Engine",
    "EngineConfig",
    "Generation",
    "Guard",
    "LoadedModel",
    "Plan",
    "Planner",
    "Prompt",
    "RagServer",
    "RequestReport",
    "SamplingParams",
    "ServerConfig",
    "ShadowConfig",
    "Trial",
    "calibrate",
    "calibrated_guard",
    "exposure",
    "load_model",
    "read_documents",
    "toy_model",
]

_HOMES = {
    "MODES": "reuse.modes",
    "Address": "serving.server",
    "ChunkIndex": "front.index",
    "ChunkReport": "scheduling.request",
    "ChunkStore": "store.chunk_store",
    "ChunkText": "scheduling.prompting",
    "Embedder": "front.embedding",
    "Engine": "scheduling.engine",
    "EngineConfig": "scheduling.settings",
    "Generation": "scheduling.request",
    "Guard": "reuse.abstain",
    "LoadedModel": "models.loading",
    "Plan": "reuse.plan",
    "Planner": "reuse.planner",
    "Prompt": "reuse.prompt",
    "RagServer": "serving.server",
    "RequestReport": "scheduling.request",
    "SamplingParams": "scheduling.request",
    "ServerConfig": "serving.app",
    "ShadowConfig": "scheduling.shadow",
    "Trial": "reuse.calibrating",
    "calibrate": "reuse.calibrating",
    "calibrated_guard": "reuse.abstain",
    "exposure": "reuse.abstain",
    "load_model": "models.loading",
    "read_documents": "front.documents",
    "toy_model": "models.toy",
}


def __getattr__(name: str) -> Any:
    """Import on first use: the command line must start without PyTorch."""
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"nonet.ragcache.{_HOMES[name]}"), name)
