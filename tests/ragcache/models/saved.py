"""Small random models, made and saved by transformers."""

from __future__ import annotations

import torch

_SHAPE = {
    "vocab_size": 160,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.35,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
GEMMA_ROPE = {
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1_000_000.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
}
_GEMMA_LAYERS = ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"]

# name of the case: (model type, what differs from _SHAPE)
CASES = {
    "llama": ("llama", {"tie_word_embeddings": True}),
    "llama untied, biased": ("llama", {"attention_bias": True}),
    "llama with llama3 scaling": ("llama", {"rope_parameters": LLAMA3_ROPE}),
    "llama with linear scaling": (
        "llama",
        {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 500.0}},
    ),
    "qwen2": ("qwen2", {"rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0}}),
    "qwen2 with a window": ("qwen2", {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 2}),
    "qwen3": ("qwen3", {"head_dim": 24, "tie_word_embeddings": True}),
    "gemma3": (
        "gemma3_text",
        {
            "head_dim": 16,
            "sliding_window": 16,
            "query_pre_attn_scalar": 20,
            "layer_types": _GEMMA_LAYERS,
            "rope_parameters": GEMMA_ROPE,
        },
    ),
}


def transformers_model(case: str, seed: int = 0, **changes):
    """A model of transformers with random weights; norms and biases are random, too."""
    from transformers import AutoConfig, AutoModelForCausalLM

    model_type, own = CASES[case]
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(model_type, **{**_SHAPE, **own, **changes}), attn_implementation="eager"
    )
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 1:
                weight.add_(0.3 * torch.randn_like(weight))
    return model.float().eval()


@torch.inference_mode()
def transformers_logits(model, ids, last: int = 0) -> torch.Tensor:
    return model(torch.as_tensor(ids)[None], logits_to_keep=last, use_cache=False).logits[0].float()
