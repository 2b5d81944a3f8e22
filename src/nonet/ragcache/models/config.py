"""The shape of a decoder-only language model, the same for every architecture and every kind of weights file.

Sources: the reports of Llama 3 (arXiv 2407.21783), Qwen2 (2407.10671), Qwen3 (2505.09388) and Gemma 3 (2503.19786).
"""

from __future__ import annotations

from dataclasses import dataclass

from nonet.common.errors import InputError

ARCHITECTURES = ("llama", "qwen2", "qwen3", "gemma3")
ACTIVATIONS = ("silu", "gelu_tanh")
ROPE_SCALINGS = ("linear", "llama3")
MAX_LAYERS = 1000  # a damaged file may claim billions


@dataclass(frozen=True, slots=True)
class LayerConfig:
    """What may differ from layer to layer.

    Attributes:
        rope_theta: base of the rotary frequencies.
        window: a query at position t sees the keys at positions s <= t with t - s < window; None sees them all.
        scaled: whether the model's rope scaling applies to this layer (Gemma 3 scales its global layers only).
    """

    rope_theta: float
    window: int | None = None
    scaled: bool = True

    def __post_init__(self) -> None:
        if self.rope_theta <= 0:
            raise InputError(f"rope_theta is {self.rope_theta}; it must be positive")
        if self.window is not None and self.window < 1:
            raise InputError(f"an attention window of {self.window} tokens sees nothing; give 1 or more, or None")


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """How rotary frequencies are stretched beyond the length of the training.

    Attributes:
        kind: "linear" divides every frequency by `factor`; "llama3" only the low ones, smoothly in between.
        factor: the stretch.
        low_freq_factor, high_freq_factor: "llama3": wavelengths above original_context / low_freq_factor are divided in
            full, those below original_context / high_freq_factor are left alone.
        original_context: "llama3": tokens of context in the training before the stretch.
    """

    kind: str
    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context: int = 8192

    def __post_init__(self) -> None:
        if self.kind not in ROPE_SCALINGS:
            raise InputError(
                f"rope scaling {self.kind!r} is not supported: its angles depend on more than a token's own position "
                f"or rescale attention, so stored keys could not be moved; supported: {', '.join(ROPE_SCALINGS)}"
            )
        if self.factor <= 0:
            raise InputError(f"rope scaling by a factor of {self.factor}; it must be positive")
        if self.kind == "llama3" and not 0 < self.low_freq_factor < self.high_freq_factor:
            raise InputError(
                f"rope scaling llama3 needs 0 < low_freq_factor < high_freq_factor, "
                f"got {self.low_freq_factor} and {self.high_freq_factor}"
            )


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Everything that the forward pass needs to know of a model besides its weights.

    Attributes:
        architecture: one of ARCHITECTURES.
        name: as shown to users.
        num_layers, hidden_size, num_heads, num_kv_heads, head_dim, intermediate_size, vocab_size: the shape.
        max_context: tokens that the model was trained to see.
        norm_eps: added to the mean square in every norm.
        layers: one LayerConfig a layer.
        rope_scaling: None where the angles are the plain ones.
        qk_norm: queries and keys pass an RMS norm of their own before the rotation (Qwen3, Gemma 3).
        attention_bias: the projection to queries, keys and values has a bias (Qwen2).
        sandwich_norms: norms after attention and after the MLP, too (Gemma 3).
        activation: "silu" or "gelu_tanh".
        embedding_scale: factor on embeddings (Gemma: sqrt(hidden_size)).
        attention_scale: factor on query-key products.
        bos_id: the token that begins every prompt, or None.
        eos_ids: the tokens that end an answer.
        tied_embeddings: logits use the matrix of the embeddings.
        output_bias: the projection of attention's output has a bias, too (some Llama derivatives).
    """

    architecture: str
    name: str
    num_layers: int
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    max_context: int
    norm_eps: float
    layers: tuple[LayerConfig, ...]
    rope_scaling: RopeScaling | None
    qk_norm: bool
    attention_bias: bool
    sandwich_norms: bool
    activation: str
    embedding_scale: float
    attention_scale: float
    bos_id: int | None
    eos_ids: tuple[int, ...]
    tied_embeddings: bool = True
    output_bias: bool = False

    def __post_init__(self) -> None:
        if self.architecture not in ARCHITECTURES:
            raise InputError(unknown_architecture(self.architecture))
        check_num_layers(self.num_layers, f"model {self.name!r}")
        sizes = ("hidden_size", "num_heads", "num_kv_heads", "head_dim", "intermediate_size")
        for field in (*sizes, "vocab_size", "max_context"):
            if getattr(self, field) < 1:
                raise InputError(f"model {self.name!r}: {field} is {getattr(self, field)}; it must be 1 or more")
        if self.num_heads % self.num_kv_heads:
            raise InputError(
                f"model {self.name!r}: {self.num_heads} query heads cannot share {self.num_kv_heads} KV heads evenly"
            )
        if self.head_dim % 2:
            raise InputError(f"model {self.name!r}: head_dim {self.head_dim} is odd; rotary pairs need an even one")
        if len(self.layers) != self.num_layers:
            raise InputError(f"model {self.name!r}: {len(self.layers)} layer configs for {self.num_layers} layers")
        if self.activation not in ACTIVATIONS:
            raise InputError(
                f"model {self.name!r}: activation {self.activation!r} is not supported "
                f"(supported: {', '.join(ACTIVATIONS)})"
            )


def check_num_layers(num_layers: int, source: str) -> None:
    """Refuse a number of layers that no model has.

    Args:
        num_layers: as a file says it.
        source: the file or the model, for the message.

    Raises:
        InputError: below 1 or above MAX_LAYERS.
    """
    if not 1 <= num_layers <= MAX_LAYERS:
        raise InputError(f"{source}: num_layers is {num_layers}; it must be from 1 to {MAX_LAYERS}")


def unknown_architecture(name: str) -> str:
    """The message for an architecture that the engine cannot run.

    Args:
        name: as the weights file calls it.
    """
    return f"architecture {name!r} is not supported (supported: {', '.join(ARCHITECTURES)}); choose another model"
