"""Embeddings, against the same weights in transformers."""

import json

import numpy as np
import pytest
import torch

from nonet.common.errors import InputError
from nonet.ragcache.front.embedding import Embedder, packaged_model

TEXTS = ["A man eats food.", "", "GPU power " * 300, "日本語のテキスト", "the person is eating a meal"]


def test_equals_transformers_on_short_long_and_empty_texts():
    from transformers import BertModel, BertTokenizerFast

    folder = packaged_model()
    assert folder is not None
    theirs, tokenizer = BertModel.from_pretrained(folder).eval(), BertTokenizerFast.from_pretrained(folder)
    expected = []
    for text in TEXTS:
        batch = tokenizer([text], return_tensors="pt", truncation=True, max_length=256)
        with torch.inference_mode():
            mean = theirs(**batch).last_hidden_state[0].mean(0)
        expected.append((mean / mean.norm()).numpy())
    assert np.abs(Embedder().encode(TEXTS) - np.stack(expected)).max() < 1e-5


def test_counts_the_tokens_that_it_reads():
    from transformers import BertTokenizerFast

    tokenizer = BertTokenizerFast.from_pretrained(packaged_model())
    expected = [len(tokenizer(text, truncation=True, max_length=256)["input_ids"]) for text in TEXTS]
    assert Embedder().num_tokens(TEXTS) == sum(expected) > 256 and Embedder().num_tokens([]) == 0


def test_reads_half_surrogate_pairs_as_the_engine_does():
    embedder = Embedder()
    given, read = ["\ud83d pump", "\ud83d\ude00"], ["\ufffd pump", "\U0001f600"]
    assert np.array_equal(embedder.encode(given), embedder.encode(read))
    assert embedder.num_tokens(given) == embedder.num_tokens(read)


def test_says_what_a_folder_lacks(tmp_path):
    with pytest.raises(InputError, match=r"no config\.json"):
        Embedder(tmp_path)
    for name in ("model.safetensors", "tokenizer.json"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5"}))
    with pytest.raises(InputError, match="'t5'; only bert"):
        Embedder(tmp_path)
