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


def transformers_smollm2(path):
    """SmolLM2-135M-Instruct in transformers, config as published, weights from the GGUF file at `path`.

    Transformers reads GGUF files itself, in ten times the time; a slow test says that it reads the same weights.
    """
    import gguf
    from transformers import LlamaConfig, LlamaForCausalLM

    names = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_output": "self_attn.o_proj"}
    names |= {f"attn_{part}": f"self_attn.{part}_proj" for part in "qkv"}
    names |= {f"ffn_{part}": f"mlp.{part}_proj" for part in ("gate", "up", "down")}
    outside = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
    state = {}
    for stored in gguf.GGUFReader(path).tensors:
        values = torch.from_numpy(gguf.dequantize(stored.data, stored.tensor_type).copy())
        if stored.name in outside:
            state[outside[stored.name]] = values
            continue
        _, layer, part, _ = stored.name.split(".")
        if part in ("attn_q", "attn_k"):  # rows 2i and 2i + 1 of a head of 64 become rows i and i + 32
            order = [head + row for head in range(0, len(values), 64) for row in (*range(0, 64, 2), *range(1, 64, 2))]
            values = values[order]
        state[f"model.layers.{layer}.{names[part]}.weight"] = values
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    config = LlamaConfig(
        vocab_size=49_152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 100_000.0},
        tie_word_embeddings=True,
        attn_implementation="eager",
    )
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    model.load_state_dict(state, assign=True)
    model.model.rotary_emb = type(model.model.rotary_emb)(config=config)
    return model.eval()
