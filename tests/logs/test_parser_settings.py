"""Settings of parsers from the command line, and the lines that a trained parser was shown."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from nonet.common.errors import InputError
from nonet.logs import evaluate
from nonet.logs.evaluation.contestants import parse_function
from nonet.logs.evaluation.parser_settings import labelled_lines, parse_settings
from nonet.logs.views.compare import compare

LINES = [f"user {name} logged in" for name in ("ann", "bob", "eve", "joe")] + [f"took {n} ms" for n in range(6)]
TRUTH = ["user <*> logged in"] * 4 + ["took <*> ms"] * 6


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "Shop_full.log").write_text("\n".join(LINES))
    rows = [f"{i},{line},E,{truth}" for i, (line, truth) in enumerate(zip(LINES, TRUTH, strict=True), 1)]
    (tmp_path / "Shop_full.log_structured.csv").write_text(
        "\n".join(["LineId,Content,EventId,EventTemplate", *rows, ""])
    )
    return tmp_path


def test_values_are_json_or_text() -> None:
    texts = ["drain.st=0.4", 'nonet.masks=["a+"]', "my.pkg:Thing.path=a=b", "LogPPT.encoder=models/x"]
    assert parse_settings(texts, ["nonet", "Drain", "LogPPT", "my.pkg:Thing"]) == {
        "Drain": {"st": 0.4},
        "nonet": {"masks": ["a+"]},
        "my.pkg:Thing": {"path": "a=b"},
        "LogPPT": {"encoder": "models/x"},
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("st=0.4", "PARSER.NAME=VALUE"),
        ("Drain.st", "PARSER.NAME=VALUE"),
        ("AEL.minEventCount=2", "no such parser"),
        ("Drain.threshold=0.4", "no parameter 'threshold'; it has depth"),
        ("Drain.mode=fixed", "--mode"),
        ("nonet.depth=4", "no parameter 'depth'"),
    ],
)
def test_bad_settings_are_refused_at_once(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_settings([text], ["nonet", "Drain"])


def test_a_bad_value_is_an_input_error() -> None:
    with pytest.raises(InputError, match="Drain"):
        parse_function("Drain", "", "fixed", {"st": "much"})(["a b", "a c"])


def test_settings_reach_the_parser(folder: Path) -> None:
    strict, loose = (
        evaluate("Drain", folder, mode="fixed", settings=[f"Drain.st={st}"], out_dir=folder / f"run-{st}").table()[0]
        for st in (1.0, 0.5)
    )
    assert (strict["num_predicted_templates"], loose["num_predicted_templates"]) == (10, 2)
    with pytest.raises(InputError, match=r"settings of Drain was .*1\.0.*now .*0\.9"):
        evaluate("Drain", folder, mode="fixed", settings=["Drain.st=0.9"], out_dir=folder / "run-1.0")
    compared = compare(folder / "Shop_full.log", "Drain", settings=["Drain.st=1.0"]).parsers[0]
    assert compared.quality is not None and compared.quality.num_templates == 10


def test_labelled_lines_of_every_form(folder: Path, tmp_path: Path) -> None:
    wanted = list(zip(LINES, TRUTH, strict=True))
    assert labelled_lines(str(folder / "{system}_full.log_structured.csv"), "Shop") == wanted
    packed = tmp_path / "packed.csv.gz"
    packed.write_bytes(gzip.compress((folder / "Shop_full.log_structured.csv").read_bytes()))
    assert labelled_lines(str(packed), "") == wanted
    shots = tmp_path / "shots.json"
    rows = [{"query": c, "answer": t.replace("<*>", "{variables}")} for c, t in wanted]
    shots.write_text("\n".join(map(json.dumps, rows)))
    assert labelled_lines(str(shots), "") == wanted
    shots.write_text('{"query": "x"}')
    with pytest.raises(InputError, match="line 1: expected"):
        labelled_lines(str(shots), "")
    with pytest.raises(InputError, match="no such file"):
        labelled_lines("nowhere/{system}.csv", "Shop")


@pytest.mark.parametrize("mode", ["fixed", "compat"])
def test_lines_that_were_learnt_are_not_scored_in_fixed_mode(folder: Path, mode: str) -> None:
    pytest.importorskip("torch", reason="needs the extra logs-neural")
    vectors, shots = folder / "vectors.txt", folder / "Shop.json"
    rng = np.random.default_rng(0)
    vectors.write_text(
        "".join(f"{word} {' '.join(map(str, rng.normal(size=50).round(3)))}\n" for word in ("user", "ms"))
    )
    shots.write_text(
        "\n".join(json.dumps({"content": c, "template": t}) for c, t in zip(LINES[:4], TRUTH, strict=False))
    )
    settings = [f"UniParser.encoder={vectors}", f"UniParser.training={folder}/{{system}}.json", "UniParser.epochs=2"]
    report = evaluate("UniParser", folder, mode=mode, settings=settings, out_dir=folder / "run")  # type: ignore[arg-type]
    row = report.table()[0]
    assert (row["status"], row["error"]) == ("finished", "")
    assert (row["num_lines"], row["num_trained_on"]) == (10, 4)
    assert row["num_true_templates"] == (1 if mode == "fixed" else 2)
