"""When snapshots are tried, told with a clock of the test's own."""

from __future__ import annotations

import threading

import pytest

from nonet.common.errors import NonetError
from nonet.recsys.running.saving import RETRY_S, Saves
from nonet.recsys.sharding import ShardDownError


class Disk:
    """Counts what is written, and fails as told."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.tries = 0
        self.error: Exception | None = None

    def write(self) -> None:
        self.tries += 1
        if self.error is not None:
            raise self.error

    def saves(self, interval_s: float) -> Saves:
        return Saves(self.write, interval_s, "a job", clock=lambda: self.now_s)


def test_it_is_written_when_due_and_not_before() -> None:
    disk = Disk()
    saves = disk.saves(60.0)
    for now_s, tries in ((1059.9, 0), (1060.0, 1), (1060.1, 1), (1119.9, 1), (1120.0, 2)):
        disk.now_s = now_s
        saves.write_if_due()
        assert disk.tries == tries
    disk.now_s = 1125.0
    assert saves.status() == {"age_s": 5.0, "failures": 0, "failure": None}


@pytest.mark.parametrize("interval_s", [60.0, 1.0])
def test_what_failed_is_tried_again_soon(interval_s: float, capsys: pytest.CaptureFixture[str]) -> None:
    disk = Disk()
    saves = disk.saves(interval_s)
    disk.now_s += interval_s
    disk.error = NonetError("no room")
    saves.write_if_due()
    assert "a job: no snapshot could be written" in capsys.readouterr().err
    assert saves.status() == {"age_s": None, "failures": 1, "failure": "no room"}
    retry_s = min(RETRY_S, interval_s)
    disk.now_s += 0.9 * retry_s
    saves.write_if_due()
    assert disk.tries == 1
    disk.error = None
    disk.now_s += 0.11 * retry_s
    saves.write_if_due()
    assert disk.tries == 2 and saves.status() == {"age_s": 0.0, "failures": 1, "failure": None}


def test_a_shard_that_is_down_and_a_defect_are_not_taken_for_a_full_disk() -> None:
    disk = Disk()
    saves = disk.saves(0.0)
    for error in (ShardDownError("gone"), ZeroDivisionError("a defect")):
        disk.error = error
        with pytest.raises(type(error)):
            saves.write_if_due()


@pytest.mark.parametrize(("error", "answer"), [(None, ""), (OSError("no room"), "no room")])
def test_who_asks_hears_how_it_went(error: Exception | None, answer: str) -> None:
    disk = Disk()
    saves = disk.saves(1e9)
    disk.error = error
    assert saves.ask(0.01) == "nobody writes snapshots now"
    heard: list[str] = []
    asking = threading.Thread(target=lambda: heard.append(saves.ask(20.0)))
    asking.start()
    while asking.is_alive():
        saves.write_if_due()
    assert heard == [answer]


def test_a_first_snapshot_that_fails_is_raised() -> None:
    disk = Disk()
    disk.error = OSError("no room")
    with pytest.raises(OSError, match="no room"):
        disk.saves(60.0).write()


def test_who_asks_while_one_is_written_gets_the_next_one() -> None:
    """What the asker knows may be missing in the one that had begun before."""
    writing, may_end = threading.Event(), threading.Event()
    written: list[str] = []
    contents = ["before"]

    def write() -> None:
        written.append(contents[0])
        writing.set()
        assert may_end.wait(20.0)

    saves = Saves(write, 1e9, "a job")
    heard: list[str] = []
    first = threading.Thread(target=saves.write)
    first.start()
    assert writing.wait(20.0)
    contents[0] = "after"
    asking = threading.Thread(target=lambda: heard.append(saves.ask(20.0)))
    asking.start()
    while not saves.is_asked:
        pass
    may_end.set()
    first.join()
    assert not heard and asking.is_alive()
    saves.write_if_due()
    asking.join()
    assert heard == [""] and written == ["before", "after"]
