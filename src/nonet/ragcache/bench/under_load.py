"""One mode under load: an engine whose store earlier requests have filled, and requests that come at given times."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from nonet.common.errors import InputError
from nonet.ragcache.bench.replay import LoadReport, Server, TimedRequest, load_report, replay
from nonet.ragcache.models.loading import LoadedModel
from nonet.ragcache.reuse.modes import MODES
from nonet.ragcache.reuse.prompt import Prompt
from nonet.ragcache.scheduling.engine import Engine
from nonet.ragcache.scheduling.request import SamplingParams
from nonet.ragcache.scheduling.settings import EngineConfig
from nonet.ragcache.store.chunk_store import ChunkStore
from nonet.ragcache.store.variant import ChunkKV

PREFIX = "prefix"
Workload = Callable[[Engine], tuple[list[Prompt], list[TimedRequest]]]


class ModeUnderLoad:
    """A mode with the store that earlier requests have filled; every run begins with a copy of that.

    Args:
        model: loaded.
        mode: of all requests. Prefix mode neither observes attention nor limits how many prefixes a chunk is kept
            behind, since a prefix cache does neither.
        workload: the prompts that fill the store, and the requests of a run.
        store: spec of the store, one for this and one for each run.
        max_model_len: tokens of prompt and answer.
    """

    def __init__(self, model: LoadedModel, mode: str, workload: Workload, *, store: str, max_model_len: int) -> None:
        self._model, self._mode, self._workload = model, mode, workload
        self._spec, self._max_model_len = store, max_model_len
        self._store = self._new_store()
        self._warmer = self._engine(self._store)
        keys: dict[str, None] = {}
        for prompt in workload(self._warmer)[0]:
            keys.update(dict.fromkeys(segment.key for segment in prompt.segments[:-1]))
            self._warmer.complete(prompt, params=SamplingParams(max_tokens=2, ignore_eos=True))
        self._warmer.finish_background()
        self._keys = list(keys)

    def run(self, times: Sequence[float]) -> LoadReport:
        """The workload's requests at these times, in an engine of its own.

        Args:
            times: seconds after the start, one a request.

        Raises:
            InputError: a request failed.
        """
        engine = self._engine(self._copy())
        requests = [
            replace(request, arrival_s=time_s) for time_s, request in zip(times, self._workload(engine)[1], strict=True)
        ]
        server: Server = engine.start()
        report = load_report(replay(server, requests))
        engine.stop()
        if report.failed:
            raise InputError(f"{report.failed} of {len(requests)} requests failed in mode {self._mode}")
        return report

    def close(self) -> None:
        """Let go of the store."""
        self._warmer.stop(0)

    def _new_store(self) -> ChunkStore:
        if self._mode == PREFIX:
            return ChunkStore.from_spec(self._spec, max_variants=sys.maxsize)
        return ChunkStore.from_spec(self._spec)

    def _engine(self, store: ChunkStore) -> Engine:
        config = EngineConfig(
            mode=self._mode,
            max_model_len=self._max_model_len,
            pool_tokens=8 * self._max_model_len,
            max_waiting=10_000,
            observe=MODES[self._mode].lookup == "any",
        )
        return Engine(self._model, store, config)

    def _copy(self) -> ChunkStore:
        copy = self._new_store()
        for key in self._keys:
            for meta in self._store.variants(key):
                reader = self._store.open(meta.variant_id)
                layers = [reader.layer(layer) for layer in range(self._model.config.num_layers)]
                keys, values = (torch.stack(part) for part in zip(*layers, strict=True))
                reader.close()
                copy.submit(meta, ChunkKV(keys, values))
            copy.flush()
        return copy
