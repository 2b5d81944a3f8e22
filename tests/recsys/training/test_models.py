"""The models of the registry against their formulas, written out in NumPy."""

import numpy as np
import pytest
import torch

from nonet.common.errors import InputError
from nonet.recsys.training.models import MODELS, build_model

N, F, K, M = 5, 3, 4, 2


def inputs(num_dense=M):
    draw = np.random.default_rng(3)
    shapes = ((N, F, K), (N, num_dense), (N, F))
    return [draw.normal(size=shape).astype(np.float32) for shape in shapes]


def answer(name, num_dense=M):
    model = build_model(name, F, K, num_dense, hidden=(6, 5), seed=1)
    with torch.no_grad():  # offsets start at 0, where a mistake would not show
        for number, weight in enumerate(model.parameters()):
            weight.add_(torch.linspace(-0.2, 0.3 + 0.01 * number, weight.numel()).reshape(weight.shape))
    given = [torch.from_numpy(column) for column in inputs(num_dense)]
    out = model(*given) if model.needs_bias else model(*given[:2])
    assert out.shape == (N,)
    return out.detach().numpy(), {key: value.numpy() for key, value in model.state_dict().items()}


def network(x, weights, prefix, layers, last_relu=False):
    for number in range(layers):
        x = x @ weights[f"{prefix}.{2 * number}.weight"].T + weights[f"{prefix}.{2 * number}.bias"]
        if number < layers - 1 or last_relu:
            x = np.maximum(x, 0)
    return x


def linear(weights, dense, biases):
    return weights["offset"] + biases.sum(1) + (dense @ weights["dense"] if dense.shape[1] else 0)


def dot_pairs(vectors):
    return [
        (vectors[:, i] * vectors[:, j]).sum(1) for i in range(vectors.shape[1]) for j in range(i + 1, vectors.shape[1])
    ]


@pytest.mark.parametrize("num_dense", [0, M])
def test_formulas(num_dense):
    v, dense, biases = inputs(num_dense)
    out, w = answer("lr", num_dense)
    assert out == pytest.approx(linear(w, dense, biases), abs=1e-5)
    out, w = answer("fm", num_dense)
    assert out == pytest.approx(linear(w, dense, biases) + sum(dot_pairs(v)), abs=1e-5)
    out, w = answer("deepfm", num_dense)
    deep = network(np.concatenate([v.reshape(N, -1), dense], 1), w, "deep", 3)[:, 0]
    assert out == pytest.approx(linear(w, dense, biases) + sum(dot_pairs(v)) + deep, abs=1e-4)
    out, w = answer("dlrm", num_dense)
    if num_dense:
        bottom = network(dense, w, "bottom", 3, last_relu=True)
        pairs = dot_pairs(np.concatenate([bottom[:, None], v], 1))
    else:
        bottom, pairs = v.reshape(N, -1), dot_pairs(v)
    top = network(np.concatenate([bottom, np.stack(pairs, 1)], 1), w, "top", 3)[:, 0]
    assert out == pytest.approx(top, abs=1e-4)


@pytest.mark.parametrize("name", list(MODELS))
def test_a_seed_gives_the_weights_and_leaves_torch_alone(name):
    torch.manual_seed(5)
    before = torch.rand(1)
    torch.manual_seed(5)
    first, again, other = (build_model(name, F, K, M, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.rand(1) == before
    assert all(torch.equal(first[key], again[key]) for key in first)
    if name in ("deepfm", "dlrm"):
        assert not all(torch.equal(first[key], other[key]) for key in first)


def test_shapes_that_cannot_be():
    with pytest.raises(InputError, match="unknown model 'deepfn'; did you mean 'deepfm'"):
        build_model("deepfn", 1, 1)
    with pytest.raises(InputError, match="dim >= 1"):
        build_model("fm", 2, 0)
    with pytest.raises(InputError, match="no model has 0 features"):
        build_model("fm", 0, 2)
