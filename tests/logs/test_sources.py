from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from nonet.common.errors import InputError
from nonet.logs.reading._line_kernels import split_lines
from nonet.logs.reading.sources import BlockReader, open_blocks

TEXT = b"first\r\nsecond \x00\xff\n\n  fourth\r\r\nlast"
LINES = [b"first", b"second \x00\xff", b"", b"  fourth\r", b"last"]


def lines_of(reader: BlockReader) -> list[bytes]:
    """All lines, with the checks that hold for every block."""
    found: list[bytes] = []
    offset = None
    for block in reader:
        assert len(block.buffer)
        assert offset is None or block.offset_bytes == offset
        offset = block.offset_bytes + len(block.buffer)
        assert block.first_line == len(found) + 1
        assert block.at_end or block.buffer[-1] == 0x0A
        data = block.buffer.tobytes()
        found += [data[a:b] for a, b in zip(*split_lines(block.buffer), strict=True)]
    return found


CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "zstd": zstandard.compress,
    "bzip2": bz2.compress,
    "xz": lambda data: lzma.compress(data, preset=0),
}


@given(st.binary(max_size=60))
@settings(max_examples=200, deadline=None)
def test_split_lines_agrees_with_python(data: bytes) -> None:
    starts, ends = split_lines(np.frombuffer(bytearray(data), np.uint8))
    pieces = data.split(b"\n")
    terminated = [piece.removesuffix(b"\r") for piece in pieces[:-1]]
    expected = terminated + ([pieces[-1]] if pieces[-1] else [])
    assert [data[a:b] for a, b in zip(starts, ends, strict=True)] == expected


@pytest.mark.parametrize("coding", list(CODINGS))
@pytest.mark.parametrize("block_bytes", [1, 7, 1 << 20])
def test_reads_every_coding_by_its_first_bytes(tmp_path: Path, coding: str, block_bytes: int) -> None:
    path = tmp_path / "misleading.txt"
    path.write_bytes(CODINGS[coding](TEXT))
    with open_blocks(path, block_bytes=block_bytes) as reader:
        assert reader.num_bytes == path.stat().st_size
        assert lines_of(reader) == LINES
        assert reader.bytes_read == path.stat().st_size


@given(
    st.lists(st.sampled_from([b"a", b"\n", b"\r\n", b"long text", b"\x00", b"\xff"]), max_size=30).map(b"".join),
    st.integers(1, 40),
)
@settings(max_examples=150, deadline=None)
def test_lines_do_not_depend_on_the_block_size(data: bytes, block_bytes: int) -> None:
    data = b"x" + data  # no byte-order mark
    assert lines_of(open_blocks(io.BytesIO(data), block_bytes=block_bytes)) == lines_of(open_blocks(io.BytesIO(data)))
    blocks = list(open_blocks(io.BytesIO(data), block_bytes=block_bytes))
    assert b"".join(block.buffer.tobytes() for block in blocks) == data


@given(st.lists(st.integers(0, 40), max_size=8), st.integers(1, 50), st.integers(1, 16), st.integers(1, 80))
@settings(max_examples=150, deadline=None)
def test_overlong_lines_are_cut_the_same_for_every_block_size(
    sizes: list[int], block: int, limit: int, peek: int
) -> None:
    data = b"\n".join(bytes(97 + i % 26 for i in range(size)) for size in sizes)
    reader = open_blocks(io.BytesIO(data), block_bytes=block, max_line_bytes=limit)
    reader.peek(peek)
    blocks = list(reader)
    assert b"".join(b.buffer.tobytes() for b in blocks) == data
    pieces = [data for b in blocks for data in b.buffer.tobytes().splitlines()]
    expected = []
    for line in data.split(b"\n")[: None if not data.endswith(b"\n") else -1] if data else []:
        expected += [line[i : i + limit] for i in range(0, max(1, len(line)), limit)]
    assert pieces == expected
    assert sum(b.is_cut for b in blocks) == sum((max(len(line), 1) - 1) // limit for line in data.split(b"\n"))
    assert all(len(b.buffer.tobytes().rpartition(b"\n")[2]) == limit for b in blocks if b.is_cut)


@given(st.lists(st.integers(0, 12), min_size=1, max_size=12), st.integers(1, 30), st.data())
@settings(max_examples=150, deadline=None)
def test_hold_back_delivers_the_same_lines_again(sizes: list[int], block_bytes: int, data: st.DataObject) -> None:
    lines = [b"%d" % i * size for i, size in enumerate(sizes)]
    reader = open_blocks(io.BytesIO(b"\n".join(lines) + b"\n"), block_bytes=block_bytes)
    taken: list[bytes] = []
    for block in reader:
        here = block.buffer.tobytes().splitlines(keepends=True)
        assert block.first_line == len(taken) + 1
        keep = 0 if block.at_end else data.draw(st.integers(0, min(1, len(here))))
        if keep:
            reader.hold_back(len(here[-1]))
        taken += here[: len(here) - keep]
    assert b"".join(taken) == b"\n".join(lines) + b"\n"


def test_peek_consumes_nothing_and_gives_whole_lines() -> None:
    reader = open_blocks(io.BytesIO(b"one\ntwo\nthree"), block_bytes=2)
    assert reader.peek(5).tobytes() == b"one\n"
    assert reader.peek(2).tobytes() == b"one\ntwo\n"  # whole lines at hand, since the first is longer
    assert reader.peek(100).tobytes() == b"one\ntwo\nthree"
    assert lines_of(reader) == [b"one", b"two", b"three"]


def test_empty_input_has_no_blocks(tmp_path: Path) -> None:
    path = tmp_path / "empty.log"
    path.touch()
    assert list(open_blocks(path)) == []
    assert list(open_blocks(io.BytesIO(gzip.compress(b"")))) == []
    assert open_blocks(path).peek(10).size == 0


def test_long_lines_come_whole() -> None:
    long = b"x" * (1 << 20)
    many = b"token " * 100_000
    data = b"a\n" + long + b"\n" + many + b"\nb\n"
    assert lines_of(open_blocks(io.BytesIO(data), block_bytes=4096)) == [b"a", long, many, b"b"]


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stdin:
        buffer = io.BytesIO(gzip.compress(b"one\ntwo\n"))

    monkeypatch.setattr("sys.stdin", Stdin)
    reader = open_blocks("-")
    assert (reader.name, reader.num_bytes) == ("standard input", None)
    assert lines_of(reader) == [b"one", b"two"]


def test_reads_a_pipe(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    with os.fdopen(write_end, "wb") as writer:
        writer.write(b"one\ntwo")
    with os.fdopen(read_end, "rb") as source:
        assert lines_of(open_blocks(source)) == [b"one", b"two"]


@pytest.mark.parametrize("coding", ["gzip", "zstd", "bzip2", "xz"])
def test_truncated_archive_gives_what_is_readable_and_then_says_so(tmp_path: Path, coding: str) -> None:
    noise = np.random.default_rng(1).bytes(800_000).hex().encode()
    data = b"".join(b"line %d %s\n" % (i, noise[40 * i : 40 * i + 40]) for i in range(40_000))
    whole = CODINGS[coding](data)
    path = tmp_path / "cut.log.gz"
    path.write_bytes(whole[: len(whole) // 2])
    reader = open_blocks(path)
    found = b""
    with pytest.raises(InputError) as raised:
        for block in reader:
            found += block.buffer.tobytes()
    assert data.startswith(found)
    assert len(found) > len(data) // 4
    message = str(raised.value)
    assert message.startswith(f"{path}: the {coding} data ends early")
    num_lines = found.count(b"\n") + (not found.endswith(b"\n"))
    assert f"after line {num_lines:,};" in message
    assert "\n" not in message


def test_damaged_archive_gives_what_is_readable_and_then_says_so() -> None:
    data = b"".join(b"line %d\n" % i for i in range(100_000))
    wrong_checksum = bytearray(gzip.compress(data))
    wrong_checksum[-8] ^= 1
    assert read_damaged(bytes(wrong_checksum)) == data
    broken = bytearray(gzip.compress(data, mtime=0))
    middle = len(broken) // 2
    broken[middle : middle + 50] = b"\xff" * 50
    found = read_damaged(bytes(broken))
    third = len(data) // 3
    assert found[:third] == data[:third]


def read_damaged(archive: bytes) -> bytes:
    found = b""
    with pytest.raises(InputError, match=r"gzip data is damaged .* after line"):
        for block in open_blocks(io.BytesIO(archive)):
            found += block.buffer.tobytes()
    return found


@pytest.mark.parametrize("coding", ["gzip", "zstd", "bzip2", "xz"])
def test_several_members_and_padding(coding: str) -> None:
    data = CODINGS[coding](b"one\ntw") + CODINGS[coding](b"o\nthree") + b"\0" * 5000
    assert lines_of(open_blocks(io.BytesIO(data))) == [b"one", b"two", b"three"]


def test_highly_compressed_data_stays_in_blocks() -> None:
    data = zstandard.compress(b"\n".join(b"a" * 99 for _ in range(200_000)))
    sizes = [len(block.buffer) for block in open_blocks(io.BytesIO(data), block_bytes=1 << 16)]
    assert sum(sizes) == 200_000 * 100 - 1
    assert max(sizes) < 2 << 16


def test_byte_order_marks() -> None:
    reader = open_blocks(io.BytesIO(b"\xef\xbb\xbfone\ntwo\n"), block_bytes=1)
    assert [(b.offset_bytes, b.buffer.tobytes()) for b in reader] == [(3, b"one\ntwo\n")]
    assert reader.has_bom
    with pytest.raises(InputError, match=r"UTF-16.*iconv"):
        list(open_blocks(io.BytesIO("one\n".encode("utf-16"))))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path / "missing.log", "no such file"),
        (lambda path: path, "is a directory"),
        (lambda path: path / "bad\0name", "cannot be opened"),
    ],
)
def test_unusable_paths_are_one_line_errors(tmp_path: Path, make: object, message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        open_blocks(make(tmp_path))  # type: ignore[operator]
    assert "\n" not in str(raised.value)


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", deny)
    with pytest.raises(InputError, match="permission denied"):
        open_blocks(tmp_path / "secret.log")


def test_zip_archives_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "logs.zip"
    path.write_bytes(b"PK\x03\x04" + b"\0" * 40)
    with pytest.raises(InputError, match="unpack it first"):
        open_blocks(path)


def test_bad_sizes() -> None:
    with pytest.raises(InputError, match="at least 1 byte"):
        open_blocks(io.BytesIO(b""), block_bytes=0)
