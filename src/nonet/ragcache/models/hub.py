"""Models by their name on the Hugging Face hub; HF_HOME, HF_HUB_OFFLINE and tokens are the client's own business."""

from __future__ import annotations

from pathlib import Path

from nonet.common.errors import InputError, MissingExtraError

_FOLDER_FILES = ("*.safetensors", "config.json", "generation_config.json", "tokenizer*.json", "chat_template.*")


def fetch(name: str) -> Path:
    """Download a model, or find it in the hub's cache.

    Args:
        name: "owner/model" for a folder, "owner/model/file.gguf" for one file of it; "@revision" may follow.

    Returns:
        The folder, or the GGUF file.

    Raises:
        InputError: no such model, no network, or not in the cache while HF_HUB_OFFLINE is set.
        MissingExtraError: huggingface_hub is not installed.
    """
    try:
        import huggingface_hub
        from huggingface_hub.errors import HFValidationError
    except ImportError as error:
        raise MissingExtraError("models from the hub need huggingface_hub: pip install 'nonet[ragcache]'") from error
    path, _, revision = name.partition("@")
    owner, _, rest = path.partition("/")
    model, _, file = rest.partition("/")
    try:
        if file:
            return Path(huggingface_hub.hf_hub_download(f"{owner}/{model}", file, revision=revision or None))
        patterns = list(_FOLDER_FILES)
        return Path(huggingface_hub.snapshot_download(path, revision=revision or None, allow_patterns=patterns))
    except (OSError, ValueError, HFValidationError) as error:
        # The client's errors go over several lines; the first one says it.
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"model {name!r}: not fetched from the hub ({reason}); check the name, the network and HF_HUB_OFFLINE, "
            f"or give a GGUF file or a folder"
        ) from error
