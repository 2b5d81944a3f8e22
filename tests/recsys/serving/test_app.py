"""The service through a real client; its answers against the trainer and the log."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from starlette.testclient import TestClient

from nonet.recsys.example import ActionEvent, FeatureEvent, decode
from nonet.recsys.logs import LogUnavailableError
from nonet.recsys.serving import Arm, Assignment, Recommender, make_serving_app, serve
from nonet.recsys.serving.recommender import ShownEvent
from nonet.recsys.syncing import DeltaPublisher, HttpLink, LinkDownError, Replica
from nonet.recsys.syncing.trials import is_equal
from tests.recsys.serving.conftest import Shop


@pytest.fixture
def client(shop: Shop) -> Iterator[TestClient]:
    with TestClient(make_serving_app(shop.recommender)) as client:
        yield client


def test_rank_equals_the_trainers_scores(shop: Shop, client: TestClient) -> None:
    shop.sync()
    items = [f"i{n}" for n in range(200)]
    answer = client.post("/v1/rank", json={"user": "u3", "items": items, "context": {"hour": 3}, "dense": [0.4]}).json()
    request = shop.features.of_request("u3", {"hour": 3})
    batch = shop.features.batch(request, [shop.catalogue.ids_of(item) for item in items], [0.4], 0)
    expected = dict(zip(items, shop.trainer.predict(batch).tolist(), strict=True))
    got = {one["id"]: one["score"] for one in answer["items"]}
    assert set(got) == set(expected)
    assert max(abs(got[item] - expected[item]) for item in items) <= 1e-5
    scores = [one["score"] for one in answer["items"]]
    assert scores == sorted(scores, reverse=True)
    assert answer["staleness_s"] == 10.0
    assert answer["logged"] is False
    assert shop.log.offsets("features", 0) == (0, 0)


def test_recommend_ranks_and_writes_what_was_shown(shop: Shop, client: TestClient) -> None:
    shop.sync()
    body = {"user": "u3", "request_id": "r1", "k": 10, "context": {"hour": 3}, "exclude": ["i7"]}
    answer = client.post("/v1/recommend", json=body).json()
    assert answer["request_id"] == "r1"
    assert answer["source"] == "index"
    assert answer["logged"] is True
    records = shop.log.read("features", 0, 0).records
    assert [decode(record.payload, FeatureEvent).item_id.decode() for record in records] == [
        one["id"] for one in answer["items"]
    ]
    first = decode(records[0].payload, FeatureEvent)
    assert (first.request_id, first.ts_ms, records[0].key) == (b"r1", 60_000, b"r1")
    assert first.ids == {**shop.features.of_request("u3", {"hour": 3}), **shop.catalogue.ids_of(first.item_id.decode())}
    import msgspec

    shown = msgspec.msgpack.decode(records[1].payload, type=ShownEvent)
    assert (shown.arm, shown.position, shown.score) == ("a", 1, answer["items"][1]["score"])
    assert "i7" not in [one["id"] for one in answer["items"]]


def test_actions_go_to_the_log(shop: Shop, client: TestClient) -> None:
    one = {"request_id": "r1", "item": "i3", "action": "click", "ts": 1700000000}
    assert client.post("/v1/actions", json=one).status_code == 202
    assert client.post("/v1/actions", json=[one, {**one, "action": "odd", "value": 2.5, "ts": None}]).json() == {
        "accepted": 2
    }
    events = [decode(record.payload, ActionEvent) for record in shop.log.read("actions", 0, 0).records]
    assert [(e.request_id, e.item_id, e.ts_ms, e.action, e.value) for e in events] == [
        (b"r1", b"i3", 1_700_000_000_000, "click", 1.0),
        (b"r1", b"i3", 1_700_000_000_000, "click", 1.0),
        (b"r1", b"i3", 60_000, "odd", 2.5),
    ]


def test_the_unknown_gets_a_defined_answer(shop: Shop, client: TestClient) -> None:
    before = client.post("/v1/recommend", json={"user": "new", "k": 5}).json()  # nothing was synced
    assert before["source"] == "default"
    assert before["staleness_s"] is None
    assert len(before["items"]) == 5
    assert client.get("/readyz").status_code == 503
    shop.sync()
    assert client.get("/readyz").status_code == 200
    after = client.post("/v1/recommend", json={"user": "never seen", "k": 5}).json()
    assert after["source"] == "index"
    assert len(after["items"]) == 5
    ranked = client.post("/v1/rank", json={"user": "never seen", "items": ["no such item", "i1"]}).json()
    batch = shop.features.batch({}, [{}], [], 0)
    score = {one["id"]: one["score"] for one in ranked["items"]}["no such item"]
    assert abs(score - shop.trainer.predict(batch)[0]) < 1e-5  # the model at zero vectors
    assert client.post("/v1/rank", json={"user": "u", "items": []}).json()["items"] == []


BAD_BODIES = [
    ("rank", b'{"user": "u", "items": ["i1"], "dense": [NaN]}'),
    ("rank", b'{"user": "u", "items": ["i1"], "dense": [1e999]}'),
    ("rank", b'{"user": "u", "items": ["i1"], "dense": [1, 2]}'),
    ("rank", b'{"user": "u", "items": ["\\ud800"]}'),
    ("rank", b'{"user": "\\ud800", "items": ["i1"]}'),
    ("rank", b'{"user": "u", "items": "i1"}'),
    ("recommend", b'{"user": "u", "k": 0}'),
    ("recommend", b'{"user": "u", "k": 1e30}'),
    ("recommend", b'{"user": "u", "context": {"colour": "red"}}'),
    ("recommend", b'{"user": "u", "context": {"item": "i1"}}'),
    ("recommend", b'{"user": "u", "context": {"hour": 1e300}}'),
    ("recommend", b'{"user": "u", "context": {"hour": 99999999999999999999}}'),
    ("recommend", b'{"user": "u", "context": {"hour": null}}'),
    ("recommend", b'{"user": "' + b"x" * 5000 + b'"}'),
    ("recommend", b"\xff\xfe"),
    ("recommend", b"[]"),
    ("recommend", b""),
    ("actions", b'{"request_id": "r", "item": "i", "ts": -1}'),
    ("actions", b'{"request_id": "r", "item": "i", "value": Infinity}'),
    ("actions", b'{"request_id": "r", "item": "i", "\\ud800": 1}'),
    ("actions", b'{"request_id": "r"}'),
]


def test_bad_bodies_are_refused_and_never_break_the_service(shop: Shop) -> None:
    shop.sync()
    with TestClient(make_serving_app(shop.recommender), raise_server_exceptions=False) as client:
        for route, content in BAD_BODIES:
            answer = client.post(f"/v1/{route}", content=content, headers={"content-type": "application/json"})
            assert answer.status_code in (400, 422), (content[:100], answer.text)
            assert answer.json()["detail"]


def test_odd_but_legal_requests_are_answered(shop: Shop, client: TestClient) -> None:
    shop.sync()
    for user in ("\x00", "ü🙂", "x" * 256):
        assert client.post("/v1/recommend", json={"user": user, "context": {"hour": [1, 2, "3"]}}).status_code == 200
    many = {"user": "u", "items": ["i1"] * 500, "context": {"hour": list(range(2000))}}
    assert len(client.post("/v1/rank", json=many).json()["items"]) == 500


def test_a_log_that_is_away_costs_the_events_not_the_answer(shop: Shop, client: TestClient) -> None:
    shop.sync()

    def gone(*_: object) -> None:
        raise LogUnavailableError("the broker does not answer; try again")

    shop.log.publish = gone  # type: ignore[method-assign]
    answer = client.post("/v1/recommend", json={"user": "u3"})
    assert answer.status_code == 200
    assert answer.json()["logged"] is False
    refused = client.post("/v1/actions", json={"request_id": "r", "item": "i1"})
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert 'nonet_recsys_unlogged_total{arm="a"} 1.0' in client.get("/metrics").text


def test_metrics_tell_staleness_and_requests_per_arm(shop: Shop, client: TestClient) -> None:
    assert 'nonet_recsys_staleness_seconds{arm="a"} +Inf' in client.get("/metrics").text
    shop.sync(ts_ms=58_500)
    client.post("/v1/recommend", json={"user": "u3"})
    client.post("/v1/actions", json={"request_id": "r", "item": "i1"})
    text = client.get("/metrics").text
    for line in (
        'nonet_recsys_staleness_seconds{arm="a"} 1.5',
        'nonet_recsys_requests_total{arm="a",route="recommend"} 1.0',
        'nonet_recsys_request_seconds_count{route="recommend"} 1.0',
        'nonet_recsys_index_items{arm="a"} 200.0',
        'nonet_recsys_actions_total{action="click"} 1.0',
        'nonet_recsys_sync_messages_total{arm="a",outcome="applied"}',
        f'nonet_recsys_epoch{{arm="a"}} {float(shop.arm.epoch)}',
    ):
        assert line in text, line
    shop.now_s[0] = 70.0
    assert 'nonet_recsys_staleness_seconds{arm="a"} 11.5' in client.get("/metrics").text


def test_two_arms_answer_by_their_own_models(shop: Shop) -> None:
    replica = Replica({"ids": 9}, "b")
    second = Arm("b", shop.trainer.model, replica, shop.catalogue)
    recommender = Recommender([shop.arm, second], assignment=Assignment({"a": 1, "b": 1}), clock=lambda: 60.0)
    shop.sync()
    with TestClient(make_serving_app(recommender)) as client:
        answers = [client.post("/v1/rank", json={"user": f"u{n}", "items": ["i1"]}).json() for n in range(40)]
        assert client.post("/v1/actions", json={"request_id": "r", "item": "i"}).status_code == 422  # no log
        assert "arms ['b']" in client.get("/readyz").json()["reason"]
    assert {answer["arm"] for answer in answers} == {"a", "b"}
    for n, answer in enumerate(answers):
        assert answer["arm"] == recommender.assignment.arm_of(f"u{n}")
        assert (answer["model_epoch"] > 0) == (answer["arm"] == "a")


def test_a_publisher_reaches_an_arm_over_http(shop: Shop) -> None:
    service = serve(shop.recommender, token="secret")
    table = shop.trainer.distinct_tables[0]
    try:
        publisher = DeltaPublisher({"ids": table}, max_message_bytes=8192)
        link = HttpLink(f"{service.address}/v1/sync/a", token="secret")
        publisher.attach("a", link)
        done = publisher.publish(event_ts_ms=1000)
        assert done.behind == ()
        assert done.messages > 1
        assert is_equal(table, shop.replica)
        wrong = HttpLink(f"{service.address}/v1/sync/a", token="wrong")
        with pytest.raises(LinkDownError, match="401"):
            wrong.send(b"")
        wrong.close()
    finally:
        service.stop()
    table.upsert([1], np.ones((1, 9), np.float32))
    assert publisher.publish().behind == ("a",)
    link.close()
