"""Models in GGUF files (llama.cpp's format): metadata to a ModelConfig, quantised tensors to a decoder.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The package `gguf` reads and dequantises.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.ragcache.models.config import (
    ARCHITECTURES,
    LayerConfig,
    ModelConfig,
    RopeScaling,
    check_num_layers,
    unknown_architecture,
)
from nonet.ragcache.models.decoder import Decoder
from nonet.ragcache.models.rotary import frequencies
from nonet.ragcache.models.weights import TensorNames, build_decoder

_GEMMA_LOCAL_THETA = 10_000.0
_GEMMA_PATTERN = 6  # every sixth layer is global; the files of the time do not say so, llama.cpp knows it
_LAYERS_OF_GEMMA_27B = 62
_TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>")
_CONTROL = 3

NAMES = TensorNames(
    layer={
        role: f"blk.{{layer}}.{name}"
        for role, name in {
            "attention_norm": "attn_norm",
            "q": "attn_q",
            "k": "attn_k",
            "v": "attn_v",
            "o": "attn_output",
            "query_norm": "attn_q_norm",
            "key_norm": "attn_k_norm",
            "attention_post_norm": "post_attention_norm",
            "mlp_norm": "ffn_norm",
            "gate": "ffn_gate",
            "up": "ffn_up",
            "down": "ffn_down",
            "mlp_post_norm": "post_ffw_norm",
        }.items()
    },
    embedding="token_embd",
    final_norm="output_norm",
    lm_head="output",
)


class _BoundedReader(gguf.GGUFReader):
    """The package's reader, which takes what a slice past the end gives; here that is an error."""

    def _get(self, offset: int, dtype: Any, count: int = 1, override_order: Any = None) -> NDArray[Any]:
        end = int(offset) + np.dtype(dtype).itemsize * int(count)
        if count < 0 or end > self.data.nbytes:
            raise ValueError(
                f"it is {self.data.nbytes} bytes long and says to go on to byte {end}: truncated or damaged"
            )
        if type(self.data) is np.memmap:  # plain views of the same mapping are made several times faster
            self.data = self.data.view(np.ndarray)  # type: ignore[assignment]
        return super()._get(offset, dtype, count, override_order)


class GGUFFile:
    """An open GGUF file.

    Attributes:
        path: of the file.
        metadata: key to value; strings, numbers, booleans and lists of them.
        config: the model's shape.

    Args:
        path: of the file.

    Raises:
        InputError: no GGUF file, truncated, split over several files, or of an architecture that is not supported.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            # A hostile file may also ask for sizes that overflow numpy's integers, which would only be warned of.
            with warnings.catch_warnings(action="error", category=RuntimeWarning):
                reader = _BoundedReader(self.path)
            self.metadata: dict[str, Any] = {name: field.contents() for name, field in reader.fields.items()}
        except (OSError, ValueError, KeyError, IndexError, OverflowError, TypeError, RuntimeWarning) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise InputError(f"{self.path}: not a readable GGUF file ({reason}); download it again") from error
        if self.metadata.get("split.count", 1) > 1:
            raise InputError(f"{self.path}: one part of a split model; join the parts with llama-gguf-split --merge")
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}
        try:
            self.config = _config(self.metadata, self._tensors, self.path)
        except InputError:
            raise
        except (TypeError, ValueError, ZeroDivisionError) as error:
            raise InputError(f"{self.path}: metadata of a wrong kind ({error}); convert the model again") from error

    def tensor(self, name: str) -> torch.Tensor:
        """A tensor, dequantised.

        Args:
            name: as in the file.

        Returns:
            fp32, rows first as in torch.

        Raises:
            InputError: a kind of quantisation that the package `gguf` cannot undo.
        """
        stored = self._tensors[name]
        try:
            values = gguf.dequantize(stored.data, stored.tensor_type)
        except NotImplementedError as error:
            raise InputError(
                f"{self.path}: tensor {name} is stored as {stored.tensor_type.name}, which the package gguf cannot "
                f"read; choose a file with another quantisation"
            ) from error
        return torch.from_numpy(np.array(values, dtype=np.float32))

    def decoder(self, *, dtype: str = "float32", device: str = "cpu") -> Decoder:
        """The decoder with the file's weights.

        Args:
            dtype: "float32" or "bfloat16".
            device: as torch spells it.

        Raises:
            InputError: tensors missing or of a wrong shape.
        """
        heads = {"q": self.config.num_heads, "k": self.config.num_kv_heads}

        def read(name: str, role: str) -> torch.Tensor:
            tensor = self.tensor(name)
            # Rows that do not split into the heads have a wrong shape, which is told where shapes are compared.
            if self.config.architecture == "llama" and role in heads and tensor.shape[0] % (2 * heads[role]) == 0:
                return unpermute(tensor, heads[role])
            return tensor

        return build_decoder(
            self.config, NAMES, self._tensors.keys(), read, source=str(self.path), dtype=dtype, device=device
        )


def unpermute(rows: torch.Tensor, num_heads: int) -> torch.Tensor:
    """Undo the order of Q and K rows in llama files: pairs (2i, 2i + 1) there, pairs (i, i + d/2) here.

    Args:
        rows: [heads x d, ...].
        num_heads: how many heads the rows hold.

    Returns:
        The same rows, reordered within each head.

    >>> unpermute(torch.arange(4), 1).tolist()
    [0, 2, 1, 3]
    """
    pairs = rows.reshape(num_heads, -1, 2, *rows.shape[1:])
    return pairs.transpose(1, 2).reshape(rows.shape)


def _config(metadata: Mapping[str, Any], tensors: Mapping[str, Any], path: Path) -> ModelConfig:
    architecture = metadata.get("general.architecture")
    if architecture not in ARCHITECTURES:
        raise InputError(f"{path}: {unknown_architecture(str(architecture))}")
    get = _Getter(metadata, architecture, path)
    if get("expert_count", 0):
        raise InputError(f"{path}: mixtures of experts are not supported; choose a dense model")
    hidden, num_heads = int(get("embedding_length")), int(get("attention.head_count"))
    head_dim = int(get("attention.key_length", hidden // max(num_heads, 1)))
    if get("rope.dimension_count", head_dim) != head_dim:
        raise InputError(f"{path}: rotary embeddings over a part of a head are not supported; choose another model")
    num_layers = int(get("block_count"))
    check_num_layers(num_layers, str(path))
    theta = float(get("rope.freq_base", 10_000.0))
    gemma = architecture == "gemma3"
    vocab = metadata.get("tokenizer.ggml.tokens", [])
    return ModelConfig(
        architecture=architecture,
        name=str(metadata.get("general.name", path.stem)),
        num_layers=num_layers,
        hidden_size=hidden,
        num_heads=num_heads,
        num_kv_heads=int(get("attention.head_count_kv", num_heads)),
        head_dim=head_dim,
        intermediate_size=int(get("feed_forward_length")),
        vocab_size=len(vocab) or int(get("vocab_size")),
        max_context=int(get("context_length")),
        norm_eps=float(get("attention.layer_norm_rms_epsilon")),
        layers=_gemma_layers(get, num_layers, theta) if gemma else (LayerConfig(theta),) * num_layers,
        rope_scaling=_rope_scaling(get, tensors, head_dim, theta),
        qk_norm=architecture in ("qwen3", "gemma3"),
        attention_bias="blk.0.attn_q.bias" in tensors,
        sandwich_norms=gemma,
        activation="gelu_tanh" if gemma else "silu",
        embedding_scale=hidden**0.5 if gemma else 1.0,
        attention_scale=_attention_scale(architecture, num_layers, hidden, num_heads, head_dim),
        bos_id=metadata.get("tokenizer.ggml.bos_token_id"),
        eos_ids=_eos_ids(metadata, vocab),
        tied_embeddings="output.weight" not in tensors,
        output_bias="blk.0.attn_output.bias" in tensors,
    )


class _Getter:
    """Looks up `<architecture>.<key>`; a missing key without a default is the user's error."""

    def __init__(self, metadata: Mapping[str, Any], architecture: str, path: Path) -> None:
        self.metadata, self.architecture, self.path = metadata, architecture, path

    def __call__(self, key: str, default: Any = None) -> Any:
        value = self.metadata.get(f"{self.architecture}.{key}", default)
        if value is None:
            raise InputError(f"{self.path}: the metadata lacks {self.architecture}.{key}; convert the model again")
        if isinstance(value, list):
            raise InputError(f"{self.path}: {key} differs from layer to layer, which is not supported")
        return value


def _gemma_layers(get: _Getter, num_layers: int, theta: float) -> tuple[LayerConfig, ...]:
    local = LayerConfig(
        float(get("rope.freq_base_swa", _GEMMA_LOCAL_THETA)), int(get("attention.sliding_window")), scaled=False
    )
    distant = LayerConfig(theta)
    return tuple(distant if (layer + 1) % _GEMMA_PATTERN == 0 else local for layer in range(num_layers))


def _attention_scale(architecture: str, num_layers: int, hidden: int, num_heads: int, head_dim: int) -> float:
    if architecture == "gemma3" and num_layers == _LAYERS_OF_GEMMA_27B:  # the one size with another scale
        return float((hidden / num_heads) ** -0.5)
    return float(head_dim**-0.5)


def _rope_scaling(get: _Getter, tensors: Mapping[str, Any], head_dim: int, theta: float) -> RopeScaling | None:
    kind = get("rope.scaling.type", "none")
    if "rope_freqs.weight" in tensors:
        divisors = np.asarray(tensors["rope_freqs.weight"].data, dtype=np.float32)
        found = RopeScaling("llama3", float(divisors.max()))  # the defaults are those of Llama 3.1 to 3.3
        layer = LayerConfig(theta)
        ours = (frequencies(head_dim, layer, None) / frequencies(head_dim, layer, found)).numpy()
        if divisors.shape != ours.shape or not np.allclose(ours, divisors, rtol=1e-3):
            raise InputError(f"{get.path}: its table rope_freqs is not Llama 3's, which is not supported")
        return found
    if kind == "none":
        return None
    return RopeScaling(kind, float(get("rope.scaling.factor", 1.0)))


def _eos_ids(metadata: Mapping[str, Any], vocab: list[str]) -> tuple[int, ...]:
    """The end of text, and the ends of a turn that chat models of these families write."""
    named = (metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot"))
    ids = {int(token) for token in named if token is not None}
    kinds = metadata.get("tokenizer.ggml.token_type", [])
    control = {
        token: number for number, (token, kind) in enumerate(zip(vocab, kinds, strict=False)) if kind == _CONTROL
    }
    ids.update(control[token] for token in _TURN_ENDS if token in control)
    return tuple(sorted(ids))
