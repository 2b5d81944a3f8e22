"""Shared tiers as a command line names them; a server that is killed, an object that is damaged."""

from __future__ import annotations

import threading

import pytest
import torch
from fakeredis import TcpFakeServer

from nonet.ragcache.store.chunk_store import ChunkStore
from nonet.ragcache.store.variant import VariantUnavailable
from tests.ragcache.store.parts import assert_reads, make_kv, make_meta

torch.set_num_threads(1)


@pytest.fixture
def redis_server():
    server = TcpFakeServer(("127.0.0.1", 0), server_type="redis")
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def test_redis_over_tcp(redis_server):
    spec = f"ram:1MB,redis://127.0.0.1:{redis_server.server_address[1]}/0?prefix=mine&capacity=1MB"
    one, other = ChunkStore.from_spec(spec), ChunkStore.from_spec(spec)
    metas = [make_meta(f"c{i}", ("p",), tokens=i * 50, documents=("d",)) for i in range(4)]
    for meta in metas:
        one.submit(meta, make_kv(meta))
    assert one.flush(10.0)
    other.refresh()
    for meta in metas:
        assert other.tier_of(meta.variant_id) == "redis"
        assert_reads(other.open(meta.variant_id), make_kv(meta))
    assert one.stats().faults == other.stats().faults == {}
    assert one.invalidate(document="d") == 4
    other.refresh()
    assert other.stats().num_variants == 0
    one.close()
    other.close()


def test_redis_killed(redis_server):
    spec = f"redis://127.0.0.1:{redis_server.server_address[1]}/0"
    store = ChunkStore.from_spec(spec, refresh_s=100.0)
    meta = make_meta()
    store.submit(meta, make_kv(meta))
    assert store.flush(10.0)
    assert_reads(store.open(meta.variant_id), make_kv(meta))
    redis_server.shutdown()
    redis_server.server_close()
    store._tiers[0]._client.connection_pool.disconnect()
    with pytest.raises(VariantUnavailable, match="does not serve"):
        store.open(meta.variant_id)
    assert store.variants("c0") == ()
    assert store.stats().faults == {"redis: fault": 1}
    store.close()


@pytest.fixture
def s3(monkeypatch):
    import boto3
    from moto import mock_aws

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        boto3.client("s3").create_bucket(Bucket="bucket")
        yield "s3://bucket/kv"


def test_s3_by_name(s3):
    store = ChunkStore.from_spec(f"ram:1MB,{s3}?capacity=1MB", refresh_s=100.0)
    meta = make_meta(tokens=200, documents=("d",))
    store.submit(meta, make_kv(meta))
    assert store.flush(10.0)
    other = ChunkStore.from_spec(f"ram:1MB,{s3}", refresh_s=100.0)
    assert other.tier_of(meta.variant_id) == "s3"
    assert_reads(other.open(meta.variant_id), make_kv(meta))
    assert store.invalidate(document="d") == 1
    other.refresh()
    assert other.stats().num_variants == 0
    assert other.stats().faults == {}
    other.close()
    store.close()


def test_an_object_that_is_damaged(s3):
    import boto3

    store = ChunkStore.from_spec(s3, refresh_s=100.0)
    client = boto3.client("s3")
    for damage in (lambda data: data[:-1], lambda data: data[:5000], lambda data: b"", flipped):
        meta = make_meta(tokens=300)
        store.submit(meta, make_kv(meta))
        assert store.flush(10.0)
        key = f"kv/kv/{meta.variant_id}.kv"
        data = client.get_object(Bucket="bucket", Key=key)["Body"].read()
        client.put_object(Bucket="bucket", Key=key, Body=damage(data))
        with pytest.raises(VariantUnavailable):
            assert_reads(store.open(meta.variant_id), make_kv(meta))
        assert store.variants("c0") == ()
    faults = store.stats().faults
    # Who reads another layer at that moment may find the object gone, since the damage has taken it away.
    assert faults.pop("s3: damaged") == 4 and set(faults) <= {"s3: gone"}
    store.close()


def flipped(data):
    return data[:6000] + bytes([data[6000] ^ 1]) + data[6001:]
