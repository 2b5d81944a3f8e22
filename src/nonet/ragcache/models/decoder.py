"""The decoder: all of the forward pass that works on rows alone, so that the engine may hand it any set of rows.

Attention is not here: it needs the keys of rows that are not computed, which the engine keeps. A layer is therefore
cut in two, `project` before attention and `finish` after it. Every matrix is an nn.Linear, so that hooks count rows.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from nonet.ragcache.models._norm_kernels import rms_norm
from nonet.ragcache.models.config import ModelConfig
from nonet.ragcache.models.rotary import Rotary


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) x weight, over the last dimension; computed in fp32, returned in the dtype of x."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise.

        Args:
            x: [..., size].
        """
        weight = self.weight.detach()
        is_plain = x.dtype == weight.dtype == torch.float32 and x.device.type == "cpu"
        if is_plain and torch.is_inference_mode_enabled():
            out = torch.empty_like(x, memory_format=torch.contiguous_format)
            given, put = x.reshape(-1, len(weight)).numpy(), out.view(-1, len(weight)).numpy()
            rms_norm(given, weight.numpy(), np.float32(self.eps), put)
            return out
        return functional.rms_norm(x, self.weight.shape, self.weight, self.eps)


class DecoderLayer(nn.Module):
    """One layer without its attention, for Llama, Qwen2, Qwen3 and Gemma 3."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        hidden, eps = config.hidden_size, config.norm_eps
        self.num_heads, self.num_kv_heads, self.head_dim = config.num_heads, config.num_kv_heads, config.head_dim
        self.intermediate_size = config.intermediate_size
        self.gated_by_silu = config.activation == "silu"
        all_heads = (config.num_heads + 2 * config.num_kv_heads) * config.head_dim
        self.attention_norm = RMSNorm(hidden, eps)
        self.qkv_proj = nn.Linear(hidden, all_heads, bias=config.attention_bias)
        self.query_norm = RMSNorm(config.head_dim, eps) if config.qk_norm else None
        self.key_norm = RMSNorm(config.head_dim, eps) if config.qk_norm else None
        self.o_proj = nn.Linear(config.num_heads * config.head_dim, hidden, bias=config.output_bias)
        self.attention_post_norm = RMSNorm(hidden, eps) if config.sandwich_norms else None
        self.mlp_norm = RMSNorm(hidden, eps)
        self.gate_up_proj = nn.Linear(hidden, 2 * config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, hidden, bias=False)
        self.mlp_post_norm = RMSNorm(hidden, eps) if config.sandwich_norms else None

    def project(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Queries, keys and values of rows; normed where the model does, not rotated.

        Args:
            x: [r, hidden], the residual stream before the layer.

        Returns:
            q [r, heads, d], k [r, kv_heads, d], v [r, kv_heads, d].
        """
        counts = (self.num_heads, self.num_kv_heads, self.num_kv_heads)
        heads = self.qkv_proj(self.attention_norm(x)).view(x.shape[0], sum(counts), self.head_dim)
        q, k, v = heads.split(counts, dim=1)
        if self.query_norm is not None and self.key_norm is not None:
            q, k = self.query_norm(q), self.key_norm(k)
        return q, k, v

    def finish(self, x: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        """The rest of the layer after attention: output projection, residuals, norms, MLP.

        Args:
            x: [r, hidden], what `project` was given.
            attended: [r, heads x d], attention's output for these rows.

        Returns:
            [r, hidden], the residual stream after the layer.
        """
        # In place where a tensor is ours alone: large temporaries cost a tenth of the layer in page faults.
        output = self.o_proj(attended)
        x = (output if self.attention_post_norm is None else self.attention_post_norm(output)).add_(x)
        gate, up = self.gate_up_proj(self.mlp_norm(x)).split(self.intermediate_size, dim=-1)
        if self.gated_by_silu:
            gate = functional.silu(gate, inplace=True)
        else:
            gate = functional.gelu(gate, approximate="tanh")
        output = self.down_proj(gate.mul_(up))
        return (output if self.mlp_post_norm is None else self.mlp_post_norm(output)).add_(x)


class Decoder(nn.Module):
    """Embeddings, layers, the last norm and the matrix of logits.

    >>> from nonet.ragcache.models.toy import toy_decoder
    >>> decoder = toy_decoder()
    >>> x = decoder.embed(torch.tensor([3, 1, 2]))
    >>> q, k, v = decoder.layers[0].project(x)
    >>> tuple(x.shape), tuple(q.shape), tuple(k.shape), tuple(decoder.logits(x[-1:]).shape)
    ((3, 64), (3, 2, 32), (3, 1, 32), (1, 320))
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.num_layers))
        self.final_norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tied_embeddings:
            self.lm_head.weight = self.embedding.weight
        self.rotary = Rotary(config)

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.embedding.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.embedding.weight.device

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """The residual stream before the first layer.

        Args:
            ids: LongTensor[r], tokens.

        Returns:
            [r, hidden].
        """
        x = self.embedding(ids)
        if self.config.embedding_scale == 1.0:
            return x
        return x * torch.tensor(self.config.embedding_scale, dtype=x.dtype, device=x.device)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """What the model expects next.

        Args:
            x: [r, hidden], the residual stream after the last layer.

        Returns:
            [r, vocab], fp32.
        """
        return self.lm_head(self.final_norm(x)).float()
