"""Prompts and variants for the tests of planning, and an index that is a dictionary."""

import numpy as np

from nonet.ragcache.reuse.prompt import Prompt, Segment
from nonet.ragcache.store.variant import VariantMeta, variant_id_of


def make_prompt(*chunks, system=4, question=3):
    """Chunks as names, each with its tokens: make_prompt(("A", 10), ("B", 5))."""
    pieces = [("system", "sys", system), *(("chunk", *chunk) for chunk in chunks), ("question", "", question)]
    segments, place = [], 0
    for number, (kind, key, size) in enumerate(pieces):
        segments.append(Segment(kind, place, place + size, key, f"id-{number}" if kind == "chunk" else ""))
        place += size
    return Prompt(np.arange(place, dtype=np.int64), tuple(segments))


def make_meta(chunk, prefix=(), *, system="sys", tokens=10, inter=None, cci=0.66, tau=None, **other):
    fields = {
        "variant_id": variant_id_of(chunk, system, prefix),
        "chunk_key": chunk,
        "system_key": system,
        "prefix_keys": tuple(prefix),
        "num_tokens": tokens,
        "inter_sums": tuple(inter) if inter is not None else (1.0,) * len(prefix),
        "inter_mean": 0.1,
        "intra_mean": 0.2,
        "cci": cci if prefix else 0.5,
        "tau": np.asarray(tau if tau is not None else (np.arange(tokens) + 1) * bool(prefix), np.float16),
        "exact": True,
        "documents": (),
        "tenant": "",
        "created_s": 0.0,
        "model": "m",
        "layout": "float32/2x1x4",
        "num_bytes": tokens,
    }
    return VariantMeta(**{**fields, **other})


class Index:
    def __init__(self, *metas):
        self.metas = metas

    def variants(self, chunk_key):
        return [meta for meta in self.metas if meta.chunk_key == chunk_key]


SYSTEM = make_meta("sys", system="", tokens=4)
