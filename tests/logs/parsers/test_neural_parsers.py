"""UniParser and LogPPT learn thirty tiny lines by heart, from small random encoders."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from nonet.common.errors import InputError
from nonet.logs.parsers.base import WILDCARD
from nonet.logs.parsers.logppt import LogPPT
from nonet.logs.parsers.uniparser import UniParser
from nonet.logs.testing import check_parser, template_matches

if os.environ.get("CI") == "true" and find_spec("torch") is None:
    raise RuntimeError("CI must install the extra logs-neural")

NAMES = ("ann", "bob", "eve", "joe", "kim", "lea", "max", "ned", "pia", "tom")
TRAINING = [
    *((f"user {name} logged in", "user <*> logged in") for name in NAMES),
    *((f"took {number} ms", "took <*> ms") for number in range(10)),
    *((f"link {'up' if number % 2 else 'down'}", f"link {'up' if number % 2 else 'down'}") for number in range(10)),
]
LINES, TRUTH = [content for content, _ in TRAINING], [template for _, template in TRAINING]


@pytest.mark.parametrize("parser", [UniParser, LogPPT])
def test_missing_labels_and_encoder_are_input_errors(parser: type[UniParser | LogPPT]) -> None:
    with pytest.raises(InputError, match="no labelled line"):
        parser(encoder="somewhere")
    with pytest.raises(InputError, match=rf"give --set {parser.name}\.training=FILE, or in Python training="):
        parser(training=[("up", "down <*>")], encoder="somewhere")
    with pytest.raises(InputError, match=rf"give --set {parser.name}\.encoder=PATH, or in Python encoder=PATH"):
        parser(training=TRAINING)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small only wait for each other on several threads."""
    torch = pytest.importorskip("torch", reason="needs the extra logs-neural")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random word vectors of the constant words."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("glove") / "vectors.txt"
    words = ("user", "logged", "in", "took", "ms", "link", "up", "down")
    path.write_text("".join(f"{word} {' '.join(map(str, rng.normal(size=50).round(3)))}\n" for word in words))
    return path


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random encoder with a byte-level tokenizer, in a folder as published ones are."""
    torch = pytest.importorskip("torch", reason="needs the extra logs-neural")
    tokenizers = pytest.importorskip("tokenizers", reason="needs the extra logs-neural")
    from safetensors.torch import save_file

    from nonet.logs.parsers.neural.roberta import RobertaConfig, RobertaMaskedLM

    folder = tmp_path_factory.mktemp("encoder")
    tokenizer = tokenizers.ByteLevelBPETokenizer(add_prefix_space=True, trim_offsets=True)
    tokenizer.train_from_iterator(LINES, vocab_size=300, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    sizes = {
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 34,
    }
    (folder / "config.json").write_text(json.dumps(sizes))
    torch.manual_seed(0)
    save_file(RobertaMaskedLM(RobertaConfig(**sizes)).state_dict(), folder / "model.safetensors")
    return folder


def test_uniparser_learns_lines_by_heart(vectors: Path) -> None:
    parser = UniParser(training=TRAINING, encoder=vectors, epochs=30)
    parsed = parser.parse([*LINES, "", " took  77   ms "])
    assert [parsed.templates[label] for label in parsed.labels] == [*TRUTH, "", "took <*> ms"]


def test_neural_parsers_keep_the_contract(vectors: Path, encoder: Path) -> None:
    check_parser(lambda: UniParser(training=TRAINING, encoder=vectors, epochs=1))
    check_parser(lambda: LogPPT(training=TRAINING, encoder=encoder, steps=2))


def test_uniparser_compat_trains_on_a_fifth(vectors: Path) -> None:
    parser = UniParser(training=TRAINING, encoder=vectors, mode="compat", epochs=2)
    train, development = parser._split([([str(n)], [0]) for n in range(30)])
    assert len(train) == len(development) == 6
    assert not {tokens[0] for tokens, _ in train} & {tokens[0] for tokens, _ in development}
    assert len(parser.parse(LINES).labels) == 30


def test_uniparser_merges_neighbouring_variables_and_takes_whole_tokens() -> None:
    from nonet.logs.parsers.uniparser import _example, _template

    tokens, tags = _example("uid=0 at 1 2 end", "uid=<*> at <*> <*> end")
    assert (tokens, tags) == (["uid=0", "at", "1", "2", "end"], [1, 0, 1, 1, 0])
    assert _template("uid=0 at 1 2 end", tags) == "<*> at <*> end"


def test_logppt_learns_lines_by_heart(encoder: Path) -> None:
    parser = LogPPT(training=TRAINING, encoder=encoder, steps=150, learning_rate=0.01)
    parsed = parser.parse([*LINES, ""])
    assert [parsed.templates[label] for label in parsed.labels] == [*TRUTH, ""]
    assert parser.parse(LINES).templates == list(dict.fromkeys(TRUTH))


def test_logppt_takes_lines_beyond_the_longest_input_and_odd_text(encoder: Path) -> None:
    parser = LogPPT(training=TRAINING, encoder=encoder, steps=100, learning_rate=0.01)
    lines = [" ".join(f"took {n} ms" for n in range(40)), "\udcff bad", "错误 🙂", "\x00"]
    parsed = parser.parse(lines)
    assert len(parsed.labels) == 4
    assert template_matches(parsed.templates[parsed.labels[0]], lines[0])
    assert parsed.templates[parsed.labels[0]].count(WILDCARD) > 20


def test_logppt_compat_takes_whole_words() -> None:
    from nonet.logs.parsers.logppt import _whole_words

    assert _whole_words("a uid=17 b", [(6, 7), (7, 8)]) == [(2, 8)]
    assert _whole_words("7", [(0, 1)]) == [(0, 1)]
