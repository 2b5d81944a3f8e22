"""Traces on disk: what goes in comes out, days and order, damage found, and nothing unfinished that looks finished."""

from __future__ import annotations

import csv
import json
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nonet.coldstart.trace import writer as writer_module
from nonet.coldstart.trace.schema import TABLES
from nonet.coldstart.trace.store import Trace, TraceWriter
from nonet.common.errors import InputError

DAY_US = 86_400 * 10**6


def requests(*rows: tuple[int, str]) -> pa.Table:
    return pa.table({"arrive_us": pa.array([t for t, _ in rows], pa.int64()), "function": [f for _, f in rows]})


def write(path: Path, rows: list[tuple[int, str]]) -> Trace:
    with TraceWriter(path, "a test") as writer:
        writer.append("request", "R1", requests(*rows))
    return Trace.open(path)


ROW = st.tuples(st.integers(-3 * DAY_US, 3 * DAY_US), st.sampled_from("abc"))


@settings(max_examples=30, deadline=None)
@given(batches=st.lists(st.lists(ROW, max_size=20), max_size=4), part_rows=st.sampled_from([1, 7, 10**6]))
def test_every_row_comes_back_in_its_day_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[tuple[int, str]]], part_rows: int
) -> None:
    path = tmp_path_factory.mktemp("t") / "trace"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer_module, "_PART_ROWS", part_rows)
        with TraceWriter(path, "a test") as writer:
            for batch in batches:
                writer.append("request", "R1", requests(*batch))
    trace = Trace.open(path)
    assert not (path / "unfinished.json").exists()
    given_rows = sorted(row for batch in batches for row in batch)
    ordered = pa.Table.from_batches(list(trace.batches("request", ordered=True)), TABLES["request"])
    assert ordered["arrive_us"].to_pylist() == [t for t, _ in given_rows]
    scanned = trace.scan("request").select("arrive_us", "function", "day").collect().rows()
    assert sorted((t, f) for t, f, _ in scanned) == given_rows
    assert all(day == t // DAY_US for t, _, day in scanned)
    assert trace.counts["request"] == len(given_rows)
    assert trace.days("request") == tuple(sorted({t // DAY_US for t, _ in given_rows}))
    if given_rows:
        assert (trace.start_us, trace.end_us) == (given_rows[0][0], given_rows[-1][0])
    assert trace.verify() == []


def test_tables_are_queried_by_sql_also_the_empty_ones(tmp_path: Path) -> None:
    trace = write(tmp_path / "t", [(5, "a"), (DAY_US + 1, "b")])
    assert trace.sql("select region, day, function from request order by day").to_pylist() == [
        {"region": "R1", "day": 0, "function": "a"},
        {"region": "R1", "day": 1, "function": "b"},
    ]
    for table in TABLES:
        assert trace.sql(f"select count(*) as n from {table}").to_pylist()[0]["n"] == trace.counts[table]
    with pytest.raises(InputError, match="SQL"):
        trace.sql("select nothing from nowhere")


def test_regions_days_and_columns_are_chosen(tmp_path: Path) -> None:
    with TraceWriter(tmp_path / "t", "a test") as writer:
        writer.append("request", "R2", requests((5, "a"), (DAY_US, "b")))
        writer.append("request", "R1", requests((7, "c")))
        writer.append(
            "function", "R2", pa.table({"function": ["b", "a"], "memory_mb": pa.array([128, None], pa.int64())})
        )
        writer.add_region("empty")
    trace = Trace.open(tmp_path / "t")
    assert trace.regions == ("R1", "R2", "empty")
    assert trace.scan("request", ["R2"], [1]).collect()["function"].to_list() == ["b"]
    batches = list(trace.batches("request", ["R2"], ["function"]))
    assert [name for batch in batches for name in batch["function"].to_pylist()] == ["a", "b"]
    assert batches[0].schema.names == ["function"]
    assert trace.functions("R2")["function"].to_pylist() == ["a", "b"]
    assert trace.functions("R2")["memory_mb"].to_pylist() == [None, 128]
    assert trace.functions("empty").num_rows == 0
    with pytest.raises(InputError, match="no region 'R9'"):
        trace.scan("request", ["R9"])
    with pytest.raises(InputError, match="no column 'x'"):
        list(trace.batches("request", columns=["x"]))


def test_columns_are_stored_with_the_types_of_the_schema(tmp_path: Path) -> None:
    trace = write(tmp_path / "t", [(5, "a")])
    file = next((tmp_path / "t" / "request").rglob("*.parquet"))
    assert pq.read_schema(file).remove_metadata().names == TABLES["request"].names
    assert "RLE_DICTIONARY" in pq.ParquetFile(file).metadata.row_group(0).column(3).encodings
    assert trace.parquet_glob("request").endswith("request/**/*.parquet")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (pa.table({"function": ["a"]}), "arrive_us is missing"),
        (pa.table({"arrive_us": [1], "function": pa.array([None], pa.string())}), "function is null in 1 of 1"),
        (pa.table({"arrive_us": [1], "function": ["a"], "colour": [1]}), "unknown column 'colour'"),
        (pa.table({"arrive_us": ["noon"], "function": ["a"]}), "cannot be stored as int64"),
        (pa.table({"arrive_us": [1.5], "function": ["a"]}), "cannot be stored as int64"),
    ],
)
def test_rows_that_do_not_fit_are_refused(tmp_path: Path, rows: pa.Table, message: str) -> None:
    with pytest.raises(InputError, match=message), TraceWriter(tmp_path / "t", "a test") as writer:
        writer.append("request", "R1", rows)
    assert list((tmp_path / "t").iterdir()) == []


def test_a_region_is_a_plain_word(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="letters, digits"), TraceWriter(tmp_path / "t", "a test") as writer:
        writer.append("request", "a/../b", requests((1, "a")))


def test_what_is_no_finished_trace_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        Trace.open(tmp_path / "none")
    (tmp_path / "half").mkdir()
    with pytest.raises(InputError, match="no finished trace"):
        Trace.open(tmp_path / "half")
    trace = write(tmp_path / "t", [(1, "a")])
    manifest = trace.path / "trace.json"
    whole = manifest.read_text()
    for text, message in (
        (whole[:-40], "damaged"),
        ("[]", "damaged"),
        (whole.replace('"start_us": 1', '"start_us": 2'), "checksum"),
        (whole.replace('"version": 1', '"version": 9'), "version 9"),
    ):
        assert text != whole
        manifest.write_text(text)
        with pytest.raises(InputError, match=message) as caught:
            Trace.open(trace.path)
        assert "\n" not in str(caught.value)


def test_damaged_files_are_found(tmp_path: Path) -> None:
    trace = write(tmp_path / "t", [(1, "a"), (DAY_US, "b")])
    first, second = sorted((tmp_path / "t" / "request").rglob("*.parquet"))
    content = bytearray(first.read_bytes())
    content[20] ^= 1
    first.write_bytes(content)
    (first.parent / "part-00009.parquet").write_bytes(b"stray")
    problems = Trace.open(tmp_path / "t").verify()
    assert len(problems) == 2
    assert "checksum" in problems[0]
    assert "not in trace.json" in problems[1]
    second.write_bytes(second.read_bytes()[:-1])
    with pytest.raises(InputError, match="damaged trace"):
        Trace.open(tmp_path / "t")
    second.unlink()
    with pytest.raises(InputError, match="is missing"):
        Trace.open(tmp_path / "t")
    assert any("missing" in line for line in trace.verify())


def test_a_folder_of_something_else_or_of_another_writer_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="not empty"):
        TraceWriter(tmp_path / "mine", "a test", overwrite=True)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    with TraceWriter(tmp_path / "t", "a test") as writer:
        with pytest.raises(InputError, match="another conversion"):
            TraceWriter(tmp_path / "t", "a test")
        writer.append("request", "R1", requests((1, "a")))
    with pytest.raises(InputError, match="overwrite"):
        TraceWriter(tmp_path / "t", "a test")
    with TraceWriter(tmp_path / "t", "a test", overwrite=True) as writer:
        writer.append("request", "R7", requests((2, "b")))
    assert Trace.open(tmp_path / "t").regions == ("R7",)
    assert Trace.open(tmp_path / "t").verify() == []


def test_an_error_leaves_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), TraceWriter(tmp_path / "t", "a test") as writer:
        writer.append("request", "R1", requests(*[(i, "a") for i in range(10)]))
        writer.quarantine("f", 1, "bad")
        writer.checkpoint("nothing is resumed without a job")
        raise KeyboardInterrupt
    with pytest.raises(InputError, match="no finished trace"):
        Trace.open(tmp_path / "t")
    with TraceWriter(tmp_path / "t", "a test") as writer:
        writer.append("request", "R1", requests((1, "a")))
    assert Trace.open(tmp_path / "t").counts["request"] == 1


def test_the_same_job_goes_on_after_its_last_checkpoint(tmp_path: Path) -> None:
    def run(fail_after: int, job: str) -> list[int]:
        worked = []
        with TraceWriter(tmp_path / "t", "a test", job=job) as writer:
            for step in range(4):
                if f"step {step}" in writer.done:
                    continue
                worked.append(step)
                writer.append("request", "R1", requests((step, "a")))
                writer.quarantine("f", step, "odd")
                if step == fail_after:
                    raise KeyboardInterrupt
                writer.checkpoint(f"step {step}", {"steps": step})
        return worked

    with pytest.raises(KeyboardInterrupt):
        run(2, "job")
    assert run(9, "job") == [2, 3]
    trace = Trace.open(tmp_path / "t")
    assert trace.scan("request").collect()["arrive_us"].sort().to_list() == [0, 1, 2, 3]
    with (trace.path / "quarantine.csv").open() as file:
        assert [row["line"] for row in csv.DictReader(file)] == ["0", "1", "2", "3"]
    assert trace.quarantined == {"odd": 4}
    (trace.path / "trace.json").unlink()
    (trace.path / "unfinished.json").write_text(json.dumps({"job": "job", "done": ["step 0"], "parts": []}))
    assert run(9, "another job") == [0, 1, 2, 3]


def test_quarantined_rows_are_counted_and_written(tmp_path: Path) -> None:
    with TraceWriter(tmp_path / "t", "a test") as writer:
        writer.quarantine("a,b.csv", 3, "bad\nrow", 'x"y\udcff')
        writer.quarantine("c", None, "gone")
    with (tmp_path / "t" / "quarantine.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {"file": "a,b.csv", "line": "3", "reason": "bad\nrow", "text": 'x"y\\udcff'}
    assert rows[1] == {"file": "c", "line": "", "reason": "gone", "text": ""}
    assert Trace.open(tmp_path / "t").quarantined == {"bad\nrow": 1, "gone": 1}


WRITER = """
import sys, pyarrow as pa
from nonet.coldstart.trace import writer as module
module._PART_ROWS = 2_000
with module.TraceWriter(sys.argv[1], "a test") as writer:
    for block in range(int(sys.argv[2])):
        rows = pa.table({"arrive_us": [block * 10**9 + i for i in range(2_000)], "function": ["f"] * 2_000})
        writer.append("request", "R1", rows)
        print(block, flush=True)
"""


def test_kill_9_half_way_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "t"), "100000"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for _ in range(3):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert list((tmp_path / "t").rglob("*.parquet")), "nothing was written: the test proves nothing"
    with pytest.raises(InputError, match="no finished trace"):
        Trace.open(tmp_path / "t")
    assert write(tmp_path / "t", [(1, "a")]).counts["request"] == 1
    assert Trace.open(tmp_path / "t").verify() == []


def _small_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


def test_a_full_disk_is_an_error_of_one_line_and_leaves_no_trace(tmp_path: Path) -> None:
    """The limit on the size of files makes a write fail as a full disk does."""
    program = WRITER.replace("range(2_000)]", "range(200_000)]").replace(
        '["f"] * 2_000', "[str(i) for i in range(200_000)]"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "t"), "3"],
        preexec_fn=_small_files,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "InputError" in done.stderr
    assert "cannot write" in done.stderr
    assert "the trace is not finished" in done.stderr
    assert list((tmp_path / "t").iterdir()) == []


def test_memory_does_not_grow_with_the_trace(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer_module, "_BUFFER_BYTES", 20_000)
        with TraceWriter(tmp_path / "t", "a test") as writer:
            for block in range(20):
                writer.append("request", "R1", requests(*[(day * DAY_US + block, "f") for day in range(40)]))
                assert writer._buffered_bytes <= 20_000 + 40 * 100
    assert Trace.open(tmp_path / "t").counts["request"] == 800
