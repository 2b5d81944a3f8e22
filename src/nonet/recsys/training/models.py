"""Ranking models as torch modules over embeddings that come from outside: the registry `MODELS`.

A model is called as `model(embeddings, dense)`, or as `model(embeddings, dense, biases)` where it has the attribute
`needs_bias = True`, and returns logits [n]:

- embeddings: float32 [n, num_features, dim], the pooled vector of each feature;
- dense: float32 [n, num_dense];
- biases: float32 [n, num_features], one number of each feature beside its vector.

Any `torch.nn.Module` that does so can be trained; these four are made by name with `build_model`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from nonet.common.errors import InputError
from nonet.common.registry import Registry


class ModelBuilder(Protocol):
    """What the registry holds: builds a model for a shape of input."""

    def __call__(self, num_features: int, dim: int, num_dense: int, hidden: Sequence[int]) -> nn.Module:
        """The model.

        Args:
            num_features: of ids.
            dim: of the vector of each.
            num_dense: numbers beside them.
            hidden: widths of hidden layers, where it has some.
        """


MODELS: Registry[ModelBuilder] = Registry("model")


def build_model(
    name: str, num_features: int, dim: int, num_dense: int = 0, hidden: Sequence[int] = (32, 16), seed: int = 0
) -> nn.Module:
    """A model of the registry; the same seed gives the same weights.

    Args:
        name: "deepfm", "dlrm", "lr" or "fm".
        num_features: of ids.
        dim: of the vector of each; "lr" uses none of it, 0 is right there.
        num_dense: numbers beside them.
        hidden: widths of the hidden layers of "deepfm" and "dlrm".
        seed: of the first weights.

    Raises:
        InputError: an unknown name, or a shape that the model cannot have.

    >>> build_model("fm", 2, 4)(torch.ones(1, 2, 4), torch.zeros(1, 0), torch.zeros(1, 2)).tolist()
    [4.0]
    """
    if num_features < 1 or dim < 0 or num_dense < 0 or any(width < 1 for width in hidden):
        raise InputError(f"{name}: no model has {num_features} features, dim {dim}, {num_dense} numbers, {hidden}")
    if dim < 1 and name != "lr":
        raise InputError(f"{name}: the vectors need dim >= 1, got {dim}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MODELS[name](num_features, dim, num_dense, hidden)


def _layers(sizes: Sequence[int], *, last_relu: bool = False) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*(layers if last_relu else layers[:-1]))


def pairwise(embeddings: Tensor) -> Tensor:
    """Sum of <v_i, v_j> over pairs i < j, in linear time: (|sum v|^2 - sum |v|^2) / 2 (Rendle 2010, lemma 3.1)."""
    total = embeddings.sum(1)
    return 0.5 * ((total * total).sum(1) - (embeddings * embeddings).sum((1, 2)))


@MODELS.register("lr")
class LogisticRegression(nn.Module):
    """b + sum w_i + <w, dense>."""

    needs_bias = True

    def __init__(self, num_features: int, dim: int, num_dense: int, hidden: Sequence[int] = ()) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(()))
        self.dense = nn.Parameter(torch.zeros(num_dense)) if num_dense else None

    def forward(self, embeddings: Tensor, dense: Tensor, biases: Tensor) -> Tensor:
        """Logits [n]."""
        logits = self.offset + biases.sum(1)
        return logits if self.dense is None else logits + dense @ self.dense


@MODELS.register("fm")
class FactorisationMachine(LogisticRegression):
    """b + sum w_i + <w, dense> + sum of <v_i, v_j> over pairs (Rendle 2010)."""

    def forward(self, embeddings: Tensor, dense: Tensor, biases: Tensor) -> Tensor:
        """Logits [n]."""
        return super().forward(embeddings, dense, biases) + pairwise(embeddings)


@MODELS.register("deepfm")
class DeepFM(FactorisationMachine):
    """The factorisation machine plus a network on the concatenated vectors (Guo et al. 2017)."""

    def __init__(self, num_features: int, dim: int, num_dense: int, hidden: Sequence[int]) -> None:
        super().__init__(num_features, dim, num_dense)
        self.deep = _layers([num_features * dim + num_dense, *hidden, 1])

    def forward(self, embeddings: Tensor, dense: Tensor, biases: Tensor) -> Tensor:
        """Logits [n]."""
        flat = embeddings.flatten(1)
        inputs = torch.cat((flat, dense), 1) if dense.shape[1] else flat
        return super().forward(embeddings, dense, biases) + self.deep(inputs).squeeze(1)


@MODELS.register("dlrm")
class DLRM(nn.Module):
    """A network on the numbers, dot products of all pairs, a network on both (Naumov et al. 2019)."""

    needs_bias = False

    def __init__(self, num_features: int, dim: int, num_dense: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.bottom = _layers([num_dense, *hidden, dim], last_relu=True) if num_dense else None
        vectors = num_features + (num_dense > 0)
        rows, columns = torch.triu_indices(vectors, vectors, 1)
        self.register_buffer("_pairs", rows * vectors + columns, persistent=False)
        width = len(rows) + (dim if num_dense else num_features * dim)
        self.top = _layers([width, *hidden, 1])

    def forward(self, embeddings: Tensor, dense: Tensor) -> Tensor:
        """Logits [n]."""
        if self.bottom is None:
            first = embeddings.flatten(1)
        else:
            first = self.bottom(dense)
            embeddings = torch.cat((first.unsqueeze(1), embeddings), 1)
        dots = torch.bmm(embeddings, embeddings.transpose(1, 2)).flatten(1)
        return self.top(torch.cat((first, dots[:, self._pairs]), 1)).squeeze(1)
