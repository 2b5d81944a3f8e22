"""The same weights in transformers, for rivals that need such a model and for oracles that share no code with ours."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from nonet.common.errors import InputError, MissingExtraError
from nonet.ragcache.models.config import ModelConfig
from nonet.ragcache.models.decoder import Decoder


def llama_twin(decoder: Decoder, attention: str = "sdpa") -> nn.Module:
    """A `LlamaForCausalLM` with the decoder's own weights, shared with it.

    Args:
        decoder: of the architecture "llama", with plain rotary angles.
        attention: transformers' implementation; "sdpa" is its fastest on a CPU.

    Returns:
        In evaluation mode, on the decoder's device.

    Raises:
        MissingExtraError: transformers is not installed.
        InputError: another architecture, or rope scaling.
    """
    try:
        from transformers import AutoModelForCausalLM, LlamaConfig
    except ImportError as error:
        raise MissingExtraError("the comparison needs transformers: pip install transformers") from error
    config = decoder.config
    if config.architecture != "llama" or config.rope_scaling is not None:
        raise InputError(f"{config.name}: only a Llama without rope scaling has a twin; take smollm2")
    described = LlamaConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        num_key_value_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        max_position_embeddings=config.max_context,
        rms_norm_eps=config.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": config.layers[0].rope_theta},
        tie_word_embeddings=config.tied_embeddings,
        attention_bias=config.attention_bias,
        bos_token_id=config.bos_id,
        eos_token_id=config.eos_ids[0] if config.eos_ids else None,
        pad_token_id=None,
    )
    # Made without memory; the weights are put in place of its own.
    with torch.device("meta"):
        twin = AutoModelForCausalLM.from_config(described, attn_implementation=attention)
    twin.load_state_dict(_state(decoder, config), assign=True)
    # Angles are no weights: what was made on the device meta is made again.
    twin.model.rotary_emb = type(twin.model.rotary_emb)(config=described)
    made: nn.Module = twin.eval()
    return made


@torch.inference_mode()
def twin_kv(twin: nn.Module, ids: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys, not rotated, and values of all rows of a prompt, by transformers alone.

    Args:
        twin: of `llama_twin`.
        ids: the prompt.

    Returns:
        Twice [layers, len(ids), KV heads, head size].
    """
    config = twin.config
    caught: dict[str, list[torch.Tensor]] = {"k_proj": [], "v_proj": []}
    hooks = []
    for layer in twin.model.layers:
        for name, into in caught.items():
            matrix = getattr(layer.self_attn, name)
            hooks.append(matrix.register_forward_hook(lambda _m, _given, out, into=into: into.append(out[0].clone())))
    try:
        twin(torch.tensor([list(ids)]), use_cache=False, logits_to_keep=1)
    finally:
        for hook in hooks:
            hook.remove()
    shape = (len(ids), config.num_key_value_heads, config.head_dim)
    keys, values = (torch.stack([one.view(shape) for one in caught[name]]) for name in ("k_proj", "v_proj"))
    return keys, values


def _state(decoder: Decoder, config: ModelConfig) -> dict[str, torch.Tensor]:
    state = {
        "model.embed_tokens.weight": decoder.embedding.weight,
        "model.norm.weight": decoder.final_norm.weight,
        "lm_head.weight": decoder.lm_head.weight,
    }
    heads = [config.num_heads * config.head_dim, *[config.num_kv_heads * config.head_dim] * 2]
    for number, layer in enumerate(decoder.layers):
        into = f"model.layers.{number}"
        state[f"{into}.input_layernorm.weight"] = layer.attention_norm.weight
        state[f"{into}.post_attention_layernorm.weight"] = layer.mlp_norm.weight
        for name, rows in zip("qkv", layer.qkv_proj.weight.split(heads), strict=True):
            state[f"{into}.self_attn.{name}_proj.weight"] = rows
        if layer.qkv_proj.bias is not None:
            for name, rows in zip("qkv", layer.qkv_proj.bias.split(heads), strict=True):
                state[f"{into}.self_attn.{name}_proj.bias"] = rows
        state[f"{into}.self_attn.o_proj.weight"] = layer.o_proj.weight
        if layer.o_proj.bias is not None:
            state[f"{into}.self_attn.o_proj.bias"] = layer.o_proj.bias
        gate, up = layer.gate_up_proj.weight.chunk(2)
        state[f"{into}.mlp.gate_proj.weight"] = gate
        state[f"{into}.mlp.up_proj.weight"] = up
        state[f"{into}.mlp.down_proj.weight"] = layer.down_proj.weight
    return {name: weight.detach().contiguous() for name, weight in state.items()}
