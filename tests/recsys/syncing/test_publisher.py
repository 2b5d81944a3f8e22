"""Deltas against the table itself and against a dictionary of what changed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nonet.common.errors import InputError
from nonet.recsys.features.fid import bucket_of
from nonet.recsys.syncing import DeltaPublisher, InProcessLink, LinkDownError, Replica, SyncLoop
from nonet.recsys.syncing.changes import ChangeLog
from nonet.recsys.syncing.messages import Delta, decode
from nonet.recsys.syncing.trials import FaultyLink, is_equal
from nonet.recsys.table import SGD, EmbeddingTable
from nonet.recsys.table.compressors import Fixed8, Fp16, Fp32, RowCodec

EXTREMES = [0, -1, -(1 << 63), (1 << 63) - 1, 1 << 32]
ALL = np.ones(1024, bool)


class Recording(FaultyLink):
    """Keeps what was sent."""

    def __init__(self, replica: Replica) -> None:
        super().__init__(replica)
        self.deltas: list[Delta] = []

    def send(self, frame: bytes) -> bytes | None:
        message = decode(frame)
        if isinstance(message, Delta) and not self.is_down:
            self.deltas.append(message)
        return super().send(frame)


def pair(dim: int = 4, **options) -> tuple[EmbeddingTable, Replica, DeltaPublisher, Recording]:
    table, replica = EmbeddingTable(dim, optimizer=SGD()), Replica({"t": dim})
    publisher, link = DeltaPublisher({"t": table}, **options), Recording(replica)
    publisher.attach("r", link)
    return table, replica, publisher, link


def rows(n: int, value: float, dim: int = 4) -> np.ndarray:
    return np.full((n, dim), value, np.float32)


def test_a_replica_changes_by_a_sync_only_and_then_equals_the_table() -> None:
    table, replica, publisher, _ = pair()
    table.upsert(EXTREMES, rows(5, 1.5))
    assert not replica.lookup(EXTREMES).any()
    publisher.publish()
    assert is_equal(table, replica)
    table.apply_gradients([0, -1], rows(2, 1.0))
    assert replica.lookup([0]).tolist() == [[1.5] * 4]
    publisher.publish()
    assert is_equal(table, replica)
    assert len(replica.table()) == 5


def test_a_delta_names_the_touched_keys_alone_and_tombstones() -> None:
    table, replica, publisher, link = pair()
    table.upsert(np.arange(1000), rows(1000, 1))
    publisher.publish()
    link.deltas.clear()
    table.upsert([5, 6], rows(2, 2))
    table.erase([7, 8])
    done = publisher.publish()
    (delta,) = link.deltas
    assert delta.keys.tolist() == [5, 6]
    assert delta.tombstones.tolist() == [7, 8]
    assert done.touched == {"t": 4}
    assert is_equal(table, replica)
    assert publisher.publish().messages == 0  # nothing was touched


def test_the_payload_is_near_its_bound() -> None:
    table, _, publisher, link = pair(dim=16)
    table.upsert(np.arange(2000), rows(2000, 1, 16))
    publisher.publish()
    before = link.payload_bytes
    table.upsert(np.arange(500), rows(500, 2, 16))
    publisher.publish()
    assert 500 * 72 <= link.payload_bytes - before <= 1.15 * 500 * 72


def test_a_replica_that_was_down_gets_exactly_what_it_missed() -> None:
    table, replica, publisher, link = pair()
    table.upsert(np.arange(1000), rows(1000, 1))
    publisher.publish()
    link.deltas.clear()
    link.is_down = True
    for n in range(3):
        table.upsert([n, 500], rows(2, n + 2))
        table.erase([900 + n])
        assert publisher.publish().behind == ("r",)
    link.is_down = False
    assert publisher.pending == {"t": 7}
    publisher.publish()
    (delta,) = link.deltas
    assert delta.keys.tolist() == [0, 1, 2, 500]
    assert delta.tombstones.tolist() == [900, 901, 902]
    assert not delta.whole.any()
    assert is_equal(table, replica)
    assert publisher.pending == {"t": 0}


@pytest.mark.parametrize("has_arrived", [False, True])
def test_what_got_no_answer_is_sent_again_though_nothing_else_changes(
    monkeypatch: pytest.MonkeyPatch, has_arrived: bool
) -> None:
    """No later delta is there to show the gap, so the publisher itself must not believe that it arrived."""
    table, replica, publisher, link = pair()
    table.upsert([5], rows(1, 1))
    with monkeypatch.context() as patch:
        patch.setattr(link, "send", lambda frame: replica.receive(frame) and None if has_arrived else None)
        done = publisher.publish()
    assert (done.behind, done.acknowledged) == (("r",), 0)
    done = publisher.publish()
    assert (done.behind, done.messages) == ((), 1)
    assert is_equal(table, replica)


def test_beyond_the_bound_the_fullest_buckets_go_whole_and_the_others_by_key() -> None:
    table, replica, publisher, link = pair(max_pending_keys=20)
    keys = np.arange(200_000)
    owner = bucket_of(keys)
    crowded, quiet = keys[owner == 3][:100], keys[owner == 4][:100]
    table.upsert(np.concatenate([crowded, quiet]), rows(200, 1))
    publisher.publish()
    link.deltas.clear()
    link.is_down = True
    table.upsert(crowded[:30], rows(30, 2))
    table.upsert(quiet[:5], rows(5, 2))
    table.erase(crowded[60:])
    publisher.publish()
    assert publisher.pending == {"t": 5}
    link.is_down = False
    publisher.publish()
    (delta,) = link.deltas
    assert np.flatnonzero(delta.whole).tolist() == [3]
    assert delta.keys.tolist() == sorted([*crowded[:60], *quiet[:5]])
    assert len(delta.tombstones) == 0
    assert is_equal(table, replica)  # what went in the whole bucket has gone here, too


def test_a_restarted_replica_reports_a_gap_and_gets_everything_in_the_same_interval() -> None:
    table, _, publisher, link = pair()
    table.upsert(np.arange(300), rows(300, 1))
    publisher.publish()
    link.replica = Replica({"t": 4})
    table.upsert([1], rows(1, 2))
    publisher.publish()
    assert link.replica.counts["gap"] == 1
    assert is_equal(table, link.replica)


def test_a_restarted_publisher_takes_over_and_the_old_one_is_refused() -> None:
    table, replica, publisher, _ = pair(incarnation=7)
    table.upsert(np.arange(50), rows(50, 1))
    publisher.publish()
    restored = EmbeddingTable(4, optimizer=SGD())  # of an older snapshot: replicas go back with it
    restored.upsert(np.arange(40), rows(40, 3))
    later = DeltaPublisher({"t": restored}, incarnation=8)
    later.attach("r", InProcessLink(replica))
    later.publish()
    assert is_equal(restored, replica)
    table.upsert([1], rows(1, 2))
    assert "later publisher" in publisher.publish().refused["r"]
    assert is_equal(restored, replica)


def test_another_dimension_or_form_is_refused_by_name() -> None:
    publisher = DeltaPublisher({"t": EmbeddingTable(4)})
    with pytest.raises(InputError, match="'t': the publisher's rows have dim 4, replica 'replica' has 8"):
        publisher.attach("r", InProcessLink(Replica({"t": 8})))
    with pytest.raises(InputError, match="has no table 't'"):
        publisher.attach("r", InProcessLink(Replica({"u": 4})))
    with pytest.raises(InputError, match="Fp16"):
        publisher.attach("r", InProcessLink(Replica({"t": RowCodec(((4, Fp16()),))})))


def test_a_replica_that_changes_its_dimension_later_is_refused_and_the_others_go_on() -> None:
    table, replica, publisher, link = pair()
    second = Replica({"t": 4}, "second")
    publisher.attach("s", InProcessLink(second))
    publisher.publish()
    link.replica = Replica({"t": 8})
    table.upsert([1], rows(1, 2))
    assert "dim 4" in publisher.publish().refused["r"]
    assert is_equal(table, second)
    assert len(replica.table()) == 0


def test_rows_travel_as_the_compressors_of_their_segments_say() -> None:
    codec = RowCodec(((1, Fp32()), (8, Fixed8(r=2.0))))
    table = EmbeddingTable(9, optimizer=SGD())
    replica = Replica({"t": codec})
    publisher = DeltaPublisher({"t": table}, codecs={"t": codec})
    link = FaultyLink(replica)
    publisher.attach("r", link)
    publisher.publish()
    sent = np.random.default_rng(0).uniform(-2, 2, (1000, 9)).astype(np.float32)
    table.upsert(np.arange(1000), sent)
    before = link.payload_bytes
    publisher.publish()
    assert link.payload_bytes - before < 1.02 * 1000 * (8 + 4 + 8)
    got = replica.lookup(np.arange(1000))
    assert got[:, 0].tobytes() == sent[:, 0].tobytes()
    assert np.abs(got[:, 1:] - sent[:, 1:]).max() <= 2 / 254 + 1e-6


def test_a_large_table_is_cut_by_bucket_and_an_interrupted_transfer_goes_on() -> None:
    table, replica, publisher, link = pair(max_message_bytes=20_000)
    table.upsert(np.arange(5000), rows(5000, 1))
    sends = 0

    def limited(frame: bytes, send=link.send) -> bytes | None:
        nonlocal sends
        sends += 1
        if sends > 3:
            raise LinkDownError("gone")
        return send(frame)

    link.send = limited  # type: ignore[method-assign]
    assert publisher.publish().behind == ("r",)
    del link.send
    assert 0 < len(replica.table()) < 5000
    publisher.publish()
    assert is_equal(table, replica)
    assert all(len(delta.encode()) <= 20_000 for delta in link.deltas)
    assert sum(len(delta.keys) for delta in link.deltas) == 5000  # nothing twice


@pytest.mark.parametrize("seed", range(6))
def test_faults_of_all_kinds_end_in_equality_within_two_intervals(seed: int) -> None:
    rng = np.random.default_rng(seed)
    table, replica = EmbeddingTable(4, optimizer=SGD()), Replica({"t": 4})
    publisher = DeltaPublisher({"t": table}, max_pending_keys=150, max_message_bytes=3000)
    link = FaultyLink(replica, rate=0.18, seed=seed)
    publisher.attach("r", link)
    for n in range(25):
        link.is_down = n % 7 in (3, 4, 5)
        keys = rng.integers(-200, 200, 60)
        table.upsert(keys, rng.standard_normal((60, 4), np.float32))
        table.erase(rng.integers(-200, 200, 40))
        publisher.publish()
    assert link.faults > 20
    assert replica.counts["corrupt"] > 0
    link.rate, link.is_down = 0.0, False
    publisher.publish()
    link.release()
    publisher.publish()
    assert is_equal(table, replica)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.lists(st.integers(-20, 20), max_size=6), st.integers(0, 2)), max_size=12), st.integers(1, 9)
)
def test_the_change_log_tells_each_replica_at_least_what_it_lacks(steps: list, max_keys: int) -> None:
    log = ChangeLog(ALL, max_keys)
    newest: dict[int, int] = {}
    cursors = [np.ones(1024, np.int64) for _ in range(3)]
    for keys, replica in steps:
        epoch = log.record(np.unique(np.array(keys, np.int64)))
        newest |= dict.fromkeys(keys, epoch)
        log.check_integrity()
        told, whole = log.since(cursors[replica])
        lacking = {key for key, at in newest.items() if at > cursors[replica][bucket_of(np.array([key]))[0]]}
        in_whole = {key for key in newest if whole[bucket_of(np.array([key]))[0]]}
        assert lacking - in_whole == set(told.tolist()) - in_whole  # neither more nor less
        assert len(log) <= max_keys
        cursors[replica][:] = log.epoch
        log.trim(np.minimum.reduce(cursors))
        told, whole = log.since(cursors[replica])
        assert not len(told)
        assert not whole.any()


def test_dense_parameters_are_versions() -> None:
    _, replica, publisher, link = pair()
    publisher.put_dense("ctr", {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array(3)})
    link.is_down = True
    publisher.publish()
    link.is_down = False
    weights = np.ones((2, 3), np.float32)
    assert publisher.put_dense("ctr", {"w": weights, "n": np.array(4)}) == 2
    weights[:] = 9  # what is published does not change with the trainer's memory
    publisher.publish()
    blob = replica.dense("ctr")
    assert blob is not None
    assert blob.version == 2
    assert blob.arrays["w"].tolist() == [[1.0] * 3] * 2
    assert blob.arrays["n"].shape == ()
    assert publisher.publish().messages == 0


def test_staleness_is_now_less_the_newest_applied_event() -> None:
    table, replica, publisher, _ = pair(shard=2)
    assert replica.staleness_s(5.0) == float("inf")
    table.upsert([1], rows(1, 1))
    publisher.publish(event_ts_ms=61_000)
    assert replica.staleness_s(100.0) == 39.0
    assert replica.staleness_s(100.0, shard=2) == 39.0
    assert replica.staleness_s(100.0, shard=1) == float("inf")
    publisher.publish(event_ts_ms=99_000)  # nothing was touched
    assert replica.staleness_s(100.0) == 39.0


def test_a_restored_table_is_as_stale_as_what_it_has_learned() -> None:
    table, replica, publisher, _ = pair()
    table.upsert([1], rows(1, 1))
    table.take_touched()  # as after a restore: rows, and none of them touched
    publisher.publish(event_ts_ms=61_000)
    assert replica.lookup([1]).tolist() == rows(1, 1).tolist()
    assert replica.staleness_s(100.0) == 39.0


def test_followers_hear_what_readers_see() -> None:
    table, replica, publisher, _ = pair()
    heard = []
    replica.follow(lambda name, keys, values, gone: heard.append((name, keys.tolist(), values.tolist(), gone.tolist())))
    table.upsert([1, 2], rows(2, 1))
    publisher.publish()
    table.erase([2])
    publisher.publish()
    assert heard == [("t", [1, 2], [[1.0] * 4] * 2, []), ("t", [], [], [2])]


def test_the_loop_publishes_by_itself_and_says_what_ended_it() -> None:
    table, replica, publisher, _ = pair()
    loop = SyncLoop(publisher, 0.02, lambda: 5000).start()
    table.upsert([1], rows(1, 1))
    for _ in range(200):
        if replica.lookup([1]).any():
            break
        loop._stopping.wait(0.01)
    assert replica.lookup([1]).any()
    table.upsert([2], rows(1, 1))
    loop.stop()
    assert is_equal(table, replica)
    broken = SyncLoop(publisher, 0.01, lambda: 1 // 0).start()
    broken._thread.join(5)
    with pytest.raises(ZeroDivisionError):
        broken.stop()


def test_what_is_no_message_is_answered_as_corrupt() -> None:
    _, replica, _, _ = pair()
    for junk in (b"", b"x" * 40, b"NRS1" + bytes(50)):
        answer = decode(replica.receive(junk))
        assert answer.status == "corrupt"  # type: ignore[union-attr]


def test_bad_settings_are_refused() -> None:
    table = EmbeddingTable(2)
    with pytest.raises(InputError, match="needs a table"):
        DeltaPublisher({})
    with pytest.raises(InputError, match="max_pending_keys"):
        DeltaPublisher({"t": table}, max_pending_keys=0)
    with pytest.raises(InputError, match="buckets"):
        DeltaPublisher({"t": table}, buckets=np.zeros(1024, bool))
    with pytest.raises(InputError, match="interval_s"):
        SyncLoop(DeltaPublisher({"t": table}), 0, lambda: 0)
    with pytest.raises(InputError, match="no tables"):
        Replica({})
