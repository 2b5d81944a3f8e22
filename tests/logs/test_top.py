"""`top` against plain counting, the timeline against brute force, periods, and what is printed."""

from __future__ import annotations

import io
import random
from collections import Counter
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nonet.common.errors import InputError
from nonet.logs.views import text_table, top_view
from nonet.logs.views.diff import diff
from nonet.logs.views.period import Period
from nonet.logs.views.timeline import WIDTHS, Timeline, sparkline
from nonet.logs.views.top import TopReport, top
from nonet.logs.views.top_view import print_top, write_top_html

START = datetime(2026, 3, 1, 12)
KINDS = {
    "job": lambda r: f"job {r.randrange(10**6)} finished in {r.randrange(1000)} ms",
    "disk": lambda r: f"disk usage at {r.randrange(100)}%",
    "conn": lambda r: f"connection from 10.0.0.{r.randrange(256)} refused",
}
TEXTS = {
    "job": "job <int> finished in <int> ms",
    "disk": "disk usage at <number>",
    "conn": "connection from <ip> refused",
    "late": "something new happened",
}


def make_log(path: Path, number: int = 1000, seed: int = 0) -> list[tuple[datetime, str]]:
    """A log of three templates, a second a line, and a template that only the last twentieth has."""
    source = random.Random(seed)
    lines = []
    for i in range(number):
        kind = source.choices(list(KINDS), [6, 3, 1])[0]
        lines.append((START + timedelta(seconds=i), kind))
        if i == number - number // 20:
            lines.append((START + timedelta(seconds=i), "late"))
    messages = (TEXTS["late"] if kind == "late" else KINDS[kind](source) for _, kind in lines)
    text = [f"{t:%Y-%m-%d %H:%M:%S} INFO app: {message}" for (t, _), message in zip(lines, messages, strict=True)]
    path.write_text("\n".join(text) + "\n")
    return lines


@pytest.fixture
def log(tmp_path: Path) -> tuple[Path, list[tuple[datetime, str]]]:
    path = tmp_path / "app.log"
    return path, make_log(path)


def by_text(report: TopReport) -> dict[str, int]:
    return {row.typed_template: row.count for row in report.rows}


def test_counts_shares_and_times(log: tuple[Path, list[tuple[datetime, str]]]) -> None:
    path, lines = log
    report = top(path)
    counts = Counter(kind for _, kind in lines)
    assert by_text(report) == {TEXTS[k]: counts[k] for k in TEXTS}
    assert [row.count for row in report.rows] == sorted(counts.values(), reverse=True)
    assert sum(row.share for row in report.rows) == pytest.approx(1)
    for row in report.rows:
        its = [t for t, k in lines if TEXTS[k] == row.typed_template]
        assert (row.first_seen, row.last_seen) == (str(min(its)), str(max(its)))
        assert sum(row.trend) == row.count and 10 <= len(row.trend) <= 24
        assert row.is_new == (row.count == 1)
    assert (report.num_lines, report.num_records, report.num_templates, report.num_once) == (1001, 1001, 4, 1)
    assert (report.axis, report.start, report.end) == ("time", str(START), str(START + timedelta(seconds=999)))


def test_trend_columns_are_counts_of_their_times(log: tuple[Path, list[tuple[datetime, str]]]) -> None:
    path, lines = log
    report = top(path, max_columns=12)
    width = timedelta(microseconds=report.column_width)
    first = int((START - datetime(1970, 1, 1)) / width)
    row = next(r for r in report.rows if r.typed_template == TEXTS["disk"])
    want = Counter((t - datetime(1970, 1, 1)) // width - first for t, k in lines if k == "disk")
    assert row.trend == [want[column] for column in range(len(row.trend))]


def test_sorts_and_limit(log: tuple[Path, list[tuple[datetime, str]]]) -> None:
    path, _ = log
    assert [r.count for r in top(path, sort="rare").rows] == sorted(r.count for r in top(path).rows)
    assert top(path, sort="new").rows[0].typed_template == TEXTS["late"]
    lasts = [r.last_seen for r in top(path, sort="last").rows]
    assert lasts == sorted(lasts, reverse=True)
    limited = top(path, limit=2)
    assert len(limited.rows) == 2 and limited.num_templates == 4


def test_since_and_until(log: tuple[Path, list[tuple[datetime, str]]]) -> None:
    path, lines = log
    since, until = START + timedelta(seconds=100), START + timedelta(seconds=250)
    report = top(path, since=since.isoformat(), until=str(until))
    want = Counter(TEXTS[k] for t, k in lines if since <= t < until)
    assert by_text(report) == dict(want)
    assert report.num_outside == len(lines) - sum(want.values())
    newest = START + timedelta(seconds=999)
    ago = top(path, since="5m")
    assert ago.num_records == sum(t >= newest - timedelta(minutes=5) for t, _ in lines)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"since": "yesterday-ish"}, "cannot be read"),
        ({"since": "2026-03-02", "until": "2026-03-01"}, "empty"),
        ({"since": "2027-01-01"}, "lines are from 2026-03-01 12:00:00 to 2026-03-01 12:16:39"),
        ({"sort": "size"}, "sort must be"),
        ({"limit": -1}, "limit"),
    ],
)
def test_bad_options(log: tuple[Path, list], options: dict, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as error:
        top(log[0], **options)
    assert "\n" not in str(error.value)


def test_a_log_without_times_is_counted_by_position(tmp_path: Path) -> None:
    path = tmp_path / "plain.txt"
    path.write_text("".join(f"value {i}\n" for i in range(95)) + "the end\n" * 5)
    report = top(path)
    assert (report.axis, report.start, report.end) == ("position", 1, 100)
    last = report.rows[-1]
    assert (last.typed_template, last.first_seen, last.last_seen, last.is_new) == ("the end", 96, 100, True)
    with pytest.raises(InputError, match="no time"):
        top(path, since="1h")


def test_lines_without_time_belong_to_the_line_before(tmp_path: Path) -> None:
    path = tmp_path / "mixed.log"
    lines = [f"2026-03-01 12:00:{i:02d} INFO app: tick" for i in range(60)]
    path.write_text("\n".join([*lines[:30], "no header here", *lines[30:]]) + "\n")
    report = top(path, header="<Date> <Time> <Level> <Component>: <Content>", multiline="off")
    odd = next(r for r in report.rows if r.template == "no header here")
    assert odd.first_seen == "2026-03-01 12:00:29" and report.num_unmatched == 1
    assert report.num_records == report.num_lines == 61


def test_empty_log(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    report = top(tmp_path / "empty")
    assert report.rows == [] and report.num_lines == 0 and report.start is None


@pytest.mark.parametrize("width", [80, 120, 200])
def test_the_table_fits_the_terminal(
    log: tuple[Path, list], width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(top_view, "terminal_width", lambda: width)
    report = top(log[0], max_columns=12 if width < 100 else 24)
    print_top(report, samples=True)
    table, _, rest = capsys.readouterr().out.partition("\n\n")
    rows = table.split("\n")
    assert all(len(line) <= width for line in rows)
    assert len(rows) == 1 + 2 * len(report.rows)
    assert ("first seen" in rows[0]) == (width == 200)
    assert "NEW" in table and "1,001 lines" in rest and "4 templates (1 seen once)" in rest
    assert "2026-03-01 12:00:00 to 2026-03-01 12:16:39" in rest


def test_nothing_is_cut_in_a_pipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(text_table.sys, "stdout", io.StringIO())
    assert text_table.terminal_width() > 5000
    monkeypatch.undo()
    (tmp_path / "x").write_text("word " * 300 + "\n")
    print_top(top(tmp_path / "x"))
    assert ("word " * 300).strip() in capsys.readouterr().out


def test_control_bytes_do_not_reach_the_terminal() -> None:
    assert text_table.shortened("a\x1b[31mred\x07", 99) == "a\ufffd[31mred\ufffd"


def test_html_holds_everything_itself(log: tuple[Path, list], tmp_path: Path) -> None:
    path = tmp_path / "top.html"
    write_top_html(top(log[0]), path)
    page = path.read_text()
    assert "job &lt;int&gt; finished in &lt;int&gt; ms" in page and "NEW" in page
    assert 'src="http' not in page and 'href="http' not in page


def test_real_package_log() -> None:
    path = Path("/var/log/dpkg.log")
    if not path.is_file():
        pytest.skip("this system has no /var/log/dpkg.log")
    report = top(path, limit=0)
    assert report.axis == "time" and report.num_unmatched == 0
    assert sum(row.count for row in report.rows) == report.num_records == report.num_lines
    assert report.num_templates < report.num_lines / 10


TICKS = st.lists(st.tuples(st.integers(0, 3), st.integers(-(10**15), 10**15)), min_size=1, max_size=60)


@settings(max_examples=150, deadline=None)
@given(
    batches=st.lists(TICKS, min_size=1, max_size=4),
    axis=st.sampled_from(["time", "position"]),
    columns=st.integers(1, 48),
)
def test_timeline_equals_plain_counting(batches: list, axis: str, columns: int) -> None:
    timeline = Timeline(4, axis)
    for batch in batches:
        timeline.add(np.array([c for c, _ in batch], np.int32), np.array([t for _, t in batch], np.int64))
    pairs = [pair for batch in batches for pair in batch]
    ticks = [t for _, t in pairs]
    assert timeline.range == (min(ticks), max(ticks))
    series = timeline.series(columns)
    assert series.counts.shape[1] <= max(columns, 2) or series.width == WIDTHS[axis][-1]
    assert series.start <= min(ticks) and max(ticks) < series.start + series.width * series.counts.shape[1]
    for code in range(4):
        its = [t for c, t in pairs if c == code]
        want = Counter((t - series.start) // series.width for t in its)
        assert series.counts[code].tolist() == [want[i] for i in range(series.counts.shape[1])]
        assert timeline.totals[code] == len(its)
        if its:
            assert (timeline.first[code], timeline.last[code]) == (min(its), max(its))


def test_widths_divide_each_other() -> None:
    for widths in WIDTHS.values():
        assert all(wide > narrow and wide % narrow == 0 for narrow, wide in pairwise(widths))


def test_sparkline_is_full_at_the_top_and_a_dot_at_zero() -> None:
    assert sparkline([0, 1, 1000]) == "·▁█" and sparkline([]) == "" and sparkline([0, 0]) == "··"


def test_periods() -> None:
    period = Period.parse("2s", None, lambda: 10_000_000)
    assert period.contains(np.array([7_999_999, 8_000_000, 10_000_000])).tolist() == [False, True, True]
    zoned = Period.parse("2026-03-01T13:00+01:00", None, lambda: 0)
    assert zoned == Period.parse("2026-03-01T12:00", None, lambda: 0)


def test_top_and_diff_share_templates(log: tuple[Path, list]) -> None:
    report = diff(log[0], log[0])
    assert {row.template for row in report.rows} == set()
    assert report.num_same == top(log[0]).num_templates
