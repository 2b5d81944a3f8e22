"""The rule sets against the published labels that were made with them."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nonet.common.errors import InputError
from nonet.logs.evaluation.metrics import PairCounts
from nonet.logs.evaluation.rules import apply_rules, rule_set, rule_versions
from nonet.logs.evaluation.scorecard import Scorecard

PIECES = st.sampled_from(
    [
        "<*>",
        "<*>.<*>",
        "12",
        "a",
        "-",
        ".",
        ":",
        "#",
        "/",
        " ",
        "@",
        '"',
        "'",
        "true",
        "root",
        "/var/x",
        "x<*>",
        "\t",
        "(",
        ")",
    ]
)
TEMPLATES = st.lists(PIECES, max_size=12).map("".join)


def column(path: Path, name: str) -> list[str]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", newline="", encoding="utf-8") as file:
        return [row[name] for row in csv.DictReader(file)]


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("a  b\t12", "a b <*>"),
        ("id=<*>.<*> (7)", "id=<*> (<*>)"),
        ("blk_<*> x", "<*> x"),
        ("/tmp/<*> x", "/tmp/<*> x"),
        ("<*>/<*> x", "<*> x"),
        ("a #<*># b", "a <*> b"),
        ("a #<*> b", "a <*> b"),
        ('a "<*>" b', "a <*> b"),
        ("a '<*>' b", "a <*> b"),
        ("<*>@<*>:<*>", "<*>"),
        ("ids <*>:<*>:<*>:<*>:<*> sent", "ids <*> sent"),  # a third round of replacements changes it still
        ("v12", "v12"),
        ("true root null", "true root null"),
    ],
)
def test_loghub_2_0_examples(template, expected):
    assert apply_rules(template, "loghub-2.0") == expected


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("read /proc/1/x, root", "read <*>, <*>"),
        ("ok=true", "ok=<*>"),
        ("a:/b", "a:<*>"),
        ("/tmp/<*>", "<*>"),
        ("<*>:<*>", "<*>:<*>"),
        ("rooted", "rooted"),
    ],
)
def test_icse22_examples(template, expected):
    assert apply_rules(template, "icse22-corrected") == expected


@given(TEMPLATES, st.sampled_from(["loghub-2.0", "icse22-corrected", "none"]))
def test_rules_only_ever_shorten_constants(template, version):
    """No constant letter appears that was not there; blanks at the ends go; `none` is the identity."""
    result = apply_rules(template, version)
    if version == "none":
        assert result == template
    else:
        assert result == " ".join(result.split()) or "\t" in template
        assert set(result) <= set(template) | set("<*> ")


def test_full_labels_are_fixed_points_of_loghub_2_0(mirror):
    files = sorted((mirror / "logs/loghub2_full").glob("*/*_templates.csv"))
    assert len(files) == 9
    for file in files:
        for template in column(file, "EventTemplate"):
            assert apply_rules(template, "loghub-2.0") == template


def test_icse22_rules_turn_original_into_corrected_labels(mirror):
    """The corrected labels were made from the original ones by these rules; only Android's were edited further."""
    right = total = 0
    for original in sorted((mirror / "logs/loghub_2k").glob("*/*_structured_original.csv")):
        corrected = Path(str(original).replace("_original", "_corrected"))
        pairs = set(zip(column(original, "EventTemplate"), column(corrected, "EventTemplate"), strict=True))
        wrong = [pair for pair in pairs if apply_rules(pair[0], "icse22-corrected") != pair[1]]
        if original.parent.name != "Android":
            assert wrong == []
        right, total = right + len(pairs) - len(wrong), total + len(pairs)
    assert (right, total) == (1359, 1363)


def test_unknown_version_is_named():
    with pytest.raises(InputError, match=r"unknown rule version 'v9'; known: icse22-corrected, loghub-2.0, none"):
        rule_set("v9")
    assert all(rule_set(version).source for version in rule_versions())


def test_scorecard_applies_rules_to_both_sides_and_names_the_version():
    pairs = PairCounts()
    pairs.update(["port <*>.<*>"], ["port 12"])
    plain, ruled = Scorecard.of(pairs, slices=()), Scorecard.of(pairs, slices=(), rules="loghub-2.0")
    assert (plain.scores.pa, plain.rules) == (0, "none")
    assert (ruled.scores.pa, ruled.rules) == (1, "loghub-2.0")
    assert ruled.table()[0]["rules"] == "loghub-2.0"
