"""Every optimizer against float64 formulas and torch; what the reference got wrong; restarts."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from nonet.common.errors import InputError
from nonet.recsys.table import (
    FTRL,
    OPTIMIZERS,
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    AMSGrad,
    BatchSoftmax,
    EmbeddingTable,
    GroupAdagrad,
    Momentum,
    MovingAverage,
    Optimizer,
    RMSProp,
    Segment,
    Zeros,
)
from nonet.recsys.table.optimizers.oracles import FORMULAS, largest_error

VARIANTS: list[Optimizer] = [
    SGD(0.05, weight_decay=0.01),
    Adagrad(0.05),
    Adagrad(0.05, weight_decay=0.01),
    FTRL(0.05),
    FTRL(0.05, beta=1.0, l1=0.1, l2=0.01),
    Adam(),
    Adam(nesterov=True, weight_decay=0.01),
    AMSGrad(),
    Momentum(),
    Momentum(nesterov=True),
    RMSProp(),
    Adadelta(1.0),
    GroupAdagrad(0.05, l2=0.5),
    GroupAdagrad(0.05, beta=1.0),
    MovingAverage(),
    BatchSoftmax(),
]


def test_every_registered_optimizer_has_a_formula_and_a_variant_here() -> None:
    registered = {OPTIMIZERS[name] for name in OPTIMIZERS}
    assert registered == set(FORMULAS) == {type(variant) for variant in VARIANTS}


@pytest.mark.parametrize("optimizer", VARIANTS, ids=str)
def test_a_thousand_steps_equal_the_formula(optimizer: Optimizer) -> None:
    assert largest_error(optimizer) <= 1e-4


def torch_rule(optimizer: Optimizer, parameter):
    from torch import optim

    match optimizer:
        case SGD():
            return optim.SGD([parameter], lr=optimizer.lr, weight_decay=optimizer.weight_decay)
        case Momentum():
            return optim.SGD([parameter], lr=optimizer.lr, momentum=optimizer.momentum, nesterov=optimizer.nesterov)
        case Adagrad():
            return optim.Adagrad(
                [parameter], lr=optimizer.lr, eps=0, initial_accumulator_value=optimizer.initial_accumulator,
                weight_decay=optimizer.weight_decay,
            )  # fmt: skip
        case Adadelta():
            return optim.Adadelta([parameter], lr=optimizer.lr, rho=optimizer.rho, eps=optimizer.eps)
        case Adam():  # torch scales eps by the correction; without it the rules are one
            return optim.Adam(
                [parameter], lr=optimizer.lr, betas=(optimizer.beta1, optimizer.beta2), eps=optimizer.eps,
                amsgrad=isinstance(optimizer, AMSGrad),
            )  # fmt: skip
    raise AssertionError(optimizer)


@pytest.mark.parametrize(
    "optimizer",
    [
        SGD(0.05, weight_decay=0.01),
        Momentum(),
        Momentum(nesterov=True),
        Adagrad(0.05),
        Adagrad(0.05, weight_decay=0.01),
        Adadelta(),
        Adam(eps=0.0),
    ],
    ids=str,
)
def test_equals_torch_where_the_rule_is_the_same(optimizer: Optimizer) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    keys, first = np.arange(50), rng.standard_normal((50, 4), np.float32)
    table = EmbeddingTable(4, optimizer=optimizer)
    table.upsert(keys, first)
    parameter = torch.nn.Parameter(torch.from_numpy(first.astype(np.float64)))
    rule = torch_rule(optimizer, parameter)
    for _ in range(300):
        gradients = rng.standard_normal((50, 4), np.float32)
        parameter.grad = torch.from_numpy(gradients.astype(np.float64))
        rule.step()
        table.apply_gradients(keys, gradients)
    expected = parameter.detach().numpy()
    assert np.abs(table.lookup(keys) - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("optimizer", VARIANTS, ids=str)
def test_stop_and_restore_at_half_equals_the_whole_run_bit_for_bit(optimizer: Optimizer) -> None:
    def batches() -> list[tuple[np.ndarray, np.ndarray]]:
        rng = np.random.default_rng(2)
        return [(rng.integers(60, size=40), rng.standard_normal((40, 3), np.float32)) for _ in range(200)]

    whole, half = EmbeddingTable(3, optimizer=optimizer), EmbeddingTable(3, optimizer=optimizer)
    for at, (keys, gradients) in enumerate(batches()):
        whole.apply_gradients(keys, gradients, now_s=at)
        if at == 100:
            restored = EmbeddingTable(3, optimizer=optimizer)
            restored.load(half.export(), step=half.step, clock_s=half.clock_s)
            half = restored
        half.apply_gradients(keys, gradients, now_s=at)
    for one, other in zip(whole.export(), half.export(), strict=True):
        assert one.tobytes() == other.tobytes()


def one_step(optimizer: Optimizer, weight: float, gradient: float, steps: int = 1) -> float:
    table = EmbeddingTable(1, optimizer=optimizer)
    table.upsert([1], [[weight]])
    for _ in range(steps):
        table.apply_gradients([1], [[gradient]])
    return float(table.lookup([1])[0, 0])


def test_ftrl_thresholds_softly_on_both_sides() -> None:
    # The reference took signbit (0 or 1) for sgn: positive z lost its threshold, negative z got it on the wrong side.
    optimizer = FTRL(lr=0.1, l1=0.3)
    n = 0.1 + 1.0
    assert one_step(optimizer, 0.0, 1.0) == pytest.approx(-0.1 * (1.0 - 0.3) / np.sqrt(n), rel=1e-6)
    assert one_step(optimizer, 0.0, -1.0) == pytest.approx(+0.1 * (1.0 - 0.3) / np.sqrt(n), rel=1e-6)
    assert one_step(optimizer, 0.0, 0.25) == 0.0
    assert one_step(optimizer, 0.0, -0.25) == 0.0


def test_ftrl_with_l1_gives_exact_zeros_and_not_only_zeros() -> None:
    rng = np.random.default_rng(3)
    table = EmbeddingTable(8, optimizer=FTRL(0.05, l1=0.1), initializer=Zeros())
    for _ in range(20):
        table.apply_gradients(np.arange(200), 0.02 * rng.standard_normal((200, 8), np.float32))
    share = (table.lookup(np.arange(200)) == 0.0).mean()
    assert 0.3 < share < 0.95


def test_group_lasso_zeroes_whole_rows() -> None:
    rng = np.random.default_rng(4)
    table = EmbeddingTable(8, optimizer=GroupAdagrad(0.05, l2=2.0))
    table.apply_gradients(np.arange(200), rng.uniform(0, 1.5, (200, 1)) * rng.standard_normal((200, 8)))
    zeros = (table.lookup(np.arange(200)) == 0.0).sum(axis=1)
    assert set(zeros.tolist()) == {0, 8}


def test_adam_keeps_both_powers_over_a_restart() -> None:
    # The reference wrote both into one place, so the second correction began anew.
    table = EmbeddingTable(1, optimizer=Adam())
    for _ in range(10):
        table.apply_gradients([1], [[1.0]])
    powers = table.export().state[0, -2:]
    assert powers == pytest.approx([0.9**11, 0.99**11], rel=1e-5)
    restored = EmbeddingTable(1, optimizer=Adam())
    restored.load(table.export(), step=table.step)
    assert restored.export().state[0, -2:].tolist() == powers.tolist()


def test_adam_counts_steps_per_key() -> None:
    table = EmbeddingTable(1, optimizer=Adam(eps=0.0), initializer=Zeros())
    for _ in range(50):
        table.apply_gradients([1], [[1.0]])
    table.apply_gradients([2], [[7.0]])
    assert table.lookup([2])[0, 0] == pytest.approx(-0.01, rel=1e-5)  # a first step is lr, whatever the gradient


def test_adagrad_puts_weight_decay_into_accumulator_and_step() -> None:
    # The reference's vector path put it into the accumulator only.
    g = 1.0 + 0.5 * 2.0
    expected = 2.0 - 0.1 * g / np.sqrt(0.1 + g * g)
    assert one_step(Adagrad(0.1, weight_decay=0.5), 2.0, 1.0) == pytest.approx(expected, rel=1e-6)


def test_the_step_of_the_table_reaches_the_optimizer() -> None:
    # The reference's decorator dropped it.
    table = EmbeddingTable(1, optimizer=BatchSoftmax(rate=1.0), initializer=Zeros())
    for key in (1, 2, 2, 2, 1, 2, 1):
        table.apply_gradients([key], [[0.0]])
    assert table.lookup([1, 2]).ravel().tolist() == [2.0, 2.0]  # steps between the last two occurrences


def test_state_of_zero_is_no_division_by_zero() -> None:
    for optimizer in (
        Adagrad(initial_accumulator=0.0),
        FTRL(initial_accumulator=0.0),
        GroupAdagrad(initial_accumulator=0.0),
    ):
        table = EmbeddingTable(2, optimizer=optimizer)
        table.apply_gradients([1], [[0.0, 0.0]])
        table.apply_gradients([1], [[1.0, 0.0]])
        assert np.isfinite(table.lookup([1])).all()


def test_segments_have_their_own_rules() -> None:
    bias, vector = FTRL(0.1, l1=0.01), Adagrad(0.02)
    both = EmbeddingTable(segments=[Segment(1, bias, Zeros(), name="bias"), Segment(4, vector, Zeros())])
    alone = (
        EmbeddingTable(1, optimizer=bias, initializer=Zeros()),
        EmbeddingTable(4, optimizer=vector, initializer=Zeros()),
    )
    rng = np.random.default_rng(6)
    for _ in range(30):
        keys, gradients = rng.integers(20, size=15), rng.standard_normal((15, 5), np.float32)
        both.apply_gradients(keys, gradients)
        alone[0].apply_gradients(keys, gradients[:, :1])
        alone[1].apply_gradients(keys, gradients[:, 1:])
    expected = np.concatenate([table.lookup(np.arange(20)) for table in alone], axis=1)
    assert np.array_equal(both.lookup(np.arange(20)), expected)
    assert both.state_dim == 2 + 4


@dataclasses.dataclass(frozen=True)
class Halving(Optimizer):
    """A user's own, in NumPy."""

    def state_dim(self, dim: int) -> int:
        return 1

    def initial_state(self, dim: int) -> np.ndarray:
        return np.ones(1, np.float32)

    def update(self, weights: np.ndarray, state: np.ndarray, gradients: np.ndarray, step: int) -> None:
        weights -= state * gradients
        state /= 2


def test_a_users_own_optimizer_trains_a_table() -> None:
    table = EmbeddingTable(2, optimizer=Halving(), initializer=Zeros())
    for _ in range(3):
        table.apply_gradients([5, 5], [[1.0, 0.0], [1.0, 2.0]])
    assert table.lookup([5]).tolist() == [[-3.5, -3.5]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SGD(lr=float("nan")), "SGD: lr is nan"),
        (lambda: Adam(beta1=1.0), "Adam: beta1 is 1.0"),
        (lambda: FTRL(lr=0.0), "FTRL: lr is 0.0"),
        (lambda: Adagrad(weight_decay=-1.0), "Adagrad: weight_decay is -1.0"),
        (lambda: MovingAverage(momentum=2.0), "MovingAverage: momentum is 2.0"),
    ],
)
def test_impossible_parameters_are_refused(make, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
