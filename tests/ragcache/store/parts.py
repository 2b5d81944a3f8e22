"""Small variants for the tests of the store."""

from __future__ import annotations

import numpy as np
import torch

from nonet.ragcache.store.variant import ChunkKV, VariantMeta, variant_id_of

LAYERS, HEADS, DIM = 3, 2, 8


def make_meta(
    chunk="c0", prefix=(), *, system="s", tokens=5, documents=(), dtype="float32", exact=True, layers=LAYERS, **other
):
    size = {"float32": 4, "bfloat16": 2, "float16": 2}[dtype]
    fields = {
        "variant_id": variant_id_of(chunk, system, prefix),
        "chunk_key": chunk,
        "system_key": system,
        "prefix_keys": tuple(prefix),
        "num_tokens": tokens,
        "inter_sums": tuple(1.5 + i for i in range(len(prefix))),
        "inter_mean": 0.25,
        "intra_mean": 0.5,
        "cci": 0.625,
        "tau": np.arange(tokens, dtype=np.float16),
        "exact": exact,
        "documents": tuple(documents),
        "tenant": "",
        "created_s": 1.0,
        "model": "m",
        "layout": f"{dtype}/{layers}x{HEADS}x{DIM}",
        "num_bytes": 2 * layers * tokens * HEADS * DIM * size,
    }
    return VariantMeta(**{**fields, **other})


def make_kv(meta, seed=0):
    dtype, sizes = meta.layout.split("/")
    layers, heads, dim = map(int, sizes.split("x"))
    generator = torch.Generator().manual_seed(seed)
    both = torch.randn(2, layers, meta.num_tokens, heads, dim, generator=generator).to(getattr(torch, dtype))
    return ChunkKV(both[0], both[1])


def assert_reads(reader, kv):
    for layer in range(len(kv.keys)):
        keys, values = reader.layer(layer)
        assert torch.equal(keys, kv.keys[layer])
        assert torch.equal(values, kv.values[layer])
        assert keys.dtype == kv.keys.dtype
    reader.close()
