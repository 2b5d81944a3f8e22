"""The plain way to run a decoder: all rows, dense attention. What it gives is compared with transformers."""

from __future__ import annotations

import torch

from nonet.ragcache.models.rotary import rotate


@torch.inference_mode()
def dense_logits(decoder, ids, last: int = 0) -> torch.Tensor:
    """Logits of every row, [n, vocab], or of the last ones only."""
    config = decoder.config
    ids = torch.as_tensor(ids)
    positions = torch.arange(len(ids))
    ahead = positions[:, None] - positions[None, :]
    x = decoder.embed(ids)
    for number, layer in enumerate(decoder.layers):
        q, k, v = layer.project(x)
        cos, sin = decoder.rotary.cos_sin(number, positions)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        shared = config.num_heads // config.num_kv_heads
        k, v = k.repeat_interleave(shared, dim=1), v.repeat_interleave(shared, dim=1)
        window = config.layers[number].window
        seen = (ahead >= 0) & (ahead < (window or len(ids)))
        scores = torch.einsum("thd,shd->hts", q.float(), k.float()) * config.attention_scale
        weights = scores.masked_fill(~seen, -torch.inf).softmax(-1).to(v.dtype)
        x = layer.finish(x, torch.einsum("hts,shd->thd", weights, v).flatten(1))
    return decoder.logits(x[-last:])
