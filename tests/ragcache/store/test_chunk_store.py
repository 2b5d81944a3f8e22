"""The store over memory and disk: what goes in comes out, limits hold, the books agree."""

from __future__ import annotations

import threading
import time

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nonet.common.errors import InputError
from nonet.ragcache.store.chunk_store import ChunkStore
from nonet.ragcache.store.disk import DiskTier
from nonet.ragcache.store.layout import pack
from nonet.ragcache.store.ram import RamTier
from nonet.ragcache.store.tiers import TierFault
from nonet.ragcache.store.variant import VariantUnavailable
from tests.ragcache.store.parts import assert_reads, make_kv, make_meta

NUM_BYTES = make_meta().num_bytes


def submit(store, *metas):
    for meta in metas:
        store.submit(meta, make_kv(meta, hash(meta.variant_id) % 1000))
    assert store.flush(10.0)


def check(store, meta):
    assert_reads(store.open(meta.variant_id), make_kv(meta, hash(meta.variant_id) % 1000))


@pytest.fixture
def both(tmp_path):
    store = ChunkStore([RamTier(3 * NUM_BYTES), DiskTier(tmp_path)], retry_s=0.0)
    yield store
    store.flush(10.0)
    store.check_integrity()
    store.close()


def test_what_goes_in_comes_out_of_memory_and_of_disk(both):
    metas = [make_meta(f"c{i}", ("p",), dtype="bfloat16" if i % 2 else "float32", tokens=i) for i in range(8)]
    submit(both, *metas)
    assert {both.tier_of(meta.variant_id) for meta in metas} == {"ram", "disk"}
    for meta in metas:
        assert both.variants(meta.chunk_key) == (meta,)
        check(both, meta)


def test_a_variant_survives_a_restart(tmp_path):
    metas = [make_meta("c", (f"p{i}",), created_s=float(9 - i)) for i in range(3)]
    store = ChunkStore.from_spec(f"ram:1MB,disk:{tmp_path}:1MB")
    submit(store, *metas)
    store.close()
    again = ChunkStore.from_spec(f"ram:1MB,disk:{tmp_path}:1MB")
    assert again.variants("c") == tuple(reversed(metas))  # in order of creation
    assert {again.tier_of(meta.variant_id) for meta in metas} == {"disk"}
    for meta in metas:
        check(again, meta)
    again.flush(10.0)
    assert {again.tier_of(meta.variant_id) for meta in metas} == {"ram"}  # what was read is kept at hand
    again.check_integrity()
    again.close()


def test_only_exact_variants_are_stored(both):
    meta = make_meta(exact=False)
    with pytest.raises(InputError, match="only exactly computed"):
        both.submit(meta, make_kv(meta))


def test_the_same_variant_is_kept_once(both):
    submit(both, make_meta("c", ("a",)))
    submit(both, make_meta("c", ("a",)), make_meta("c", ("a",), variant_id="other"))
    submit(both, make_meta("c", ("a",), system="t"), make_meta("c", ("b",)), make_meta("c", ()))
    assert len(both.variants("c")) == 4
    assert both.stats().counts["duplicates"] == 2


def test_an_id_names_one_variant(both):
    submit(both, make_meta("c", ("a",), variant_id="one"))
    with pytest.raises(InputError, match="another variant"):
        submit(both, make_meta("c", ("b",), variant_id="one"))


def test_a_chunk_has_so_many_variants_and_the_newest_stays(tmp_path):
    store = ChunkStore([RamTier(), DiskTier(tmp_path)], max_variants=2)
    metas = [make_meta("c", (f"p{i}",)) for i in range(3)]
    submit(store, metas[0], metas[1])
    store.used(metas[0].variant_id, 0.1)
    submit(store, metas[2])
    assert store.variants("c") == (metas[0], metas[2])
    store.check_integrity()
    store.close()


def test_the_newest_variant_stays_though_the_others_were_used_more():
    store = ChunkStore([RamTier()], max_variants=2, eviction="lfu")
    metas = [make_meta("c", (f"p{i}",)) for i in range(3)]
    submit(store, metas[0], metas[1])
    for meta in (metas[0], metas[0], metas[1]):
        store.used(meta.variant_id, 0.1)
    submit(store, metas[2])
    assert store.variants("c") == (metas[0], metas[2])
    store.close()


def test_so_many_chunks_are_kept(tmp_path):
    store = ChunkStore([RamTier()], max_chunks=2)
    submit(store, make_meta("a"), make_meta("b"), make_meta("b", ("x",)))
    store.used(make_meta("a").variant_id, 0.1)
    submit(store, make_meta("c"))
    assert [len(store.variants(chunk)) for chunk in "abc"] == [1, 0, 1]
    store.close()


def test_victims_are_demoted_before_they_are_dropped(tmp_path):
    store = ChunkStore([RamTier(2 * NUM_BYTES), RamTier(2 * NUM_BYTES, name="slow")])
    metas = [make_meta(f"c{i}") for i in range(5)]
    submit(store, *metas)
    assert [store.tier_of(meta.variant_id) for meta in metas] == ["", "slow", "slow", "ram", "ram"]
    store.check_integrity()
    store.close()


def test_pinned_and_open_variants_stay():
    store = ChunkStore([RamTier(3 * NUM_BYTES)])
    metas = [make_meta(f"c{i}") for i in range(5)]
    submit(store, *metas[:3])
    store.pin(metas[0].variant_id)
    reader = store.open(metas[1].variant_id)
    submit(store, *metas[3:])
    assert [bool(store.tier_of(meta.variant_id)) for meta in metas] == [True, True, False, False, True]
    store.unpin(metas[0].variant_id)
    reader.close()
    reader.close()
    submit(store, make_meta("c5"), make_meta("c6"), make_meta("c7"))
    assert [bool(store.tier_of(meta.variant_id)) for meta in metas] == [False] * 5
    store.pin(make_meta("c5").variant_id)
    store.pin(make_meta("c6").variant_id)
    store.pin(make_meta("c7").variant_id)
    submit(store, make_meta("c8"))
    assert store.tier_of(make_meta("c8").variant_id) == ""
    assert store.stats().counts["not_stored"] == 1
    store.check_integrity()
    store.close()


def test_invalidation_by_document_and_by_chunk(both):
    metas = [make_meta("a", documents=("d",)), make_meta("c", documents=("e",)), make_meta("b")]
    submit(both, *metas)
    reader = both.open(metas[0].variant_id)
    assert both.invalidate(document="d") == 1
    assert both.variants("a") == ()
    assert both.variants("c") == (metas[1],)
    assert_reads(reader, make_kv(metas[0], hash(metas[0].variant_id) % 1000))  # who reads, reads to the end
    assert both.invalidate(document="d") == 0
    assert both.invalidate(chunk_key="c") == 1
    assert both.variants("c") == ()
    assert both.variants("b") == (metas[2],)
    with pytest.raises(InputError, match="either"):
        both.invalidate()
    submit(both, metas[0])  # what was invalidated can come back
    check(both, metas[0])


class SlowTier(RamTier):
    """Takes its time to write."""

    is_memory = False

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.go = threading.Event()

    def put(self, packed):
        assert self.go.wait(10.0)
        super().put(packed)


def test_submitting_never_waits_and_what_is_too_much_is_refused():
    slow = SlowTier()
    store = ChunkStore([slow], max_pending_bytes=3 * NUM_BYTES)
    metas = [make_meta(f"c{i}") for i in range(5)]
    start = time.monotonic()
    for meta in metas:
        store.submit(meta, make_kv(meta))
    assert time.monotonic() - start < 1.0
    assert not store.flush(0.01)
    slow.go.set()
    assert store.flush(10.0)
    assert store.stats().counts["refused"] == 2
    assert store.stats().num_variants == 3
    assert store.stats().pending_bytes == 0
    store.close()
    store.close()


def test_what_is_invalidated_while_it_waits_or_is_written_is_not_stored():
    slow = SlowTier()
    store = ChunkStore([slow])
    for name in ("a", "b"):
        store.submit(make_meta(name, documents=(name,)), make_kv(make_meta(name)))
    assert store.invalidate(document="b") == 1
    while make_meta("a").variant_id not in store._index:
        time.sleep(0.001)
    assert store.invalidate(chunk_key="a") == 1  # is being written now
    slow.go.set()
    assert store.flush(10.0)
    assert store.stats().num_variants == 0
    assert slow.ids() == set()
    store.close()


def test_promotion_brings_variants_into_memory(tmp_path):
    disk = DiskTier(tmp_path)
    store = ChunkStore([RamTier(2 * NUM_BYTES), disk])
    metas = [make_meta(f"c{i}") for i in range(4)]
    submit(store, *metas)
    lower = [meta.variant_id for meta in metas if store.tier_of(meta.variant_id) == "disk"]
    store.promote([*lower, "gone"])
    assert store.flush(10.0)
    assert [store.tier_of(one) for one in lower] == ["ram", "ram"]
    assert len(disk.ids()) == 4
    store.check_integrity()
    store.close()


def test_what_is_at_hand_is_not_promoted_again(tmp_path):
    store = ChunkStore([RamTier(), DiskTier(tmp_path)])
    meta = make_meta()
    submit(store, meta)
    store.promote([meta.variant_id])
    assert store.flush(10.0)
    assert store.stats().counts["promoted"] == 0
    store.close()


def test_of_equal_worth_the_older_makes_room():
    slow = RamTier(NUM_BYTES, name="slow")
    store = ChunkStore([RamTier(NUM_BYTES), slow], eviction="lfu")
    metas = [make_meta(name) for name in "abc"]
    submit(store, *metas)
    assert slow.ids() == {metas[1].variant_id} and store.tier_of(metas[2].variant_id) == "ram"
    store.check_integrity()
    store.close()


def test_an_unknown_variant_is_unavailable(both):
    with pytest.raises(VariantUnavailable):
        both.open("nothing")
    with pytest.raises(VariantUnavailable):
        both.pin("nothing")
    both.used("nothing", 0.5)
    both.unpin("nothing")


def test_a_tier_that_fails_is_left_alone_for_a_while():
    class Broken(RamTier):
        is_memory = False

        def open(self, variant_id):
            raise TierFault("no answer")

    now = make_meta("a")
    store = ChunkStore([Broken()], retry_s=0.2)
    submit(store, now)
    with pytest.raises(VariantUnavailable, match="no answer"):
        store.open(now.variant_id)
    assert store.variants("a") == ()
    assert not store.stats().tiers[0].is_up
    time.sleep(0.25)
    assert store.variants("a") == (now,)
    assert store.stats().faults == {"ram: fault": 1}
    assert store._index.victim(0).meta == now  # what could not be opened is not held for ever
    store.close()


def test_many_threads(tmp_path):
    store = ChunkStore([RamTier(10 * NUM_BYTES), DiskTier(tmp_path, 60 * 8192)], max_variants=3)
    failures = []

    def work(seed):
        try:
            for i in range(30):
                meta = make_meta(f"c{(seed * 7 + i) % 12}", (f"p{i % 4}",), documents=(f"d{i % 5}",))
                store.submit(meta, make_kv(meta, 1))
                for found in store.variants(meta.chunk_key):
                    try:
                        assert_reads(store.open(found.variant_id), make_kv(found, 1))
                        store.used(found.variant_id, 0.3)
                    except VariantUnavailable:
                        pass
                if i % 10 == 9:
                    store.invalidate(document=f"d{seed % 5}")
                store.promote([meta.variant_id])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert store.flush(20.0)
    store.check_integrity()
    assert set(store.stats().faults) <= {"ram: gone", "disk: gone"}
    store.close()


class Machine(RuleBasedStateMachine):
    """Random doings; the books agree after each, and what can be opened is what was submitted."""

    chunks = st.sampled_from("abcdef")
    prefixes = st.sampled_from([(), ("x",), ("x", "y"), ("y", "x")])

    def __init__(self):
        super().__init__()
        self.tiers = [RamTier(4 * NUM_BYTES), RamTier(9 * NUM_BYTES, name="slow")]
        self.store = ChunkStore(self.tiers, max_variants=2, max_chunks=5)

    @rule(chunk=chunks, prefix=prefixes, tokens=st.integers(0, 12))
    def submit(self, chunk, prefix, tokens):
        meta = make_meta(chunk, prefix, tokens=tokens, documents=(f"d{len(prefix)}",))
        self.store.submit(meta, make_kv(meta, tokens))
        self.store.flush(5.0)

    @rule(chunk=chunks, cfo=st.floats(0, 1))
    def use(self, chunk, cfo):
        for meta in self.store.variants(chunk):
            assert_reads(self.store.open(meta.variant_id), make_kv(meta, meta.num_tokens))
            self.store.used(meta.variant_id, cfo)
        self.store.flush(5.0)

    @rule(chunk=chunks)
    def promote(self, chunk):
        self.store.promote(meta.variant_id for meta in self.store.variants(chunk))
        self.store.flush(5.0)

    @rule(chunk=chunks)
    def invalidate(self, chunk):
        assert self.store.invalidate(chunk_key=chunk) <= 2
        assert self.store.variants(chunk) == ()

    @precondition(lambda self: self.store.stats().num_variants > 3)
    @rule(number=st.integers(0, 2))
    def invalidate_document(self, number):
        self.store.invalidate(document=f"d{number}")

    @invariant()
    def holds(self):
        self.store.check_integrity()
        stats = self.store.stats()
        assert stats.num_chunks <= 5
        assert stats.num_variants <= 10
        assert stats.faults == {}

    def teardown(self):
        self.store.close()


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
torch.set_num_threads(1)


def test_a_tier_that_raises_what_it_may_not_leaves_nothing_behind(caplog):
    class Wrong(RamTier):
        def put(self, packed):
            raise ZeroDivisionError("a defect")

    store = ChunkStore([Wrong()])
    submit(store, make_meta("a"))
    assert "a defect" in caplog.text
    assert store.stats().num_variants == 0
    assert store.stats().pending_bytes == 0
    submit(store, make_meta("a"))
    assert store.stats().counts["not_stored"] == 2
    store.check_integrity()
    store.close()


def test_what_is_worth_less_does_not_push_out_what_is_worth_more():
    slow = RamTier(2 * NUM_BYTES, name="slow")
    store = ChunkStore([RamTier(NUM_BYTES), slow])
    dear = [make_meta("a"), make_meta("b")]
    submit(store, *dear, make_meta("c"))  # now a and b are in the slower tier
    for meta in dear:
        store.used(meta.variant_id, 0.05)
    submit(store, make_meta("d"))
    assert slow.ids() == {meta.variant_id for meta in dear}
    assert store.variants("c") == ()
    store.close()


def test_a_damaged_copy_is_not_promoted(tmp_path):
    disk = DiskTier(tmp_path)
    meta = make_meta(tokens=300)
    disk.put(pack(meta, make_kv(meta)))
    path = disk.path_of(meta.variant_id)
    data = bytearray(path.read_bytes())
    data[4100] ^= 1
    path.write_bytes(data)
    store = ChunkStore([RamTier(), disk])
    store.promote([meta.variant_id])
    store.flush(10.0)
    assert store.variants("c0") == ()
    assert store.stats().faults == {"disk: damaged": 1}
    assert store.stats().counts["promoted"] == 0
    store.close()


def test_pins_are_counted():
    store = ChunkStore([RamTier(NUM_BYTES)])
    submit(store, make_meta("a"))
    store.pin(make_meta("a").variant_id)
    store.pin(make_meta("a").variant_id)
    store.unpin(make_meta("a").variant_id)
    submit(store, make_meta("b"))
    assert len(store.variants("a")) == 1
    store.unpin(make_meta("a").variant_id)
    submit(store, make_meta("b"))
    assert store.variants("a") == ()
    store.close()
