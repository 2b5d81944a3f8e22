"""`diff` on logs whose changes are known, its interval against exact binomial tails, and its error rate."""

from __future__ import annotations

import math
import random
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nonet.common.errors import InputError
from nonet.logs.views.diff import diff, rate_ratio
from nonet.logs.views.diff_view import print_diff, write_diff_html

WORDS = ("alpha started", "beta stopped well", "gamma is late today", "delta", "epsilon went away quietly here")


def write(path: Path, counts: dict[str, int], seed: int = 0) -> Path:
    lines = [line for line, number in counts.items() for _ in range(number)]
    random.Random(seed).shuffle(lines)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_new_gone_more_less_and_same(tmp_path: Path) -> None:
    a, b, c, d, e = WORDS
    before = write(tmp_path / "before", {a: 500, b: 100, c: 100, d: 7})
    after = write(tmp_path / "after", {a: 500, b: 300, c: 10, e: 2})
    report = diff(before, after)
    rows = {row.template: row for row in report.rows}
    assert {text: row.change for text, row in rows.items()} == {e: "new", d: "gone", b: "more", c: "less"}
    assert (rows[b].before, rows[b].after) == (100, 300)
    assert rows[b].rate.ratio == pytest.approx((300 / 812) / (100 / 707))
    assert rows[b].rate.low < rows[b].rate.ratio < rows[b].rate.high and rows[b].rate.low > 1
    assert rows[e].rate.ratio == math.inf and rows[d].rate.ratio == 0
    assert report.num_same == 1 and report.num_changes == {"new": 1, "gone": 1, "more": 1, "less": 1}
    assert [row.change for row in report.rows] == ["new", "gone", "more", "less"]


def test_a_mirrored_diff_is_the_mirror(tmp_path: Path) -> None:
    a, b, c, d, e = WORDS
    before = write(tmp_path / "before", {a: 500, b: 100, c: 100, d: 7})
    after = write(tmp_path / "after", {a: 500, b: 300, c: 10, e: 2})
    mirror = {"new": "gone", "gone": "new", "more": "less", "less": "more"}
    there, back = diff(before, after), diff(after, before)
    assert {r.template: r.change for r in there.rows} == {r.template: mirror[r.change] for r in back.rows}
    for row in there.rows:
        other = next(r for r in back.rows if r.template == row.template)
        if row.change in ("more", "less"):
            assert row.rate.low == pytest.approx(1 / other.rate.high)


def test_split_by_time(tmp_path: Path) -> None:
    path, start = tmp_path / "app.log", datetime(2026, 3, 1)
    lines = [f"{start + timedelta(minutes=i):%Y-%m-%d %H:%M:%S} INFO app: tick {i}" for i in range(100)]
    lines[70:70] = [f"{start + timedelta(minutes=70):%Y-%m-%d %H:%M:%S} INFO app: cache was rebuilt"]
    path.write_text("\n".join(lines) + "\n")
    report = diff(path, at="2026-03-01T01:00")
    assert (report.num_before, report.num_after) == (60, 41)
    assert [(r.template, r.change) for r in report.rows] == [("cache was rebuilt", "new")]
    relative = diff(path, at="39m")
    assert (relative.num_before, relative.num_after) == (60, 41)
    assert relative.before.endswith("before 2026-03-01 01:00:00")


def test_limit_keeps_the_counts(tmp_path: Path) -> None:
    before = write(tmp_path / "before", {"a": 10})
    after = write(tmp_path / "after", {"a": 10, **{f"{word} x{'y' * n}": n for n, word in enumerate(WORDS, 1)}})
    report = diff(before, after, limit=2)
    assert report.num_changes["new"] == 5 and [row.after for row in report.rows] == [5, 4]
    assert len(diff(before, after, limit=0).rows) == 5


@pytest.mark.parametrize(
    ("arguments", "options", "reason"),
    [
        (("a",), {}, "two logs"),
        (("a", "b"), {"at": "1h"}, "two logs"),
        (("a", "b"), {"limit": -1}, "limit"),
        (("a", "b"), {"error_rate": 0}, "error_rate"),
        (("-", "-"), {}, "standard input"),
        (("a", "empty"), {}, "no lines"),
        (("a", "missing"), {}, "no such file"),
        (("a",), {"at": "2026-01-01"}, "no time"),
    ],
)
def test_bad_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple, options: dict, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("a"), {"x": 3})
    write(Path("b"), {"x": 3})
    Path("empty").write_bytes(b"")
    with pytest.raises(InputError, match=reason) as error:
        diff(*arguments, **options)
    assert "\n" not in str(error.value)


def binomial_tail(count: int, at_least: int, probability: float) -> float:
    return sum(
        math.comb(count, k) * probability**k * (1 - probability) ** (count - k) for k in range(at_least, count + 1)
    )


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 60), st.integers(0, 60), st.integers(100, 10_000), st.integers(100, 10_000))
def test_the_interval_agrees_with_exact_tails(before: int, after: int, num_before: int, num_after: int) -> None:
    if before + after == 0:
        return
    rate = rate_ratio(before, num_before, after, num_after, 0.95)
    assert rate.low <= rate.ratio <= rate.high
    # At the lower end of the interval the upper tail is about 2.5 % (Wilson's is an approximation).
    if after > 10 and before > 10:
        odds = rate.low * num_after / num_before
        assert 0.01 < binomial_tail(before + after, after, odds / (1 + odds)) < 0.06


def test_two_samples_of_one_log_rarely_differ(tmp_path: Path) -> None:
    source, false_alarms = random.Random(1), 0
    for trial in range(20):
        sides = []
        for side in ("a", "b"):
            chosen = source.choices(WORDS, [50, 20, 20, 5, 5], k=400)
            sides.append(write(tmp_path / f"{side}{trial}", {word: chosen.count(word) for word in WORDS}))
        report = diff(*sides)
        false_alarms += any(row.change in ("more", "less") for row in report.rows)
    assert false_alarms <= 2


def test_views(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = write(tmp_path / "before", {WORDS[0]: 500, WORDS[1]: 100, WORDS[3]: 3})
    after = write(tmp_path / "after", {WORDS[0]: 500, WORDS[1]: 300, "<script>": 1})
    report = diff(before, after)
    print_diff(report, samples=True)
    shown = capsys.readouterr().out
    assert "x2.26" in shown and "1 new, 1 gone, 1 more, 1 less" in shown and WORDS[1] in shown
    write_diff_html(report, tmp_path / "diff.html")
    page = (tmp_path / "diff.html").read_text()
    assert all(title in page for title in ("New", "Gone", "More frequent", "Less frequent"))
    assert '<td class="dim">&lt;script&gt;' in page


def test_a_blank_line_can_be_new(tmp_path: Path) -> None:
    (tmp_path / "before.log").write_text("a 1\nb 2\n")
    (tmp_path / "after.log").write_text("a 1\n\nb 2\n")
    report = diff(tmp_path / "before.log", tmp_path / "after.log")
    assert [(row.change, row.before, row.after, row.sample) for row in report.rows if row.change == "new"] == [
        ("new", 0, 1, "")
    ]
