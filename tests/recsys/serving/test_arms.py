"""Retrieval against brute force, ranking against the trainer."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from nonet.common.errors import InputError
from nonet.recsys.serving import Arm, Assignment, Catalogue, ItemIndex, Recommender, new_items
from nonet.recsys.syncing import Replica
from tests.recsys.serving.conftest import Shop


def test_an_arm_scores_as_the_trainer_does(shop: Shop) -> None:
    shop.sync()
    request = shop.features.of_request("u3", {"hour": 3})
    batch = shop.features.batch(request, [shop.catalogue.ids_of(f"i{n}") for n in range(200)], [0.2], 9000)
    expected = shop.trainer.predict(batch)
    assert np.abs(shop.arm.rank(batch) - expected).max() < 1e-6
    shop.learn("u3", "i5", 1.0, times=5)
    assert np.abs(shop.arm.rank(batch) - expected).max() < 1e-6  # not before the sync
    shop.sync()
    assert np.abs(shop.arm.rank(batch) - shop.trainer.predict(batch)).max() < 1e-6
    assert np.abs(shop.arm.rank(batch) - expected).max() > 1e-3


def test_retrieval_is_the_part_of_the_model_that_hangs_on_the_item(shop: Shop) -> None:
    shop.sync()
    request = shop.features.of_request("u3", {"hour": 3})
    table = shop.trainer.distinct_tables[0]
    v = table.lookup([fid for fids in request.values() for fid in fids])[:, 1:].sum(0)
    fids = [shop.catalogue.ids_of(f"i{n}")["item"][0] for n in range(200)]
    rows = table.lookup(fids)
    score = rows[:, 0] + rows[:, 1:] @ v
    expected = [f"i{n}" for n in np.argsort(-score)[:20]]
    assert set(shop.arm.retrieve(request, 20)) == set(expected)
    assert len(shop.arm.index) == 200  # the unseen have no vector


def test_a_changed_vector_is_found_after_one_sync_and_an_erased_one_no_more(shop: Shop) -> None:
    shop.sync()
    request = shop.features.of_request("u3", {"hour": 3})
    last = shop.arm.retrieve(request, 200)[-1]
    fid = shop.catalogue.ids_of(last)["item"][0]
    table = shop.trainer.distinct_tables[0]
    strong = 5 * shop.arm.query(request)
    table.upsert([fid], strong[None])
    assert shop.arm.retrieve(request, 1) != [last]
    shop.sync()
    assert shop.arm.retrieve(request, 1) == [last]
    table.erase([fid])
    shop.sync()
    assert last not in shop.arm.retrieve(request, 300)


def test_an_item_that_comes_to_the_catalogue_is_found_once_it_was_learned(shop: Shop) -> None:
    shop.sync()
    new_items(shop.catalogue, [shop.arm], {"fresh": {"genre": "g1"}})
    request = shop.features.of_request("u3", {"hour": 3})
    assert "fresh" not in shop.arm.retrieve(request, 300)
    shop.learn("u3", "fresh", 1.0)
    shop.sync()
    assert "fresh" in shop.arm.retrieve(request, 300)


def test_dense_parameters_that_do_not_fit_are_refused_and_the_old_ones_go_on(shop: Shop) -> None:
    shop.sync()
    shop.publisher.put_dense("a", {"offset": np.zeros(3, np.float32)})
    shop.publisher.publish()
    assert "do not fit" in shop.arm.refusal
    shop.sync()
    assert shop.arm.refusal == ""


def test_bad_arms_are_refused(shop: Shop) -> None:
    with pytest.raises(InputError, match="no table"):
        Arm("b", shop.trainer.model, shop.replica, shop.catalogue, tables={"user": "ids"})
    with pytest.raises(InputError, match="one dimension"):
        both = Replica({"ids": 9, "other": 4})
        tables = dict.fromkeys(shop.features.encoders, "ids") | {"user": "other"}
        Arm("b", shop.trainer.model, both, shop.catalogue, tables=tables)
    with pytest.raises(InputError, match="no attributes"):
        Catalogue(shop.features).put("i", {"colour": "red"})


@pytest.mark.parametrize(("exact_up_to", "least"), [(0, 0.95), (4000, 1.0)])
def test_the_index_finds_what_brute_force_finds_also_after_changes(exact_up_to: int, least: float) -> None:
    rng = np.random.default_rng(0)
    ids = rng.integers(-(1 << 63), (1 << 63) - 1, 4000)
    rows = rng.standard_normal((4000, 16)).astype(np.float32)
    index = ItemIndex(16, exact_up_to=exact_up_to)
    index.update(ids, rows)
    for _ in range(2):
        changed = rng.permutation(4000)[:1000]
        rows[changed] += 0.5 * rng.standard_normal((1000, 16)).astype(np.float32)
        index.update(ids[changed], rows[changed])
    index.erase(ids[:500])
    ids, rows = ids[500:], rows[500:]
    assert len(index) == 3500
    hits = 0
    for query in rng.standard_normal((40, 16)).astype(np.float32):
        found, products = index.search(query, 50)
        truth = ids[np.argsort(-(rows @ query))[:50]]
        hits += len(np.intersect1d(found, truth))
        assert (np.diff(products) <= 1e-5).all()
    assert hits / 2000 >= least


def test_an_empty_index_answers_nothing() -> None:
    index = ItemIndex(4)
    index.erase(np.array([3]))
    assert len(index.search(np.ones(4, np.float32), 5)[0]) == 0


def test_users_keep_their_arm_and_shares_hold() -> None:
    shares = {"a": 1, "b": 1, "c": 2}
    users = [f"user-{n}" for n in range(20_000)]
    chosen = [Assignment(shares, "x").arm_of(user) for user in users]
    assert chosen == [Assignment(shares, "x").arm_of(user) for user in users]
    counts = Counter(chosen)
    for name, share in shares.items():
        sigma = (20_000 * share / 4 * (1 - share / 4)) ** 0.5
        assert abs(counts[name] - 20_000 * share / 4) < 4 * sigma
    other = [Assignment(shares, "y").arm_of(user) for user in users]
    agree = sum(a == b for a, b in zip(chosen, other, strict=True)) / 20_000
    assert abs(agree - (1 / 16 + 1 / 16 + 1 / 4)) < 0.02  # independent of another experiment
    for bad in ({}, {"a": 0.0}, {"a": float("nan")}):
        with pytest.raises(InputError, match="shares"):
            Assignment(bad)


def test_the_whole_model_sees_more_items_than_are_asked_for(shop: Shop) -> None:
    """The best of the catalogue by the whole model is the answer, though the inner product puts it further down."""
    shop.sync()
    request = shop.features.of_request("u3", {"hour": 3})
    names = [f"i{n}" for n in range(200)]
    batch = shop.features.batch(request, [shop.catalogue.ids_of(name) for name in names], [0.2], 9000)
    best = [names[n] for n in np.argsort(-shop.arm.rank(batch), kind="stable")[:3]]
    narrow = Recommender([shop.arm], oversample=1, candidates=1)
    answers = [one.recommend("u3", 3, context={"hour": 3}, dense=[0.2]).items for one in (shop.recommender, narrow)]
    assert list(answers[0]) == best and list(answers[1]) != best
