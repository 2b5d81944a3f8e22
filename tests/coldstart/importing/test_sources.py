"""Files that are packed, cut, damaged or laid out in odd ways."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import zipfile
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from nonet.coldstart.importing.json_values import Damage, json_values
from nonet.coldstart.importing.moments import duration_us, time_us, unix_us
from nonet.coldstart.importing.sources import LineSafeStream, SourceFile, expand
from nonet.coldstart.importing.tabular import read_frames
from nonet.common.errors import InputError

TEXT = b"".join(b"%d,%d\n" % (i, i * 7919 % 1000) for i in range(60_000))
PACKERS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zstandard.ZstdCompressor().compress}


def content(file: SourceFile) -> bytes:
    with file.open() as stream:
        return b"".join(iter(lambda: stream.read(100_000) or b"", b""))


@pytest.mark.parametrize("kind", PACKERS)
def test_packed_files_are_told_by_their_content(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(PACKERS[kind](TEXT))
    assert content(SourceFile(path)) == TEXT
    assert SourceFile(path).damage() == ""


def test_members_of_zip_archives_packed_or_not(tmp_path: Path) -> None:
    path = tmp_path / "R1.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("R1/day_00.csv", TEXT)
        archive.writestr("R1/day_01.csv.gz", gzip.compress(TEXT))
        archive.writestr("R1/readme.md", "hello")
        archive.writestr("R1/.hidden.csv", "x")
    files, damaged = expand([path], (".csv",))
    assert [file.member for file in files] == ["R1/day_00.csv", "R1/day_01.csv.gz"]
    assert damaged == []
    assert [content(file) for file in files] == [TEXT, TEXT]


def test_folders_are_searched_in_order_and_hidden_files_left_out(tmp_path: Path) -> None:
    for name in ("b/2.csv", "b/1.csv", "a.csv.gz", "c.txt", ".git/x.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    files, _ = expand([tmp_path], (".csv",))
    assert [file.path.relative_to(tmp_path).as_posix() for file in files] == ["a.csv.gz", "b/1.csv", "b/2.csv"]
    with pytest.raises(InputError, match=r"no file that ends with \.json"):
        expand([tmp_path], (".json",))
    with pytest.raises(InputError, match="no such file"):
        expand([tmp_path / "gone"])


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_a_cut_file_gives_its_whole_lines(tmp_path: Path, kind: str) -> None:
    packed = PACKERS[kind](TEXT)
    path = tmp_path / "log.csv"
    path.write_bytes(packed[: len(packed) * 2 // 3])
    file = SourceFile(path)
    with file.open() as stream:
        got = b"".join(iter(lambda: stream.read(100_000) or b"", b""))
        assert stream.failure
        assert stream.is_cut
    assert TEXT.startswith(got)
    assert got == b"" or got.endswith(b"\n")
    assert file.damage() == ""
    if kind == "gz":
        assert len(got) > len(TEXT) // 3


def test_garbage_inside_is_found_by_the_checksum_before_a_row_is_used(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(TEXT))
    packed[len(packed) // 2 : len(packed) // 2 + 8] = b"\x55" * 8
    path = tmp_path / "log.csv.gz"
    path.write_bytes(packed)
    assert SourceFile(path).damage()
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a.csv", TEXT)
    raw = bytearray((tmp_path / "a.zip").read_bytes())
    raw[5000] ^= 4
    (tmp_path / "a.zip").write_bytes(raw)
    files, _ = expand([tmp_path / "a.zip"])
    assert "CRC" in files[0].damage()


def test_garbage_behind_a_whole_gzip_file_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "log.csv.gz"
    path.write_bytes(gzip.compress(TEXT) + b"garbage behind the end")
    assert SourceFile(path).damage() == ""
    assert content(SourceFile(path)) == TEXT


def test_a_truncated_zip_is_named(tmp_path: Path) -> None:
    path = tmp_path / "R1.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", TEXT)
    path.write_bytes(path.read_bytes()[:-100])
    files, damaged = expand([path])
    assert files == []
    assert damaged[0][0] == str(path)


@pytest.mark.parametrize(("magic", "command"), [(b"Rar!\x1a\x07\x01\x00", "unrar x"), (b"7z\xbc\xaf\x27\x1c", "7z x")])
def test_archives_that_others_must_unpack(tmp_path: Path, magic: bytes, command: str) -> None:
    path = tmp_path / "trace.bin"
    path.write_bytes(magic + b"\0" * 50)
    with pytest.raises(InputError, match=command):
        content(SourceFile(path))


LINES = st.lists(st.tuples(st.integers(-999, 999), st.text("abc é", max_size=5)), max_size=30)


@settings(deadline=None, max_examples=40)
@given(
    rows=LINES,
    ends=st.lists(st.sampled_from(["\n", "\r\n"]), min_size=31, max_size=31),
    bad=st.sets(st.integers(0, 29)),
)
def test_csv_keeps_line_numbers_with_mixed_ends_and_short_rows(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, str]], ends: list[str], bad: set[int]
) -> None:
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    text = f"a,b,c{ends[-1]}"
    wanted = []
    for number, ((a, b), end) in enumerate(zip(rows, ends, strict=False)):
        text += (f"{a},{b}" if number in bad else f'{a},"{b}",x') + end
        if number not in bad:
            wanted.append((number + 2, str(a), b))
    path.write_bytes(text.encode())
    refused: list[int | None] = []
    frames = list(read_frames(SourceFile(path), lambda line, reason, what: refused.append(line), columns=("b", "a")))
    found = [(row["_line"], row["a"], row["b"]) for frame in frames for row in frame.iter_rows(named=True)]
    assert found == wanted
    assert refused == [number + 2 for number in sorted(bad) if number < len(rows)]


def test_headers_with_a_column_twice_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b,a\n1,2,3\n")
    with pytest.raises(InputError, match="'a' stands twice"):
        list(read_frames(SourceFile(tmp_path / "a.csv"), lambda *a: None))


def test_lines_longer_than_memory_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nonet.coldstart.importing.sources.MAX_LINE_BYTES", 10)
    stream = LineSafeStream(io.BytesIO(b"x" * 100 + b"\nshort\r\n\nlast"), is_plain=True)
    assert list(stream.lines()) == [(1, b"x" * 10), (2, b"short"), (3, b""), (4, b"last")]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)


def parsed(text: str, inside: tuple[str, ...] = ("items",)) -> list[tuple[int, object]]:
    return list(json_values(LineSafeStream(io.BytesIO(text.encode()), is_plain=True), inside))


@settings(deadline=None)
@given(
    values=st.lists(st.dictionaries(st.text(max_size=4), JSON, max_size=4), max_size=5),
    layout=st.sampled_from("LNPR"),
)
def test_json_of_any_layout_gives_its_objects(values: list[dict[str, object]], layout: str) -> None:
    values = [{key: value for key, value in item.items() if key != "items"} for item in values]
    texts = {
        "L": json.dumps({"kind": "List", "items": values, "metadata": {}}, indent=1),
        "N": "\n".join(json.dumps(value) for value in values),
        "P": "\n\n".join(json.dumps(value, indent=3, ensure_ascii=False) for value in values),
        "R": json.dumps(values),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nonet.coldstart.importing.json_values._CHUNK_BYTES", 7)
        assert [value for _, value in parsed(texts[layout])] == values


def test_json_goes_on_behind_damage_and_counts_lines() -> None:
    found = parsed('{"a": 1}\n{"a": }\n\n{"b": 2\n{"c": 3}\n[{"d": 4},\n{"e": 5}]\n"text"\n{"f": 6')
    good = [(line, value) for line, value in found if not isinstance(value, Damage)]
    assert good == [(1, {"a": 1}), (5, {"c": 3}), (6, {"d": 4}), (7, {"e": 5})]
    assert [line for line, value in found if isinstance(value, Damage)] == [2, 4, 8, 9]


def test_deep_json_is_damage_not_a_crash() -> None:
    assert isinstance(parsed("[" * 100_000)[0][1], Damage)


@pytest.mark.parametrize("text", ["", "2026-13-01T00:00:00Z", "12:00", "2026-05-04", None, 5, "2026-05-04T25:00:00Z"])
def test_what_is_no_time_is_none(text: object) -> None:
    assert time_us(text) is None


@given(st.integers(0, 4_000_000_000_000_000))
def test_unix_times_tell_their_unit_by_size(us: int) -> None:
    us = us // 1_000_000 * 1_000_000 + 10**14
    assert unix_us(us // 10**6) == unix_us(us // 1000) == unix_us(us) == unix_us(us * 1000) == us


def test_durations_of_go() -> None:
    assert [duration_us(text) for text in ("562.2444ms", "1h0m1.5s", "9.215s", "3µs", "s", "1 s", "", None)] == [
        562_244,
        3_601_500_000,
        9_215_000,
        3,
        None,
        None,
        None,
        None,
    ]
    assert unix_us(True) is None
    assert unix_us(float("nan")) is None
