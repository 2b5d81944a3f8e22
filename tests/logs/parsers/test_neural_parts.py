"""The parts of the neural parsers: CRF against enumeration, RoBERTa against NumPy, sampling, labels, word vectors."""

from __future__ import annotations

import itertools
import json
import math
import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nonet.common.errors import InputError
from nonet.logs.parsers.neural.labels import parameter_spans, with_wildcards
from nonet.logs.parsers.neural.sampling import adaptive_random_sample, jaccard_distance

if os.environ.get("CI") == "true" and find_spec("torch") is None:
    raise RuntimeError("CI must install the extra logs-neural")
torch = pytest.importorskip("torch", reason="needs the extra logs-neural")
safetensors_torch = pytest.importorskip("safetensors.torch", reason="needs the extra logs-neural")
pytest.importorskip("tokenizers", reason="needs the extra logs-neural")

from nonet.logs.parsers.neural.crf import LinearChainCRF  # noqa: E402
from nonet.logs.parsers.neural.glove import WordVectors  # noqa: E402
from nonet.logs.parsers.neural.roberta import (  # noqa: E402
    RobertaConfig,
    RobertaMaskedLM,
    load_encoder,
    load_tokenizer,
)

TEXT = st.lists(st.sampled_from(["a", "b", " ", "=", "ab"]), max_size=6).map("".join)


@pytest.mark.parametrize("seed", range(5))
def test_crf_agrees_with_enumerating_all_tag_sequences(seed: int) -> None:
    torch.manual_seed(seed)
    crf, lengths = LinearChainCRF(3).double(), [1, 3, 5]
    for parameter in crf.parameters():
        torch.nn.init.normal_(parameter)
    emissions = torch.randn(3, 5, 3, dtype=torch.float64)
    mask = torch.arange(5) < torch.tensor(lengths)[:, None]
    tags = torch.randint(0, 3, (3, 5))
    likelihood, decoded = crf.log_likelihood(emissions, tags, mask), crf.decode(emissions, mask)
    start, end, move = (p.detach().numpy() for p in (crf.start, crf.end, crf.transition))
    for row, length in enumerate(lengths):
        scores = {}
        for path in itertools.product(range(3), repeat=length):
            score = start[path[0]] + end[path[-1]] + sum(emissions[row, t, tag].item() for t, tag in enumerate(path))
            scores[path] = score + sum(move[a, b] for a, b in itertools.pairwise(path))
        partition = math.log(sum(math.exp(score) for score in scores.values()))
        assert likelihood[row].item() == pytest.approx(scores[tuple(tags[row, :length].tolist())] - partition)
        assert tuple(decoded[row]) == max(scores, key=scores.__getitem__)


TINY = RobertaConfig(
    vocab_size=11,
    hidden_size=8,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=12,
    max_position_embeddings=20,
)


def tiny_model(seed: int = 0) -> RobertaMaskedLM:
    torch.manual_seed(seed)
    model = RobertaMaskedLM(TINY)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model.eval()


def roberta_in_numpy(state: dict[str, np.ndarray], tokens: list[int]) -> np.ndarray:
    """The network by its formulas, one unpadded sequence, from a state dictionary with the published names."""

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def normalised(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]

    def gelu(x: np.ndarray) -> np.ndarray:
        return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))

    base = "roberta.embeddings"
    words = state[f"{base}.word_embeddings.weight"]
    x = words[tokens] + state[f"{base}.position_embeddings.weight"][2 : 2 + len(tokens)]
    x = normalised(x + state[f"{base}.token_type_embeddings.weight"][0], f"{base}.LayerNorm")
    for number in range(2):
        layer, size = f"roberta.encoder.layer.{number}", 4
        query, key, value = (linear(x, f"{layer}.attention.self.{name}") for name in ("query", "key", "value"))
        heads = []
        for head in range(2):
            part = slice(head * size, (head + 1) * size)
            weights = np.exp(query[:, part] @ key[:, part].T / math.sqrt(size))
            heads.append(weights / weights.sum(1, keepdims=True) @ value[:, part])
        attended = linear(np.concatenate(heads, 1), f"{layer}.attention.output.dense")
        x = normalised(attended + x, f"{layer}.attention.output.LayerNorm")
        changed = linear(gelu(linear(x, f"{layer}.intermediate.dense")), f"{layer}.output.dense")
        x = normalised(changed + x, f"{layer}.output.LayerNorm")
    return normalised(gelu(linear(x, "lm_head.dense")), "lm_head.layer_norm") @ words.T + state["lm_head.bias"]


def test_roberta_computes_its_formulas_whatever_the_padding() -> None:
    model, sequences = tiny_model(), [[0, 5, 6, 7, 2], [0, 9, 2]]
    state = {name: value.double().numpy() for name, value in model.state_dict().items()}
    batch = torch.full((2, 5), TINY.pad_token_id)
    for row, tokens in enumerate(sequences):
        batch[row, : len(tokens)] = torch.tensor(tokens)
    with torch.no_grad():
        scores = model(batch).numpy()
    for row, tokens in enumerate(sequences):
        np.testing.assert_allclose(scores[row, : len(tokens)], roberta_in_numpy(state, tokens), rtol=1e-3, atol=1e-4)


def save_model(folder: Path, model: RobertaMaskedLM, **changes: object) -> None:
    sizes = {name: getattr(TINY, name) for name in TINY.__slots__}
    (folder / "config.json").write_text(json.dumps({"model_type": "roberta", **sizes, **changes}))
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    # What published checkpoints also hold, and this network does not have.
    extras = {"roberta.pooler.dense.bias": torch.zeros(8), "roberta.embeddings.position_ids": torch.arange(20)}
    safetensors_torch.save_file({**state, **extras}, folder / "model.safetensors")


def test_a_saved_encoder_loads_with_equal_weights(tmp_path: Path) -> None:
    model = tiny_model()
    save_model(tmp_path, model)
    tokens = torch.tensor([[0, 4, 8, 2]])
    assert torch.equal(load_encoder(tmp_path).eval()(tokens), model(tokens))


def test_a_new_word_gets_its_score_from_its_vector() -> None:
    model, tokens = tiny_model(), torch.tensor([[0, 4, 8, 2]])
    before = model(tokens)
    vector = model.word_vectors[5].detach().clone()
    number = model.add_word(vector)
    after = model(tokens)
    assert number == 11
    assert torch.allclose(after[..., :11], before)
    assert torch.allclose(after[..., 11] + model.lm_head.bias[5], before[..., 5])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "gpt2"}, "model_type roberta"),
        ({"hidden_act": "relu"}, "only gelu"),
        ({"num_attention_heads": 3}, "multiple"),
        ({"vocab_size": 12}, "word_embeddings.weight"),
        ({"num_hidden_layers": 3}, "missing"),
    ],
)
def test_an_encoder_that_does_not_fit_is_an_input_error(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    save_model(tmp_path, tiny_model(), **change)
    with pytest.raises(InputError, match=message):
        load_encoder(tmp_path)


def test_missing_and_damaged_files_are_input_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.json cannot be read"):
        load_encoder(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="not JSON"):
        load_encoder(tmp_path)
    save_model(tmp_path, tiny_model())
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 40)
    with pytest.raises(InputError, match="weights"):
        load_encoder(tmp_path)
    with pytest.raises(InputError, match=r"expected tokenizer\.json"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="tokenizer in"):
        load_tokenizer(tmp_path)


@given(
    st.lists(st.lists(st.sampled_from("abcdef"), max_size=4).map(" ".join), max_size=9, unique=True), st.integers(0, 9)
)
def test_sampling_takes_the_longest_then_the_farthest(lines: list[str], size: int) -> None:
    chosen = adaptive_random_sample(lines, size, rng=np.random.default_rng(0), num_candidates=128)
    assert len(chosen) == len(set(chosen)) == min(size, len(lines))
    tokens = [frozenset(line.split()) for line in lines]

    def nearest(line: int, taken: list[int]) -> float:
        return min(jaccard_distance(tokens[line], tokens[other]) for other in taken)

    for place, line in enumerate(chosen):
        if place == 0:
            assert len(lines[line]) == max(map(len, lines))
        else:  # all lines are candidates here
            others = set(range(len(lines))) - set(chosen[:place])
            assert nearest(line, chosen[:place]) == max(nearest(other, chosen[:place]) for other in others)


@given(st.lists(TEXT, min_size=1, max_size=4), st.data())
def test_spans_put_the_line_together_again(constants: list[str], data: st.DataObject) -> None:
    values = [data.draw(TEXT) for _ in constants[1:]]
    content = constants[0] + "".join(value + constant for value, constant in zip(values, constants[1:], strict=True))
    spans = parameter_spans(content, "<*>".join(constants))
    assert spans is not None
    ends = [0, *(end for _, end in spans)]
    starts = [*(start for start, _ in spans), len(content)]
    assert [content[a:b] for a, b in zip(ends, starts, strict=True)] == constants
    assert parameter_spans(content + "x", "<*>".join([*constants, "y"])) is None


def test_neighbouring_parameters_become_one_wildcard() -> None:
    assert with_wildcards("a bc d", [(2, 3), (3, 4)]) == "a <*> d"
    assert with_wildcards("a b c", [(0, 1), (2, 3), (4, 5)]) == "<*>"
    assert with_wildcards("a=b,c", [(2, 3), (4, 5)]) == "a=<*>,<*>"
    assert with_wildcards("plain", []) == "plain"


def test_word_vectors_keep_what_is_asked_and_share_the_mean(tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text("up 1 2\ndown 3 6\nskip 9 9\n", encoding="utf-8")
    vectors = WordVectors.load(path, 2, {"Up", "down", "never"})
    assert vectors.vectors[vectors.row("UP")].tolist() == [1, 2]
    assert vectors.vectors[vectors.row("never")].tolist() == [2, 4]
    for damage, message in (("up 1\n", "line 1: expected a word and 2 numbers"), ("up 1 x\n", "line 1")):
        path.write_text(damage, encoding="utf-8")
        with pytest.raises(InputError, match=message):
            WordVectors.load(path, 2)
    with pytest.raises(InputError, match="cannot be read"):
        WordVectors.load(tmp_path / "none", 2)
