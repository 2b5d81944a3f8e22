"""Findings: promises, and the round trip through a file."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nonet.common.errors import InputError
from nonet.common.findings import Finding, Rival, read_findings, write_findings
from nonet.common.machine import describe_machine

numbers = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(codec="utf-8"), max_size=20)
rivals = st.builds(Rival, texts, numbers, st.sampled_from(["measured", "published"]), texts.filter(bool), texts)
findings = st.builds(
    Finding,
    texts,
    texts,
    numbers,
    texts,
    st.sampled_from(["higher", "lower", "match"]),
    texts,
    st.lists(rivals, max_size=3).map(tuple),
    st.none() | numbers,
    texts,
)


@given(st.lists(findings, max_size=5))
def test_what_is_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, some: list[Finding]) -> None:
    path = tmp_path_factory.mktemp("findings") / "f.jsonl"
    write_findings(path, some, {"cpu": "x"})
    assert read_findings(path) == [(finding, {"cpu": "x"}) for finding in some]


@pytest.mark.parametrize(
    ("better", "value", "promise", "kept"),
    [
        ("higher", 10.0, 10.0, True),
        ("higher", 9.99, 10.0, False),
        ("lower", 2.0, 2.0, True),
        ("lower", 2.01, 2.0, False),
        ("match", 18.0, 18.0, True),
        ("match", 17.0, 18.0, False),
        ("higher", math.nan, 1.0, False),
        ("lower", math.nan, 1.0, False),
        ("higher", 1.0, None, None),
    ],
)
def test_kept(better: str, value: float, promise: float | None, kept: bool | None) -> None:
    assert Finding("r", "n", value, "", better, "i", promise=promise).kept is kept  # type: ignore[arg-type]


def test_a_published_rival_needs_its_source() -> None:
    with pytest.raises(ValueError, match="source"):
        Rival("Drain", 0.7, "published")


def test_a_rival_says_its_unit_only_where_it_has_one_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    own, same = Rival("slow", 3.0, "measured", unit="s"), Rival("half", 0.5, "measured")
    finding = Finding("r", "n", 2.0, "x", "higher", "synthetic", (own, same))
    assert [finding.unit_of(one) for one in finding.rivals] == ["s", "x"]
    write_findings(path, [finding], {})
    assert json.loads(path.read_text())["rivals"] == [
        {"name": "slow", "value": 3.0, "kind": "measured", "source": "", "unit": "s"},
        {"name": "half", "value": 0.5, "kind": "measured", "source": ""},
    ]


def test_lines_hold_the_machine_and_stay_json_when_a_number_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    write_findings(path, [Finding("r", "n", math.nan, "s", "lower", "synthetic", promise=1.0)], describe_machine())
    record = json.loads(path.read_text())
    assert record["value"] is None
    assert record["kept"] is False
    assert record["machine"]["cores"] >= 1
    assert record["machine"]["packages"]["numpy"]
    assert math.isnan(read_findings(path)[0][0].value)


@pytest.mark.parametrize("line", ["", "{", "[]", "3", '{"room": "r"}', '{"room":"r","value":1,"rivals":[3]}'])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "f.jsonl"
    write_findings(path, [Finding("r", "n", 1.0, "s", "lower", "i")], {})
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(InputError, match="line 2"):
        read_findings(path)
