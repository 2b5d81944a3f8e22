"""Keys and values of all sequences in one pool of blocks with reference counts.

Pages of a stored chunk are written once, layer by layer, and frozen then. They are read-only for all who share them: a
repaired row goes to a page of its own, and the sequence points there instead.
"""

from __future__ import annotations

import math
import threading

import numpy as np
import torch

from nonet.common.errors import InputError, NonetError
from nonet.ragcache.models.config import ModelConfig


class PoolExhausted(NonetError):  # noqa: N818  (what a caller catches reads as a state, not as a fault)
    """The pool has not so many free blocks now."""


class Blocks:
    """Pages that belong together.

    Attributes:
        slots: LongTensor[num_tokens], where in the pool each token's keys and values are.
        num_tokens: tokens that were asked for; the last block may hold more.
        is_frozen: nobody may write to them any more.
    """

    def __init__(self, numbers: list[int], slots: torch.Tensor) -> None:
        self.numbers = numbers
        self.slots = slots
        self.num_tokens = len(slots)
        self.num_holders = 1
        self.is_frozen = False


class BlockPool:
    """Pages for keys, not rotated, and values of every layer.

    Args:
        config: of the model.
        num_blocks: pages.
        block_tokens: tokens of a page.
        dtype: of keys and values.
        device: where they are.

    Raises:
        InputError: sizes below 1.

    >>> from nonet.ragcache.models.toy import toy_config
    >>> pool = BlockPool(toy_config(), num_blocks=4, block_tokens=16)
    >>> blocks = pool.allocate(20)
    >>> pool.free_tokens, len(blocks.slots)
    (32, 20)
    >>> pool.release(blocks)
    >>> pool.free_tokens
    64
    """

    def __init__(
        self,
        config: ModelConfig,
        num_blocks: int,
        block_tokens: int = 16,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        if num_blocks < 1 or block_tokens < 1:
            raise InputError(f"a pool of {num_blocks} blocks of {block_tokens} tokens holds nothing")
        self.block_tokens = block_tokens
        self.num_blocks = num_blocks
        shape = (config.num_layers, num_blocks * block_tokens, config.num_kv_heads, config.head_dim)
        # Zeros, not empty: a slot that is masked out is multiplied by 0, and 0 times NaN is NaN.
        self.keys = _zeros(shape, dtype, torch.device(device))
        self.values = _zeros(shape, dtype, torch.device(device))
        self._free = list(range(num_blocks - 1, -1, -1))
        self._lock = threading.Lock()

    @property
    def free_tokens(self) -> int:
        """Tokens that still fit."""
        return len(self._free) * self.block_tokens

    def allocate(self, num_tokens: int) -> Blocks:
        """Take pages for so many tokens.

        Raises:
            PoolExhausted: there are not so many free ones.
        """
        needed = -(-num_tokens // self.block_tokens)
        with self._lock:
            if needed > len(self._free):
                raise PoolExhausted(f"{num_tokens} tokens do not fit: {self.free_tokens} are free")
            numbers = [self._free.pop() for _ in range(needed)]
        within = torch.arange(self.block_tokens)
        firsts = torch.tensor(numbers, dtype=torch.long)[:, None] * self.block_tokens
        return Blocks(numbers, (firsts + within).flatten()[:num_tokens].to(self.keys.device))

    def share(self, blocks: Blocks) -> Blocks:
        """Hold the same pages once more."""
        with self._lock:
            self._check_held(blocks)
            blocks.num_holders += 1
        return blocks

    def release(self, blocks: Blocks) -> None:
        """Let go; the last holder's call frees the pages.

        Raises:
            InputError: nobody held them any more.
        """
        with self._lock:
            self._check_held(blocks)
            blocks.num_holders -= 1
            if blocks.num_holders == 0:
                self._free.extend(reversed(blocks.numbers))

    def write(self, layer: int, blocks: Blocks, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Fill a layer of pages that are not frozen yet.

        Args:
            layer: which.
            blocks: where to.
            keys: [num_tokens, kv_heads, head_dim], not rotated.
            values: the same shape.

        Raises:
            InputError: they are frozen or free, or the shapes differ.
        """
        self._check_held(blocks)
        if blocks.is_frozen:
            raise InputError("frozen pages are read-only; a row that changes needs a page of its own")
        if len(keys) != blocks.num_tokens or len(values) != blocks.num_tokens:
            raise InputError(f"{len(keys)} keys and {len(values)} values for pages of {blocks.num_tokens} tokens")
        self.keys[layer].index_copy_(0, blocks.slots, keys.to(self.keys.dtype))
        self.values[layer].index_copy_(0, blocks.slots, values.to(self.values.dtype))

    def read(self, slots: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Copies of the keys and values at some slots: twice [layers, len(slots), kv_heads, head_dim]."""
        return self.keys.index_select(1, slots), self.values.index_select(1, slots)

    @staticmethod
    def _check_held(blocks: Blocks) -> None:
        if blocks.num_holders < 1:
            raise InputError("these pages were released already")


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Zeros whose memory is taken when it is first written to; torch.zeros would touch gigabytes at every start."""
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    held = np.zeros(math.prod(shape) * dtype.itemsize, np.uint8)
    return torch.from_numpy(held).view(dtype).view(shape)
