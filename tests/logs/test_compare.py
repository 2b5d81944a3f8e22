"""`compare`: parsers in their own processes, and label-free measures against plain definitions."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from nonet.common.errors import InputError
from nonet.logs.parsers.base import Parsed
from nonet.logs.views.compare import compare
from nonet.logs.views.compare_view import print_compare
from nonet.logs.views.quality import judge, medoid_silhouette


def make_log(path: Path, number: int = 400) -> list[str]:
    source = random.Random(0)
    contents = [
        source.choice(
            [
                f"session {source.randrange(10**6)} opened for 10.0.0.{source.randrange(256)}",
                f"wrote {source.randrange(10**4)} bytes to disk",
                "nothing to do",
            ]
        )
        for _ in range(number)
    ]
    path.write_text("".join(f"2026-03-01 12:00:00 INFO app: {content}\n" for content in contents))
    return contents


def test_compare_runs_every_parser(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_log(tmp_path / "app.log")
    done: list[str] = []
    report = compare(tmp_path / "app.log", "nonet,drain", progress=lambda one: done.append(one.parser))
    assert [one.parser for one in report.parsers] == done == ["nonet", "Drain"]
    assert report.num_lines == 400 and report.is_whole and "<Content>" in (report.header or "")
    for one in report.parsers:
        assert one.status == "finished" and one.quality is not None and one.lines_per_s is not None
        assert one.quality.num_templates == 3 and one.quality.num_once == 0
        assert one.quality.restored_share == 1 and one.quality.mean_holes > 0.5
        assert one.lines_per_s == pytest.approx(400 / one.seconds)
    print_compare(report)
    shown = capsys.readouterr().out
    assert "nonet" in shown and "Drain" in shown and "100.0%" in shown


def test_a_slow_and_a_broken_parser_do_not_stop_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_parsers.py").write_text(
        "import time\n"
        "from nonet.common.errors import InputError\n"
        "def sleepy(contents):\n    time.sleep(60)\n"
        "def picky(contents):\n    raise InputError('does not\\nlike it')\n"
        "def broken(contents):\n    return contents.nothing\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    make_log(tmp_path / "app.log", 20)
    names = ["own_parsers:sleepy", "own_parsers:picky", "own_parsers:broken"]
    report = compare(tmp_path / "app.log", names, timeout_s=6)
    assert [one.status for one in report.parsers] == ["timeout", "failed", "failed"]
    assert report.parsers[1].error == "does not like it"
    assert "AttributeError" in report.parsers[2].error


def test_front_of_the_log_and_masks(tmp_path: Path) -> None:
    make_log(tmp_path / "app.log")
    report = compare(tmp_path / "app.log", ["Drain"], max_lines=50, masks=[r"\d+"])
    assert report.num_lines == 50 and not report.is_whole and report.masks == (r"\d+",)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"parsers": "Drian"}, "did you mean 'Drain'"),
        ({"parsers": ""}, "no parser"),
        ({"max_lines": -1}, "max_lines"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"masks": [r"(a)\1"]}, "back-references"),
    ],
)
def test_bad_options(tmp_path: Path, options: dict, reason: str) -> None:
    make_log(tmp_path / "app.log", 5)
    with pytest.raises(InputError, match=reason):
        compare(tmp_path / "app.log", **options)


def test_an_empty_log_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(InputError, match="no lines"):
        compare(tmp_path / "empty", ["LFA"])


CONTENTS = [f"open file {i} now" for i in range(50)] + ["close  door"] * 50 + ["odd line"]


def test_quality_of_a_good_and_of_bad_parsings() -> None:
    labels = np.array([0] * 50 + [1] * 50 + [2], np.int32)
    good = judge(CONTENTS, Parsed(labels, ["open file <*> now", "close door", "odd line"]))
    assert (good.num_templates, good.num_once, good.restored_share) == (3, 1, 1)
    assert good.mean_holes == pytest.approx(50 / 101)
    wrong = judge(CONTENTS, Parsed(labels, ["open file <*>", "close <*>", "even line"]))
    assert wrong.restored_share == pytest.approx(100 / 101)
    each = judge(CONTENTS, Parsed(np.arange(101, dtype=np.int32), CONTENTS))
    one = judge(CONTENTS, Parsed(np.zeros(101, np.int32), ["<*>"]))
    assert good.silhouette > 0.8 > each.silhouette == one.silhouette == 0
    assert good.lines_bytes == each.lines_bytes and good.compression > each.compression


def test_silhouette_by_its_definition() -> None:
    lines = ["aaaa", "aaab", "zzzz", "zzzy", "zzyy"]
    labels = np.array([0, 0, 1, 1, 1])

    def distance(a: str, b: str) -> float:
        return sum(x != y for x, y in zip(a, b, strict=True)) / 4  # equal lengths, substitutions only

    def medoid(group: list[str], line_order: list[str]) -> str:
        return min(line_order, key=lambda one: sum(distance(one, other) for other in group))

    middle = medoid(lines[2:], lines[2:])
    assert middle == "zzzy"
    scores = []
    for pick in ("aaaa", "aaab"):  # either is a medoid of the first group
        total = 0.0
        for line, label in zip(lines, labels, strict=True):
            own, other = (pick, middle) if label == 0 else (middle, pick)
            a, b = distance(line, own), distance(line, other)
            total += (b - a) / max(a, b)
        scores.append(total / 5)
    assert any(medoid_silhouette(lines, labels) == pytest.approx(score) for score in scores)


def test_a_giant_line_and_odd_bytes_are_judged(tmp_path: Path) -> None:
    (tmp_path / "giant.log").write_bytes(b"k=v " * 100_000 + b"\nshort 1\n" + bytes(range(256)) * 3)
    report = compare(tmp_path / "giant.log", "nonet", timeout_s=120)
    assert report.parsers[0].status == "finished"
