"""The room's public names: each has an example, stands on the page of its signatures, and costs nothing until used."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import nonet.ragcache as ragcache

PAGE = Path(__file__).parents[2] / "docs" / "api-ragcache.md"


@pytest.mark.parametrize("name", ragcache.__all__)
def test_every_public_name_has_an_example(name):
    assert ">>>" in (inspect.getdoc(getattr(ragcache, name)) or "")


def test_the_page_has_all_of_them():
    assert set(re.findall(r"^ +- (\w+)$", PAGE.read_text("utf-8"), re.M)) == set(ragcache.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Enginge'"):
        _ = ragcache.Enginge


def test_the_command_line_starts_without_what_computes():
    heavy = "{'torch', 'numba', 'numpy', 'fastapi', 'bs4'}"
    script = f"import sys, nonet.ragcache.cli; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_rooms_page_tells_every_mode_as_the_registry_does():
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", PAGE.with_name("ragcache.md").read_text("utf-8"), re.M))
    for name in ragcache.MODES:
        assert rows[name].removesuffix("; the default") == ragcache.MODES[name].summary
