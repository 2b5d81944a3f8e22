"""Small GGUF files with the weights of a transformers model, written by the rules of llama.cpp's converter."""

from __future__ import annotations

import math
from pathlib import Path

import gguf
import numpy as np

_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
LLAMA3_GGUF_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def write_gguf(model, path: Path, *, skip: str = "", extra: dict | None = None, quantise=None) -> Path:
    """Write a model.

    Args:
        model: of transformers.
        path: of the file.
        skip: leave out the tensor of this name.
        extra: further metadata, or replacements; integers go as uint32, floats as float32.
        quantise: the GGMLQuantizationType of the matrices; None for fp32.
    """
    config = model.config
    arch = config.model_type.removesuffix("_text")
    writer = gguf.GGUFWriter(path, arch if extra is None else extra.get("general.architecture", arch))
    writer.add_name(f"tiny {arch}")
    _metadata(writer, config, arch, extra or {})
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        target, values = _tensor(name, weight.float().numpy(), config, arch)
        if target == skip:
            continue
        if quantise is not None and values.ndim == 2:
            writer.add_tensor(target, gguf.quantize(values, quantise), raw_dtype=quantise)
        else:
            writer.add_tensor(target, values)
    if getattr(config, "rope_parameters", {}).get("rope_type") == "llama3":
        writer.add_tensor("rope_freqs.weight", _divisors(config.rope_parameters, config.head_dim))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _metadata(writer, config, arch: str, extra: dict) -> None:
    rope = config.rope_parameters
    theta = rope.get("full_attention", rope)["rope_theta"]
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    numbers = {
        f"{arch}.block_count": config.num_hidden_layers,
        f"{arch}.context_length": config.max_position_embeddings,
        f"{arch}.embedding_length": config.hidden_size,
        f"{arch}.feed_forward_length": config.intermediate_size,
        f"{arch}.attention.head_count": config.num_attention_heads,
        f"{arch}.attention.head_count_kv": config.num_key_value_heads,
        f"{arch}.attention.key_length": head_dim,
        f"{arch}.attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        f"{arch}.rope.freq_base": float(theta),
        f"{arch}.vocab_size": config.vocab_size,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }
    if arch == "gemma3":
        numbers["gemma3.attention.sliding_window"] = config.sliding_window
    if rope.get("rope_type") == "linear":
        numbers[f"{arch}.rope.scaling.factor"] = rope["factor"]
        writer.add_string(f"{arch}.rope.scaling.type", "linear")
    for key, value in (numbers | extra).items():
        if key == "general.architecture" or value is None:
            continue
        if isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, list):
            writer.add_array(key, value)
        else:
            writer.add_uint32(key, value)


def _tensor(name: str, values: np.ndarray, config, arch: str) -> tuple[str, np.ndarray]:
    stem, _, kind = name.rpartition(".")
    if arch == "gemma3" and stem.endswith("norm"):
        values = values + 1.0
    if not stem.startswith("model.layers."):
        return f"{_NAMES[stem]}.{kind}", values
    _, _, layer, part = stem.split(".", 3)
    heads = {"self_attn.q_proj": config.num_attention_heads, "self_attn.k_proj": config.num_key_value_heads}
    if arch == "llama" and part in heads:
        by_pair = values.reshape(heads[part], 2, -1, *values.shape[1:])
        values = by_pair.swapaxes(1, 2).reshape(values.shape)
    if part == "post_attention_layernorm":
        target = "post_attention_norm" if arch == "gemma3" else "ffn_norm"
    else:
        target = _NAMES[part]
    return f"blk.{layer}.{target}.{kind}", np.ascontiguousarray(values)


def _divisors(rope: dict, head_dim: int) -> np.ndarray:
    divisors = []
    for pair in range(head_dim // 2):
        wavelength = 2 * math.pi * rope["rope_theta"] ** (2 * pair / head_dim)
        context = rope["original_max_position_embeddings"]
        if wavelength < context / rope["high_freq_factor"]:
            divisors.append(1.0)
        elif wavelength > context / rope["low_freq_factor"]:
            divisors.append(rope["factor"])
        else:
            smooth = (context / wavelength - rope["low_freq_factor"]) / (
                rope["high_freq_factor"] - rope["low_freq_factor"]
            )
            divisors.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(divisors, dtype=np.float32)
