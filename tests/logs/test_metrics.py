"""The metrics against a brute force over sets of lines that follows the definitions word by word."""

from __future__ import annotations

import csv
import gzip
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nonet.common.errors import InputError
from nonet.logs.evaluation import metrics
from nonet.logs.evaluation.metrics import PairCounts, lenient_scores
from nonet.logs.evaluation.scorecard import Scorecard, evaluate_files
from nonet.logs.evaluation.slices import FREQUENCY_SLICES, PAPER_SLICES, Slice
from nonet.logs.evaluation.wildcards import spellings_of, wildcard_normaliser

WORDS = [
    "",
    "null",
    "NA",
    "a",
    "a <*>",
    "<*> <*>",
    "b <*>",
    "c  d",
    "* *",
    "<*> <*> <*> <*> <*>",
    "x <*> <*> <*> <*> <*> y",
    "ä<*>",
    "#spec# z",
]
TEXT = st.sampled_from(WORDS)
LINES = st.lists(st.tuples(st.one_of(st.none(), TEXT), TEXT), max_size=300)


def levenshtein(a: str, b: str) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        above, row = row, [i]
        for j, y in enumerate(b, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (x != y)))
    return row[-1]


def brute_force(lines: list[tuple[str | None, str]], chosen: set[str] | None = None) -> dict[str, float]:
    """All metrics from explicit sets of line numbers; `chosen` restricts to some true templates."""
    labelled = [i for i, (g, _) in enumerate(lines) if g is not None]
    true_group = {g: {i for i in labelled if lines[i][0] == g} for g in {lines[i][0] for i in labelled}}
    pred_group = {p: {i for i in labelled if lines[i][1] == p} for p in {lines[i][1] for i in labelled}}
    chosen = set(true_group) if chosen is None else chosen
    inside = [i for i in labelled if lines[i][0] in chosen]
    touched = {lines[i][1] for i in inside}
    grouped = {t for t in chosen if any(group == true_group[t] for group in pred_group.values())}
    identified = {u for u in touched if {lines[i][0] for i in pred_group[u]} == {u}}
    num = len(lines) if chosen == set(true_group) else len(inside)

    def ratio(part: float, whole: float) -> float:
        return part / whole if whole else math.nan

    def harmonic(p: float, r: float) -> float:
        return 0.0 if p + r == 0 else 2 * p * r / (p + r)

    pga, rga = ratio(len(grouped), len(touched)), ratio(len(grouped), len(chosen))
    pta, rta = ratio(len(identified), len(touched)), ratio(len(identified), len(chosen))
    distance = [levenshtein(lines[i][0], lines[i][1]) for i in inside]
    longer = [max(len(lines[i][0]), len(lines[i][1])) for i in inside]
    return {
        "ga": ratio(sum(len(true_group[t]) for t in grouped), len(inside)),
        "pga": pga,
        "rga": rga,
        "fga": harmonic(pga, rga),
        "pa": ratio(sum(lines[i][0] == lines[i][1] for i in inside), num),
        "pta": pta,
        "rta": rta,
        "fta": harmonic(pta, rta),
        "edit_distance": ratio(sum(distance), len(inside)),
        "normalised_edit_distance": ratio(
            sum(1 - d / m if m else 1.0 for d, m in zip(distance, longer, strict=True)), len(inside)
        ),
        "num_true_templates": len(chosen),
        "num_predicted_templates": len(touched),
    }


def counted(lines: list[tuple[str | None, str]]) -> PairCounts:
    pairs = PairCounts()
    pairs.update([g for g, _ in lines], [p for _, p in lines])
    return pairs


def assert_equal(got: object, expected: dict[str, float]) -> None:
    assert {name: getattr(got, name) for name in expected} == pytest.approx(expected, nan_ok=True)


@given(LINES)
@settings(max_examples=200, deadline=None)
def test_scores_equal_brute_force(lines):
    assert_equal(counted(lines).scores(), brute_force(lines))


@given(LINES, st.sampled_from(PAPER_SLICES))
@settings(max_examples=200, deadline=None)
def test_slices_equal_brute_force(lines, name):
    truth = [g for g, _ in lines if g is not None]
    family, _, rest = name.partition(":")
    if family == "params":
        wanted = {"0": range(1), "1-4": range(1, 5), "5+": range(5, 99)}[rest]
        chosen = {g for g in truth if g.count("<*>") in wanted}
    else:
        ascending = sorted(set(truth), key=lambda g: (truth.count(g), g))
        n = len(ascending) * int(rest) // 100
        chosen = set(ascending[:n] if family == "rare" else ascending[len(ascending) - n :])
    got = counted(lines).slice(name, edit_distance=True)
    if not chosen:
        assert got is None
        return
    expected = brute_force(lines, chosen)
    expected["pa"] = sum(g == p for g, p in lines if g in chosen) / sum(g in chosen for g in truth)
    assert_equal(got, expected)


@given(LINES, st.randoms(use_true_random=False), st.integers(1, 6))
@settings(max_examples=100, deadline=None)
def test_merge_in_any_order_is_a_single_pass(lines, random, num_parts):
    parts = [counted(lines[k::num_parts]) for k in range(num_parts)]
    random.shuffle(parts)
    merged = PairCounts()
    for part in parts:
        merged.merge(part)
    whole = counted(lines)
    assert list(merged.items()) == list(whole.items())
    assert merged.num_lines == len(lines)
    assert repr(merged.scores()) == repr(whole.scores())


def test_merge_leaves_the_other_side_alone():
    a, b = counted([("x", "x")]), counted([("y", "z"), (None, "x")])
    a.merge(b)
    assert list(b.items()) == [(None, "x", 1), ("y", "z", 1)]
    assert list(a.items()) == [(None, "x", 1), ("x", "x", 1), ("y", "z", 1)]


def test_fold_of_many_chunks_counts_every_line(monkeypatch):
    monkeypatch.setattr(metrics, "_COMPACT_AT", 3)
    pairs = PairCounts()
    for k in range(50):
        pairs.update([f"t{k % 7}", None], [f"u{k % 5}", "q"])
    assert pairs.num_lines == 100
    assert sum(n for t, _, n in pairs.items() if t is None) == 50


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["a", None, "b"]),
        pa.chunked_array([["a"], [None, "b"]]),
        pa.array(["a", None, "b"], pa.large_string()),
        pa.array(["a", None, "b"]).dictionary_encode(),
        pa.array([b"a", None, b"b"]),
        ["a", None, "b"],
    ],
)
def test_all_column_kinds_count_the_same(column):
    pairs = PairCounts()
    pairs.update(column, ["a", "a", "a"])
    assert list(pairs.items()) == [(None, "a", 1), ("a", "a", 1), ("b", "a", 1)]


def test_null_prediction_is_the_empty_template():
    pairs = PairCounts()
    pairs.update(["", "a"], [None, None])
    assert list(pairs.items()) == [("", "", 1), ("a", "", 1)]


def test_bad_columns_are_input_errors():
    with pytest.raises(InputError, match="1 true and 2 predicted"):
        PairCounts().update(["a"], ["a", "b"])
    with pytest.raises(InputError, match="strings, not int64"):
        PairCounts().update([1], ["a"])


def test_empty_counts_score_nan_not_a_crash():
    scores = PairCounts().scores()
    assert math.isnan(scores.ga) and scores.num_lines == 0


@pytest.mark.parametrize("name", ["params", "params:4-1", "rare:0", "rare:101", "top:10", ""])
def test_bad_slice_names_are_input_errors(name):
    with pytest.raises(InputError, match="slice"):
        Slice.parse(name)


@pytest.mark.parametrize("name", FREQUENCY_SLICES)
def test_frequency_slices_do_not_depend_on_the_order_of_the_input(name):
    templates = [f"t{number:02}" for number in range(40)]
    num_lines = np.repeat([7, 3], 20)
    forward = Slice.parse(name).mask(templates, num_lines)
    backward = Slice.parse(name).mask(templates[::-1], num_lines[::-1])[::-1]
    assert forward.any()
    assert forward.tolist() == backward.tolist()


@pytest.mark.parametrize("gap", ["*{0,0}", "*{1,2}", "*{10,12}", "*{9,100}"])
def test_gaps_of_any_size_are_wildcards(gap):
    assert wildcard_normaliser(spellings_of("LogCluster"))(f"sent {gap} bytes") == "sent <*> bytes"


def test_normalised_columns_forgive_spelling_and_blanks_only():
    pairs = counted([("a <*>", "a  *"), ("b <*> c", "b #spec# c"), ("d", "e")])
    card = Scorecard.of(pairs, slices=())
    assert card.scores.pa == 0
    assert card.normalised.pa == pytest.approx(2 / 3)
    assert card.scores.ga == card.normalised.ga == 1


def test_lenient_is_not_strict():
    pairs = counted([("rhost=<*> user", "<*> user"), ("k <*>", "k v")])
    assert pairs.scores().pa == 0
    assert lenient_scores(pairs) == (0.5, 0.5)


def write_csv(path: Path, rows: list[tuple[str, str]], header: tuple[str, ...] = ("LineId", "EventTemplate")) -> Path:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def test_files_of_every_kind_score_alike(tmp_path):
    truth = ["null", "NA", "a, <*>", 'say "<*>"', "", "two\nlines", "nan"] * 50
    predicted = ["null", "NA", "a, <*>", 'say "<*>"', "x", "two\nlines", "a"] * 50
    label_csv = write_csv(tmp_path / "t.csv.gz", [(str(i), t) for i, t in enumerate(truth)])
    label_pq = tmp_path / "t.parquet"
    pq.write_table(pa.table({"EventTemplate": [t or None for t in truth]}), label_pq, row_group_size=33)
    pred_csv = write_csv(tmp_path / "p.csv", [(str(i), t) for i, t in enumerate(predicted)])
    pred_pq = tmp_path / "p.parquet"
    pq.write_table(pa.table({"EventTemplate": predicted}), pred_pq, row_group_size=71)
    expected = counted([(t or None, p) for t, p in zip(truth, predicted, strict=True)]).scores()
    assert expected.num_labelled_lines == 300
    assert expected.pa == pytest.approx(250 / 350)
    for predicted_file in (pred_csv, pred_pq):
        for truth_file in (label_csv, label_pq):
            assert evaluate_files(predicted_file, truth_file).scores == expected


def test_wrong_files_are_one_line_input_errors(tmp_path):
    good = write_csv(tmp_path / "good.csv", [("1", "a"), ("2", "b")])
    short = write_csv(tmp_path / "short.csv", [("1", "a")])
    other = write_csv(tmp_path / "other.csv", [("1", "a")], header=("Line", "Template"))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 not really")
    (tmp_path / "empty.csv").write_bytes(b"")
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"EventTemplate\n" + b"a\n" * 100_000)[:-40])
    cases = [
        (good, short, "good.csv has 2 rows and .*short.csv has 1"),
        (good, other, "no column 'EventTemplate'; it has Line, Template"),
        (good, tmp_path / "missing.csv", "no such file"),
        (good, tmp_path / "broken.parquet", "not a readable Parquet file"),
        (good, tmp_path / "empty.csv", "it has no columns"),
        (good, tmp_path / "cut.csv.gz", "not a readable CSV file"),
        (good, tmp_path, "no such file"),
        (write_csv(tmp_path / "x.txt", []), good, "expected a file named"),
    ]
    for predicted, truth, message in cases:
        with pytest.raises(InputError, match=message) as error:
            evaluate_files(predicted, truth)
        assert "\n" not in str(error.value)
