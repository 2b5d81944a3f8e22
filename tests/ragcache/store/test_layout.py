"""The bytes of a variant: what comes back is what went in, and hostile bytes are refused."""

from __future__ import annotations

import struct

import blake3
import msgpack
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nonet.common.errors import InputError
from nonet.ragcache.store.layout import check_fit, decode_head, file_bytes, pack, unpack_layer
from nonet.ragcache.store.tiers import VariantDamaged
from nonet.ragcache.store.variant import ChunkKV, KVLayout
from tests.ragcache.store.parts import make_kv, make_meta


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("tokens", [0, 1, 33])
def test_pack_and_unpack(dtype, tokens):
    meta = make_meta(tokens=tokens, dtype=dtype)
    kv = make_kv(meta)
    packed = pack(meta, kv)
    assert sum(layer.size for layer in packed.layers) == meta.num_bytes
    for i, layer in enumerate(packed.layers):
        keys, values = unpack_layer(layer, KVLayout.parse(meta.layout), tokens)
        assert torch.equal(keys, kv.keys[i])
        assert torch.equal(values, kv.values[i])


def test_packing_copies():
    meta = make_meta()
    kv = make_kv(meta)
    packed = pack(meta, kv)
    before = packed.layers[0].copy()
    kv.keys.zero_()
    assert np.array_equal(packed.layers[0], before)


def test_head_round_trip():
    meta = make_meta("chunk-ü", ("a", "b"), documents=("d1", "d2"), tenant="t", tokens=7)
    packed = pack(meta, make_kv(meta))
    data = packed.head()
    head = decode_head(data, meta.variant_id)
    assert head.meta == meta
    assert np.array_equal(head.meta.tau, meta.tau)
    assert head.meta.tau.dtype == np.float16
    assert head.sums == packed.sums
    assert len(data) % 4096 == 0 == head.layer_offset(1) % 4096
    assert head.total_bytes == file_bytes(meta)


def forged(change, meta=None):
    """A head with a right checksum over a changed record."""
    meta = meta or make_meta("c", ("a",))
    data = pack(meta, make_kv(meta)).head()
    length = struct.unpack_from("<I", data, 8)[0]
    record = msgpack.unpackb(data[44 : 44 + length])
    change(record)
    header = msgpack.packb(record)
    return (struct.pack("<8sI32s", data[:8], len(header), blake3.blake3(header).digest()) + header).ljust(8192, b"\0")


def set_in_meta(name, value):
    return lambda record: record["meta"].__setitem__(name, value)


@pytest.mark.parametrize(
    "change",
    [
        set_in_meta("num_tokens", 6),
        set_in_meta("num_tokens", -1),
        set_in_meta("num_tokens", 1 << 40),
        set_in_meta("num_tokens", True),
        set_in_meta("num_bytes", 1),
        set_in_meta("layout", "float32/3x2x9"),
        set_in_meta("layout", "complex64/3x2x8"),
        set_in_meta("layout", "float32/0x2x8"),
        set_in_meta("tau", b"\0"),
        set_in_meta("tau", "text"),
        set_in_meta("exact", False),
        set_in_meta("exact", 1),
        set_in_meta("prefix_keys", ["a", "b"]),
        set_in_meta("prefix_keys", [1]),
        set_in_meta("prefix_keys", {"a": 1}),
        set_in_meta("inter_sums", [float("nan")]),
        set_in_meta("cci", float("inf")),
        set_in_meta("created_s", "now"),
        set_in_meta("chunk_key", "x" * 5000),
        set_in_meta("variant_id", "../../etc/passwd"),
        set_in_meta("variant_id", "another"),
        lambda record: record.pop("meta"),
        lambda record: record["meta"].pop("tenant"),
        lambda record: record.__setitem__("sums", []),
        lambda record: record.__setitem__("sums", [b"short"] * 3),
        lambda record: record.__setitem__("meta", 3),
    ],
)
def test_a_header_that_lies_is_refused(change):
    with pytest.raises(VariantDamaged):
        decode_head(forged(change), make_meta("c", ("a",)).variant_id)


def test_a_forged_head_without_a_lie_is_accepted():
    assert decode_head(forged(lambda record: None), make_meta("c", ("a",)).variant_id).meta == make_meta("c", ("a",))


HEAD = pack(make_meta(), make_kv(make_meta())).head()


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_flipped_byte_of_the_header_is_noticed(data):
    length = struct.unpack_from("<I", HEAD, 8)[0]
    at = data.draw(st.integers(0, 44 + length - 1))
    bit = data.draw(st.integers(1, 255))
    damaged = bytearray(HEAD)
    damaged[at] ^= bit
    with pytest.raises(VariantDamaged):
        decode_head(bytes(damaged), make_meta().variant_id)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused(data):
    for blob in (data, HEAD[:8] + data, HEAD[:44] + data):
        with pytest.raises(VariantDamaged):
            decode_head(blob, "x")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_tokens": 4}, "num_bytes"),
        ({"tau": np.zeros(2, np.float16)}, "tau"),
        ({"inter_sums": (1.0,)}, "inter_sums"),
        ({"cci": float("nan")}, "finite"),
        ({"variant_id": "a/b"}, "no id"),
        ({"layout": "float64/1x1x1"}, "layout"),
        ({"layout": "bfloat16/6x2x8"}, "keys are float32"),
    ],
)
def test_a_wrong_description_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        check_fit(make_meta(**change), make_kv(make_meta()))


def test_tensors_of_another_shape_are_refused():
    kv = make_kv(make_meta())
    with pytest.raises(InputError, match="values are"):
        check_fit(make_meta(), ChunkKV(kv.keys, kv.values[:, :4]))
