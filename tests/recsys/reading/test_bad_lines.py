"""Bad lines are named by file and line, or counted and left out; nothing else is lost."""

import gzip
import random

import polars as pl
import pytest

from nonet.common.errors import InputError
from nonet.recsys.reading.blocks import MAX_LINE_BYTES, BadLines, read_blocks
from nonet.recsys.reading.frames import read_frames

HEADER = b"userId,movieId,rating,timestamp\n"
GOOD = b"7,9,4,100\n"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"7,9,4\n", "3 fields, 4 are expected"),
        (b"7,9,4,100,5\n", "5 fields, 4 are expected"),
        (b"\n", "1 fields, 4 are expected"),
        (b"7,9,five,100\n", "rating is no number: 'five'"),
        (b"7,9,,100\n", "rating is no number: ''"),
        (b"7,9,nan,100\n", "rating is no number: 'nan'"),
        (b"7,\xff\xfe,4,100\n", "no UTF-8 text"),
        (
            b"7,9,4,1700000000000\n",
            "its time lies beyond the year 2106; are these milliseconds (`unit: ms` under `data` in the job)?",
        ),
    ],
)
def test_each_kind_is_named_or_skipped(tmp_path, line, reason):
    path = tmp_path / "ratings.csv"
    path.write_bytes(HEADER + GOOD * 2 + line + GOOD)
    with pytest.raises(InputError) as told:
        list(read_frames(path))
    assert f"{path}, line 4: {reason}" in str(told.value)
    bad = BadLines("skip")
    frame = pl.concat(list(read_frames(path, bad=bad)))
    assert frame.rows() == [("7", "9", 1.0, 100_000)] * 3
    assert bad.count == 1 and bad.first == [f"{path}, line 4: {reason}"]


def test_as_many_separators_in_the_wrong_lines(tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_bytes(HEADER + GOOD + b"7,9,4\n7,9,4,100,5\n" + GOOD)
    bad = BadLines("skip")
    assert pl.concat(list(read_frames(path, bad=bad))).height == 2
    assert [text.split(": ")[0].split()[-1] for text in bad.first] == ["3", "4"]


def test_a_time_that_cannot_be_read(tmp_path):
    path = tmp_path / "UserBehavior.csv"
    path.write_text("1,2,3,pv,soon\n")
    with pytest.raises(InputError, match="line 1: timestamp is no number: 'soon'"):
        list(read_frames(path))
    hours = tmp_path / "train.csv"
    hours.write_text("1,0,14109999," + ",".join(["a"] * 21) + "\n")
    with pytest.raises(InputError, match="line 1: its time cannot be read"):
        list(read_frames(hours))


def test_blocks_join_to_the_file_whatever_their_size(tmp_path):
    draw = random.Random(5)
    text = "".join(f"{draw.randrange(10 ** draw.randrange(1, 9))}::9::4::{n}\n" for n in range(500))
    path = tmp_path / "ratings.dat"
    path.write_text(text)
    whole = pl.concat(list(read_frames(path)))
    for size in (1, 7, 64, 1000):
        assert b"".join(read_blocks(path, size)).decode() == text
        assert pl.concat(list(read_frames(path, block_bytes=size))).equals(whole)


def test_line_numbers_are_right_in_later_blocks(tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_bytes(HEADER + GOOD * 100 + b"oops\n" + GOOD)
    with pytest.raises(InputError, match="line 102: 1 fields"):
        list(read_frames(path, block_bytes=64))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match=r"none.csv: cannot be read.*No such file"):
        list(read_frames(tmp_path / "none.csv"))
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(gzip.compress(HEADER + GOOD * 100_000)[:300])
    with pytest.raises(InputError, match=r"cut.csv.gz: cannot be read after line"):
        list(read_frames(cut, "movielens"))
    long = tmp_path / "long.csv"
    long.write_bytes(b"a" * (MAX_LINE_BYTES + 100))
    with pytest.raises(InputError, match="line 1: longer than 1,048,576 bytes"):
        list(read_blocks(long))
    empty = tmp_path / "empty.csv"
    empty.write_bytes(b"")
    with pytest.raises(InputError, match="cannot tell its format"):
        list(read_frames(empty))
    assert list(read_frames(empty, "movielens")) == []
