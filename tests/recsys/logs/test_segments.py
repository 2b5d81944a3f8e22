"""The embedded log on a disk that fails: writers killed, files cut and damaged, no room."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nonet.common.errors import InputError
from nonet.recsys.logs import Keeping, LogDamagedError, Producer, Record, SegmentLog, open_log
from nonet.recsys.logs.frames import HEAD, decode_head


def rows(start: int, end: int) -> list[Record]:
    return [Record(b"k%d" % n, b"p" * 100 + b"%d" % n, n) for n in range(start, end)]


def written(folder: Path, *parts: tuple[int, int], **keeping: object) -> list[Path]:
    """A log with some appends; gives its segment files."""
    with SegmentLog(folder, Keeping(**keeping)) as log:  # type: ignore[arg-type]
        log.create("t")
        for start, end in parts:
            log.append("t", 0, rows(start, end), Producer("p", start))
    return sorted((folder / "t" / "0").glob("*.seg"))


def everything(folder: Path) -> list[Record]:
    with SegmentLog(folder) as log:
        found, offset = [], log.offsets("t", 0)[0]
        while batch := log.read("t", 0, offset).records:
            found += batch
            offset += len(batch)
        return found


def frames(path: Path) -> list[int]:
    """Where the frames of a segment begin, and its end."""
    data, places = path.read_bytes(), [0]
    while places[-1] < len(data):
        head = decode_head(data, places[-1])
        assert head is not None
        places.append(places[-1] + HEAD.size + head.body_bytes)
    return places


@pytest.mark.parametrize("before", [1, 10, 15, 29, 30, 31, 39])
def test_a_log_that_was_never_read_is_trimmed_in_the_middle_of_a_segment(tmp_path: Path, before: int) -> None:
    parts = [(start, start + 10) for start in range(0, 40, 10)]
    assert len(written(tmp_path, *parts, segment_bytes=1)) == 4
    with SegmentLog(tmp_path) as log:
        log.trim("t", 0, before)
        assert log.offsets("t", 0) == (before, 40)
    assert everything(tmp_path) == rows(before, 40)


@pytest.mark.parametrize("cut", [1, HEAD.size - 1, HEAD.size, HEAD.size + 1, -1])
def test_an_end_cut_off_is_put_aside(tmp_path: Path, cut: int) -> None:
    (path,) = written(tmp_path, (0, 5), (5, 9))
    *_, last, end = frames(path)
    length = last + cut if cut > 0 else end + cut
    with path.open("r+b") as file:
        file.truncate(length)
    assert everything(tmp_path) == rows(0, 5)
    with SegmentLog(tmp_path) as log:
        assert log.append("t", 0, rows(0, 7), Producer("p", 0)) == 2
    assert everything(tmp_path) == rows(0, 7)
    (torn,) = path.parent.glob("*.torn-*")
    assert torn.stat().st_size == length - last


@pytest.mark.parametrize(("frame", "at"), [(1, 3), (1, 9), (1, 20), (1, HEAD.size + 40), (2, 5), (2, HEAD.size + 40)])
def test_damage_is_refused_wherever_it_is(tmp_path: Path, frame: int, at: int) -> None:
    (path,) = written(tmp_path, (0, 5), (5, 9))
    place = frames(path)[frame] + at
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes((byte ^ 0x40,)))
    with SegmentLog(tmp_path) as log, pytest.raises(LogDamagedError, match=r"seg: .*at byte \d+ is damaged; restore"):
        log.append("t", 0, rows(9, 10))
    with pytest.raises(LogDamagedError):
        everything(tmp_path)


def test_a_hole_after_a_power_cut_is_no_damage(tmp_path: Path) -> None:
    (path,) = written(tmp_path, (0, 5))
    with path.open("ab") as file:
        file.write(bytes(300))
    written(tmp_path, (5, 6))
    assert everything(tmp_path) == rows(0, 6)


def test_segments_roll_and_the_producers_number_outlives_them(tmp_path: Path) -> None:
    paths = written(tmp_path, *((n, n + 10) for n in range(0, 100, 10)), segment_bytes=2500)
    assert len(paths) > 3
    assert everything(tmp_path) == rows(0, 100)
    with SegmentLog(tmp_path) as log:
        log.trim("t", 0, 95)
        assert log.append("t", 0, rows(90, 101), Producer("p", 90)) == 1
    assert everything(tmp_path) == rows(95, 101)


def test_a_writer_that_died_while_it_rolled_loses_no_number(tmp_path: Path) -> None:
    written(tmp_path, (0, 5), (5, 9))
    (tmp_path / "t" / "0" / f"{9:020d}.seg").touch()
    with SegmentLog(tmp_path) as log:
        assert log.append("t", 0, rows(0, 10), Producer("p", 0)) == 1
    assert everything(tmp_path) == rows(0, 10)


def test_old_segments_go_by_size_and_by_age(tmp_path: Path) -> None:
    paths = written(
        tmp_path / "size", *((n, n + 10) for n in range(0, 100, 10)), segment_bytes=1500, retention_bytes=4000
    )
    assert 2 <= len(paths) <= 4
    assert everything(tmp_path / "size") == rows(int(paths[0].stem), 100)
    for path in written(tmp_path / "age", (0, 20), segment_bytes=100):
        os.utime(path, (time.time() - 100, time.time() - 100))
    assert int(written(tmp_path / "age", (20, 30), segment_bytes=100, retention_ms=50_000)[0].stem) == 20


_WRITER = """
import sys
from nonet.recsys.logs import Producer, Record, open_log
log = open_log(f"file:{sys.argv[1]}?segment_bytes=200000")
log.create("t")
sequence = 0
while True:
    records = [Record(b"%d" % n, b"x" * 300, n) for n in range(sequence, sequence + 50)]
    log.append("t", 0, records, Producer("p", sequence))
    sequence += 50
    print(sequence, flush=True)
"""


def test_a_writer_killed_again_and_again_leaves_each_record_once(tmp_path: Path) -> None:
    appended = 0
    for kill in range(3):
        command = [sys.executable, "-c", _WRITER, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if int(line) >= 1000 * (kill + 1):
                    process.send_signal(signal.SIGKILL)
                    appended = max(appended, int(line))
                    break
    found = everything(tmp_path)
    assert [record.ts_ms for record in found] == list(range(len(found)))
    assert len(found) >= appended


def test_two_processes_may_write(tmp_path: Path) -> None:
    one, two = (open_log(f"file:{tmp_path}?segment_bytes=3000") for _ in range(2))
    one.create("t")
    for n in range(30):
        (one if n % 3 else two).append("t", 0, rows(n, n + 1))
    assert everything(tmp_path) == rows(0, 30)
    one.close()
    two.close()


_FULL = """
import resource, signal, sys
from nonet.recsys.logs import LogUnavailableError, Record, open_log
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
log = open_log(f"file:{sys.argv[1]}")
log.create("t")
log.append("t", 0, [Record(b"", b"x" * 50_000, 0)])
resource.setrlimit(resource.RLIMIT_FSIZE, (120_000, resource.RLIM_INFINITY))
log.append("t", 0, [Record(b"", b"y" * 50_000, 1)])
try:
    log.append("t", 0, [Record(b"", b"z" * 50_000, 2)])
except LogUnavailableError as error:
    assert "nothing was appended" in str(error), error
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    log.append("t", 0, [Record(b"", b"w" * 50_000, 3)])
    print("went on")
"""


def test_a_full_disk_is_said_and_what_was_there_stays(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _FULL, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.stdout == "went on\n", done.stderr
    assert [record.ts_ms for record in everything(tmp_path)] == [0, 1, 3]


def test_pipes_of_dead_sleepers_are_removed(tmp_path: Path) -> None:
    written(tmp_path, (0, 1))
    waiting = tmp_path / "waiting"
    waiting.mkdir(exist_ok=True)
    os.mkfifo(waiting / "dead")
    written(tmp_path, (1, 2))
    assert list(waiting.iterdir()) == []


def test_settings_and_files_that_make_no_sense(tmp_path: Path) -> None:
    for url in (
        f"file:{tmp_path}?fsync=often",
        f"file:{tmp_path}?color=red",
        "file:",
        f"file:{tmp_path}?segment_bytes=x",
        "log",
    ):
        with pytest.raises(InputError):
            open_log(url)
    written(tmp_path, (0, 1))
    (tmp_path / "t" / "topic.json").write_text('{"version": 2}')
    with SegmentLog(tmp_path) as log, pytest.raises(InputError, match="version 2"):
        log.num_partitions("t")


def test_a_log_that_was_cut_right_after_an_append_closes(tmp_path: Path) -> None:
    log = SegmentLog(tmp_path)
    log.create("t")
    for n in range(2):  # the second within a second of the first is not on the disk yet
        log.append("t", 0, [Record(b"", str(n).encode(), n) for _ in range(5)])
    log.trim("t", 0, 7)
    log.close()
    with SegmentLog(tmp_path) as again:
        assert again.offsets("t", 0) == (7, 10)
