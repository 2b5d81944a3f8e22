"""Pages: counted, shared, read-only while shared."""

import pytest
import torch

from nonet.common.errors import InputError
from nonet.ragcache.engine.paging import BlockPool, PoolExhausted
from nonet.ragcache.engine.sequence import Sequence


@pytest.fixture
def pool(tiny_model):
    return BlockPool(tiny_model.config, num_blocks=4, block_tokens=16)


def test_slots_are_never_given_twice_and_come_back(pool):
    first, second = pool.allocate(17), pool.allocate(30)
    assert not set(first.slots.tolist()) & set(second.slots.tolist())
    with pytest.raises(PoolExhausted, match="1 tokens do not fit: 0 are free"):
        pool.allocate(1)
    pool.release(first)
    assert pool.free_tokens == 32
    pool.share(second)
    pool.release(second)
    assert pool.free_tokens == 32
    pool.release(second)
    assert pool.free_tokens == 64
    with pytest.raises(InputError, match="released"):
        pool.release(second)
    with pytest.raises(InputError, match="released"):
        pool.share(second)


def test_frozen_pages_are_read_only(pool, tiny_model):
    shape = (3, tiny_model.config.num_kv_heads, tiny_model.config.head_dim)
    blocks = pool.allocate(3)
    pool.write(0, blocks, torch.ones(shape), torch.full(shape, 2.0))
    keys, values = pool.read(blocks.slots)
    assert bool((keys[0] == 1).all()) and bool((values[0] == 2).all()) and bool((keys[1] == 0).all())
    pool.share(blocks)
    pool.write(0, blocks, torch.full(shape, 3.0), torch.zeros(shape))
    pool.release(blocks)
    blocks.is_frozen = True
    with pytest.raises(InputError, match="read-only"):
        pool.write(0, blocks, torch.zeros(shape), torch.zeros(shape))
    with pytest.raises(InputError, match="2 keys"):
        pool.write(0, pool.allocate(3), torch.zeros(shape)[:2], torch.zeros(shape))


def test_a_sequence_gives_back_what_it_held(pool):
    blocks = pool.allocate(16)
    sequence = Sequence(pool, torch.arange(20), capacity=22)
    sequence.use(4, blocks)
    sequence.reserve(torch.tensor([0, 1, 5]))
    sequence.reserve(torch.tensor([1, 5, 19]))
    assert pool.free_tokens == 16
    assert len(set(sequence.own_slots(torch.tensor([0, 1, 5, 19])).tolist())) == 4
    pool.release(blocks)
    sequence.close()
    sequence.close()
    assert pool.free_tokens == 64


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda pool: Sequence(pool, torch.arange(0)), "at least one token"),
        (lambda pool: Sequence(pool, torch.arange(5), capacity=4), "rows for all"),
        (lambda pool: Sequence(pool, torch.arange(3), positions=torch.tensor([0, 2, 2])), "rise"),
        (lambda pool: Sequence(pool, torch.arange(3)).use(1, pool.allocate(3)), "beyond"),
        (lambda pool: Sequence(pool, torch.arange(3)).append(1), "all 3 rows"),
        (lambda pool: BlockPool.__init__(pool, None, 0), "holds nothing"),
    ],
)
def test_what_cannot_be_is_refused(pool, make, says):
    with pytest.raises(InputError, match=says):
        make(pool)
