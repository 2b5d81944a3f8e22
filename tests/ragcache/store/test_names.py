"""Invalidation finds the KV of a document under every name that its text came with, also after a restart."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading

import fakeredis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nonet.ragcache.store.chunk_store import ChunkStore
from nonet.ragcache.store.disk import DiskTier
from nonet.ragcache.store.names import Names, hash_of
from nonet.ragcache.store.ram import RamTier
from nonet.ragcache.store.redis_tier import RedisTier
from nonet.ragcache.store.shared_disk import SharedDiskTier
from nonet.ragcache.store.tiers import TierFault
from tests.ragcache.store.parts import make_kv, make_meta
from tests.ragcache.store.test_tiers import KINDS, SHARED, make, s3_client  # noqa: F401

LASTING = [kind for kind in KINDS if kind != "ram"]


def submit(store, *metas):
    for meta in metas:
        store.submit(meta, make_kv(meta))
    assert store.flush(10.0)


def opened(*tiers, **options):
    return ChunkStore(tiers, refresh_s=100.0, **options)


def test_a_text_goes_with_each_document_that_it_stands_in():
    for name in ("a.md", "b.md", "c.md"):
        store = opened(RamTier())
        store.named([("text", "a.md")])
        submit(store, make_meta("text", documents=("a.md",)), make_meta("other", documents=("d.md",)))
        store.named([("text", "b.md")])
        submit(store, make_meta("text", documents=("c.md",)))  # a duplicate: only its name is new
        assert store.stats().counts["duplicates"] == 1
        assert store.invalidate(document=name) == 1
        assert store.variants("text") == () and len(store.variants("other")) == 1
        assert store.invalidate(document=name) == 0
        store.check_integrity()
        store.close()


def test_what_was_computed_behind_a_document_goes_with_it():
    store = opened(RamTier())
    store.named([("x", "x.md"), ("y", "y.md")])
    behind = make_meta("y", ("w", "x"), documents=("y.md",))
    submit(store, make_meta("x", documents=("x.md",)), behind, make_meta("y", ("w",), documents=("y.md",)))
    store.invalidate(chunk_key="x")
    assert [one.prefix_keys for one in store.variants("y")] == [("w",)]
    submit(store, behind)  # only as a neighbour is x still there, and found under its name all the same
    store.named([("x", "x.md")])
    assert store.invalidate(document="x.md") == 1
    assert [one.prefix_keys for one in store.variants("y")] == [("w",)]
    store.check_integrity()
    store.close()


def test_a_document_only_met_before_a_chunk_keeps_its_name_as_long_as_that_variant():
    store = opened(RamTier(), max_chunks=1)
    store.named([("x", "x.md"), ("y", "y.md")])
    submit(store, make_meta("x", documents=("x.md",)), make_meta("y", ("x",), documents=("y.md",)))
    assert store.variants("x") == ()  # evicted; y's variant carries its content
    assert store.invalidate(document="x.md") == 1
    assert store.stats().num_variants == 0
    store.close()


class SlowTier(RamTier):
    is_memory = False

    def __init__(self):
        super().__init__()
        self.go = threading.Event()

    def put(self, packed):
        assert self.go.wait(10.0)
        super().put(packed)


def test_what_waits_to_be_stored_goes_too():
    slow = SlowTier()
    store = opened(slow)
    store.named([("x", "x.md"), ("y", "y.md"), ("y", "also.md")])
    for meta in (make_meta("x", documents=("x.md",)), make_meta("y", ("x",), documents=("y.md",)), make_meta("y")):
        store.submit(meta, make_kv(meta))
    assert store.invalidate(document="x.md") == 2
    assert store.invalidate(document="also.md") == 1
    slow.go.set()
    assert store.flush(10.0) and store.stats().num_variants == 0 and slow.ids() == set()
    store.check_integrity()
    store.close()


@pytest.mark.parametrize("kind", LASTING)
def test_a_tier_keeps_names(make, kind):  # noqa: F811
    tier = make(kind)
    one, two, three = (hash_of("a"), hash_of("x")), (hash_of("a"), hash_of("y")), (hash_of("b"), hash_of("x"))
    assert tier.notes() == {} and tier.noted(one[0]) == set()
    tier.note([one, two])
    tier.note([two, three])
    tier.note([])
    assert set(tier.notes()) == {one, two, three} and min(tier.notes().values()) > 1.7e9
    assert tier.noted(one[0]) == {one[1], two[1]} and tier.noted(three[0]) == {three[1]}
    assert tier.ids() == set()
    tier.unnote([one, ("never", "there")])
    tier.unnote([])
    assert set(tier.notes()) == {two, three}
    tier.unnote([two])
    assert tier.noted(one[0]) == set() and set(tier.notes()) == {three}
    tier.note([one])
    assert tier.noted(one[0]) == {one[1]}


@pytest.mark.parametrize("kind", ["disk", "shared disk", "redis", "s3"])
@pytest.mark.parametrize("name", ["a.md", "late.md", "before.md", "late-before.md"])
def test_names_survive_a_restart(make, kind, name):  # noqa: F811
    store = opened(RamTier(), make(kind))
    store.named([("w", "before.md"), ("t", "a.md")])
    submit(store, make_meta("t", ("w",), documents=("a.md",)), make_meta("z"))
    store.named([("t", "late.md"), ("w", "late-before.md")])
    store.close()
    again = opened(RamTier(), make(kind))
    assert len(again.variants("t")) == 1
    assert again.invalidate(document=name) == 1
    assert again.variants("t") == () and len(again.variants("z")) == 1
    again.check_integrity()
    again.close()
    last = opened(make(kind))
    assert last.variants("t") == () and last.invalidate(document=name) == 0
    last.close()


@pytest.mark.parametrize("kind", SHARED)
def test_one_machine_deletes_under_a_name_that_only_another_has_seen(make, kind):  # noqa: F811
    one, other = opened(RamTier(), make(kind)), opened(RamTier(), make(kind))
    told = []
    one.on_invalidated(lambda ids, chunks: told.append((ids, chunks)))
    meta = make_meta("t", documents=("a.md",))
    submit(one, meta)
    other.refresh()
    one.named([("t", "b.md")])
    assert one.flush(10.0)
    assert other.invalidate(document="b.md") == 1
    one.refresh()
    assert one.variants("t") == () and told == [({meta.variant_id}, set())]
    one.check_integrity()
    one.close()
    other.close()


def test_names_are_written_before_the_kv_that_depends_on_them(tmp_path):
    order = []

    class Watched(DiskTier):
        def note(self, names):
            super().note(names)
            order.append("note")

        def put(self, packed):
            missing = {(hash_of(d), hash_of(c)) for d, c in (("x.md", "x"), ("y.md", "y"))} - self.notes().keys()
            order.append(f"put without {missing}" if missing else "put")
            super().put(packed)

    store = opened(Watched(tmp_path))
    store.named([("x", "x.md"), ("y", "y.md")])
    submit(store, make_meta("y", ("x",), documents=("y.md",)))
    assert order[-1] == "put" and order.count("put") == 1 and order[0] == "note"
    store.close()


def test_neither_names_nor_keys_can_be_read_from_a_folder(tmp_path):
    store = opened(DiskTier(tmp_path))
    store.named([("t", "merger-with-acme.pdf"), ("t", "../../etc/passwd"), ("t", "x" * 5000), ("t", "\ud800")])
    assert store.flush(10.0)
    names = [path.name for path in (tmp_path / "names").rglob("*")]
    assert len(names) == 8 and all(len(name) == 32 and set(name) <= set("0123456789abcdef") for name in names)
    store.close()


def test_a_chunk_with_too_many_names_loses_its_kv_and_no_name():
    store = opened(RamTier())
    store._index.names = Names(max_documents=3)
    submit(store, make_meta("t", documents=("d0",)), make_meta("u", ("t",)), make_meta("z"))
    for number in (1, 2, 2, 0):
        store.named([("t", f"d{number}")])
    assert store.stats().num_variants == 3
    store.named([("t", "d3")])
    assert [len(store.variants(one)) for one in "tuz"] == [0, 0, 1]
    submit(store, make_meta("t", documents=("d3",)))
    assert store.invalidate(document="d3") == 1
    store.check_integrity()
    store.close()


def test_names_without_variants_are_forgotten_in_memory_and_after_a_day_in_tiers(tmp_path):
    store = opened(RamTier(), DiskTier(tmp_path))
    submit(store, make_meta("kept", documents=("kept.md",)))
    store.named([("old", "old.md"), ("new", "new.md"), ("kept", "also.md")])
    store.close()
    for document in ("old.md", "also.md"):
        for path in (tmp_path / "names" / hash_of(document)).iterdir():
            os.utime(path, (1.0, 1.0))
    again = opened(RamTier(), DiskTier(tmp_path))
    left = {document for document, _ in again._tiers[1].notes()}
    assert left == {hash_of(one) for one in ("kept.md", "also.md", "new.md")}
    assert again.invalidate(document="also.md") == 1
    again.close()


def test_names_of_what_is_never_stored_do_not_pile_up():
    names = Names()
    for number in range(20_000):
        names.add(f"c{number}", "d")
    assert len(names._documents) <= 4097
    names.check_integrity([])


def test_a_process_that_is_killed_leaves_no_kv_without_its_names(tmp_path):
    script = f"""
        from nonet.ragcache.store.chunk_store import ChunkStore
        from nonet.ragcache.store.disk import DiskTier
        from tests.ragcache.store.parts import make_kv, make_meta
        store = ChunkStore([DiskTier({str(tmp_path)!r})])
        for i in range(100000):
            meta = make_meta(f"c{{i}}", (f"w{{i}}",), documents=(f"d{{i}}",))
            store.named([(f"w{{i}}", f"e{{i}}"), (f"c{{i}}", f"d{{i}}")])
            store.submit(meta, make_kv(meta))
            store.flush()
            print(i, flush=True)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE)
    try:
        for _ in range(25):
            process.stdout.readline()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    store = opened(DiskTier(tmp_path))
    found = [number for number in range(60) if store.variants(f"c{number}")]
    assert len(found) >= 25
    assert all(store.invalidate(document=f"e{number}") == 1 for number in found)
    store.close()


@pytest.mark.parametrize("kind", ["redis", "broken disk"])
def test_a_tier_that_does_not_answer_is_told_later(tmp_path, kind):
    server = fakeredis.FakeServer()

    class Broken(SharedDiskTier):
        is_broken = False

        def remove(self, variant_id):
            if self.is_broken:
                raise TierFault("input/output error")
            super().remove(variant_id)

        def noted(self, document):
            if self.is_broken:
                raise TierFault("input/output error")
            return super().noted(document)

    def tier():
        if kind == "redis":
            return RedisTier("redis://unused", client=fakeredis.FakeRedis(server=server))
        return Broken(tmp_path)

    store = opened(tier(), retry_s=0.0)
    store.named([("t", "b.md")])
    submit(store, make_meta("t", documents=("a.md",)), make_meta("u", documents=("c.md",)))
    store.named([("u", "late.md")])
    assert store.flush(10.0)
    server.connected, store._tiers[0].is_broken = False, True
    assert store.invalidate(document="b.md") == 1 and store.variants("t") == ()
    server.connected, store._tiers[0].is_broken = True, False
    store.refresh()
    store.refresh()
    assert store.variants("t") == () and len(store.variants("u")) == 1
    store.close()
    again = opened(tier())
    assert again.variants("t") == () and len(again.variants("u")) == 1
    assert again.invalidate(document="late.md") == 1
    again.close()


operations = st.lists(
    st.one_of(
        st.tuples(st.just("named"), st.sampled_from("abcd"), st.sampled_from("pqr")),
        st.tuples(st.just("submit"), st.sampled_from("abcd"), st.lists(st.sampled_from("abcd"), max_size=2)),
        st.tuples(st.just("invalidate"), st.sampled_from("pqr"), st.none()),
    ),
    max_size=25,
)


@settings(max_examples=40, deadline=None)
@given(operations)
def test_after_a_deletion_nothing_that_depends_on_the_document_is_left(done):
    """The oracle remembers every name of every chunk that has a variant, and which variant depends on which chunk."""
    store = opened(RamTier())
    kept, named = {}, {}
    for what, first, second in done:
        if what == "named":
            store.named([(first, second)])
            named.setdefault(first, set()).add(second)
        elif what == "submit":
            meta = make_meta(first, tuple(second))
            submit(store, meta)
            kept[meta.variant_id] = {first, *second}
        else:
            of_document = {chunk for chunk, names in named.items() if first in names}
            gone = {one for one, chunks in kept.items() if chunks & of_document}
            assert store.invalidate(document=first) == len(gone)
            before = {chunk for chunks in kept.values() for chunk in chunks}
            kept = {one: chunks for one, chunks in kept.items() if one not in gone}
            # Names end with the last variant that depended on their chunk, and a document's with its deletion.
            in_use = {chunk for chunks in kept.values() for chunk in chunks}
            named = {chunk: names - {first} for chunk, names in named.items() if chunk in in_use or chunk not in before}
        assert {one for key in "abcd" for one in (meta.variant_id for meta in store.variants(key))} == kept.keys()
        store.check_integrity()
    store.close()
