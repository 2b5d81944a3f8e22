"""Reports of the latest requests."""

from __future__ import annotations

from types import SimpleNamespace

from nonet.ragcache.scheduling.remembering import Remembered


def test_the_oldest_reports_are_forgotten():
    remembered = Remembered(capacity=3)
    for number in range(5):
        remembered.add("a", SimpleNamespace(request_id=str(number)), number)
    assert len(remembered) == 3
    found = [remembered.find("a", str(number)) for number in range(5)]
    assert [one and one[1] for one in found] == [None, None, 2, 3, 4]
