"""A table as a layer of a torch model. Gradients stay sparse: a row for each id of the batch, never the vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nonet.common.errors import InputError
from nonet.recsys.example import Bags
from nonet.recsys.features.jagged import bags_of, keyed_jagged_parts
from nonet.recsys.table.embedding_table import Applied, EmbeddingTable

Mode = Literal["sum", "mean"]


class _Gradients(NamedTuple):
    keys: NDArray[np.int64]
    rows: Tensor


class TableEmbeddingBag(nn.Module):
    """Sums or means of rows of an `EmbeddingTable`, as `nn.EmbeddingBag` computes them.

    `forward` reads the table, `backward` leaves a gradient for each id of the batch, `apply_gradients` hands them to
    the table, whose own optimizer takes the step. They wait here until then, also past an optimizer's `zero_grad`. The
    table's weights are no parameters of the module and not in its `state_dict`: they have snapshots.

    Args:
        table: its rows are float32.
        mode: "sum" or "mean"; an empty bag gives zeros, an unknown id counts as a row of zeros.
        include_last_offset: offsets have the end of the last bag, too, as for `nn.EmbeddingBag`.
        dtype: of the output.

    Raises:
        InputError: another mode.

    >>> from nonet.recsys.table import SGD, Zeros
    >>> table = EmbeddingTable(1, optimizer=SGD(lr=1.0), initializer=Zeros())
    >>> bag = TableEmbeddingBag(table)
    >>> bag(torch.tensor([5, 5, 9]), torch.tensor([0, 2])).sum().backward()
    >>> bag.apply_gradients(now_s=1).created, table.lookup([5, 9]).tolist()
    (2, [[-2.0], [-1.0]])
    """

    def __init__(
        self,
        table: EmbeddingTable,
        mode: Mode = "sum",
        *,
        include_last_offset: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        if mode not in ("sum", "mean"):
            raise InputError(f"TableEmbeddingBag: mode must be 'sum' or 'mean', got {mode!r}")
        self.table = table
        self.mode: Mode = mode
        self.include_last_offset = include_last_offset
        self.dtype = dtype
        self._waiting: list[_Gradients] = []

    def forward(self, values: Any, offsets: Any = None) -> Tensor:
        """One row a bag.

        Args:
            values: int64 [total], tensor or array.
            offsets: int64 [n], where each bag begins; [n + 1] with `include_last_offset`. None makes each value a bag.

        Returns:
            [n, dim].

        Raises:
            InputError: offsets that do not rise from 0 to the number of values.
        """
        keys = np.ascontiguousarray(values, np.int64)
        if offsets is None:
            rows = self._read(keys)
            return rows.view_as(rows)
        begins = np.asarray(offsets, np.int64)
        ends = begins if self.include_last_offset else np.append(begins, len(keys))
        return pool(self._read(keys), torch.from_numpy(np.diff(bags_of(keys, offsets=ends).offsets)), self.mode)

    def stack(self, bags: Mapping[str, Bags]) -> Tensor:
        """Rows of several features that share the table, from one lookup.

        Args:
            bags: per feature, all of one batch size n.

        Returns:
            [n, number of features, dim].

        Raises:
            InputError: batch sizes differ.
        """
        names, values, lengths = keyed_jagged_parts(bags)
        pooled = pool(self._read(values), torch.from_numpy(lengths), self.mode)
        return pooled.view(len(names), -1, self.table.dim).transpose(0, 1)

    def _read(self, keys: NDArray[np.int64]) -> Tensor:
        rows = torch.from_numpy(self.table.lookup(keys)).to(self.dtype)
        if torch.is_grad_enabled():
            rows.requires_grad_()
            read = keys.copy()
            rows.register_hook(lambda gradients: self._waiting.append(_Gradients(read, gradients.detach())))
        return rows

    def apply_gradients(self, *, now_s: int = 0) -> Applied:
        """Hand the gradients of all `backward` calls since the last time to the table, in one step.

        Args:
            now_s: event time, Unix seconds.

        Returns:
            what the table did; nothing, if nothing has a gradient.
        """
        if not self._waiting:
            return Applied()
        keys = np.concatenate([waiting.keys for waiting in self._waiting])
        gradients = torch.cat([waiting.rows for waiting in self._waiting]).to(torch.float32).numpy()
        self._waiting.clear()
        return self.table.apply_gradients(keys, gradients, now_s=now_s)

    def forget_gradients(self) -> None:
        """Drop the gradients that wait, such as those of a batch that is not to be trained."""
        self._waiting.clear()

    def extra_repr(self) -> str:
        """What `print` shows."""
        return f"{self.table.name!r}, dim={self.table.dim}, mode={self.mode!r}"


def pool(rows: Tensor, lengths: Tensor, mode: Mode) -> Tensor:
    """Sum or mean of neighbouring rows.

    Args:
        rows: [total, dim].
        lengths: int64 [n], summing up to total.
        mode: "sum" or "mean".

    Returns:
        [n, dim]; zeros for a length of 0.
    """
    pooled: Tensor = _Pool.apply(rows, lengths, mode)
    return pooled


class _Pool(torch.autograd.Function):
    """The gradient of a bag goes to each of its rows; of a mean, divided by their number."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, lengths: Tensor, mode: Mode) -> Tensor:
        bag_of = torch.from_numpy(
            np.repeat(np.arange(len(lengths)), lengths.numpy())
        )  # torch's own is ten times slower
        ctx.save_for_backward(lengths, bag_of)
        ctx.mode = mode
        out = rows.new_zeros(len(lengths), rows.shape[1])
        out.index_add_(0, bag_of, rows)
        return out / lengths.clamp(min=1).unsqueeze(1) if mode == "mean" else out

    @staticmethod
    def backward(ctx: Any, gradients: Tensor) -> tuple[Tensor, None, None]:
        lengths, bag_of = ctx.saved_tensors
        if ctx.mode == "mean":
            gradients = gradients / lengths.clamp(min=1).unsqueeze(1)
        return gradients.index_select(0, bag_of), None, None
