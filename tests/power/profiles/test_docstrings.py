"""Every parameter has a line of its own: what the API pages are made with knows no groups."""

import re
from pathlib import Path

import pytest

import nonet.power

GROUPED = re.compile(r"^ +[a-z_0-9]+(, [a-z_0-9]+)+: ", re.MULTILINE)


@pytest.mark.parametrize("part", ["profiles", "load"])
def test_no_parameters_in_groups(part: str) -> None:
    files = sorted((Path(nonet.power.__file__).parent / part).rglob("*.py"))
    found = [f"{path.name}: {line.group().strip()}" for path in files for line in GROUPED.finditer(path.read_text())]
    assert files and not found
