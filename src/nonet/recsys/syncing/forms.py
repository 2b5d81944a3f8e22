"""In which form the rows of a table travel."""

from __future__ import annotations

from typing import Any

from nonet.recsys.syncing.messages import Form
from nonet.recsys.table.compressors import Fp32, RowCodec
from nonet.recsys.table.segments import row_codec


def codec_of(shape: Any) -> RowCodec:
    """The codec of a table: one that is given, a dim (float32), or what its segments say.

    Args:
        shape: a `RowCodec`, an int, or a table.

    >>> codec_of(4).row_bytes
    16
    """
    if isinstance(shape, RowCodec):
        return shape
    if isinstance(shape, int):
        return RowCodec(((shape, Fp32()),))
    return row_codec(tuple(shape.segments))


def form_of(codec: RowCodec) -> Form:
    """What both sides compare before a row travels; neighbouring slices of the same compressor count as one.

    >>> form_of(RowCodec(((1, Fp32()), (4, Fp32()))))
    ((5, 'Fp32()'),)
    """
    form: list[tuple[int, str]] = []
    for dim, compressor in codec.parts:
        if form and form[-1][1] == repr(compressor) == "Fp32()":
            form[-1] = (form[-1][0] + dim, repr(compressor))
        else:
            form.append((dim, repr(compressor)))
    return tuple(form)
