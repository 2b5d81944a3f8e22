"""GGUF files: the same logits as transformers' model that they were written from; damaged files."""

from __future__ import annotations

import random
import struct

import gguf
import pytest
import torch

from nonet.common.errors import InputError
from nonet.ragcache.models.gguf_file import GGUFFile
from tests.ragcache.models.dense import dense_logits
from tests.ragcache.models.saved import transformers_logits, transformers_model
from tests.ragcache.models.written import LLAMA3_GGUF_ROPE, write_gguf

_GEMMA = {
    "layer_types": None,
    "num_hidden_layers": 7,
    "query_pre_attn_scalar": 16,
    "rope_parameters": {
        "full_attention": {"rope_type": "default", "rope_theta": 1_000_000.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
    },
}
_CASES = {
    "llama": {},
    "llama untied, biased": {},
    "llama with llama3 scaling": {"rope_parameters": LLAMA3_GGUF_ROPE},
    "llama with linear scaling": {},
    "qwen2": {},
    "qwen3": {},
    "gemma3": _GEMMA,
}
IDS = torch.randint(3, 160, (90,), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def tiny_llama():
    return transformers_model("llama")


@pytest.fixture
def path(tiny_llama, tmp_path):
    return write_gguf(tiny_llama, tmp_path / "tiny.gguf")


@pytest.mark.parametrize("case", _CASES)
def test_logits_equal_those_of_transformers(case, tmp_path):
    theirs = transformers_model(case, **_CASES[case])
    file = GGUFFile(write_gguf(theirs, tmp_path / "tiny.gguf"))
    expected = transformers_logits(theirs, IDS)
    assert (dense_logits(file.decoder(), IDS) - expected).abs().max() < 1e-3
    assert file.config.eos_ids == (2,)
    assert file.config.bos_id == 1


def test_quantised_matrices(tmp_path):
    """Q8_0 keeps weights to within 1/254 of the largest of 32, whose scale is a half float."""
    theirs = transformers_model("llama", hidden_size=64, intermediate_size=96)
    kind = gguf.GGMLQuantizationType.Q8_0
    decoder = GGUFFile(write_gguf(theirs, tmp_path / "q8.gguf", quantise=kind)).decoder()
    exact = theirs.model.layers[1].mlp.down_proj.weight
    largest = exact.reshape(64, -1, 32).abs().amax(-1, keepdim=True)
    error = (decoder.layers[1].down_proj.weight - exact).reshape(64, -1, 32).abs()
    assert (error <= largest / 220).all()
    assert error.max() > 0


def test_unknown_architectures_are_named_with_the_supported_ones(tiny_llama, tmp_path):
    other = write_gguf(tiny_llama, tmp_path / "m.gguf", extra={"general.architecture": "mamba2"})
    with pytest.raises(InputError, match=r"m\.gguf.*'mamba2'.*llama, qwen2, qwen3, gemma3"):
        GGUFFile(other)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"llama.expert_count": 8}, "mixtures of experts"),
        ({"llama.rope.dimension_count": 6}, "part of a head"),
        ({"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 4.0}, "'yarn' is not supported"),
        ({"llama.block_count": None}, "lacks llama.block_count"),
        ({"llama.block_count": "many"}, "wrong kind"),
        ({"llama.attention.head_count_kv": [2, 2, 1, 1]}, "differs from layer to layer"),
        ({"llama.attention.head_count": 0}, "num_heads is 0"),
        ({"split.count": 3}, "split model"),
    ],
)
def test_traits_that_we_cannot_run_are_refused(extra, message, tiny_llama, tmp_path):
    with pytest.raises(InputError, match=message) as caught:
        GGUFFile(write_gguf(tiny_llama, tmp_path / "tiny.gguf", extra=extra))
    assert "\n" not in str(caught.value)


def test_missing_tensors_are_named(tiny_llama, tmp_path):
    file = GGUFFile(write_gguf(tiny_llama, tmp_path / "tiny.gguf", skip="blk.2.ffn_up.weight"))
    with pytest.raises(InputError, match=r"missing: blk\.2\.ffn_up\.weight"):
        file.decoder()


def test_a_config_of_other_weights_is_refused(tiny_llama, tmp_path):
    file = GGUFFile(write_gguf(tiny_llama, tmp_path / "tiny.gguf", extra={"llama.feed_forward_length": 96}))
    with pytest.raises(
        InputError,
        match=r"ffn_gate\.weight \(80, 48\), blk\.0\.ffn_up\.weight \(80, 48\) where the config says \(192, 48\)",
    ):
        file.decoder()


def test_truncated_anywhere(path, tmp_path):
    whole = path.read_bytes()
    cut = tmp_path / "cut.gguf"
    places = [0, 1, 3, 4, 8, 23, 24, 30, *random.Random(0).sample(range(len(whole)), 25), len(whole) - 64]
    for length in places:
        cut.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"cut\.gguf: not a readable GGUF file"):
            GGUFFile(cut)


def test_flipped_header_bytes_give_a_clear_error_or_another_model(path, tmp_path):
    """Nothing but InputError may come out, and nothing may hang or fill the memory."""
    whole = bytearray(path.read_bytes())
    flipped = tmp_path / "flipped.gguf"
    rng = random.Random(1)
    for _ in range(150):
        damaged = bytearray(whole)
        damaged[rng.randrange(0, 1200)] ^= 1 << rng.randrange(8)
        flipped.write_bytes(damaged)
        try:
            GGUFFile(flipped).decoder()
        except InputError:
            continue


def test_absurd_counts_do_not_hang(tmp_path):
    claim = tmp_path / "claim.gguf"
    header = struct.pack("<IIQQ", gguf.GGUF_MAGIC, 3, 1 << 60, 1)
    array = (
        struct.pack("<Q", 1) + b"a" + struct.pack("<IIQ", gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.UINT8, 1 << 60)
    )
    claim.write_bytes(header + array + bytes(100))
    with pytest.raises(InputError, match="truncated or damaged"):
        GGUFFile(claim)


def test_other_files(tmp_path):
    text = tmp_path / "notes.gguf"
    text.write_text("not a model, but longer than a header would be" * 3)
    with pytest.raises(InputError, match="magic invalid"):
        GGUFFile(text)
    with pytest.raises(InputError, match="No such file"):
        GGUFFile(tmp_path / "none.gguf")
