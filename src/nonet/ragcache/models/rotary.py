"""Rotary position embeddings (Su et al., arXiv 2104.09864), in the layout that pairs dimension i with i + d/2."""

from __future__ import annotations

import math

import torch

from nonet.ragcache.models.config import LayerConfig, ModelConfig, RopeScaling


def frequencies(head_dim: int, layer: LayerConfig, scaling: RopeScaling | None) -> torch.Tensor:
    """Radians per position of each rotary pair.

    Args:
        head_dim: numbers in a head, two a pair.
        layer: its base, and whether the scaling applies to it.
        scaling: of the model.

    Returns:
        Tensor[head_dim / 2], fp32.
    """
    # On the CPU whatever the default device is: decoders are put together on the device `meta`.
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32, device="cpu") / head_dim
    plain = 1.0 / layer.rope_theta**exponents
    if scaling is None or not layer.scaled:
        return plain
    if scaling.kind == "linear":
        return plain / scaling.factor
    # Llama 3.1: low frequencies are stretched, high ones kept, with a linear passage between the two.
    turns = scaling.original_context * plain / (2 * math.pi)
    share = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    kept = share.clamp(0.0, 1.0)
    return kept * plain + (1.0 - kept) * plain / scaling.factor


class Rotary:
    """Cosines and sines for any position of any layer, from tables that grow by doubling.

    Layers with the same base and scaling share a table; `group_of_layer[layer]` is its number, so that a caller may
    keep what it gathered for one layer of a group for the others.

    >>> from nonet.ragcache.models.toy import toy_config
    >>> rotary = Rotary(toy_config())
    >>> cos, sin = rotary.cos_sin(0, torch.tensor([0, 5]))
    >>> tuple(cos.shape), rotary.group_of_layer
    ((2, 32), (0, 0, 0, 0))
    """

    def __init__(self, config: ModelConfig) -> None:
        kinds: dict[tuple[float, bool], int] = {}
        self._frequencies: list[torch.Tensor] = []
        groups = []
        for layer in config.layers:
            kind = (layer.rope_theta, layer.scaled and config.rope_scaling is not None)
            if kind not in kinds:
                kinds[kind] = len(self._frequencies)
                self._frequencies.append(frequencies(config.head_dim, layer, config.rope_scaling))
            groups.append(kinds[kind])
        self.group_of_layer: tuple[int, ...] = tuple(groups)
        empty = torch.empty(0, config.head_dim, device="cpu")
        self._tables = [(empty, empty) for _ in self._frequencies]

    def cos_sin(self, layer: int, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines of the angles at some positions.

        Args:
            layer: number of the layer.
            positions: LongTensor[r], none negative; the table grows to the largest (8 bytes x head_dim a position).

        Returns:
            Two tensors [r, head_dim] in fp32, each half of a row the same.
        """
        group = self.group_of_layer[layer]
        cos, sin = self._tables[group]
        needed = int(positions.max()) + 1 if positions.numel() else 0
        if needed > cos.shape[0] or cos.device != positions.device:
            cos, sin = self._grow(group, needed, positions.device)
        return cos.index_select(0, positions), sin.index_select(0, positions)

    def _grow(self, group: int, needed: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        size = max(1024, 1 << (needed - 1).bit_length()) if needed else 1024
        angles = torch.outer(torch.arange(size, dtype=torch.float32, device="cpu"), self._frequencies[group])
        angles = torch.cat((angles, angles), dim=-1)
        table = (angles.cos().to(device), angles.sin().to(device))
        self._tables[group] = table  # one assignment: readers in other threads see the old table or the new one
        return table


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Turn queries or keys to their positions; computed in fp32, returned in the dtype of `x`.

    Args:
        x: [r, heads, d], not rotated.
        cos: [r, d], from Rotary.cos_sin.
        sin: [r, d], likewise.

    Returns:
        [r, heads, d].

    >>> x = torch.ones(1, 1, 2)
    >>> quarter = torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 1.0]])
    >>> rotate(x, *quarter).tolist()
    [[[-1.0, 1.0]]]
    """
    half = x.shape[-1] // 2
    turned = x * cos.unsqueeze(-2)
    sin = sin[..., :half].unsqueeze(-2)
    turned[..., :half].addcmul_(x[..., half:].to(turned.dtype), sin, value=-1.0)
    turned[..., half:].addcmul_(x[..., :half].to(turned.dtype), sin)
    return turned.to(x.dtype)
