"""The thread that stores in the background: what it finishes at the end, and what it gives up."""

import threading

from nonet.ragcache.store.write_back import WriteBack


def test_what_is_queued_is_done_before_the_end():
    work, free, done = WriteBack(), threading.Event(), []
    work.add(lambda: free.wait(10))
    work.add(lambda: done.append("stored"))
    threading.Timer(0.05, free.set).start()
    work.close(10)
    assert done == ["stored"] and not work.add(lambda: done.append("late"))


def test_what_does_not_end_is_given_up_after_a_while():
    work, free, done = WriteBack(), threading.Event(), []
    work.add(lambda: free.wait(10))
    work.add(lambda: done.append("stored"))
    work.close(0.05)
    free.set()
    assert work.flush(10) and done == []
