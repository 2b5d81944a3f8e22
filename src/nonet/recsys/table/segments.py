"""Parts of a row: each a slice of the weights with its own initializer and optimizer."""

from __future__ import annotations

from dataclasses import dataclass, field

from nonet.common.errors import InputError
from nonet.recsys.table.compressors import Compressor, Fp32, RowCodec
from nonet.recsys.table.initializers import Initializer, Uniform
from nonet.recsys.table.optimizers import Adagrad, Optimizer


@dataclass(frozen=True)
class Segment:
    """A slice of the row, such as a bias of one float with FTRL beside a vector with Adagrad.

    Args:
        dim: floats, >= 1.
        optimizer: of this slice, with its learning rate.
        initializer: likewise.
        name: to find it by; "" is allowed once.
        compressor: how this slice travels to those who serve; training keeps float32.
    """

    dim: int
    optimizer: Optimizer = field(default_factory=Adagrad)
    initializer: Initializer = field(default_factory=Uniform)
    name: str = ""
    compressor: Compressor = field(default_factory=Fp32)

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise InputError(f"Segment {self.name!r}: dim is {self.dim}; give at least 1")


@dataclass(frozen=True)
class Placed:
    """A segment with its place in the row.

    Args:
        segment: what lies there.
        weights: columns of the weights.
        state: columns of the state.
    """

    segment: Segment
    weights: slice
    state: slice


def place(segments: tuple[Segment, ...]) -> tuple[Placed, ...]:
    """Segments one behind the other.

    >>> placed = place((Segment(1), Segment(4)))
    >>> placed[1].weights, placed[1].state
    (slice(1, 5, None), slice(1, 5, None))
    """
    placed, column, state_column = [], 0, 0
    for segment in segments:
        state_dim = segment.optimizer.state_dim(segment.dim)
        weights = slice(column, column + segment.dim)
        placed.append(Placed(segment, weights, slice(state_column, state_column + state_dim)))
        column, state_column = column + segment.dim, state_column + state_dim
    return tuple(placed)


def row_codec(segments: tuple[Segment, ...]) -> RowCodec:
    """How whole rows travel to those who serve.

    >>> row_codec((Segment(1), Segment(4))).row_bytes
    20
    """
    return RowCodec(tuple((segment.dim, segment.compressor) for segment in segments))
