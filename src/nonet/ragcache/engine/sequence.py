"""One prompt and its answer in pages: which slot holds which row, and which rows are there at all."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from nonet.common.errors import InputError
from nonet.ragcache.engine.paging import BlockPool, Blocks


class Sequence:
    """Rows of one request.

    A row has up to two slots: one in shared pages (a stored variant) and one of its own (computed here). Where it has
    its own, that is read in the layers in which the row was computed, the shared one in deeper layers if the row was
    dropped on the way.

    Rows that are read from shared pages may follow others that are computed anew (`follow`): the mean change of those,
    in each layer and as far as they agree, is added to them when they are read. The pages themselves stay as they are,
    for all who share them.

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
        self._change = torch.full((room,), -1, dtype=torch.long, device=device)
        self._leaders = self._group_of = self._change_slots = torch.empty(0, dtype=torch.long, device=device)
        self._is_leader = torch.zeros(room, dtype=torch.bool, device=device)
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

    def follow(self, groups: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Let rows of shared pages follow others that have shared pages, too, and are computed anew.

        Args:
            groups: leaders, which are going to be computed, and followers, which are not; LongTensors.

        Raises:
            InputError: a group without leaders, or rows that are not in shared pages.
            PoolExhausted: no pages are left.
        """
        pairs = list(groups)
        if not pairs:
            return
        rows = torch.cat([torch.cat(pair) for pair in pairs])
        if not all(len(leaders) for leaders, _ in pairs) or bool((self._shared[rows] < 0).any()):
            raise InputError("rows can follow others only where both are in shared pages")
        blocks = self._pool.allocate(len(pairs))
        self._held.append(blocks)
        self._change_slots = blocks.slots
        # Where all leaders are dropped on their way up, nothing is written in deeper layers, and nothing may be read.
        self._pool.keys[:, blocks.slots] = 0
        self._pool.values[:, blocks.slots] = 0
        self._leaders = torch.cat([leaders for leaders, _ in pairs])
        self._group_of = torch.cat([torch.full_like(leaders, n) for n, (leaders, _) in enumerate(pairs)])
        self._is_leader[self._leaders] = True
        for slot, (_, followers) in zip(blocks.slots, pairs, strict=True):
            self._change[followers] = slot

    def lead(self, layer: int, rows: torch.Tensor) -> None:
        """Take up how far rows that were just computed in a layer are from what their shared pages hold.

        A group's change is the shrunk mean over its leaders that are computed by now (`shrunk_means`); it counts for
        what is read from then on.

        Args:
            layer: whose keys and values of these rows are written.
            rows: LongTensor.
        """
        if not len(self._leaders) or not bool(self._is_leader[rows].any()):
            return
        there = self._own_layers[self._leaders] > layer
        leaders, group_of = self._leaders[there], self._group_of[there]
        for held in (self._pool.keys[layer], self._pool.values[layer]):
            changes = held[self._own[leaders]].float() - held[self._shared[leaders]].float()
            shared = shrunk_means(changes.flatten(1), group_of, len(self._change_slots))
            held.index_copy_(0, self._change_slots, shared.view(-1, *held.shape[1:]).to(held.dtype))

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
    def has_followers(self) -> bool:
        """Whether some row follows others: then no leader of a group may be computed after the first one is read."""
        return len(self._leaders) > 0

    @property
    def has_drops(self) -> bool:
        """Whether some row was computed in the first layers only, so that layers read different slots."""
        return self._has_drops

    def layer_slots(self, layer: int) -> torch.Tensor:
        """LongTensor[num_tokens]: where each row's keys and values of a layer are, -1 where there are none."""
        key = layer if self._has_drops else -1
        if key not in self._slots:
            size = self.num_tokens
            own = self._own_layers[:size] > (layer if self._has_drops else 0)
            self._slots[key] = torch.where(own, self._own[:size], self._shared[:size])
        return self._slots[key]

    @property
    def added_slots(self) -> torch.Tensor:
        """LongTensor[num_tokens]: slots of the changes that are added to rows, -1 for rows that follow none.

        The same in all layers, since rows that follow others are never computed.
        """
        return self._change[: self.num_tokens]

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


def shrunk_means(changes: torch.Tensor, group_of: torch.Tensor, num_groups: int) -> torch.Tensor:
    """Mean of each group's vectors, smaller the less they agree: what a further member is to be expected near.

    The positive-part estimator of James and Stein (1961), with the variance taken from the group: the mean times
    1 - v / |mean|^2, where v is the variance of that mean; never less than 0. One vector says nothing about others.

    Args:
        changes: float32 [n, d].
        group_of: LongTensor[n], below `num_groups`.
        num_groups: how many.

    Returns:
        float32 [num_groups, d]; zeros for groups of fewer than two.

    >>> changes = torch.tensor([[2.0], [2.0], [3.0], [-1.0], [9.0]])
    >>> same, apart, alone = shrunk_means(changes, torch.tensor([0, 0, 1, 1, 2]), 3)
    >>> same.item(), apart.item(), alone.item()
    (2.0, 0.0, 0.0)
    """
    counts = torch.bincount(group_of, minlength=num_groups).to(changes.dtype)
    sums = changes.new_zeros(num_groups, changes.shape[1]).index_add_(0, group_of, changes)
    squares = changes.new_zeros(num_groups).index_add_(0, group_of, changes.square().sum(1))
    means = sums / counts.clamp(min=1)[:, None]
    lengths = means.square().sum(1)
    spread = (squares / counts.clamp(min=1) - lengths).clamp(min=0)
    kept = 1 - spread / ((counts - 1) * lengths)
    # A lone vector gives 0 / 0, and so does a group whose vectors are all zero.
    return means * kept.nan_to_num(0.0, 0.0, 0.0).clamp(min=0)[:, None] * (counts > 1)[:, None]
