"""Conversions as a whole: damage, interruption, kill -9, a full disk, the report and the registry."""

from __future__ import annotations

import gzip
import json
import random
import resource
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nonet.coldstart.importing.base import describe_importers, ingest
from nonet.coldstart.importing.formats import IMPORTERS
from nonet.coldstart.trace.store import Trace
from nonet.common.errors import InputError

MAP = "arrive=t:s,function=f"


def write_days(folder: Path, num_files: int, num_rows: int) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"day_{day:02d}.csv" for day in range(num_files)]
    for day, path in enumerate(paths):
        path.write_text("t,f\n" + "".join(f"{day * 86_400 + i % 86_400},f{i % 7}\n" for i in range(num_rows)))
    return paths


def arrivals(trace: Trace) -> list[int]:
    return sorted(trace.scan("request").collect()["arrive_us"].to_list())


@pytest.mark.parametrize("data", [random.Random(3).randbytes(3000), "t,f\n1,a\n".encode("utf-16"), b"\r,\r\xff\n1,a\n"])
def test_what_is_no_text_is_refused(data: bytes, take: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "calls.csv.gz").write_bytes(data)
    with pytest.raises(InputError, match="not text in UTF-8"):
        take("csv", tmp_path / "calls.csv.gz", map=MAP)
    (tmp_path / "good.csv").write_text("t,f\n1,a\n")
    taken = take("csv", tmp_path / "calls.csv.gz", tmp_path / "good.csv", map=MAP)
    assert (taken.report.num_requests, taken.report.num_quarantined) == (1, 1)


def test_one_damaged_part_does_not_cost_the_others(take: Callable[..., Any], tmp_path: Path) -> None:
    paths = write_days(tmp_path / "in", 4, 5_000)
    text = paths[1].read_bytes()
    cut = gzip.compress(text)
    paths[1].write_bytes(cut[: len(cut) // 2])
    flipped = bytearray(gzip.compress(paths[2].read_bytes()))
    flipped[len(flipped) // 2] ^= 0xFF
    paths[2].write_bytes(flipped)
    with zipfile.ZipFile(tmp_path / "in" / "part.zip", "w") as archive:
        archive.write(paths[0], "day.csv")
    archive_bytes = (tmp_path / "in" / "part.zip").read_bytes()
    (tmp_path / "in" / "part.zip").write_bytes(archive_bytes[: len(archive_bytes) // 2])
    taken = take("csv", tmp_path / "in", map=MAP, times="relative")
    reasons = sorted(reason for _, reason in taken.quarantine())
    assert len(reasons) == 3
    assert reasons[0].startswith("no row is used: damaged zip archive")
    assert reasons[1].startswith("no row is used: the packed data is damaged")
    assert reasons[2].startswith("the file ends in damaged data")
    rows = taken.trace.sql("select day, count(*) as n from request group by day").to_pylist()
    counts = {row["day"]: row["n"] for row in rows}
    assert counts.pop(0) == counts.pop(3) == 5_000
    assert list(counts) == [1]
    assert 0 < counts[1] < 5_000


def test_nothing_but_refused_rows_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("t,f\nx,f\n")
    with pytest.raises(InputError, match="no row could be used: 1 refused, most often: no time of arrival"):
        ingest([("csv", [tmp_path / "a.csv"])], tmp_path / "out", options={"map": MAP})
    assert list((tmp_path / "out").iterdir()) == []
    (tmp_path / "b.csv").write_text("t,f\n")
    with pytest.raises(InputError, match="hold no rows"):
        ingest([("csv", [tmp_path / "b.csv"])], tmp_path / "out", options={"map": MAP})


@pytest.mark.parametrize(
    ("sources", "options", "message"),
    [
        ([("lamda", ["x"])], {}, "did you mean 'lambda'"),
        ([], {}, "nothing to ingest"),
        ([("csv", ["gone.csv"])], {}, "no such file"),
        ([("csv", [__file__])], {"colour": "red"}, "unknown option 'colour'"),
    ],
)
def test_bad_usage_is_refused_before_anything_is_written(
    tmp_path: Path, sources: Any, options: dict[str, str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        ingest(sources, tmp_path / "out", options=options)
    assert not (tmp_path / "out").exists()


def test_the_report_counts_everything(take: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("t,f,pod\n1,f,p\n2,f,p\nx,f,p\n")
    taken = take("csv", tmp_path / "a.csv", map=f"{MAP},pod=pod")
    assert taken.report.lines() == [
        "2 requests, 0 pods, 0 cold starts (1 left-censored, not counted), 1 functions, 1 rows quarantined -> "
        f"{taken.report.quarantine_path}",
        "  quarantined: 1 x no time of arrival",
    ]
    assert taken.trace.quarantined == {"no time of arrival": 1}
    assert taken.trace.notes["num_left_censored"] == 1
    assert (taken.report.start_us, taken.report.end_us) == (10**6, 2 * 10**6)


def test_an_interrupted_conversion_goes_on_after_the_last_whole_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nonet.coldstart.importing import column_map

    paths = write_days(tmp_path / "in", 5, 3_000)
    paths[1].write_text(paths[1].read_text() + "x,f\n")
    read: list[str] = []
    plain = column_map.read_frames

    def interrupted(file: Any, *args: Any, **options: Any) -> Any:
        read.append(file.path.name)
        if file.path == paths[3] and len(read) == 4:
            raise KeyboardInterrupt
        yield from plain(file, *args, **options)

    monkeypatch.setattr(column_map, "read_frames", interrupted)
    options = {"map": MAP, "times": "relative"}
    with pytest.raises(KeyboardInterrupt):
        ingest([("csv", [tmp_path / "in"])], tmp_path / "out", options=options)
    with pytest.raises(InputError, match="no finished trace"):
        Trace.open(tmp_path / "out")
    report = ingest([("csv", [tmp_path / "in"])], tmp_path / "out", options=options)
    assert report.num_resumed == 3
    assert read[4:] == ["day_03.csv", "day_04.csv"]
    assert report.quarantined == {"no time of arrival": 1}
    whole = ingest([("csv", [tmp_path / "in"])], tmp_path / "again", options=options)
    assert arrivals(Trace.open(tmp_path / "out")) == arrivals(Trace.open(tmp_path / "again"))
    assert (report.num_functions, whole.num_functions) == (7, 7)
    assert Trace.open(tmp_path / "out").verify() == []


CONVERT = """
import sys
from pathlib import Path
from nonet.coldstart.importing import base
plain = base.Intake.append
def told(self, table, frame, region=None):
    plain(self, table, frame, region)
    print(table, flush=True)
base.Intake.append = told
base.ingest([("csv", [Path(sys.argv[1])])], sys.argv[2], options={"map": "arrive=t:s,function=f", "times": "relative"})
"""


def test_kill_9_half_way_then_the_same_command_again(tmp_path: Path) -> None:
    write_days(tmp_path / "in", 12, 20_000)
    command = [sys.executable, "-c", CONVERT, str(tmp_path / "in"), str(tmp_path / "out")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(9):
        assert process.stdout.readline(), "the conversion ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert list((tmp_path / "out").rglob("*.parquet")), "nothing was written: the test proves nothing"
    assert not (tmp_path / "out" / "trace.json").exists()
    with pytest.raises(InputError, match="no finished trace"):
        Trace.open(tmp_path / "out")
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    trace = Trace.open(tmp_path / "out")
    assert trace.verify() == []
    assert arrivals(trace) == sorted((day * 86_400 + i) * 10**6 for day in range(12) for i in range(20_000))
    assert not list((tmp_path / "out").rglob(".tmp-*"))


def _small_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))


def test_a_full_disk_while_converting(tmp_path: Path) -> None:
    """The limit on the size of files makes a write fail as a full disk does."""
    write_days(tmp_path / "in", 1, 80_000)
    command = [sys.executable, "-c", CONVERT, str(tmp_path / "in"), str(tmp_path / "out")]
    done = subprocess.run(command, preexec_fn=_small_files, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "InputError" in done.stderr
    assert "cannot write" in done.stderr
    assert list((tmp_path / "out").rglob("*")) == []


def test_every_format_is_described_and_can_be_loaded() -> None:
    described = describe_importers()
    assert [entry["name"] for entry in described] == list(IMPORTERS)
    for entry in described:
        assert entry["help"]
        assert entry["files"]
        assert callable(IMPORTERS[entry["name"]].load())


def test_memory_stays_bounded_over_a_large_table(tmp_path: Path) -> None:
    """Twice the rows must not take twice the memory: 1.5 and 3 million rows, in processes of their own."""
    program = (
        "import sys; from nonet.coldstart.importing.base import ingest;"
        "from nonet.common.machine import peak_rss_mib;"
        "ingest([('csv', [sys.argv[1]])], sys.argv[2], options={'map': 'arrive=t:s,function=f', 'times': 'relative'});"
        "print(peak_rss_mib())"
    )
    peaks_mib = []
    block = "".join(f"{i},function-{i % 50}\n" for i in range(100_000))
    for blocks in (15, 30):
        path = tmp_path / f"{blocks}.csv"
        with path.open("w") as file:
            file.write("t,f\n")
            for _ in range(blocks):
                file.write(block)
        done = subprocess.run(
            [sys.executable, "-c", program, str(path), str(tmp_path / f"out{blocks}")],
            capture_output=True,
            text=True,
            check=True,
        )
        peaks_mib.append(float(done.stdout))
    assert peaks_mib[1] < 1.3 * peaks_mib[0]
    assert peaks_mib[1] < 1024


def test_the_manifest_says_where_the_trace_is_from(take: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("t,f\n1,f\n")
    trace = take("csv", tmp_path / "a.csv", map=MAP).trace
    assert trace.epoch == "1970-01-01T00:00:00Z"
    assert trace.source == f"csv: {tmp_path / 'a.csv'}"
    assert json.loads((trace.path / "trace.json").read_text())["trace"]["counts"]["request"] == 1
