"""The torch layer against nn.EmbeddingBag: output, gradients (gradcheck in float64), training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from nonet.common.errors import InputError
from nonet.recsys.example import Bags
from nonet.recsys.table import SGD, EmbeddingTable, ExactCount, Zeros
from nonet.recsys.table.module import TableEmbeddingBag, pool

IDS = np.array([3, -1, 2**63 - 1, -(2**63), 0, 8])
BAGS = [[0, 1, 1], [], [5], [2, 3, 4, 0], []]
VALUES = torch.tensor([i for bag in BAGS for i in bag])
BEGINS = torch.tensor([0, 3, 3, 4, 8])
LENGTHS = torch.tensor([3, 0, 1, 4, 0])


def table_and_peer(mode: str, dim: int = 4) -> tuple[EmbeddingTable, nn.EmbeddingBag]:
    weights = np.random.default_rng(0).normal(size=(len(IDS), dim)).astype(np.float32)
    table = EmbeddingTable(dim, optimizer=SGD(lr=0.1), initializer=Zeros())
    table.upsert(IDS, weights)
    peer = nn.EmbeddingBag.from_pretrained(torch.from_numpy(weights.copy()), freeze=False, mode=mode)
    return table, peer


@pytest.mark.parametrize("mode", ["sum", "mean"])
def test_output_equals_nn_embedding_bag(mode: str) -> None:
    table, peer = table_and_peer(mode)
    got = TableEmbeddingBag(table, mode)(IDS[VALUES], BEGINS)
    torch.testing.assert_close(got, peer(VALUES, BEGINS))
    with_end = TableEmbeddingBag(table, mode, include_last_offset=True)
    torch.testing.assert_close(with_end(IDS[VALUES], torch.cat([BEGINS, torch.tensor([8])])), got)


@pytest.mark.parametrize("mode", ["sum", "mean"])
def test_gradcheck_in_float64(mode: str) -> None:
    rows = torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: pool(x, LENGTHS, mode), rows)
    single = torch.ones(8, dtype=torch.int64)
    assert torch.autograd.gradcheck(lambda x: pool(x, single, mode), rows)


@pytest.mark.parametrize("mode", ["sum", "mean"])
def test_gradients_equal_those_of_nn_embedding_bag_in_float64(mode: str) -> None:
    table, peer = table_and_peer(mode)
    peer = peer.double()
    layer = TableEmbeddingBag(table, mode, dtype=torch.float64)
    for module, values in ((layer, IDS[VALUES]), (peer, VALUES)):
        (module(values, BEGINS) ** 3).sum().backward()
    ((keys, gradients),) = layer._waiting
    got = torch.zeros_like(peer.weight)
    got.index_add_(0, VALUES, gradients)
    assert np.array_equal(keys, IDS[VALUES])
    torch.testing.assert_close(got, peer.weight.grad, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mode", ["sum", "mean"])
def test_training_equals_nn_embedding_bag_with_sgd(mode: str) -> None:
    table, peer = table_and_peer(mode)
    layer = TableEmbeddingBag(table, mode)
    head = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(peer.parameters(), lr=0.1)
    for _ in range(20):
        for module, values in ((layer, IDS[VALUES]), (peer, VALUES)):
            nn.functional.softplus(head(module(values, BEGINS))).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        layer.apply_gradients()
    np.testing.assert_allclose(table.lookup(IDS), peer.weight.detach().numpy(), rtol=1e-4, atol=1e-5)


def test_unknown_ids_read_zeros_and_are_created_by_gradients_alone() -> None:
    table = EmbeddingTable(2, optimizer=SGD(lr=1.0), initializer=Zeros())
    layer = TableEmbeddingBag(table)
    with torch.no_grad():
        assert layer([7, 8], [0, 1]).tolist() == [[0, 0], [0, 0]]
    assert not layer(torch.tensor([7])).detach().any()
    assert (layer.apply_gradients().created, len(table)) == (0, 0)
    layer([7, 7, 8], [0, 1]).sum().backward()
    assert layer.apply_gradients(now_s=5).created == 2
    assert table.lookup([7, 8]).tolist() == [[-2, -2], [-1, -1]]


def test_every_occurrence_counts_for_admission() -> None:
    table = EmbeddingTable(1, admission=ExactCount(3))
    layer = TableEmbeddingBag(table)
    layer([4, 4, 9], [0]).sum().backward()
    assert layer.apply_gradients().filtered == 2
    layer([4, 9], [0]).sum().backward()
    assert layer.apply_gradients().created == 1
    assert table.keys().tolist() == [4]


def test_features_that_share_a_table_come_stacked() -> None:
    table, peer = table_and_peer("sum")
    layer = TableEmbeddingBag(table)
    a, b = [[0], [1, 2]], [[], [5, 5]]
    stacked = layer.stack(
        {"a": Bags.of([IDS[bag].tolist() for bag in a]), "b": Bags.of([IDS[bag].tolist() for bag in b])}
    )
    assert stacked.shape == (2, 2, 4)
    for column, bags in enumerate((a, b)):
        for row, bag in enumerate(bags):
            torch.testing.assert_close(stacked[row, column], peer.weight[bag].sum(0))
    (stacked[:, 1] * 2).sum().backward()
    before = table.lookup(IDS)
    layer.apply_gradients()
    np.testing.assert_allclose(before[5] - table.lookup(IDS)[5], 0.1 * 4, rtol=1e-5)
    assert np.array_equal(before[:5], table.lookup(IDS)[:5])


def test_memory_of_a_step_does_not_know_the_vocabulary() -> None:
    table = EmbeddingTable(16, capacity=0)
    table.upsert(np.arange(200_000), np.ones((200_000, 16), np.float32))
    layer = TableEmbeddingBag(table)
    layer(np.arange(10), np.arange(10)).sum().backward()
    assert layer._waiting[0].rows.shape == (10, 16)
    assert list(layer.parameters()) == []


def test_an_empty_batch_and_wrong_input() -> None:
    table = EmbeddingTable(2)
    layer = TableEmbeddingBag(table)
    out = layer(torch.empty(0, dtype=torch.int64), torch.tensor([0, 0]))
    assert out.tolist() == [[0, 0], [0, 0]]
    out.sum().backward()
    assert layer.apply_gradients().created == 0
    for offsets in ([1], [0, 3], [0, 2, 1], [-1]):
        with pytest.raises(InputError):
            layer([1, 2], offsets)
    with pytest.raises(InputError, match="mode"):
        TableEmbeddingBag(table, "max")  # type: ignore[arg-type]


def test_forgotten_gradients_are_not_applied() -> None:
    table = EmbeddingTable(1)
    layer = TableEmbeddingBag(table)
    layer([1]).sum().backward()
    layer.forget_gradients()
    assert layer.apply_gradients().created == 0


def test_gradients_add_up_over_batches_and_reads_without_backward_leave_nothing() -> None:
    table = EmbeddingTable(1, optimizer=SGD(lr=1.0), initializer=Zeros())
    layer = TableEmbeddingBag(table)
    for ids in ([1, 2], [2, 3]):
        layer(ids).sum().backward()
        layer(ids)
    assert sum(len(waiting.keys) for waiting in layer._waiting) == 4
    assert (layer.apply_gradients().created, table.step) == (3, 1)
    assert table.lookup([1, 2, 3])[:, 0].tolist() == [-1, -2, -1]
