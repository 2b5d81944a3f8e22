"""xxh3_64 of short byte strings, as its specification has it, for rows of an Arrow column.

The reference hashes one Python object a call; a column of a million values spends its time there. Here the 1..128 byte
cases of "xxHash fast digest algorithm", version 0.2 (XXH3, 64 bits, seed 0); the library has the longer ones.
"""

from __future__ import annotations

import numpy as np

from nonet.common.kernels import inlined_kernel, kernel

LONGEST_BYTES = 128

_SECRET = np.frombuffer(
    bytes.fromhex(
        "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221"
        "b8084674f743248ee03590e6813a264c3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
        "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364"
    ),
    "<u8",
)

_PRIME64_1 = np.uint64(0x9E3779B185EBCA87)
_PRIME64_2 = np.uint64(0xC2B2AE3D27D4EB4F)
_PRIME64_3 = np.uint64(0x165667B19E3779F9)
_MIX_1 = np.uint64(0x165667919E3779F9)
_MIX_2 = np.uint64(0x9FB21C651E98DF25)
_LOW = np.uint64(0xFFFFFFFF)
_FLIP_3 = (_SECRET[0] ^ (_SECRET[0] >> np.uint64(32))) & _LOW
_FLIP_8 = _SECRET[1] ^ _SECRET[2]
_FLIP_16_LOW = _SECRET[3] ^ _SECRET[4]
_FLIP_16_HIGH = _SECRET[5] ^ _SECRET[6]


@inlined_kernel
def _read32(data, at):
    word = np.uint64(0)
    for n in range(4):
        word |= np.uint64(data[at + n]) << np.uint64(8 * n)
    return word


@inlined_kernel
def _read64(data, at):
    return _read32(data, at) | (_read32(data, at + 4) << np.uint64(32))


@kernel
def _swap64(word):
    swapped = np.uint64(0)
    for n in range(8):
        swapped |= ((word >> np.uint64(8 * n)) & np.uint64(0xFF)) << np.uint64(56 - 8 * n)
    return swapped


@kernel
def _rotated(word, bits):
    return (word << np.uint64(bits)) | (word >> np.uint64(64 - bits))


@kernel
def _folded_product(a, b):
    """Both halves of the 128-bit product, xored."""
    a_low, a_high, b_low, b_high = a & _LOW, a >> np.uint64(32), b & _LOW, b >> np.uint64(32)
    low, cross = a_low * b_low, a_high * b_low
    middle = (low >> np.uint64(32)) + (cross & _LOW) + a_low * b_high
    upper = (cross >> np.uint64(32)) + (middle >> np.uint64(32)) + a_high * b_high
    return upper ^ ((middle << np.uint64(32)) | (low & _LOW))


@kernel
def _avalanche(word):
    word = (word ^ (word >> np.uint64(37))) * _MIX_1
    return word ^ (word >> np.uint64(32))


@kernel
def _up_to_3(data, length):
    word = np.uint64(data[length - 1]) | (np.uint64(length) << np.uint64(8))
    word |= (np.uint64(data[0]) << np.uint64(16)) | (np.uint64(data[length >> 1]) << np.uint64(24))
    word ^= _FLIP_3
    word = (word ^ (word >> np.uint64(33))) * _PRIME64_2
    word = (word ^ (word >> np.uint64(29))) * _PRIME64_3
    return word ^ (word >> np.uint64(32))


@kernel
def _up_to_8(data, length):
    word = (_read32(data, length - 4) + (_read32(data, 0) << np.uint64(32))) ^ _FLIP_8
    word = (word ^ _rotated(word, 49) ^ _rotated(word, 24)) * _MIX_2
    word = (word ^ ((word >> np.uint64(35)) + np.uint64(length))) * _MIX_2
    return word ^ (word >> np.uint64(28))


@kernel
def _up_to_16(data, length):
    low = _read64(data, 0) ^ _FLIP_16_LOW
    high = _read64(data, length - 8) ^ _FLIP_16_HIGH
    return _avalanche(np.uint64(length) + _swap64(low) + high + _folded_product(low, high))


@kernel
def _mixed(data, at, secret):
    """16 bytes with 16 of the secret."""
    return _folded_product(_read64(data, at) ^ _SECRET[secret], _read64(data, at + 8) ^ _SECRET[secret + 1])


@kernel
def _up_to_128(data, length):
    acc = np.uint64(length) * _PRIME64_1
    for n in range((length - 1) // 32 + 1):
        acc += _mixed(data, 16 * n, 4 * n) + _mixed(data, length - 16 * (n + 1), 4 * n + 2)
    return _avalanche(acc)


@kernel
def hash_rows(scratch, prefix_bytes, data, offsets, out):
    """xxh3_64 of the prefix and each row.

    Args:
        scratch: uint8 [>= 128], begins with the prefix; the rest is written over.
        prefix_bytes: its length, 1 or more.
        data: uint8, the values one after another.
        offsets: int64 [n + 1], row i is `data[offsets[i]:offsets[i + 1]]`.
        out: uint64 [n], written where prefix and row have at most 128 bytes, otherwise left.
    """
    for row in range(len(out)):
        start = offsets[row]
        size = offsets[row + 1] - start
        length = prefix_bytes + size
        if length > LONGEST_BYTES:
            continue
        for n in range(size):
            scratch[prefix_bytes + n] = data[start + n]
        if length <= 3:
            out[row] = _up_to_3(scratch, length)
        elif length <= 8:
            out[row] = _up_to_8(scratch, length)
        elif length <= 16:
            out[row] = _up_to_16(scratch, length)
        else:
            out[row] = _up_to_128(scratch, length)
