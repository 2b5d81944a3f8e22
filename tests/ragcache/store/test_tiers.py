"""What every tier promises, held over each of them; a store over each of them; the names of tiers."""

from __future__ import annotations

import os
import time

import fakeredis
import numpy as np
import pytest
import torch

from nonet.common.errors import InputError
from nonet.ragcache.store.chunk_store import ChunkStore
from nonet.ragcache.store.disk import DiskTier
from nonet.ragcache.store.layout import pack
from nonet.ragcache.store.ram import RamTier
from nonet.ragcache.store.redis_tier import RedisTier
from nonet.ragcache.store.s3_tier import S3Tier
from nonet.ragcache.store.shared_disk import SharedDiskTier
from nonet.ragcache.store.specs import tiers_from_spec
from nonet.ragcache.store.throttle import ThrottledTier
from nonet.ragcache.store.tiers import TierFault, VariantGone
from nonet.ragcache.store.variant import VariantUnavailable
from tests.ragcache.store.parts import assert_reads, make_kv, make_meta

KINDS = ["ram", "disk", "shared disk", "redis", "s3", "throttled"]
SHARED = ["shared disk", "redis", "s3"]


@pytest.fixture(scope="module")
def s3_client():
    import boto3
    from moto import mock_aws

    with mock_aws():
        yield boto3.client("s3", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")


@pytest.fixture
def make(request, tmp_path):
    """Makes a tier of a kind; two of one test see the same server."""
    server = fakeredis.FakeServer()

    def of(kind):
        if kind == "ram":
            return RamTier()
        if kind == "disk":
            return DiskTier(tmp_path)
        if kind == "shared disk":
            return SharedDiskTier(tmp_path, name="shared disk")
        if kind == "redis":
            return RedisTier("redis://unused", client=fakeredis.FakeRedis(server=server))
        if kind == "throttled":
            return ThrottledTier(RamTier(), 1e9)
        client = request.getfixturevalue("s3_client")
        bucket = f"b{abs(hash(request.node.name))}"
        client.create_bucket(Bucket=bucket)
        tier = S3Tier(bucket, "/some/prefix/", client=client)
        tier.close = lambda: None  # the client is shared with other tests
        return tier

    return of


@pytest.mark.parametrize("kind", KINDS)
def test_a_tier_keeps_lists_and_forgets(make, kind):
    tier = make(kind)
    metas = [make_meta(f"c{i}", ("a", "b"), tokens=i, documents=("d",)) for i in range(3)]
    packs = [pack(meta, make_kv(meta, i)) for i, meta in enumerate(metas)]
    assert tier.ids() == set()
    for packed in packs:
        tier.put(packed)
    assert tier.ids() == {meta.variant_id for meta in metas}
    for packed in packs:
        assert tier.meta(packed.meta.variant_id) == packed.meta
        assert tier.stored_bytes(packed.meta) >= packed.meta.num_bytes
        source = tier.open(packed.meta.variant_id)
        assert source.sums() == packed.sums
        for layer in (2, 0, 1, 0):
            assert np.array_equal(source.read(layer), packed.layers[layer])
            torch.from_numpy(source.read(layer))
        source.close()
        source.close()
    tier.remove(metas[0].variant_id)
    tier.remove(metas[0].variant_id)
    tier.remove("never-there")
    assert tier.ids() == {metas[1].variant_id, metas[2].variant_id}
    with pytest.raises(VariantGone):
        tier.open(metas[0].variant_id)
    with pytest.raises(VariantGone):
        tier.meta("never-there")
    tier.close()
    tier.close()


@pytest.mark.parametrize("kind", KINDS)
def test_putting_replaces(make, kind):
    tier = make(kind)
    meta = make_meta()
    first, second = pack(meta, make_kv(meta, 1)), pack(meta, make_kv(meta, 2))
    tier.put(first)
    tier.put(second)
    assert tier.ids() == {meta.variant_id}
    assert np.array_equal(tier.open(meta.variant_id).read(1), second.layers[1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_header(make, kind):
    tier = make(kind)
    meta = make_meta("c", tuple(f"chunk-{i}" * 20 for i in range(200)), tokens=40_000, layers=1)
    packed = pack(meta, make_kv(meta))
    assert len(packed.head()) > 65536
    tier.put(packed)
    assert tier.meta(meta.variant_id) == meta
    assert np.array_equal(tier.open(meta.variant_id).read(0), packed.layers[0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_store_over_it(make, kind):
    store = ChunkStore([RamTier(make_meta().num_bytes), make(kind)])
    metas = [make_meta(f"c{i}", ("p",)) for i in range(4)]
    for i, meta in enumerate(metas):
        store.submit(meta, make_kv(meta, i))
    assert store.flush(10.0)
    for i, meta in enumerate(metas):
        assert_reads(store.open(meta.variant_id), make_kv(meta, i))
    store.flush(10.0)
    store.check_integrity()
    assert store.stats().faults == {}
    store.close()


@pytest.mark.parametrize("kind", SHARED)
def test_machines_share_what_they_computed_and_what_is_invalid(make, kind):
    one = ChunkStore([RamTier(), make(kind)], refresh_s=100.0)
    meta = make_meta("c", ("p",), documents=("d",))
    other = ChunkStore([RamTier(), make(kind)], refresh_s=100.0)
    one.submit(meta, make_kv(meta))
    one.flush(10.0)
    assert other.variants("c") == ()
    other.refresh()
    assert other.variants("c") == (meta,)
    assert_reads(other.open(meta.variant_id), make_kv(meta))
    other.flush(10.0)
    assert other.tier_of(meta.variant_id) == "ram"
    assert one.invalidate(document="d") == 1
    other.refresh()
    assert other.variants("c") == ()
    assert other.stats().num_variants == 0
    one.submit(meta, make_kv(meta))  # computed anew: valid again, everywhere
    one.flush(10.0)
    other.refresh()
    one.refresh()
    assert other.variants("c") == one.variants("c") == (meta,)
    one.close()
    other.close()


@pytest.mark.parametrize("kind", SHARED)
def test_what_another_machine_removed_is_forgotten(make, kind):
    tier = make(kind)
    store = ChunkStore([tier], refresh_s=100.0)
    meta = make_meta()
    store.submit(meta, make_kv(meta))
    store.flush(10.0)
    make(kind).remove(meta.variant_id)
    with pytest.raises(VariantUnavailable):
        store.open(meta.variant_id)
    assert store.variants("c0") == ()
    assert store.stats().faults == {f"{kind}: gone": 1}
    store.close()


def test_the_refresher_looks_by_itself(make):
    one = ChunkStore([make("redis")], refresh_s=100.0)
    other = ChunkStore([make("redis")], refresh_s=0.01)
    meta = make_meta()
    one.submit(meta, make_kv(meta))
    one.flush(10.0)
    for _ in range(500):
        if other.variants("c0"):
            break
        time.sleep(0.01)
    assert other.variants("c0") == (meta,)
    one.close()
    other.close()


def test_redis_gone_and_back():
    server = fakeredis.FakeServer()
    store = ChunkStore([RedisTier("redis://unused", client=fakeredis.FakeRedis(server=server))], retry_s=0.05)
    meta = make_meta()
    store.submit(meta, make_kv(meta))
    store.flush(10.0)
    server.connected = False
    with pytest.raises(VariantUnavailable):
        store.open(meta.variant_id)
    assert store.variants("c0") == ()
    other = make_meta("other")
    store.submit(other, make_kv(other))
    store.flush(10.0)
    assert store.stats().counts["not_stored"] == 1
    assert store.stats().faults["redis: fault"] >= 1
    server.connected = True
    time.sleep(0.1)
    assert_reads(store.open(meta.variant_id), make_kv(meta))
    store.close()


def test_servers_that_are_not_there(s3_client):
    tier = RedisTier("redis://127.0.0.1:1/0", timeout_s=0.2)
    with pytest.raises(TierFault, match="Redis does not serve"):
        tier.ids()
    store = ChunkStore([RamTier(), tier], refresh_s=100.0)  # it serves from memory all the same
    meta = make_meta()
    store.submit(meta, make_kv(meta))
    store.flush(10.0)
    assert_reads(store.open(meta.variant_id), make_kv(meta))
    store.close()
    with pytest.raises(TierFault, match="does not serve"):
        S3Tier("no-such-bucket", client=s3_client).put(pack(meta, make_kv(meta)))


def test_names_of_tiers(tmp_path):
    spec = f"ram:4GB, disk:{tmp_path}:50GiB,redis://host:1/0?prefix=p&capacity=1TB,s3://bucket/a/b"
    ram, disk, redis, s3 = tiers_from_spec(spec)
    assert (ram.capacity_bytes, disk.capacity_bytes) == (4 * 10**9, 50 * 2**30)
    assert (redis.capacity_bytes, s3.capacity_bytes) == (10**12, None)
    assert [one.name for one in (ram, disk, redis, s3)] == ["ram", "disk", "redis", "s3"]
    assert tiers_from_spec(f"disk:{tmp_path}")[0].capacity_bytes is None


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "no tiers"),
        ("ram", "names no tier"),
        ("ram:", "names no tier"),
        ("ram:lots", "no size"),
        ("disk:/proc/no/such:1GB", "cannot keep variants"),
        ("disk:kv:1GB?nonsense=1", "no option 'nonsense'"),
        ("redis:host", "names no tier"),
        ("redis://host/0?what=1", "no option"),
        ("s3:///prefix", "names no bucket"),
        ("http://host", "names no tier"),
    ],
)
def test_wrong_names_of_tiers(spec, message):
    with pytest.raises(InputError, match=message):
        tiers_from_spec(spec)


def test_a_shared_folder_is_named_as_such(tmp_path):
    own, shared = tiers_from_spec(f"disk:{tmp_path}/a,disk:{tmp_path}/b:1GB?shared=1")
    assert not own.is_shared and shared.is_shared and shared.capacity_bytes == 10**9


def test_old_notes_of_a_shared_folder_are_cleared_away(tmp_path):
    tier, meta = SharedDiskTier(tmp_path), make_meta()
    tier.bury(meta.variant_id)
    note = tmp_path / "dead" / meta.variant_id
    assert tier.buried() == {meta.variant_id} and tier.ids() == set()
    almost_a_day_ago, more_than_a_day_ago = time.time() - 86_000, time.time() - 86_500
    os.utime(note, (almost_a_day_ago, almost_a_day_ago))
    assert tier.buried() == {meta.variant_id} and note.exists()
    os.utime(note, (more_than_a_day_ago, more_than_a_day_ago))
    assert tier.buried() == set() and not note.exists()


def test_a_variant_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    meta = make_meta("c0", tokens=300)
    packed = pack(meta, make_kv(meta))
    tier, synced = DiskTier(tmp_path), []
    final = tier.path_of(meta.variant_id)
    sync = os.fsync

    def watched(handle):
        seen = os.fstat(handle)
        synced.append((seen.st_ino, seen.st_size, final.exists()))
        sync(handle)

    monkeypatch.setattr(os, "fsync", watched)
    tier.put(packed)
    file, folder = final.stat(), final.parent.stat()
    assert (file.st_ino, file.st_size, False) in synced, "its bytes were not brought to the disk before the rename"
    assert (folder.st_ino, folder.st_size, True) in synced, "nor its name after it"
