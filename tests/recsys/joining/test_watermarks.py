"""Event time over partitions that come, fall silent and come back."""

from nonet.recsys.joining.watermarks import Watermarks

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
