"""A disk that is full before the capacity is: old variants make way, the capacity shrinks, one warning tells it."""

from __future__ import annotations

import errno
import logging
import os

import pytest

from nonet.ragcache.store.chunk_store import ChunkStore
from nonet.ragcache.store.disk import DiskTier
from nonet.ragcache.store.layout import file_bytes
from nonet.ragcache.store.ram import RamTier
from nonet.ragcache.store.rooms import Rooms
from tests.ragcache.store.parts import assert_reads, make_kv, make_meta
from tests.ragcache.store.test_faults import small_disk

METAS = [make_meta(f"c{i}", tokens=300) for i in range(10)]
SIZE = file_bytes(METAS[0])


class SmallDisk(DiskTier):
    """A disk whose files take `room_bytes` together at most; the next write fails as `os.write` does then."""

    room_bytes = 4 * SIZE
    num_tries = 0

    def put(self, packed):
        self.num_tries += 1
        write, files = os.write, self._folder.glob("??/*.kv")
        left = self.room_bytes - sum(path.stat().st_size for path in files)

        def limited(handle, data):
            nonlocal left
            if left < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            left -= len(data)
            return write(handle, data)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "write", limited)
            super().put(packed)


def submit(store, *metas):
    for meta in metas:
        store.submit(meta, make_kv(meta))
        assert store.flush(10.0)


def warnings_of(caplog):
    return [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]


@pytest.mark.parametrize("capacity_bytes", [None, 10**9])
def test_old_variants_make_way_by_the_stores_policy(tmp_path, caplog, capacity_bytes):
    disk = SmallDisk(tmp_path, capacity_bytes)
    store = ChunkStore([disk], eviction="lru")
    submit(store, *METAS[:4])
    assert store.stats().tiers[0].capacity_bytes == capacity_bytes and warnings_of(caplog) == []
    store.used(METAS[0].variant_id, 0.0)
    submit(store, *METAS[4:6])
    assert [bool(store.variants(meta.chunk_key)) for meta in METAS[:6]] == [True, False, False, True, True, True]
    submit(store, *METAS[6:])
    stats = store.stats()
    assert (stats.counts["stored"], stats.counts["not_stored"], stats.counts["evicted"]) == (10, 0, 6)
    assert [bool(store.variants(meta.chunk_key)) for meta in METAS] == [False] * 6 + [True] * 4
    assert stats.tiers[0].capacity_bytes == 4 * SIZE and stats.faults == {"disk: full": 1}
    assert disk.num_tries == 11  # from the second on the books know
    (warning,) = warnings_of(caplog)
    assert "disk is full at" in warning and f"{4 * SIZE:,} bytes" in warning and "No space left" in warning
    for meta in METAS[6:]:
        assert_reads(store.open(meta.variant_id), make_kv(meta))
    store.check_integrity()
    store.close()
    assert not list(tmp_path.glob("*/.tmp-*"))


def test_a_real_disk_that_is_full(tmp_path, caplog):
    with small_disk(tmp_path / "disk", "600k") as folder:
        store = ChunkStore.from_spec(f"disk:{folder}:1GB", eviction="lru")
        submit(store, *METAS)
        stats = store.stats()
        assert stats.counts["stored"] == 10 and stats.counts["not_stored"] == 0
        assert [bool(store.variants(meta.chunk_key)) for meta in METAS][-4:] == [True] * 4
        assert stats.tiers[0].used_bytes <= stats.tiers[0].capacity_bytes <= 600 * 1024
        assert len(warnings_of(caplog)) == 1
        for meta in METAS[-4:]:
            assert_reads(store.open(meta.variant_id), make_kv(meta))
        store.check_integrity()
        store.close()


def test_what_others_fill_the_disk_with_does_not_empty_the_store(tmp_path):
    disk = SmallDisk(tmp_path)
    disk.room_bytes = 100 * SIZE
    store = ChunkStore([disk], eviction="lru", retry_s=100.0)
    submit(store, *METAS[:9])
    disk.room_bytes = 0
    submit(store, METAS[9])
    stats = store.stats()
    assert stats.counts["not_stored"] == 1 and stats.num_variants == 5 and disk.num_tries == 13
    submit(store, METAS[0])  # left alone for a while
    assert disk.num_tries == 13
    store.check_integrity()
    store.close()


def test_a_slower_tier_that_is_full_keeps_what_is_worth_more(tmp_path):
    disk = SmallDisk(tmp_path)
    store = ChunkStore([RamTier(), disk], eviction="lru")
    submit(store, *METAS[:4])
    for meta in METAS[:4]:
        store.pin(meta.variant_id)
    submit(store, METAS[4])
    assert store.stats().counts["stored"] == 5  # in memory
    assert disk.ids() == {meta.variant_id for meta in METAS[:4]}
    store.check_integrity()
    store.close()


def test_names_make_room_too(tmp_path):
    class NoRoomForNames(SmallDisk):
        room_bytes = 3 * SIZE

        def note(self, names):
            if len(self.ids()) >= 3:
                raise self._fault("write", OSError(errno.ENOSPC, "No space left on device"))
            super().note(names)

    store = ChunkStore([NoRoomForNames(tmp_path)], eviction="lru")
    for meta in METAS[:5]:
        store.named([(meta.chunk_key, f"{meta.chunk_key}.md")])
        submit(store, meta)
    assert [bool(store.variants(meta.chunk_key)) for meta in METAS[:5]] == [False, False, True, True, True]
    store.close()
    again = ChunkStore([DiskTier(tmp_path)])
    assert [again.invalidate(document=f"{meta.chunk_key}.md") for meta in METAS[:5]] == [0, 0, 1, 1, 1]
    again.close()


def test_after_a_while_the_capacity_is_tried_again():
    now_s = 0.0
    rooms = Rooms([RamTier(100), RamTier()], lowered_s=10.0, clock=lambda: now_s)
    assert (rooms.capacity_bytes(0), rooms.capacity_bytes(1)) == (100, None)
    rooms.is_full(0, 70, "full")
    rooms.is_full(1, 50, "full")
    now_s = 9.0
    assert (rooms.capacity_bytes(0), rooms.capacity_bytes(1)) == (70, 50)
    rooms.is_full(0, 150, "full")  # never more than it was given
    now_s = 10.0
    assert (rooms.capacity_bytes(0), rooms.capacity_bytes(1)) == (100, None)
