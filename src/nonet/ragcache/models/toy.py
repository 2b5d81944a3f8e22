"""Small models with random weights: for tests of exactness and for examples. Their attention means nothing."""

from __future__ import annotations

import blake3
import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers, processors

from nonet.ragcache.models.config import LayerConfig, ModelConfig, RopeScaling
from nonet.ragcache.models.decoder import Decoder
from nonet.ragcache.models.loading import LoadedModel
from nonet.ragcache.models.template import ChatTemplate
from nonet.ragcache.models.tokenizer import Tokenizer, byte_characters


def toy_config(
    architecture: str = "llama",
    *,
    num_layers: int = 4,
    num_heads: int = 2,
    num_kv_heads: int = 1,
    hidden_size: int = 64,
    head_dim: int = 32,
    vocab_size: int = 320,
    max_context: int = 4096,
    window: int = 16,
    rope_scaling: RopeScaling | None = None,
) -> ModelConfig:
    """The shape of a toy with an architecture's traits.

    Args:
        architecture: one of ARCHITECTURES.
        num_layers: layers.
        num_heads: query heads.
        num_kv_heads: heads of keys and values.
        hidden_size: width of the residual stream.
        head_dim: width of a head.
        vocab_size: tokens; 256 bytes and some specials fit into 320.
        max_context: tokens.
        window: "gemma3" only: tokens that its even layers see; the odd ones are global, with another base.
        rope_scaling: None for plain angles.

    Raises:
        InputError: an unknown architecture, or sizes that do not fit together.

    >>> [layer.window for layer in toy_config("gemma3").layers]
    [16, None, 16, None]
    """
    gemma = architecture == "gemma3"
    local = LayerConfig(10_000.0, window if gemma else None, scaled=not gemma)
    far = LayerConfig(1_000_000.0) if gemma else local
    return ModelConfig(
        architecture=architecture,
        name=f"toy-{architecture}",
        num_layers=num_layers,
        hidden_size=hidden_size,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        intermediate_size=2 * hidden_size,
        vocab_size=vocab_size,
        max_context=max_context,
        norm_eps=1e-6,
        layers=tuple(far if layer % 2 else local for layer in range(num_layers)),
        rope_scaling=rope_scaling,
        qk_norm=architecture in ("qwen3", "gemma3"),
        attention_bias=architecture == "qwen2",
        sandwich_norms=gemma,
        activation="gelu_tanh" if gemma else "silu",
        embedding_scale=hidden_size**0.5 if gemma else 1.0,
        attention_scale=head_dim**-0.5,
        bos_id=256,
        eos_ids=(257,),
    )


def toy_decoder(config: ModelConfig | None = None, *, seed: int = 0, dtype: str = "float32") -> Decoder:
    """A decoder with random weights, large enough that attention is not flat.

    Args:
        config: its shape; None for `toy_config()`.
        seed: the same seed gives the same weights.
        dtype: "float32" or "bfloat16".

    Returns:
        The decoder, in evaluation mode and without gradients.
    """
    decoder = Decoder(config or toy_config()).requires_grad_(False).eval()
    generator = torch.Generator().manual_seed(seed)
    for name, weight in decoder.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        if name.endswith("norm.weight"):
            weight.copy_(1.0 + 0.2 * noise)
        elif weight.ndim == 1:
            weight.copy_(0.2 * noise)
        elif name == "embedding.weight":
            weight.copy_(noise / decoder.config.embedding_scale)
        else:
            weight.copy_(1.5 * noise / weight.shape[-1] ** 0.5)
    return decoder.to(getattr(torch, dtype))


def toy_tokenizer() -> Tokenizer:
    """One token a byte, then <|begin|> (256) and <|end|> (257); ids beyond stand for nothing.

    >>> toy_tokenizer().encode("ab", add_special=True)
    [256, 97, 98]
    """
    backend = tokenizers.Tokenizer(models.BPE(byte_characters(), []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    marks = ["<|begin|>", "<|end|>"]
    backend.add_special_tokens([tokenizers.AddedToken(mark, normalized=False, special=True) for mark in marks])
    backend.post_processor = processors.TemplateProcessing(single=f"{marks[0]} $A", special_tokens=[(marks[0], 256)])
    return Tokenizer(backend, bos_id=256, eos_ids=(257,))


def toy_model(decoder: Decoder | None = None) -> LoadedModel:
    """A toy with all that a loaded model has: one token a byte, the plain template.

    Args:
        decoder: None for `toy_decoder()`.

    >>> model = toy_model()
    >>> model.template.segments(None, ["a"], "b").encode(model.tokenizer).chunks
    ([97, 10, 10],)
    """
    decoder = decoder or toy_decoder()
    digest = blake3.blake3()
    for name, weight in decoder.state_dict().items():
        digest.update(name.encode())
        digest.update(weight.float().cpu().numpy().tobytes())
    tokenizer = toy_tokenizer()
    template = ChatTemplate(None, bos_token="<|begin|>", eos_token="<|end|>")
    dtype = str(decoder.dtype).removeprefix("torch.")
    return LoadedModel(decoder, tokenizer, template, decoder.config, digest.hexdigest(), dtype)
