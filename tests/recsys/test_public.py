"""The room's public names and its page: what they say is what the code says."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from pydantic import BaseModel

import nonet.recsys as recsys
from nonet.recsys import table as parts
from nonet.recsys.config import FeaturesFile, JobFile
from nonet.recsys.joining import REASONS
from nonet.recsys.running.metrics import LoopMetrics
from nonet.recsys.serving.app import make_serving_app

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "recsys.md").read_text("utf-8")
FEATURES = {"features": {"user": {"slot": 1}}}


@pytest.mark.parametrize("name", recsys.__all__)
def test_every_public_name_has_an_example(name: str) -> None:
    assert ">>>" in (inspect.getdoc(getattr(recsys, name)) or "")


def test_the_page_of_signatures_has_all_of_them() -> None:
    own, of_tables = (DOCS / "api-recsys.md").read_text("utf-8").split("::: nonet.recsys.table")
    assert set(re.findall(r"^ +- (\w+)$", own, re.M)) == set(recsys.__all__)
    assert set(re.findall(r"^ +- (\w+)$", of_tables, re.M)) <= set(parts.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Trainner'"):
        _ = recsys.Trainner


def test_importing_the_room_imports_nothing_that_computes() -> None:
    script = "import sys, nonet.recsys; print(sorted({'torch', 'numba', 'numpy', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def keys_of(model: type[BaseModel], prefix: str = "") -> list[str]:
    """The keys of a file, `section.key` for those of a section; `features` counts as one."""
    found = []
    for name, field in model.model_fields.items():
        section = field.annotation
        if name != "features" and isinstance(section, type) and issubclass(section, BaseModel):
            found += keys_of(section, f"{prefix}{name}.")
        else:
            found.append(prefix + name)
    return found


def rows_of(heading: str) -> dict[str, str]:
    """Key and default of each line of a table of the page."""
    body = PAGE.split(f"| in `{heading}` |")[1].split("\n\n")[0]
    return dict(re.findall(r"^\| `([\w.]+)` \| (?:`(.*?)`)? ?\|", body, re.M))


@pytest.mark.parametrize(("heading", "model"), [("job.yaml", JobFile), ("features.yaml", FeaturesFile)])
def test_the_page_has_every_key_of_a_file_with_its_default(heading: str, model: type[BaseModel]) -> None:
    rows = rows_of(heading)
    assert sorted(rows) == sorted(keys_of(model))
    needed: Any = {"features": FEATURES} if model is JobFile else FEATURES
    usual = model.model_validate(needed)
    for key, default in rows.items():
        if key == "features":
            continue
        section, _, name = key.rpartition(".")
        value = yaml.safe_load(default)
        given = {section: {name: value}} if section else {name: value}
        assert model.model_validate({**needed, **given}) == usual, key


class _Nobody:
    """A recommender without arms."""

    arms: ClassVar[dict[str, Any]] = {}

    @staticmethod
    def clock() -> float:
        return 0.0


def test_the_page_has_every_route_and_every_metric() -> None:
    app = make_serving_app(_Nobody())  # type: ignore[arg-type]
    paths = [*app.openapi()["paths"], "/v1/sync/{arm}", "/healthz", "/readyz", "/metrics"]
    assert {"/v1/recommend", "/v1/rank", "/v1/actions"} <= set(paths)
    for path in paths:
        assert f" {path}`" in PAGE, path
    counts = dict.fromkeys(
        ("features", "actions", "examples", "positives", "corrections", "orphans", "dead_letters"), 0
    )
    status = {"lag": {}, "joined": counts, "learned": 0, "expired": 0, "recoveries": 0, "arms": {}}
    status["snapshot"] = {"age_s": 1.0, "failures": 0, "failure": None}
    families = [*app.state.registry.collect(), *LoopMetrics(lambda: status).collect()]
    text = PAGE.split("### Metrics")[1].split("###")[0]
    for family in families:
        name = family.name.removeprefix("nonet_recsys_") + ("_total" if family.type == "counter" else "")
        assert f"`{name}`" in text, name


def test_the_page_names_the_reason_that_it_speaks_of() -> None:
    assert set(re.findall(r"dead letter \(`(\w+)`\)", PAGE)) <= set(REASONS)
