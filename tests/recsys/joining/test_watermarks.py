"""Event time over partitions that come, fall silent and come back."""

import pytest

from nonet.recsys.example import ActionEvent, Example, FeatureEvent, decode, encode
from nonet.recsys.joining import Joiner, Joining, Label
from nonet.recsys.joining.watermarks import Watermarks
from nonet.recsys.logs import Record, open_log

A, B = ("actions", 0), ("actions", 1)


def test_time_that_has_passed_never_comes_back():
    """Else rows of a partition that was silent would wait again for a time at which others were settled already."""
    marks = Watermarks(allowed_lateness_ms=10)
    marks.observe(A, 500)
    marks.observe(B, 100)
    assert marks.advance([A, B], idle={B}) == 490
    marks.observe(B, 200)
    assert marks.advance([A, B], idle=set()) == 490
    assert marks.advance([A, B, ("features", 0)], idle=set()) == 490  # a partition that was added has seen nothing
    restored = Watermarks(10, marks.newest_ms, marks.passed_ms)
    assert restored.advance([A, B], idle=set()) == 490


def test_when_all_are_idle_the_newest_event_counts():
    marks = Watermarks(allowed_lateness_ms=0)
    marks.observe(A, 500)
    marks.observe(B, 100)
    assert marks.advance([A, B], idle={A, B}) == 500


@pytest.mark.parametrize("ahead_ms", [0, 55_000])
def test_a_client_whose_clock_is_ahead_does_not_end_the_wait_of_others(tmp_path, ahead_ms):
    now = {"ms": 1_700_000_000_000}
    began_ms = now["ms"]

    def step(joiner, topic, *events):
        for event in events:
            log.append(topic, 0, [Record(b"", encode(event), event.ts_ms)])
        while joiner.step():
            pass
        joiner.step()

    joining = Joining((Label("click", wait_ms=30_000),), allowed_lateness_ms=5_000, idle_s=0.0)
    with open_log(f"file:{tmp_path}/log") as log:
        with Joiner(log, tmp_path / "rows", joining, clock=lambda: now["ms"] / 1000) as joiner:
            step(joiner, "features", FeatureEvent(request_id=b"r1", item_id=b"i", ts_ms=began_ms))
            wrong = ActionEvent(request_id=b"r9", item_id=b"i", ts_ms=began_ms + ahead_ms)
            step(joiner, "actions", wrong)
            now["ms"] += 2_000
            step(joiner, "actions", ActionEvent(request_id=b"r1", item_id=b"i", ts_ms=now["ms"]))
            joiner.checkpoint()
            assert log.read("examples", 0, 0).records == []
            now["ms"] += 40_000
            step(joiner, "actions", ActionEvent(request_id=b"r8", item_id=b"i", ts_ms=now["ms"]))
            joiner.checkpoint()
        (record,) = log.read("examples", 0, 0).records
    assert decode(record.payload, Example).label == 1
