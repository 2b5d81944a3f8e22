"""Put the tensors of a weights file into a decoder: names, fused matrices, shapes.

Files store one matrix for queries, keys and values each; the decoder has one for all three, likewise for gate and up.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch

from nonet.common.errors import InputError
from nonet.ragcache.models.config import ModelConfig
from nonet.ragcache.models.decoder import Decoder

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

# A module of the decoder's layer to the parts, by role, that its tensor is stacked from.
_LAYER_PARTS = {
    "attention_norm": ("attention_norm",),
    "qkv_proj": ("q", "k", "v"),
    "query_norm": ("query_norm",),
    "key_norm": ("key_norm",),
    "o_proj": ("o",),
    "attention_post_norm": ("attention_post_norm",),
    "mlp_norm": ("mlp_norm",),
    "gate_up_proj": ("gate", "up"),
    "down_proj": ("down",),
    "mlp_post_norm": ("mlp_post_norm",),
}


@dataclass(frozen=True, slots=True)
class TensorNames:
    """What a kind of file calls the tensors, without `.weight` and `.bias`.

    Attributes:
        layer: role to name, with `{layer}` for the number.
        embedding, final_norm, lm_head: the tensors outside the layers.
    """

    layer: dict[str, str]
    embedding: str
    final_norm: str
    lm_head: str


def resolve_dtype(dtype: str) -> torch.dtype:
    """The torch dtype of a name.

    Args:
        dtype: "float32" or "bfloat16".

    Raises:
        InputError: another name.

    >>> resolve_dtype("bfloat16")
    torch.bfloat16
    """
    if dtype not in DTYPES:
        raise InputError(f"dtype {dtype!r} is not supported; choose {' or '.join(DTYPES)}")
    return DTYPES[dtype]


def build_decoder(
    config: ModelConfig,
    names: TensorNames,
    present: Collection[str],
    read: Callable[[str, str], torch.Tensor],
    *,
    source: str,
    dtype: str,
    device: str,
) -> Decoder:
    """A decoder with weights.

    Args:
        config: its shape.
        names: how the file calls the tensors.
        present: names of all tensors in the file.
        read: (name in the file, role) to the tensor in any float dtype, laid out as the decoder needs it.
        source: the file, for messages.
        dtype: "float32" or "bfloat16".
        device: where the weights go, as torch spells it.

    Raises:
        InputError: tensors that are missing or do not have the shape that the config says.
    """
    target = resolve_dtype(dtype)
    with torch.device("meta"):
        decoder = Decoder(config)
    sources = {name: _sources(name, names) for name in decoder.state_dict()}
    if config.tied_embeddings:
        del sources["lm_head.weight"]
    missing = sorted({part for parts in sources.values() for part, _ in parts} - set(present))
    if missing:
        shown = ", ".join(missing[:4]) + (f" and {len(missing) - 4} more" if len(missing) > 4 else "")
        raise InputError(f"{source}: tensors are missing: {shown}; the file is incomplete or of another architecture")
    state = {}
    for name, parts in sources.items():
        expected = tuple(decoder.get_parameter(name).shape)
        stacked = [read(part, role) for part, role in parts]
        rows = sum(tensor.shape[0] for tensor in stacked)
        if {(rows, *tensor.shape[1:]) for tensor in stacked} != {expected}:
            listed = ", ".join(
                f"{part} {tuple(tensor.shape)}" for (part, _), tensor in zip(parts, stacked, strict=True)
            )
            raise InputError(
                f"{source}: {listed} where the config says {expected} in all; "
                f"the config does not belong to these weights"
            )
        moved = [tensor.to(device=device, dtype=target) for tensor in stacked]
        state[name] = moved[0].contiguous() if len(moved) == 1 else torch.cat(moved)
    if config.tied_embeddings:
        state["lm_head.weight"] = state["embedding.weight"]
    decoder.load_state_dict(state, assign=True)
    if config.tied_embeddings:
        decoder.lm_head.weight = decoder.embedding.weight
    return decoder.requires_grad_(False).eval()


def _sources(parameter: str, names: TensorNames) -> list[tuple[str, str]]:
    """The tensors of the file, each with its role, that are stacked to a parameter of the decoder."""
    module, _, kind = parameter.rpartition(".")
    outside = {"embedding": names.embedding, "final_norm": names.final_norm, "lm_head": names.lm_head}
    if module in outside:
        return [(f"{outside[module]}.{kind}", module)]
    _, layer, module = module.split(".")
    return [(f"{names.layer[role].format(layer=layer)}.{kind}", role) for role in _LAYER_PARTS[module]]
