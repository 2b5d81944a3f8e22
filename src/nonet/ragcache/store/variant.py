"""What the store keeps: the KV of a chunk computed under an ordered list of chunks before it, and its description.

Numpy only until tensors are touched, so that planning needs no torch.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import blake3
import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError, NonetError

if TYPE_CHECKING:
    import torch

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_LAYOUT = re.compile(r"(float32|bfloat16|float16)/(\d{1,5})x(\d{1,5})x(\d{1,5})")
_VARIANT_ID = re.compile(r"[0-9A-Za-z_-]{1,128}")


class VariantUnavailable(NonetError):  # noqa: N818  (what a caller catches reads as a state, not as a fault)
    """A stored variant cannot be read (damaged, gone, its tier does not answer); the caller computes the chunk anew."""

    kind = "unavailable"


@dataclass(frozen=True, slots=True)
class KVLayout:
    """How the numbers of a variant lie: their type, and the sizes that do not depend on the chunk.

    Args:
        dtype: "float32", "bfloat16" or "float16".
        num_layers: of the model.
        num_kv_heads: heads of keys and values.
        head_dim: numbers in a head.

    >>> layout = KVLayout("bfloat16", 30, 3, 64)
    >>> str(layout), KVLayout.parse(str(layout)) == layout, layout.layer_bytes(100)
    ('bfloat16/30x3x64', True, 76800)
    >>> KVLayout.parse("int3/1x1x1")
    Traceback (most recent call last):
    nonet.common.errors.InputError: 'int3/1x1x1' is no KV layout; one reads 'float32/30x3x64' (dtype/layers x KV ...)
    """

    dtype: str
    num_layers: int
    num_kv_heads: int
    head_dim: int

    @classmethod
    def parse(cls, text: str) -> KVLayout:
        """The inverse of `str()`.

        Raises:
            InputError: the text is no layout, or a size is 0.
        """
        found = _LAYOUT.fullmatch(text)
        sizes = [int(size) for size in found.groups()[1:]] if found else []
        if found is None or 0 in sizes:
            raise InputError(
                f"{text[:80]!r} is no KV layout; one reads 'float32/30x3x64' (dtype/layers x KV heads x head size)"
            )
        return cls(found[1], *sizes)

    def layer_bytes(self, num_tokens: int) -> int:
        """Bytes of keys and values of one layer."""
        return 2 * num_tokens * self.num_kv_heads * self.head_dim * DTYPE_BYTES[self.dtype]

    def num_bytes(self, num_tokens: int) -> int:
        """Bytes of keys and values of all layers."""
        return self.num_layers * self.layer_bytes(num_tokens)

    def __str__(self) -> str:
        return f"{self.dtype}/{self.num_layers}x{self.num_kv_heads}x{self.head_dim}"


@dataclass(frozen=True, slots=True)
class VariantMeta:
    """The description of a variant: what planning needs to know without its KV.

    Args:
        variant_id: names it in every tier; letters, digits, "_" and "-" only. `variant_id_of` makes one.
        chunk_key: the chunk, by token ids, model, tokenizer, layout and tenant.
        system_key: the system segment under which it was computed.
        prefix_keys: chunks before it then, in order, without the system segment.
        num_tokens: rows.
        inter_sums: attention onto each chunk before it, summed over rows, keys and layers; one for each prefix key.
        inter_mean: attention onto the chunks before it, as a mean over pairs, summed over those chunks (a-bar).
        intra_mean: attention within the chunk, as a mean over pairs (b-bar).
        cci: cache context impact, in [0.5, 1).
        tau: float16[num_tokens], attention of each row onto the chunks before it, mean over layers.
        exact: every row was computed under exactly this prefix, none was reused or repaired.
        documents: ids of the documents that the chunk comes from; invalidation goes by them.
        tenant: to whom it belongs; "" for everybody.
        created_s: seconds since 1970.
        model: fingerprint of the weights.
        layout: `str(KVLayout)`.
        num_bytes: bytes of its KV in all layers.
        observed: whether attention was observed; without that its statistics are zeros, and it serves as an exact
            prefix only.
    """

    variant_id: str
    chunk_key: str
    system_key: str
    prefix_keys: tuple[str, ...]
    num_tokens: int
    inter_sums: tuple[float, ...]
    inter_mean: float
    intra_mean: float
    cci: float
    tau: NDArray[np.float16] = field(compare=False)
    exact: bool
    documents: tuple[str, ...]
    tenant: str
    created_s: float
    model: str
    layout: str
    num_bytes: int
    observed: bool = True


@dataclass(frozen=True, slots=True)
class ChunkKV:
    """The keys and values of a chunk in all layers.

    Args:
        keys: [layers, tokens, KV heads, head size], not rotated.
        values: the same shape.
    """

    keys: torch.Tensor
    values: torch.Tensor


class LayerReader(Protocol):
    """Reads a variant layer by layer while earlier layers are already being used."""

    def ready_layers(self) -> int:
        """How many layers, from the first on, can be had without waiting."""

    def layer(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of layer `i`, each [tokens, KV heads, head size]; waits; not to be written to.

        Raises:
            VariantUnavailable: the layer is damaged, gone, or its tier does not answer.
        """

    def close(self) -> None:
        """Stop reading and let go of what is held; safe to call twice."""


def variant_id_of(chunk_key: str, system_key: str, prefix_keys: Sequence[str]) -> str:
    """The id of a variant, the same on every machine that computes it: 32 hex digits.

    Args:
        chunk_key: the chunk.
        system_key: the system segment before it.
        prefix_keys: the chunks before it, in order.

    >>> variant_id_of("c", "s", ["a", "b"]) == variant_id_of("c", "s", ("a", "b"))
    True
    >>> variant_id_of("c", "s", ["ab"]) == variant_id_of("c", "s", ["a", "b"])
    False
    """
    hasher = blake3.blake3()
    for part in (chunk_key, system_key, *prefix_keys):
        raw = part.encode()
        hasher.update(len(raw).to_bytes(8, "little"))
        hasher.update(raw)
    return hasher.hexdigest(length=16)


def is_variant_id(text: str) -> bool:
    """Whether it can name a file, a Redis key and an S3 object as it stands.

    >>> is_variant_id("a3f_0"), is_variant_id("../etc"), is_variant_id("")
    (True, False, False)
    """
    return _VARIANT_ID.fullmatch(text) is not None
