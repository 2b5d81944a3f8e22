"""The decoder against transformers on the same weights."""

from __future__ import annotations

import math

import pytest
import torch

from nonet.common.errors import InputError
from nonet.ragcache.models.config import LayerConfig, RopeScaling
from nonet.ragcache.models.rotary import Rotary, frequencies, rotate
from nonet.ragcache.models.safetensors_folder import SafetensorsFolder
from nonet.ragcache.models.toy import toy_config, toy_decoder
from tests.ragcache.models.dense import dense_logits
from tests.ragcache.models.saved import CASES, transformers_logits, transformers_model


@pytest.mark.parametrize("case", CASES)
def test_logits_equal_those_of_transformers(case, tmp_path):
    theirs = transformers_model(case)
    theirs.save_pretrained(tmp_path)
    ours = SafetensorsFolder(tmp_path).decoder()
    ids = torch.randint(3, 160, (90,), generator=torch.Generator().manual_seed(1))
    expected = transformers_logits(theirs, ids)
    assert expected.std() > 0.5, "flat logits would show nothing"
    assert (dense_logits(ours, ids) - expected).abs().max() < 1e-3


@pytest.mark.parametrize("case", ["llama with llama3 scaling", "gemma3", "qwen2 with a window"])
def test_windows_and_scaling_matter_at_this_length(case, tmp_path):
    """Else the test above would pass without them."""
    theirs = transformers_model(case)
    theirs.save_pretrained(tmp_path)
    folder = SafetensorsFolder(tmp_path)
    ids = torch.randint(3, 160, (90,), generator=torch.Generator().manual_seed(1))
    whole = dense_logits(folder.decoder(), ids)
    import dataclasses

    plain = tuple(dataclasses.replace(layer, window=None) for layer in folder.config.layers)
    folder.config = dataclasses.replace(folder.config, layers=plain, rope_scaling=None)
    assert (dense_logits(folder.decoder(), ids) - whole).abs().max() > 0.05


def test_bfloat16_is_near_to_float32(tmp_path):
    transformers_model("gemma3").save_pretrained(tmp_path)
    folder = SafetensorsFolder(tmp_path)
    ids = torch.randint(3, 160, (40,), generator=torch.Generator().manual_seed(2))
    exact, rough = dense_logits(folder.decoder(), ids), dense_logits(folder.decoder(dtype="bfloat16"), ids)
    assert rough.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(exact, rough, dim=-1).min() > 0.98


def test_rows_are_independent_of_their_company(tiny_gemma):
    x = tiny_gemma.embed(torch.arange(20))
    layer = tiny_gemma.layers[1]
    q, k, v = layer.project(x)
    some = torch.tensor([3, 4, 17])
    for whole, part in zip((q, k, v), layer.project(x[some]), strict=True):
        assert torch.allclose(whole[some], part, atol=1e-5)
    finished = layer.finish(x, q.flatten(1))
    assert torch.allclose(finished[some], layer.finish(x[some], q[some].flatten(1)), atol=1e-4)
    assert layer.project(x[:0])[0].shape == (0, 2, 32)


def test_matrices_of_a_layer_are_four_linears(tiny_model):
    seen = []
    hooks = [
        module.register_forward_hook(lambda _m, args, _o, name=name: seen.append((name, args[0].shape[0])))
        for name, module in tiny_model.layers[0].named_modules()
        if isinstance(module, torch.nn.Linear)
    ]
    x = tiny_model.embed(torch.arange(7))
    q, _, _ = tiny_model.layers[0].project(x)
    tiny_model.layers[0].finish(x, q.flatten(1))
    for hook in hooks:
        hook.remove()
    assert seen == [("qkv_proj", 7), ("o_proj", 7), ("gate_up_proj", 7), ("down_proj", 7)]
    matrices = [name for name, weight in tiny_model.layers[0].named_parameters() if weight.ndim == 2]
    assert matrices == [f"{name}.weight" for name, _ in seen]


def test_rotation_is_that_of_complex_numbers():
    config = toy_config("gemma3")
    rotary = Rotary(config)
    x = torch.randn(5, 2, 32, generator=torch.Generator().manual_seed(0))
    positions = torch.tensor([0, 1, 7, 1023, 3000])
    for layer, theta in ((0, 10_000.0), (1, 1_000_000.0)):
        turned = rotate(x, *rotary.cos_sin(layer, positions))
        pairs = torch.complex(x[..., :16].double(), x[..., 16:].double())
        exponent = torch.arange(16, dtype=torch.float64) / 16
        angles = positions[:, None].double() * theta**-exponent
        expected = pairs * torch.exp(1j * angles)[:, None]
        assert torch.allclose(turned[..., :16].double(), expected.real, atol=2e-3)
        assert torch.allclose(turned[..., 16:].double(), expected.imag, atol=2e-3)


def test_products_depend_on_distances_only(tiny_model):
    q, k = torch.randn(2, 1, 1, 32, generator=torch.Generator().manual_seed(4)).unbind(0)
    products = []
    for start in (0, 100, 4000):
        cos, sin = tiny_model.rotary.cos_sin(0, torch.tensor([start, start + 9]))
        products.append((rotate(q, cos[1:], sin[1:]) * rotate(k, cos[:1], sin[:1])).sum().item())
    assert products == pytest.approx([products[0]] * 3, abs=2e-3)


def test_tables_grow_and_answer_nothing_for_nothing():
    rotary = Rotary(toy_config())
    late = rotary.cos_sin(0, torch.tensor([5000]))[0]
    assert torch.equal(rotary.cos_sin(0, torch.tensor([3, 5000]))[0][1:], late)
    assert rotary.cos_sin(0, torch.tensor([], dtype=torch.long))[0].shape == (0, 32)


def test_llama3_scaling_leaves_high_frequencies_and_divides_low_ones():
    layer = LayerConfig(500_000.0)
    scaling = RopeScaling("llama3", 8.0, 1.0, 4.0, 8192)
    ratio = frequencies(128, layer, None) / frequencies(128, layer, scaling)
    wavelength = 2 * math.pi / frequencies(128, layer, None)
    assert torch.allclose(ratio[wavelength < 8192 / 4], torch.tensor(1.0))
    assert torch.allclose(ratio[wavelength > 8192], torch.tensor(8.0))
    assert torch.equal(frequencies(128, LayerConfig(500_000.0, scaled=False), scaling), frequencies(128, layer, None))


@pytest.mark.parametrize("kind", ["yarn", "dynamic", "longrope"])
def test_other_scalings_are_refused_with_the_reason(kind):
    with pytest.raises(InputError, match=r"not supported.*stored keys could not be moved.*linear, llama3"):
        RopeScaling(kind, 2.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": "mamba"}, "supported: llama, qwen2, qwen3, gemma3"),
        ({"num_heads": 3, "num_kv_heads": 2}, "cannot share"),
        ({"head_dim": 31}, "odd"),
        ({"num_layers": 0}, "num_layers is 0"),
    ],
)
def test_impossible_shapes_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        toy_config(**change)


def test_toys_repeat_and_differ_by_seed():
    first, again, other = (toy_decoder(seed=seed).lm_head.weight for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
