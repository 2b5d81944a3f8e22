"""Models in folders as transformers saves them: config.json, *.safetensors, tokenizer.json, the chat template."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import safetensors
import torch

from nonet.common.errors import InputError
from nonet.ragcache.models.config import LayerConfig, ModelConfig, RopeScaling, check_num_layers, unknown_architecture
from nonet.ragcache.models.decoder import Decoder
from nonet.ragcache.models.weights import TensorNames, build_decoder

_MAX_JSON_BYTES = 64 << 20
# What transformers calls the architectures; multimodal Gemma 3 keeps the language model in a part of its own.
_MODEL_TYPES = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "gemma3_text": "gemma3", "gemma3": "gemma3"}
_ACTIVATIONS = {"silu": "silu", "swish": "silu", "gelu_pytorch_tanh": "gelu_tanh"}
# Values that published configs leave out, since they are the defaults of transformers' configuration classes.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": {"rms_norm_eps": 1e-6, "max_position_embeddings": 2048},
    "qwen2": {"rms_norm_eps": 1e-6, "max_position_embeddings": 32_768},
    "qwen3": {"rms_norm_eps": 1e-6, "max_position_embeddings": 32_768, "head_dim": 128},
    "gemma3": {
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 131_072,
        "head_dim": 256,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "vocab_size": 262_208,
        "sliding_window": 4096,
        "query_pre_attn_scalar": 256,
        "rope_theta": 1_000_000.0,
        "hidden_act": "gelu_pytorch_tanh",
        "eos_token_id": 1,
        "bos_token_id": 2,
        "tie_word_embeddings": True,
    },
}
_UNSUPPORTED = {
    "mlp_bias": "biases in the MLP",
    "final_logit_softcapping": "soft caps on logits",
    "attn_logit_softcapping": "soft caps on attention",
    "use_bidirectional_attention": "attention to later tokens",
    "quantization_config": "quantised safetensors",
}
_GEMMA_LOCAL_THETA = 10_000.0
_BODIES = ("model.", "language_model.model.", "model.language_model.")


class SafetensorsFolder:
    """A model's folder.

    Attributes:
        path: of the folder.
        config: the model's shape.
        shards: the weight files, sorted by name.

    Args:
        path: of the folder.

    Raises:
        InputError: files missing or damaged, or an architecture or trait that is not supported.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.shards = sorted(self.path.glob("*.safetensors"))
        if not self.shards:
            raise InputError(
                f"{self.path}: no *.safetensors inside; give a folder that transformers saved, or a GGUF file"
            )
        self._where: dict[str, Path] = {}
        for shard in self.shards:
            with _opened(shard) as file:
                self._where.update(dict.fromkeys(file.keys(), shard))
        generation = read_json(self.path / "generation_config.json", required=False)
        tied = not any(name.endswith("lm_head.weight") for name in self._where)
        self.config = config_from_json(
            read_json(self.path / "config.json"), generation, tied=tied, name=self.path.name, source=str(self.path)
        )

    def decoder(self, *, dtype: str = "float32", device: str = "cpu") -> Decoder:
        """The decoder with the folder's weights.

        Args:
            dtype: "float32" or "bfloat16".
            device: as torch spells it.

        Raises:
            InputError: tensors missing or of a wrong shape.
        """
        gemma = self.config.architecture == "gemma3"
        with ExitStack() as stack:
            files = {shard: stack.enter_context(_opened(shard)) for shard in self.shards}

            def read(name: str, role: str) -> torch.Tensor:
                tensor = files[self._where[name]].get_tensor(name)
                # Gemma stores its norms' weights less 1.
                return tensor.float() + 1.0 if gemma and role.endswith("norm") else tensor

            return build_decoder(
                self.config, self._names(), self._where, read, source=str(self.path), dtype=dtype, device=device
            )

    def _names(self) -> TensorNames:
        body = next((body for body in _BODIES if f"{body}embed_tokens.weight" in self._where), _BODIES[0])
        heads = [name.removesuffix(".weight") for name in self._where if name.endswith("lm_head.weight")]
        sandwich = self.config.sandwich_norms
        layer = {
            "attention_norm": "input_layernorm",
            "q": "self_attn.q_proj",
            "k": "self_attn.k_proj",
            "v": "self_attn.v_proj",
            "o": "self_attn.o_proj",
            "query_norm": "self_attn.q_norm",
            "key_norm": "self_attn.k_norm",
            "attention_post_norm": "post_attention_layernorm",
            "mlp_norm": "pre_feedforward_layernorm" if sandwich else "post_attention_layernorm",
            "gate": "mlp.gate_proj",
            "up": "mlp.up_proj",
            "down": "mlp.down_proj",
            "mlp_post_norm": "post_feedforward_layernorm",
        }
        return TensorNames(
            layer={role: f"{body}layers.{{layer}}.{name}" for role, name in layer.items()},
            embedding=f"{body}embed_tokens",
            final_norm=f"{body}norm",
            lm_head=heads[0] if heads else "lm_head",
        )


def read_json(path: Path, *, required: bool = True) -> dict[str, Any]:
    """An object from a JSON file.

    Args:
        path: of the file, at most 64 MiB.
        required: whether its absence is an error; else it reads as empty.

    Raises:
        InputError: missing, too large, or no JSON object.
    """
    if not path.is_file():
        if required:
            raise InputError(f"{path}: no such file; a model's folder needs it")
        return {}
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise ValueError("it is larger than 64 MiB")
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("no object inside")
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable as JSON ({error}); download it again") from error
    return found


def config_from_json(
    raw: Mapping[str, Any],
    generation: Mapping[str, Any] | None = None,
    *,
    tied: bool = False,
    name: str = "model",
    source: str = "config.json",
) -> ModelConfig:
    """A config as transformers writes it, to ours.

    Args:
        raw: content of config.json.
        generation: content of generation_config.json, which knows more ends of an answer.
        tied: the file has no matrix for logits of its own.
        name: shown to users.
        source: the folder, for messages.

    Raises:
        InputError: an architecture or trait that is not supported, or a key is missing.
    """
    try:
        return _config(raw, generation or {}, tied, name, source)
    except InputError:
        raise
    except (TypeError, ValueError, AttributeError, ZeroDivisionError, OverflowError) as error:
        raise InputError(f"{source}: config.json holds a value of a wrong kind ({error}); download it again") from error


def _config(raw: Mapping[str, Any], generation: Mapping[str, Any], tied: bool, name: str, source: str) -> ModelConfig:
    architecture = _MODEL_TYPES.get(str(raw.get("model_type")))
    if architecture is None:
        raise InputError(f"{source}: {unknown_architecture(str(raw.get('model_type')))}")
    get = _Getter(raw, architecture, source)
    for trait, words in _UNSUPPORTED.items():
        if get(trait, False):
            raise InputError(f"{source}: {words} ({trait}) are not supported; choose another model")
    hidden, num_heads, num_layers = get("hidden_size"), get("num_attention_heads"), get("num_hidden_layers")
    check_num_layers(num_layers, source)
    head_dim = get("head_dim", hidden // num_heads)
    gemma = architecture == "gemma3"
    activation = str(get("hidden_activation", get("hidden_act", "silu")))
    bias = bool(get("attention_bias", False))
    layers, scaling = _rotary(get, num_layers)
    eos = generation.get("eos_token_id") or get("eos_token_id", ())
    return ModelConfig(
        architecture=architecture,
        name=name,
        num_layers=num_layers,
        hidden_size=hidden,
        num_heads=num_heads,
        num_kv_heads=get("num_key_value_heads", num_heads),
        head_dim=head_dim,
        intermediate_size=get("intermediate_size"),
        vocab_size=get("vocab_size"),
        max_context=get("max_position_embeddings"),
        norm_eps=float(get("rms_norm_eps")),
        layers=layers,
        rope_scaling=scaling,
        qk_norm=architecture in ("qwen3", "gemma3"),
        attention_bias=bias or architecture == "qwen2",
        sandwich_norms=gemma,
        activation=_ACTIVATIONS.get(activation, activation),
        embedding_scale=hidden**0.5 if gemma else 1.0,
        attention_scale=float((get("query_pre_attn_scalar") if gemma else head_dim) ** -0.5),
        bos_id=get("bos_token_id", -1) if get("bos_token_id", -1) != -1 else None,
        eos_ids=tuple(eos) if isinstance(eos, list | tuple) else (int(eos),),
        tied_embeddings=tied or bool(get("tie_word_embeddings", False)),
        output_bias=bias and architecture != "qwen2",
    )


class _Getter:
    """A key of the language model's part, else of the whole config, else transformers' default, else the call's."""

    def __init__(self, raw: Mapping[str, Any], architecture: str, source: str) -> None:
        self._maps = (raw.get("text_config") or {}, raw, _DEFAULTS[architecture])
        self.architecture, self.source = architecture, source

    def __call__(self, key: str, default: Any = None) -> Any:
        for values in self._maps:
            if values.get(key) is not None:
                return values[key]
        if default is None:
            raise InputError(f"{self.source}: config.json lacks {key}; take it from the model's publisher")
        return default


def _rotary(get: _Getter, num_layers: int) -> tuple[tuple[LayerConfig, ...], RopeScaling | None]:
    """Base and window of every layer, and the model's scaling; from configs of transformers 4 and 5."""
    gemma = get.architecture == "gemma3"
    if get("partial_rotary_factor", 1.0) != 1.0:
        raise InputError(
            f"{get.source}: rotary embeddings over a part of a head are not supported; choose another model"
        )
    rope = get("rope_parameters", {})
    distant = rope.get("full_attention", rope)
    local = rope.get("sliding_attention", distant)
    theta = float(distant.get("rope_theta", get("rope_theta", 10_000.0)))
    local_theta = float(local.get("rope_theta", theta))
    if gemma and "sliding_attention" not in rope:
        local_theta = float(get("rope_local_base_freq", _GEMMA_LOCAL_THETA))
    if gemma and local.get("rope_type", "default") != "default":
        raise InputError(f"{get.source}: rope scaling of layers with a window is not supported; choose another model")
    scaling = _scaling(distant or get("rope_scaling", {}), get.source)
    layers = tuple(
        LayerConfig(local_theta, get("sliding_window"), scaled=not gemma) if slides else LayerConfig(theta)
        for slides in _sliding(get, num_layers)
    )
    return layers, scaling


def _sliding(get: _Getter, num_layers: int) -> list[bool]:
    """Which layers see a window only."""
    if get.architecture != "gemma3" and not get("use_sliding_window", False):
        return [False] * num_layers
    types = get("layer_types", [])
    if types:
        return [kind == "sliding_attention" for kind in types]
    if get.architecture == "gemma3":
        pattern = get("sliding_window_pattern", 6)
        return [(layer + 1) % pattern != 0 for layer in range(num_layers)]
    return [layer >= get("max_window_layers", num_layers) for layer in range(num_layers)]


def _scaling(rope: Mapping[str, Any], source: str) -> RopeScaling | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    try:
        if kind != "llama3":
            return RopeScaling(kind, float(rope.get("factor", 1.0)))
        return RopeScaling(
            kind,
            float(rope["factor"]),
            low_freq_factor=float(rope["low_freq_factor"]),
            high_freq_factor=float(rope["high_freq_factor"]),
            original_context=int(rope["original_max_position_embeddings"]),
        )
    except KeyError as error:
        raise InputError(f"{source}: rope scaling {kind} lacks {error}; take config.json from the publisher") from error
    except InputError as error:
        raise InputError(f"{source}: {error}") from error


def _opened(shard: Path) -> Any:
    try:
        return safetensors.safe_open(str(shard), framework="pt")
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(f"{shard}: not a readable safetensors file ({error}); download it again") from error
