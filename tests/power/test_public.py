"""The room's public names: each has an example, and stands on the page of its signatures."""

import inspect
import re
from pathlib import Path

import pytest

import nonet.power as power

PAGE = Path(__file__).parents[2] / "docs" / "api-power.md"


@pytest.mark.parametrize("name", power.__all__)
def test_every_public_name_has_an_example(name):
    assert ">>>" in (inspect.getdoc(getattr(power, name)) or "")


def test_the_page_has_all_of_them():
    assert set(re.findall(r"^ +- (\w+)$", PAGE.read_text("utf-8"), re.M)) == set(power.__all__)
