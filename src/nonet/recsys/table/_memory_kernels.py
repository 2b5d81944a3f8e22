"""Memory by address, and the order of loads and stores, for kernels that one writer and many readers run.

Numba has no fences, no atomic loads of a word, no prefetch and no pointers into memory that grows in pieces. These are
the few LLVM instructions behind them. An address is an int64; who passes one owns the memory behind it.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

_BYTE = ir.IntType(8)
_INT32 = ir.IntType(32)
_INT64 = ir.IntType(64)
_CACHE_LINE_BYTES = 64
QUAD_BYTES = 16
_QUAD = ir.VectorType(_INT32, 4)


def _pointer(builder, address, to):
    return builder.inttoptr(address, to.as_pointer())


@intrinsic
def address_of(typing, array):
    """Of the first element of an array."""

    def generate(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.ptrtoint(data, _INT64)

    return types.int64(array), generate


@intrinsic
def prefetch(typing, address):
    """Ask for the cache line of an address; any address is legal, nothing is read."""

    def generate(context, builder, signature, args):
        pointer = _pointer(builder, args[0], _BYTE)
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, _INT32, _INT32, _INT32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [pointer, _INT32(0), _INT32(3), _INT32(1)])
        return context.get_dummy_value()

    return types.none(types.int64), generate


@intrinsic
def copy_bytes(typing, target, source, num_bytes):
    """Copy between addresses that do not overlap."""

    def generate(context, builder, signature, args):
        target, source, num_bytes = args
        cgutils.raw_memcpy(
            builder, _pointer(builder, target, _BYTE), _pointer(builder, source, _BYTE), num_bytes, itemsize=1
        )
        return context.get_dummy_value()

    return types.none(types.int64, types.int64, types.int64), generate


@intrinsic
def copy_line(typing, target, source):
    """Copy 64 bytes between addresses that do not overlap: a load and a store where registers are that wide."""

    def generate(context, builder, signature, args):
        target, source = args
        cgutils.raw_memcpy(builder, _pointer(builder, target, _BYTE), _pointer(builder, source, _BYTE), _INT64(64), 1)
        return context.get_dummy_value()

    return types.none(types.int64, types.int64), generate


@intrinsic
def stream_quad(typing, target, source):
    """Copy 16 bytes past the cache, for memory that nobody reads soon; the target is aligned to 16.

    Such stores may become visible late: `fence_all` comes before anybody is told of them.
    """

    def generate(context, builder, signature, args):
        target, source = (_pointer(builder, address, _QUAD) for address in args)
        store = builder.store(builder.load(source, align=4), target, align=QUAD_BYTES)
        store.set_metadata("nontemporal", builder.module.add_metadata([_INT32(1)]))
        return context.get_dummy_value()

    return types.none(types.int64, types.int64), generate


def _load(kind, bits, ordering):
    width = ir.IntType(bits)

    def typer(typing, address):
        def generate(context, builder, signature, args):
            return builder.load_atomic(_pointer(builder, args[0], width), ordering, bits // 8)

        return kind(types.int64), generate

    return intrinsic(typer)


def _store(kind, bits, ordering):
    width = ir.IntType(bits)

    def typer(typing, address, value):
        def generate(context, builder, signature, args):
            builder.store_atomic(args[1], _pointer(builder, args[0], width), ordering, bits // 8)
            return context.get_dummy_value()

        return types.none(types.int64, kind), generate

    return intrinsic(typer)


load_u32 = _load(types.uint32, 32, "acquire")
"""The word at an address; what is read after it is not older."""
load_u64 = _load(types.uint64, 64, "acquire")
store_u32 = _store(types.uint32, 32, "release")
"""Write the word at an address; who sees it sees everything that was written before."""
store_u64 = _store(types.uint64, 64, "release")


@intrinsic
def fence_acquire(typing):
    """Loads before it come before loads after it."""

    def generate(context, builder, signature, args):
        builder.fence("acquire")
        return context.get_dummy_value()

    return types.none(), generate


@intrinsic
def fence_release(typing):
    """Stores before it come before stores after it."""

    def generate(context, builder, signature, args):
        builder.fence("release")
        return context.get_dummy_value()

    return types.none(), generate


@intrinsic
def fence_all(typing):
    """Everything before it, streamed stores included, comes before everything after it."""

    def generate(context, builder, signature, args):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.none(), generate


@intrinsic
def trailing_zeros(typing, word):
    """Number of zero bits below the lowest set bit of a uint64 that is not 0."""

    def generate(context, builder, signature, args):
        return builder.cttz(args[0], ir.IntType(1)(1))

    return types.uint64(types.uint64), generate


@intrinsic
def load_f32(typing, address):
    """The float at an address, for who alone writes it."""

    def generate(context, builder, signature, args):
        return builder.load(_pointer(builder, args[0], ir.FloatType()))

    return types.float32(types.int64), generate
