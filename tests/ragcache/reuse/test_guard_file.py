"""A guard on the disk: what is written is read, and nothing else is."""

import json
import tempfile
from dataclasses import replace

import pytest

from nonet.common.errors import InputError
from nonet.ragcache.reuse.abstain import Guard
from nonet.ragcache.reuse.guard_file import check_place, read_guard, write_guard

SETTINGS = {"mode": "guided", "alpha": 0.225, "recompute": None}
GUARD = Guard(0.0, 0.5, 0.1, 40, "f" * 64)


@pytest.fixture
def file(tmp_path):
    place = tmp_path / "guard.json"
    write_guard(place, GUARD, SETTINGS)
    return place


def test_what_is_written_is_read_with_another_limit(file):
    assert read_guard(file, 0.3, SETTINGS) == replace(GUARD, limit=0.3)
    assert read_guard(file, 0.3, {**SETTINGS, "alpha": 0.2250001}) == replace(GUARD, limit=0.3)


@pytest.mark.parametrize(
    ("here", "says"),
    [
        ({"mode": "cachecraft"}, "measured with mode guided, not cachecraft; serve with that, or calibrate again"),
        ({"alpha": 0.3}, "measured with alpha 0.225, not 0.3"),
        ({"recompute": 0.15}, "measured with recompute unset, not 0.15"),
    ],
)
def test_other_settings_are_refused(file, here, says):
    with pytest.raises(InputError, match=says):
        read_guard(file, 0.3, {**SETTINGS, **here})


@pytest.mark.parametrize(
    "changed",
    [
        {"num_calibrated": float("inf")},
        {"num_calibrated": -3},
        {"factor": float("inf")},
        {"factor": -1},
        {"factor": 10**400},
        {"factor": [1]},
        {"miss": 5},
        {"miss": float("nan")},
        {"settings": []},
        {"settings": {**SETTINGS, "alpha": 10**400}},
        {"settings": {**SETTINGS, "mode": "x" * 10_000}},
        None,
    ],
)
def test_what_is_no_guard_is_refused_in_one_line(file, changed):
    told = json.loads(file.read_text())
    file.write_text(json.dumps({**told, **changed} if changed is not None else [told]))
    with pytest.raises(InputError) as refused:
        read_guard(file, 0.3, SETTINGS)
    assert str(refused.value).startswith(f"{file}: ") and "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    "text",
    ["", "{", "[" * 100_000, '{"factor": 1' + "0" * 5000 + "}", "\ud800", '{"factor": 1}'],
    ids=["empty", "cut", "deep", "long number", "no UTF-8", "fields missing"],
)
def test_what_is_no_json_is_refused(file, text):
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(InputError, match="no guard; calibrate --guard writes one"):
        read_guard(file, 0.3, SETTINGS)


def test_places_are_looked_at_before_a_guard_is_measured(tmp_path, file, monkeypatch):
    for place in (tmp_path / "new.json", file):
        before = sorted(tmp_path.iterdir())
        check_place(place)
        assert sorted(tmp_path.iterdir()) == before
    assert read_guard(file, 0.0, SETTINGS) == GUARD
    with pytest.raises(InputError, match="is a folder"):
        check_place(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        check_place(tmp_path / "none" / "guard.json")

    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    # Whoever runs the tests may be allowed to write everywhere.
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(InputError, match=r"new\.json: cannot be written \(Permission denied\)"):
        check_place(tmp_path / "new.json")
