"""One prompt and its answer in pages: which slot holds which row, and which rows are there at all."""

from __future__ import annotations

import torch

from nonet.common.errors import InputError
from nonet.ragcache.engine.paging import BlockPool, Blocks


class Sequence:
    """Rows of one request.

    A row has up to two slots: one in shared pages (a stored variant) and one of its own (computed here). Where it has
    its own, that is read in the layers in which the row was computed, the shared one in deeper layers if the row was
    dropped on the way.

    Args:
        pool: where pages come from.
        ids: LongTensor[n], the tokens of the prompt.
        capacity: rows at most, answer included; at least n.
        positions: LongTensor[n], by default 0 .. n-1; the answer goes on from the last one.

    Raises:
        InputError: an empty prompt, a capacity below it, or positions that do not rise.
    """

    def __init__(
        self, pool: BlockPool, ids: torch.Tensor, capacity: int | None = None, positions: torch.Tensor | None = None
    ) -> None:
        size = len(ids)
        room = size if capacity is None else capacity
        if size == 0 or room < size:
            raise InputError(
                f"a sequence of {size} tokens in {room} rows; it needs at least one token, and rows for all"
            )
        if positions is not None and (len(positions) != size or not bool((positions.diff() > 0).all())):
            raise InputError("positions must rise, one for each token")
        device = ids.device
        self._pool = pool
        self.num_tokens = size
        self.ids = torch.cat([ids, torch.zeros(room - size, dtype=torch.long, device=device)])
        start = torch.arange(size, device=device) if positions is None else positions
        rest = torch.arange(1, room - size + 1, device=device) + start[-1]
        self.positions = torch.cat([start, rest])
        self._shared = torch.full((room,), -1, dtype=torch.long, device=device)
        self._own = torch.full((room,), -1, dtype=torch.long, device=device)
        self._own_layers = torch.zeros(room, dtype=torch.long, device=device)
        self._slots: dict[int, torch.Tensor] = {}
        self._has_drops = False
        self._held: list[Blocks] = []

    def use(self, start: int, blocks: Blocks) -> None:
        """Read rows from shared pages; the sequence becomes one of their holders.

        Args:
            start: row of the first token.
            blocks: of a chunk that stands there.

        Raises:
            InputError: they reach beyond the prompt.
        """
        if start < 0 or start + blocks.num_tokens > self.num_tokens:
            raise InputError(f"{blocks.num_tokens} rows from {start} on reach beyond {self.num_tokens} rows")
        self._held.append(self._pool.share(blocks))
        self._shared[start : start + blocks.num_tokens] = blocks.slots
        self._slots.clear()

    def reserve(self, rows: torch.Tensor) -> None:
        """Give rows slots of their own, where they have none yet.

        Args:
            rows: LongTensor, rows that are going to be computed.

        Raises:
            PoolExhausted: no pages are left.
        """
        new = rows[self._own[rows] < 0]
        if len(new):
            blocks = self._pool.allocate(len(new))
            self._held.append(blocks)
            self._own[new] = blocks.slots

    def own_slots(self, rows: torch.Tensor) -> torch.Tensor:
        """Where computed rows write to."""
        return self._own[rows]

    def shared_slots(self, rows: torch.Tensor) -> torch.Tensor:
        """Slots of rows in shared pages; slot 0 for rows that have none there."""
        return self._shared[rows].clamp(min=0)

    def mark(self, rows: torch.Tensor, num_layers: int) -> None:
        """Say that rows are computed in the first layers, from their own slots on.

        Args:
            rows: LongTensor.
            num_layers: how many; the shared slot is read in the others. 0 forgets the computation.
        """
        self._own_layers[rows] = num_layers
        self._slots.clear()
        own = self._own_layers[: self.num_tokens]
        self._has_drops = bool(((own > 0) & (own < len(self._pool.keys))).any())

    @property
    def has_drops(self) -> bool:
        """Whether some row was computed in the first layers only, so that layers read different slots."""
        return self._has_drops

    def layer_slots(self, layer: int) -> torch.Tensor:
        """LongTensor[num_tokens]: where each row's keys and values of a layer are, -1 where there are none."""
        key = layer if self._has_drops else -1
        if key not in self._slots:
            own = (
                self._own_layers[: self.num_tokens] > layer
                if self._has_drops
                else self._own_layers[: self.num_tokens] > 0
            )
            self._slots[key] = torch.where(own, self._own[: self.num_tokens], self._shared[: self.num_tokens])
        return self._slots[key]

    def append(self, token_id: int) -> int:
        """Add a token of the answer; gives its row.

        Raises:
            InputError: the capacity is used up.
        """
        if self.num_tokens == len(self.ids):
            raise InputError(f"all {self.num_tokens} rows of the sequence are used")
        row = self.num_tokens
        self.ids[row] = token_id
        self.num_tokens += 1
        self._slots.clear()
        return row

    def close(self) -> None:
        """Let go of all pages; safe to call twice."""
        for blocks in self._held:
            self._pool.release(blocks)
        self._held.clear()
