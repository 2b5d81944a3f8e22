"""Keys of chunks: what must be the same for stored KV to be usable."""

from __future__ import annotations

from collections.abc import Sequence

import blake3
import numpy as np
from numpy.typing import NDArray


def chunk_key(
    token_ids: Sequence[int] | NDArray[np.int64],
    *,
    model: str,
    tokenizer: str,
    layout: str,
    lora: str = "",
    salt: str = "",
) -> str:
    """64 hex digits over token ids and all that their KV depends on.

    Ids are hashed, never text: the same text beside other text may be other tokens.

    Args:
        token_ids: of the chunk.
        model: fingerprint of the weights.
        tokenizer: fingerprint.
        layout: how the KV lies (`KVLayout`).
        lora: fingerprint of an adapter.
        salt: of the tenant; chunks of different salts never meet.

    >>> same = {"model": "m", "tokenizer": "t", "layout": "l"}
    >>> chunk_key([1, 2], **same) == chunk_key((1, 2), **same)
    True
    >>> chunk_key([1, 2], **same) == chunk_key([1, 2], **same, salt="other")
    False
    """
    hasher = blake3.blake3()
    for part in (model, tokenizer, layout, lora, salt):
        raw = part.encode()
        hasher.update(len(raw).to_bytes(8, "little"))
        hasher.update(raw)
    hasher.update(np.asarray(token_ids, dtype="<i8").tobytes())
    return hasher.hexdigest()
