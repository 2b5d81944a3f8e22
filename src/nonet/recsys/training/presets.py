"""The table that a model of the registry asks for."""

from __future__ import annotations

from nonet.recsys.table.embedding_table import EmbeddingTable
from nonet.recsys.table.initializers import Uniform, Zeros
from nonet.recsys.table.optimizers import Adagrad, Optimizer
from nonet.recsys.table.segments import Segment
from nonet.recsys.training.models import MODELS


def preset_table(
    model: str,
    dim: int,
    *,
    learning_rate: float = 0.05,
    bias_optimizer: Optimizer | None = None,
    seed: int = 0,
    name: str = "table",
) -> EmbeddingTable:
    """A table for a model by name: a bias of one float where the model takes one, and a vector.

    Args:
        model: "deepfm", "fm", "lr" (bias only) or "dlrm" (vector only).
        dim: of the vector; "lr" has none.
        learning_rate: of Adagrad for both, the vector from uniform(-0.05, 0.05), the bias from 0.
        bias_optimizer: another one for the bias, such as FTRL.
        seed: of the first vectors.
        name: of the table.

    Raises:
        InputError: an unknown model or dim < 1.

    >>> preset_table("fm", 8).dim, preset_table("lr", 8).dim
    (9, 1)
    """
    biased = bool(getattr(MODELS[model], "needs_bias", False))
    segments = []
    if biased:
        segments.append(Segment(1, bias_optimizer or Adagrad(lr=learning_rate), Zeros(), "bias"))
    if model != "lr":
        segments.append(Segment(dim, Adagrad(lr=learning_rate), Uniform(-0.05, 0.05), "vector"))
    return EmbeddingTable(segments=segments, seed=seed, name=name)
