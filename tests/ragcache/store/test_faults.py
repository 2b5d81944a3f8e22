"""Damage and crashes: what cannot be trusted is not handed out, and what is whole survives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from nonet.ragcache.store.chunk_store import ChunkStore
from nonet.ragcache.store.disk import DiskTier
from nonet.ragcache.store.layout import pack
from nonet.ragcache.store.ram import RamTier
from nonet.ragcache.store.tiers import TierFault, VariantDamaged
from nonet.ragcache.store.variant import VariantUnavailable
from tests.ragcache.store.parts import assert_reads, make_kv, make_meta


@pytest.fixture
def on_disk(tmp_path):
    """A store over a disk alone, its tier, and a variant in it."""
    tier = DiskTier(tmp_path)
    store = ChunkStore([tier], retry_s=0.0)
    meta = make_meta("c", ("p",), tokens=300)
    store.submit(meta, make_kv(meta))
    assert store.flush(10.0)
    yield store, tier, meta
    store.close()


def read_all(store, meta):
    reader = store.open(meta.variant_id)
    try:
        return [reader.layer(i) for i in range(3)]
    finally:
        reader.close()


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


@pytest.mark.parametrize("at", [0, 9, 20, 60, 300, 4096, 4096 + 38399, -40960, -4097])
def test_a_flipped_byte_is_noticed_and_the_variant_forgotten(on_disk, at):
    store, tier, meta = on_disk
    path = tier.path_of(meta.variant_id)
    flip(path, at)
    with pytest.raises(VariantUnavailable):
        read_all(store, meta)
    assert store.variants("c") == ()
    assert not path.exists()
    assert store.stats().faults == {"disk: damaged": 1}
    store.submit(meta, make_kv(meta))  # computed anew, stored anew
    store.flush(10.0)
    assert_reads(store.open(meta.variant_id), make_kv(meta))


@pytest.mark.parametrize("size", [0, 10, 44, 4000, 4096, 4097, 30000, -1])
def test_a_file_that_is_cut_short(on_disk, size):
    store, tier, meta = on_disk
    path = tier.path_of(meta.variant_id)
    os.truncate(path, size % path.stat().st_size)
    with pytest.raises(VariantUnavailable):
        read_all(store, meta)
    assert store.variants("c") == ()
    assert store.stats().faults == {"disk: damaged": 1}


def test_a_file_that_is_missing(on_disk):
    store, tier, meta = on_disk
    tier.path_of(meta.variant_id).unlink()
    with pytest.raises(VariantUnavailable, match="is not on disk"):
        store.open(meta.variant_id)
    assert store.stats().faults == {"disk: gone": 1}


def test_a_file_cut_short_while_it_is_read(tmp_path):
    class Slow(DiskTier):
        def open(self, variant_id):
            source = super().open(variant_id)
            read = source.read

            def slow_read(layer):
                if layer:
                    os.truncate(self.path_of(variant_id), 4096)
                return read(layer)

            source.read = slow_read
            return source

    store = ChunkStore([Slow(tmp_path)])
    meta = make_meta("c", tokens=300)
    store.submit(meta, make_kv(meta))
    store.flush(10.0)
    reader = store.open(meta.variant_id)
    reader.layer(0)
    with pytest.raises(VariantUnavailable):
        reader.layer(1)
    with pytest.raises(VariantUnavailable):
        reader.layer(2)
    reader.close()
    store.close()


def test_the_next_tier_takes_over_where_one_failed(tmp_path):
    one, other = DiskTier(tmp_path / "one", name="one"), DiskTier(tmp_path / "other", name="other")
    meta = make_meta("c", tokens=300)
    kv = make_kv(meta)
    for tier in (one, other):
        tier.put(pack(meta, kv))
    flip(one.path_of(meta.variant_id), -4097)
    store = ChunkStore([one, other])
    assert_reads(store.open(meta.variant_id), kv)
    assert store.tier_of(meta.variant_id) == "other"
    assert store.stats().faults == {"one: damaged": 1}
    store.close()


def test_a_file_with_more_than_its_header_says_is_damaged(tmp_path):
    tier, meta = DiskTier(tmp_path), make_meta()
    tier.put(pack(meta, make_kv(meta)))
    with tier.path_of(meta.variant_id).open("ab") as file:
        file.write(bytes(4096))
    with pytest.raises(VariantDamaged, match="the header says"):
        tier.open(meta.variant_id)


def test_damaged_files_are_left_out_at_the_start(tmp_path):
    tier = DiskTier(tmp_path)
    metas = [make_meta(f"c{i}") for i in range(4)]
    for meta in metas:
        tier.put(pack(meta, make_kv(meta)))
    flip(tier.path_of(metas[0].variant_id), 50)
    os.truncate(tier.path_of(metas[1].variant_id), 5000)
    tier.path_of("another").parent.mkdir(exist_ok=True)
    tier.path_of(metas[2].variant_id).rename(tier.path_of("another"))
    (tier.path_of("another").parent / "no variant.kv").write_bytes(b"x")
    store = ChunkStore([DiskTier(tmp_path)])
    assert [len(store.variants(meta.chunk_key)) for meta in metas] == [0, 0, 0, 1]
    store.close()


@contextmanager
def small_disk(folder: Path, size: str):
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("cannot mount a small disk here: not root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk(tmp_path):
    with small_disk(tmp_path / "disk", "256k") as folder:
        tier = DiskTier(folder)
        store = ChunkStore([RamTier(), tier], retry_s=0.0)
        metas = [make_meta(f"c{i}", tokens=300) for i in range(8)]  # 61 KB each
        for meta in metas:
            store.submit(meta, make_kv(meta))
        assert store.flush(10.0)
        for meta in metas:
            assert_reads(store.open(meta.variant_id), make_kv(meta))
        assert store.stats().faults["disk: full"] > 0
        assert 1 <= len(tier.ids()) < 8
        assert not list(folder.glob("*/.tmp-*"))
        store.check_integrity()
        with pytest.raises(TierFault, match="No space left"):
            for meta in metas:
                tier.put(pack(meta, make_kv(meta)))
        store.close()
        again = ChunkStore([DiskTier(folder)])
        for variant_id in again._tiers[0].ids():
            (meta,) = [one for one in metas if one.variant_id == variant_id]
            assert_reads(again.open(variant_id), make_kv(meta))
        assert again.stats().faults == {}
        again.close()


WRITER = """
import sys
sys.path.insert(0, sys.argv[2])
from nonet.ragcache.store.chunk_store import ChunkStore
from tests.ragcache.store.parts import make_kv, make_meta
store = ChunkStore.from_spec(f"ram:1GB,disk:{sys.argv[1]}")
i = 0
while True:
    meta = make_meta(f"c{i}", tokens=4000)
    store.submit(meta, make_kv(meta, i))
    store.flush(10.0)
    print(i, flush=True)
    i += 1
"""


def test_killed_while_writing(tmp_path):
    root = Path(__file__).resolve().parents[3]
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, tmp_path, root], stdout=subprocess.PIPE, env={**os.environ}
    )
    try:
        for _ in range(4):
            process.stdout.readline()
        time.sleep(0.003)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    (tmp_path / "00").mkdir(exist_ok=True)
    (tmp_path / "00" / ".tmp-left").write_bytes(b"half")
    store = ChunkStore([DiskTier(tmp_path)])
    assert store.stats().num_variants >= 4
    assert store.stats().faults == {}
    for i in range(4):
        meta = make_meta(f"c{i}", tokens=4000)
        assert_reads(store.open(meta.variant_id), make_kv(meta, i))
    store.check_integrity()
    store.close()
    assert not list(tmp_path.glob("*/.tmp-*"))


def test_a_living_writer_is_not_disturbed(tmp_path):
    tier = DiskTier(tmp_path)
    meta = make_meta()
    packed = pack(meta, make_kv(meta))

    class Starting:
        """While the file is being written, another process starts and clears up."""

        def __getattr__(self, name):
            return getattr(packed, name)

        def head(self):
            DiskTier(tmp_path)
            return packed.head()

    tier.put(Starting())
    assert tier.ids() == {meta.variant_id}


def test_direct_reading(tmp_path):
    meta = make_meta(tokens=300)
    DiskTier(tmp_path).put(pack(meta, make_kv(meta)))
    store = ChunkStore([DiskTier(tmp_path, direct=True)])
    try:
        reader = store.open(meta.variant_id)
    except VariantUnavailable:
        pytest.skip("this file system has no O_DIRECT")
    assert_reads(reader, make_kv(meta))
    store.close()


def test_an_id_cannot_leave_the_folder(tmp_path):
    tier = DiskTier(tmp_path / "kv")
    (tmp_path / "secret.kv").write_bytes(b"x")
    with pytest.raises(VariantUnavailable):
        tier.open("../../secret")
    tier.remove("../../secret")
    assert (tmp_path / "secret.kv").exists()


def test_memory_can_be_verified_too():
    tier = RamTier()
    store = ChunkStore([tier], verify_memory=True)
    meta = make_meta()
    packed = pack(meta, make_kv(meta))
    store.submit(meta, make_kv(meta))
    store.flush(10.0)
    assert_reads(store.open(meta.variant_id), make_kv(meta))
    tier._kept[meta.variant_id].layers[1][3] ^= 1
    with pytest.raises(VariantUnavailable, match="checksum"):
        read_all(store, meta)
    assert store.variants("c0") == ()
    store.close()
    assert VariantDamaged.kind == "damaged"
    assert packed.meta == meta
