"""The dictionary against a dict, across restarts, `kill -9`, half-written blocks, damage and a full disk."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nonet.common.errors import InputError
from nonet.recsys.features import dictionary as module
from nonet.recsys.features.dictionary import MAGIC, Dictionary

BATCHES = st.lists(st.lists(st.binary(max_size=6), max_size=12), max_size=8)


@given(batches=BATCHES, restart=st.integers(0, 8))
def test_it_equals_a_dict_also_after_a_restart(
    batches: list[list[bytes]], restart: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("d") / "values"
    model: dict[bytes, int] = {}
    words = Dictionary(path)
    for n, batch in enumerate(batches):
        if n == restart:
            words.close()
            words = Dictionary(path)
        assert words.find(batch).tolist() == [model.get(value, -1) for value in batch]
        for value in batch:
            model.setdefault(value, len(model))
        assert words.encode(batch).tolist() == [model[value] for value in batch]
    assert words.decode(np.arange(len(model))) == list(model)
    words.close()


def test_text_bytes_and_numbers_of_one_text_are_one_value() -> None:
    words = Dictionary()
    assert words.encode(["17", "x"]).tolist() == [0, 1]
    assert words.encode([b"17"]).tolist() == words.encode([17]).tolist() == [0]


def test_a_column_whose_own_dictionary_repeats_a_value(tmp_path: Path) -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([2, 0, 1]), pa.array(["a", "b", "a"]))
    with Dictionary(tmp_path / "d") as words:
        assert words.encode(column).tolist() == [0, 0, 1]
        assert len(words) == 2
    assert len(Dictionary(tmp_path / "d")) == 2


def test_numbers_given_out_survive_kill_9(tmp_path: Path) -> None:
    code = (
        "import os, signal\n"
        "from nonet.recsys.features.dictionary import Dictionary\n"
        f"words = Dictionary({str(tmp_path / 'd')!r})\n"
        "print(words.encode([b'x', b'\\xff', b'']).tolist(), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (-signal.SIGKILL, "[0, 1, 2]")
    with Dictionary(tmp_path / "d") as words:
        assert words.decode([0, 1, 2]) == [b"x", b"\xff", b""]


def test_half_a_block_at_the_end_is_cut_off_wherever_it_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "d"
    with Dictionary(path) as words:
        words.encode(["first"])
        whole = path.stat().st_size
        words.encode(["second", "third"])
    content = path.read_bytes()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with Dictionary(path) as words:
            assert len(words) == (1 if size >= whole else 0)
            assert words.encode(["new"]).tolist() == [len(words) - 1]
        with Dictionary(path) as words:
            assert words.find(["new"])[0] >= 0


def test_a_flipped_bit_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "d"
    with Dictionary(path) as words:
        words.encode(["first"])
        words.encode(["second"])
    content = path.read_bytes()
    for at in range(len(content)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
        with pytest.raises(InputError, match=r"not a dictionary|damaged at byte"):
            Dictionary(path)
        assert path.stat().st_size == len(content)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with Dictionary(tmp_path / "d"), pytest.raises(InputError, match="in use"):
        Dictionary(tmp_path / "d")
    Dictionary(tmp_path / "d").close()


def test_a_full_disk_teaches_nothing_and_leaves_no_half_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "d"
    words = Dictionary(path)
    words.encode(["kept"])
    size = path.stat().st_size

    def full(file: object, content: bytes) -> None:
        os.write(file.fileno(), content[:9])  # type: ignore[attr-defined]
        raise OSError(errno.ENOSPC, "no space left")

    with monkeypatch.context() as patch:
        patch.setattr(module, "_write_all", full)
        with pytest.raises(OSError, match="no space"):
            words.encode(["lost"])
    assert path.stat().st_size == size
    assert words.find(["lost"])[0] == -1
    assert words.encode(["next"]).tolist() == [1]
    words.close()
    assert Dictionary(path).decode([0, 1]) == [b"kept", b"next"]


def test_wrong_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("something else, and long enough")
    with pytest.raises(InputError, match="not a dictionary"):
        Dictionary(tmp_path / "other")
    with pytest.raises(InputError, match="does not exist"):
        Dictionary(tmp_path / "no" / "d")
    words = Dictionary(tmp_path / "d")
    with pytest.raises(InputError, match="number 0 is not in"):
        words.decode([0])
    words.close()
    with pytest.raises(InputError, match="closed"):
        words.encode(["a"])
    assert (tmp_path / "d").read_bytes() == MAGIC
