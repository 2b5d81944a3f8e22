"""The bytes of a variant, in a file or elsewhere: a checked header, then the layers, each on a 4 KiB boundary.

```
0    magic "nonetkv1"
8    uint32, little-endian: length of the header
12   BLAKE3 of the header, 32 bytes
44   header: msgpack map {"meta": the description, "sums": one 16-byte BLAKE3 for each layer}
...  zeros up to a multiple of 4096
     layer 0: keys[tokens, heads, size], values[the same]; zeros up to a multiple of 4096
     layer 1 ...
```

All sizes follow from the header, and the total size must agree. Whoever wrote a file is not trusted: lengths are
bounded, types checked, nothing is ever unpickled.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import blake3
import msgpack
import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.ragcache.store.tiers import VariantDamaged
from nonet.ragcache.store.variant import ChunkKV, KVLayout, VariantMeta, is_variant_id

if TYPE_CHECKING:
    import torch

MAGIC = b"nonetkv1"
PAGE_BYTES = 4096
MAX_HEADER_BYTES = 16 << 20
_PREFIX = struct.Struct("<8sI32s")
_SUM_BYTES = 16
_MAX_TOKENS = 1 << 22
_MAX_TEXT = 4096
_MAX_LIST = 65536


@dataclass(frozen=True, slots=True)
class Packed:
    """A variant as bytes.

    Args:
        meta: its description.
        layers: the bytes of each layer, keys before values, without padding.
        sums: the checksum of each layer.
    """

    meta: VariantMeta
    layers: tuple[NDArray[np.uint8], ...]
    sums: tuple[bytes, ...]

    def head(self) -> bytes:
        """Everything before the first layer, padded."""
        return encode_head(self.meta, self.sums)


@dataclass(frozen=True, slots=True)
class Head:
    """What a header says.

    Args:
        meta: the description.
        sums: the checksum of each layer.
        num_bytes: of the header, with padding: where the first layer begins.
    """

    meta: VariantMeta
    sums: tuple[bytes, ...]
    num_bytes: int

    @property
    def layer_bytes(self) -> int:
        """Bytes of a layer without padding."""
        return KVLayout.parse(self.meta.layout).layer_bytes(self.meta.num_tokens)

    @property
    def total_bytes(self) -> int:
        """Bytes of header and layers, with padding."""
        return self.num_bytes + len(self.sums) * padded(self.layer_bytes)

    def layer_offset(self, layer: int) -> int:
        """Where a layer begins."""
        return self.num_bytes + layer * padded(self.layer_bytes)


def padded(num_bytes: int) -> int:
    """The next multiple of a page.

    >>> padded(0), padded(1), padded(4096)
    (0, 4096, 4096)
    """
    return -(-num_bytes // PAGE_BYTES) * PAGE_BYTES


def checksum(data: NDArray[np.uint8]) -> bytes:
    """The checksum of a layer."""
    return blake3.blake3(data.data).digest(length=_SUM_BYTES)


def pack(meta: VariantMeta, kv: ChunkKV) -> Packed:
    """Copy a variant into bytes.

    Args:
        meta: its description.
        kv: its keys and values, of the shapes and type that `meta.layout` says.

    Raises:
        InputError: description and tensors do not fit together.
    """
    import torch

    check_fit(meta, kv)
    layers = []
    for keys, values in zip(kv.keys, kv.values, strict=True):
        both = torch.stack((keys, values)).detach().cpu().contiguous()
        layers.append(both.view(torch.uint8).reshape(-1).numpy() if both.numel() else np.empty(0, np.uint8))
    return Packed(meta, tuple(layers), tuple(checksum(layer) for layer in layers))


def unpack_layer(data: NDArray[np.uint8], layout: KVLayout, num_tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The keys and values of a layer, each [tokens, KV heads, head size], as views of its bytes.

    Args:
        data: as many bytes as `layout.layer_bytes(num_tokens)`.
        layout: type and sizes.
        num_tokens: rows.
    """
    import torch

    both = torch.from_numpy(data).view(getattr(torch, layout.dtype)) if len(data) else torch.empty(0)
    keys, values = both.reshape(2, num_tokens, layout.num_kv_heads, layout.head_dim)
    return keys, values


def check_fit(meta: VariantMeta, kv: ChunkKV) -> None:
    """Refuse a description that is wrong in itself or does not describe these tensors.

    Args:
        meta: the description.
        kv: keys and values.

    Raises:
        InputError: what does not fit.
    """
    check_meta(meta)
    layout = KVLayout.parse(meta.layout)
    shape = (layout.num_layers, meta.num_tokens, layout.num_kv_heads, layout.head_dim)
    for name, tensor in (("keys", kv.keys), ("values", kv.values)):
        have = f"{str(tensor.dtype).removeprefix('torch.')}{tuple(tensor.shape)}"
        if have != f"{layout.dtype}{shape}":
            raise InputError(
                f"variant {meta.variant_id}: {name} are {have}, its description says {layout.dtype}{shape}"
            )


def check_meta(meta: VariantMeta) -> None:
    """Refuse a description that contradicts itself.

    Raises:
        InputError: which field, and what is wrong.
    """
    if not is_variant_id(meta.variant_id):
        raise InputError(f"variant_id {meta.variant_id[:80]!r} is no id: letters, digits, '_' and '-', at most 128")
    problem = ""
    if not 0 <= meta.num_tokens <= _MAX_TOKENS:
        problem = f"num_tokens is {meta.num_tokens}, not within 0..{_MAX_TOKENS}"
    elif meta.num_bytes != KVLayout.parse(meta.layout).num_bytes(meta.num_tokens):
        problem = f"num_bytes is {meta.num_bytes}, which {meta.num_tokens} tokens of {meta.layout} do not have"
    elif meta.tau.shape != (meta.num_tokens,):
        problem = f"tau has the shape {meta.tau.shape}, not ({meta.num_tokens},)"
    elif len(meta.inter_sums) != len(meta.prefix_keys):
        problem = f"{len(meta.inter_sums)} inter_sums for {len(meta.prefix_keys)} prefix_keys"
    elif not all(map(math.isfinite, (*meta.inter_sums, meta.inter_mean, meta.intra_mean, meta.cci, meta.created_s))):
        problem = "a statistic is not finite"
    if problem:
        raise InputError(f"variant {meta.variant_id}: {problem}")


def encode_head(meta: VariantMeta, sums: Sequence[bytes]) -> bytes:
    """Everything before the first layer, padded to pages.

    Args:
        meta: the description.
        sums: the checksum of each layer.

    Raises:
        InputError: the description is longer than a header may be.
    """
    record = {one.name: getattr(meta, one.name) for one in fields(meta)}
    record["tau"] = np.ascontiguousarray(meta.tau, "<f2").tobytes()
    header = msgpack.packb({"meta": record, "sums": list(sums)})
    if len(header) > MAX_HEADER_BYTES:
        raise InputError(
            f"variant {meta.variant_id}: its description takes {len(header)} bytes, more than a header may"
        )
    head = _PREFIX.pack(MAGIC, len(header), blake3.blake3(header).digest()) + header
    return head.ljust(padded(len(head)), b"\0")


def head_bytes(start: bytes) -> int:
    """How long a head is, from its first 44 bytes or more.

    Args:
        start: the beginning of the file.

    Raises:
        VariantDamaged: this is no head.
    """
    if len(start) < _PREFIX.size:
        raise VariantDamaged(f"cut short: {len(start)} bytes are no header")
    magic, length, _ = _PREFIX.unpack_from(start)
    if magic != MAGIC:
        raise VariantDamaged(f"begins with {magic!r}, not {MAGIC!r}: no variant, or of another version")
    if length > MAX_HEADER_BYTES:
        raise VariantDamaged(f"header of {length} bytes, more than {MAX_HEADER_BYTES}")
    return padded(_PREFIX.size + length)


def decode_head(data: bytes, variant_id: str) -> Head:
    """Read a head.

    Args:
        data: as many bytes as `head_bytes` says.
        variant_id: of which variant it must be.

    Raises:
        VariantDamaged: what is wrong with it.
    """
    num_bytes = head_bytes(data)
    _, length, digest = _PREFIX.unpack_from(data)
    header = data[_PREFIX.size : _PREFIX.size + length]
    if len(header) != length or blake3.blake3(header).digest() != digest:
        raise VariantDamaged("the header's checksum does not fit")
    try:
        record = msgpack.unpackb(header, max_array_len=_MAX_LIST, max_map_len=64, max_bin_len=2 * _MAX_TOKENS)
        meta = _meta_of(record["meta"])
        check_meta(meta)
        sums = _list_of(record, "sums", bytes)
        num_layers = KVLayout.parse(meta.layout).num_layers
    except (ValueError, TypeError, KeyError, msgpack.UnpackException) as error:
        raise VariantDamaged(f"the header does not describe a variant ({error})") from error
    if meta.variant_id != variant_id:
        raise VariantDamaged(f"the header is that of variant {meta.variant_id}")
    if not meta.exact or len(sums) != num_layers or any(len(one) != _SUM_BYTES for one in sums):
        raise VariantDamaged("the header's checksums do not fit its layers, or its rows were not computed exactly")
    return Head(meta, sums, num_bytes)


def file_bytes(meta: VariantMeta) -> int:
    """What a variant takes as a file: header and layers in whole pages."""
    sums = (bytes(_SUM_BYTES),) * KVLayout.parse(meta.layout).num_layers
    return Head(meta, sums, len(encode_head(meta, sums))).total_bytes


def _meta_of(record: Mapping[str, Any]) -> VariantMeta:
    texts = {name: _one(record, name, str) for name in ("variant_id", "chunk_key", "system_key", "tenant", "model")}
    tau = np.frombuffer(_one(record, "tau", bytes), "<f2").astype(np.float16)
    return VariantMeta(
        **texts,
        layout=_one(record, "layout", str),
        prefix_keys=_list_of(record, "prefix_keys", str),
        documents=_list_of(record, "documents", str),
        inter_sums=_list_of(record, "inter_sums", float),
        inter_mean=_one(record, "inter_mean", float),
        intra_mean=_one(record, "intra_mean", float),
        cci=_one(record, "cci", float),
        created_s=_one(record, "created_s", float),
        num_tokens=_one(record, "num_tokens", int),
        num_bytes=_one(record, "num_bytes", int),
        exact=_one(record, "exact", bool),
        observed=_checked(record.get("observed", True), "observed", bool),
        tau=tau,
    )


def _one(record: Mapping[str, Any], name: str, kind: type) -> Any:
    return _checked(record[name], name, kind)


def _list_of(record: Mapping[str, Any], name: str, kind: type) -> tuple[Any, ...]:
    values = record[name]
    if not isinstance(values, list):
        raise TypeError(f"{name} is no list")
    return tuple(_checked(value, name, kind) for value in values)


def _checked(value: Any, name: str, kind: type[Any]) -> Any:
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise TypeError(f"{name} is of type {type(value).__name__}, not {kind.__name__}")
    if isinstance(value, str) and len(value) > _MAX_TEXT:
        raise ValueError(f"{name} is longer than {_MAX_TEXT} characters")
    return value
