"""Models that all tests of the room share: loaded once, computed on one thread."""

from __future__ import annotations

import pytest

from tests.conftest import needs


@pytest.fixture(scope="session", autouse=True)
def _one_torch_thread():
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def make_tiny():
    """Random decoders: make_tiny("gemma3", seed=3, dtype="float32", window=16, **what toy_config takes)."""
    from nonet.ragcache.models.toy import toy_config, toy_decoder

    def make(architecture: str = "llama", *, seed: int = 0, dtype: str = "float32", **shape):
        return toy_decoder(toy_config(architecture, **shape), seed=seed, dtype=dtype)

    return make


@pytest.fixture(scope="session")
def tiny_model(make_tiny):
    """A Llama with random weights: 4 layers, 2 query heads on 1 KV head, hidden 64, vocabulary 320. Read-only."""
    return make_tiny("llama")


@pytest.fixture(scope="session")
def tiny_gemma(make_tiny):
    """Likewise with Gemma 3's traits: layers 0 and 2 see 16 tokens, two rope bases, q/k and sandwich norms."""
    return make_tiny("gemma3", window=16)


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory):
    """SmolLM2-135M-Instruct in fp32, a LoadedModel, loaded once (about 3 s). Read-only."""
    from nonet.common.errors import MissingExtraError
    from nonet.ragcache.models.loading import load_model

    home = str(tmp_path_factory.mktemp("nonet-home"))
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("NONET_HOME", home)
            return load_model("smollm2")
    except MissingExtraError as error:
        needs(False, str(error))


@pytest.fixture(scope="session")
def smollm2_transformers(smollm2):
    """The same weights in transformers: fp32, eager attention (output_attentions works). Read-only."""
    from nonet.ragcache.models.loading import packaged_model
    from tests.ragcache.models.saved import transformers_smollm2

    return transformers_smollm2(packaged_model())
