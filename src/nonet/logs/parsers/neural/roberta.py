"""A masked language model of the RoBERTa family: configuration, network, and loading from a folder.

Liu et al.: "RoBERTa: A Robustly Optimized BERT Pretraining Approach", 2019. Attributes carry the names of the published
checkpoints, so that their state dictionaries load as they are (`config.json`, `model.safetensors`, and either
`tokenizer.json` or `vocab.json` with `merges.txt`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import ByteLevelBPETokenizer, Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from nonet.common.errors import InputError


@dataclass(frozen=True, slots=True)
class RobertaConfig:
    """Sizes of the network, with the names of `config.json`; the defaults are those of roberta-base."""

    vocab_size: int = 50265
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    max_position_embeddings: int = 514
    type_vocab_size: int = 1
    layer_norm_eps: float = 1e-5
    hidden_dropout_prob: float = 0.1
    pad_token_id: int = 1

    @classmethod
    def load(cls, path: Path) -> RobertaConfig:
        """Read `config.json`; keys that are not sizes are ignored.

        Raises:
            InputError: the file is missing, no JSON object, or not of a network of this family.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"encoder configuration {path} cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise InputError(f"encoder configuration {path} is not JSON: {error}") from None
        if not isinstance(content, dict) or content.get("model_type", "roberta") not in ("roberta", "xlm-roberta"):
            raise InputError(f"{path}: expected the configuration of a RoBERTa model (model_type roberta)")
        if content.get("hidden_act", "gelu") != "gelu":
            raise InputError(f"{path}: hidden_act is {content['hidden_act']!r}; only gelu is supported")
        config = cls(**{field.name: content[field.name] for field in fields(cls) if field.name in content})
        if config.hidden_size % config.num_attention_heads:
            raise InputError(f"{path}: hidden_size is no multiple of num_attention_heads")
        return config

    @property
    def max_tokens(self) -> int:
        """Longest input; positions are counted from the padding's number + 1."""
        return self.max_position_embeddings - self.pad_token_id - 1


class Embeddings(nn.Module):
    """Sum of word, position and type embedding, normalised."""

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__()
        size, padding = config.hidden_size, config.pad_token_id
        self.padding = padding
        self.word_embeddings = nn.Embedding(config.vocab_size, size, padding_idx=padding)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, size, padding_idx=padding)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, size)
        self.LayerNorm = nn.LayerNorm(size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, tokens: Tensor) -> Tensor:
        """From token numbers (batch, length) to (batch, length, hidden_size)."""
        real = (tokens != self.padding).long()
        positions = real.cumsum(1) * real + self.padding
        words = self.word_embeddings(tokens) + self.token_type_embeddings(torch.zeros_like(tokens))
        return self.dropout(self.LayerNorm(words + self.position_embeddings(positions)))


class _Attention(nn.Module):
    """Query, key and value projections (checkpoint prefix `attention.self`)."""

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(config.hidden_size, config.hidden_size) for _ in range(3))
        self.num_heads = config.num_attention_heads

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        def heads(projection: nn.Linear) -> Tensor:
            return projection(hidden).unflatten(2, (self.num_heads, -1)).transpose(1, 2)

        mixed = functional.scaled_dot_product_attention(
            heads(self.query), heads(self.key), heads(self.value), attn_mask=mask[:, None, None, :]
        )
        return mixed.transpose(1, 2).flatten(2)


class _Output(nn.Module):
    """Projection back to the hidden size, residual connection, normalisation."""

    def __init__(self, size: int, config: RobertaConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, changed: Tensor, residual: Tensor) -> Tensor:
        normalised: Tensor = self.LayerNorm(self.dropout(self.dense(changed)) + residual)
        return normalised


class Layer(nn.Module):
    """Self-attention, then a feed-forward network, each with residual and normalisation behind it."""

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__()
        self.attention = nn.ModuleDict({"self": _Attention(config), "output": _Output(config.hidden_size, config)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(config.hidden_size, config.intermediate_size)})
        self.output = _Output(config.intermediate_size, config)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """From and to (batch, length, hidden_size); `mask` (batch, length) is true on real tokens."""
        attended = self.attention["output"](self.attention["self"](hidden, mask), hidden)
        changed: Tensor = self.output(functional.gelu(self.intermediate["dense"](attended)), attended)
        return changed


class _Head(nn.Module):
    """From hidden states to what is compared with the word embeddings (checkpoint prefix `lm_head`)."""

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, hidden: Tensor, words: Tensor) -> Tensor:
        return functional.linear(self.layer_norm(functional.gelu(self.dense(hidden))), words, self.bias)


class RobertaMaskedLM(nn.Module):
    """The network; its output layer shares the word embeddings.

    Args:
        config: its sizes.
    """

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__()
        self.config = config
        layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.roberta = nn.ModuleDict({"embeddings": Embeddings(config), "encoder": nn.ModuleDict({"layer": layers})})
        self.lm_head = _Head(config)

    def forward(self, tokens: Tensor) -> Tensor:
        """Scores of every word at every place: from padded (batch, length) to (batch, length, vocabulary)."""
        mask = tokens != self.config.pad_token_id
        hidden = self.roberta["embeddings"](tokens)
        for layer in self.roberta["encoder"]["layer"]:
            hidden = layer(hidden, mask)
        scores: Tensor = self.lm_head(hidden, self.word_vectors)
        return scores

    @property
    def word_vectors(self) -> nn.Parameter:
        """The shared table, shape (vocabulary, hidden_size)."""
        table: nn.Parameter = self.roberta["embeddings"].word_embeddings.weight
        return table

    @torch.no_grad()
    def add_word(self, vector: Tensor) -> int:
        """Append a word with this vector to the vocabulary, and return its number."""
        number = len(self.word_vectors)
        grown = torch.cat([self.word_vectors, vector[None]])
        self.roberta["embeddings"].word_embeddings = nn.Embedding.from_pretrained(
            grown, freeze=False, padding_idx=self.config.pad_token_id
        )
        self.lm_head.bias = nn.Parameter(torch.cat([self.lm_head.bias, torch.zeros(1)]))
        return number


def load_encoder(folder: Path) -> RobertaMaskedLM:
    """Load configuration and weights; pooler and buffers that this network lacks are ignored.

    Raises:
        InputError: a file is missing or damaged, or a weight is missing or of another shape.
    """
    model = RobertaMaskedLM(RobertaConfig.load(folder / "config.json"))
    path = folder / "model.safetensors"
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"encoder weights {path} cannot be read: {error}") from None
    expected = model.state_dict()
    for name, weight in expected.items():
        if name not in state:
            raise InputError(f"{path}: weight {name!r} is missing; expected a RoBERTa model with its lm_head")
        if state[name].shape != weight.shape:
            raise InputError(f"{path}: weight {name!r} is {tuple(state[name].shape)}, not {tuple(weight.shape)}")
    model.load_state_dict({name: state[name].to(weight.dtype) for name, weight in expected.items()})
    return model


def load_tokenizer(folder: Path) -> Tokenizer:
    """Load the tokenizer of an encoder.

    Raises:
        InputError: no tokenizer file is there, or it cannot be read.
    """
    whole, vocabulary, merges = (folder / name for name in ("tokenizer.json", "vocab.json", "merges.txt"))
    try:
        if whole.is_file():
            return Tokenizer.from_file(str(whole))
        if vocabulary.is_file() and merges.is_file():
            return ByteLevelBPETokenizer.from_file(
                str(vocabulary), str(merges), add_prefix_space=True, trim_offsets=True
            )
    except Exception as error:  # the library raises bare Exception
        raise InputError(f"the tokenizer in {folder} cannot be read: {error}") from None
    raise InputError(f"no tokenizer in {folder}: expected tokenizer.json, or vocab.json and merges.txt")
