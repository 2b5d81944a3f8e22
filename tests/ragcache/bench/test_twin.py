"""The twin in transformers: the same logits, keys and values as a plain forward of ours."""

import pytest
import torch

from nonet.common.errors import InputError
from nonet.ragcache.bench.twin import llama_twin, twin_kv
from nonet.ragcache.models.config import RopeScaling
from tests.ragcache.engine.dense import dense

pytest.importorskip("transformers")

IDS = torch.randint(0, 256, (50,), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shape", [{}, {"num_heads": 4, "num_kv_heads": 2, "head_dim": 16}])
def test_logits_keys_and_values_are_the_same(make_tiny, shape):
    decoder = make_tiny("llama", **shape)
    twin = llama_twin(decoder)
    logits, keys, values, _ = dense(decoder, IDS)
    with torch.inference_mode():
        theirs = twin(IDS[None]).logits[0]
    assert float((theirs - logits).abs().max()) < 1e-3
    twin_keys, twin_values = twin_kv(twin, IDS.tolist())
    assert float((twin_keys - keys).abs().max()) < 1e-4 and float((twin_values - values).abs().max()) < 1e-4


def test_models_without_a_twin_are_refused(make_tiny):
    with pytest.raises(InputError, match="only a Llama"):
        llama_twin(make_tiny("gemma3"))
    with pytest.raises(InputError, match="only a Llama"):
        llama_twin(make_tiny("llama", rope_scaling=RopeScaling("linear", 2.0)))
