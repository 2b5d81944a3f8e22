"""The front of several replicas, over replicas of this process: forwarding, streams, losses, and what concerns all."""

import asyncio
import json
import random
import threading
import time
import urllib.error
import urllib.request

import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from nonet.common.service import Service
from nonet.ragcache.front.documents import Document
from nonet.ragcache.front.index import ChunkIndex
from nonet.ragcache.models.toy import toy_model
from nonet.ragcache.scheduling.engine import Engine
from nonet.ragcache.scheduling.settings import EngineConfig
from nonet.ragcache.serving.app import ServerConfig
from nonet.ragcache.serving.calls import Call, Head, respond, whole
from nonet.ragcache.serving.front_app import FrontConfig, ReplicaLostError, build_front
from nonet.ragcache.serving.routing import Router
from nonet.ragcache.serving.server import ServedEngine
from nonet.ragcache.serving.tenants import ApiKey, KeyRing
from nonet.ragcache.store.chunk_store import ChunkStore

CHUNKS = [
    {"id": f"kb-{n}", "text": " ".join(random.Random(n).choices(["row", "cap", "brake", "page"], k=15))}
    for n in range(5)
]
KEYS = KeyRing([ApiKey("secret"), ApiKey("other")])
QUESTION = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "why?"}]


class NearReplicas:
    """Replicas whose applications run in this process; `lost` makes one break off after so many pieces."""

    def __init__(self, served):
        self.served = served
        self.router = Router()
        self.router.set_replicas(served)
        self.lost = {}
        self.asked = []

    async def ask(self, call, hint):
        if not self.router.replicas:
            raise ReplicaLostError("none")
        name = self.router.choose(hint).replica
        load = self.router.sent(name, hint)
        self.asked.append(name)
        pieces, left = respond(self.served[name].app, call), self.lost.get(name)
        try:
            async for piece in pieces:
                if left is not None:
                    left -= 1
                    if left < 0:
                        self.router.forget(name)
                        raise ReplicaLostError(name)
                yield piece
        finally:
            await pieces.aclose()
            self.router.done(name, load)

    async def ask_all(self, call):
        return {name: await whole(respond(self.served[name].app, call)) for name in self.router.replicas}

    def why_not_ready(self):
        return "" if self.router.replicas else "no replica is running"

    def routing(self):
        return self.router.stats


class Front:
    """A front that listens, with all that stands behind it."""

    def __init__(self, folder):
        index = ChunkIndex(folder / "index")
        documents = [Document(one["id"], one["id"], f"{one['text']} number{n}") for n, one in enumerate(CHUNKS)]
        index.ingest(documents, str.split, 50)
        served = {}
        model = toy_model()
        for name in ("one", "two"):
            store = ChunkStore.from_spec(f"ram:100MB,disk:{folder}/kv?shared=1", refresh_s=0.1)
            engine = Engine(model, store, EngineConfig(max_model_len=1024))
            served[name] = ServedEngine(engine, ServerConfig("toy", keys=KEYS, default_recompute=1.0))
            engine.start()
        self.replicas = NearReplicas(served)
        app = build_front(self.replicas, FrontConfig(KEYS, 1 << 20), index=index)
        self.service = Service(app, has_token=True).start()
        self.client = openai.OpenAI(base_url=f"{self.service.address}/v1", api_key="secret", max_retries=0)

    def get(self, path, method="GET"):
        headers = {"Authorization": "Bearer secret"}
        with urllib.request.urlopen(
            urllib.request.Request(self.service.address + path, None, headers, method=method)
        ) as a:
            return a.read().decode()

    def ask(self, chunks=CHUNKS[:3], **options):
        body = {"chunks": chunks, "ignore_eos": True, **options.pop("extra_body", {})}
        given = {"model": "toy", "messages": QUESTION, "max_tokens": 5, **options}
        return self.client.chat.completions.create(extra_body=body, **given)

    def settle(self):
        for served in self.replicas.served.values():
            served.engine.finish_background()
        for served in self.replicas.served.values():  # when all have written
            served.engine.store.refresh()


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    front = Front(tmp_path_factory.mktemp("front"))
    yield front
    front.service.stop()
    for served in front.replicas.served.values():
        served.engine.stop(1.0)


@pytest.fixture
def front(started):
    started.replicas.lost, started.replicas.asked = {}, []
    started.replicas.router.set_replicas(started.replicas.served)
    return started


def test_the_same_chunks_in_another_order_go_where_they_were(front):
    first = front.ask()
    front.settle()
    again = front.ask(CHUNKS[2::-1], extra_body={"mode": "reuse"})
    assert len(set(front.replicas.asked)) == 1
    assert first.usage.completion_tokens == again.usage.completion_tokens == 5
    assert {chunk["decision"] for chunk in again.chunks} == {"reused"}
    assert again.usage.prompt_tokens_details.cached_tokens > 200
    assert front.replicas.routing().known_tokens > 0
    report = json.loads(front.get(f"/v1/cache/explain?request={again.id}"))
    assert [chunk["chunk_id"] for chunk in report["chunks"]] == ["kb-2", "kb-1", "kb-0"]


def test_another_replica_takes_what_the_first_one_stored(front):
    front.ask(CHUNKS[1:5])
    front.settle()
    (name,) = front.replicas.asked
    front.replicas.router.forget(name)
    taken = front.ask(CHUNKS[:0:-1], extra_body={"mode": "reuse"})
    assert front.replicas.asked[-1] != name
    assert {chunk["decision"] for chunk in taken.chunks} == {"reused"}


def test_default_recompute_holds_where_a_request_says_nothing(front):
    front.ask()
    front.settle()
    assert front.ask(CHUNKS[2::-1]).usage.nonet["reused"] == 0  # all of it is repaired
    assert front.ask(CHUNKS[2::-1], extra_body={"mode": "reuse"}).usage.nonet["reused"] > 0
    assert front.ask(CHUNKS[2::-1], extra_body={"recompute": 0.0}).usage.nonet["repaired"] == 0


def test_streams_pass_through_as_they_come(front):
    events = front.ask(stream=True, stream_options={"include_usage": True}, max_tokens=400)
    first = next(iter(events))
    assert first.choices[0].delta.role == "assistant"
    running = [served.engine.num_running + served.engine.num_waiting for served in front.replicas.served.values()]
    assert sum(running) == 1  # the head was sent while the answer is still made
    rest = list(events)
    assert rest[-1].usage.completion_tokens == 400 and rest[-2].chunks[0]["chunk_id"] == "kb-0"
    assert (
        "".join(one.choices[0].delta.content or "" for one in rest[:-1])
        == front.ask(max_tokens=400).choices[0].message.content
    )


def test_a_client_that_goes_away_frees_its_place(front):
    stream = front.ask(stream=True, max_tokens=900)
    next(iter(stream))
    stream.close()
    deadline = time.monotonic() + 10
    while any(served.engine.num_running for served in front.replicas.served.values()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    while any(front.replicas.router.loads.values()):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("pieces", [0, 1])
@pytest.mark.parametrize("stream", [False, True])
def test_what_a_lost_replica_had_not_begun_is_answered_by_another(front, pieces, stream):
    chunks = [{"id": "x", "text": f"another text {pieces} {stream} " * 5}]
    first = front.replicas.router.choose(front_hint(chunks)).replica
    front.replicas.lost = {first: pieces}
    answer = front.ask(chunks, stream=stream)
    told = list(answer)[-1].choices[0].finish_reason if stream else answer.choices[0].finish_reason
    assert told == "length"
    assert front.replicas.asked == [first, "two" if first == "one" else "one"]


def front_hint(chunks):
    from nonet.ragcache.serving.hints import chat_hint
    from nonet.ragcache.serving.openai_types import ChatBody

    return chat_hint(ChatBody(messages=QUESTION, chunks=chunks, max_tokens=5), KEYS.tenant_of("secret"))


def test_a_loss_within_a_stream_is_said_in_the_stream(front):
    front.replicas.lost = {"one": 3, "two": 3}
    with pytest.raises(openai.APIError, match="was lost; ask again"):
        list(front.ask(stream=True))
    assert len(front.replicas.asked) == 1


def test_without_any_replica_it_says_so_and_is_not_ready(front):
    front.replicas.lost = {"one": 0, "two": 0}
    with pytest.raises(openai.InternalServerError) as caught:
        front.ask()
    assert caught.value.status_code == 503 and caught.value.body["code"] == "no_replica"
    with pytest.raises(urllib.error.HTTPError) as caught:
        front.get("/readyz")
    assert caught.value.code == 503
    assert json.loads(front.get("/healthz")) == {"status": "ok"}


def test_refusals_are_the_replicas_own(front):
    with pytest.raises(openai.BadRequestError, match="tools is not supported"):
        front.ask(extra_body={"tools": [{}]})
    with pytest.raises(openai.BadRequestError, match="messages"):
        front.client.chat.completions.create(model="toy", messages=[])
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        front.ask(model="gpt-4o")
    with pytest.raises(openai.BadRequestError, match="maximum context length"):
        front.ask([{"text": "word " * 1000}])
    wrong = openai.OpenAI(base_url=f"{front.service.address}/v1", api_key="guess", max_retries=0)
    with pytest.raises(openai.AuthenticationError, match="is not a key of this server"):
        wrong.models.list()
    with pytest.raises(openai.APIStatusError) as caught:
        front.ask(["x" * (2 << 20)])
    assert caught.value.status_code == 413
    with pytest.raises(urllib.error.HTTPError) as caught:
        front.get("/v1/cache/explain?request=chatcmpl-none")
    assert caught.value.code == 404


def test_plain_prompts_and_models(front):
    done = front.client.completions.create(model="toy", prompt="row cap brake", max_tokens=3)
    assert done.usage.completion_tokens <= 3
    assert [model.id for model in front.client.models.list()] == ["toy"]
    with pytest.raises(openai.BadRequestError, match="belong to /v1/chat"):
        front.client.completions.create(model="toy", prompt="x", extra_body={"chunks": ["y"]})
    page = front.get("/")
    assert '"model": "toy"' in page and '"canRetrieve": true' in page


def test_batches_and_nulls_pass_through(front):
    done = front.client.completions.create(model="toy", prompt=["row cap", "brake"], max_tokens=3)
    assert [choice.index for choice in done.choices] == [0, 1] and len(front.replicas.asked) == 1
    assert front.ask(extra_body={"tools": None, "stream": None, "mode": None}).usage.completion_tokens == 5
    with pytest.raises(openai.NotFoundError, match="no such address"):
        front.client.get("/nowhere", cast_to=object)


def test_keys_and_salts_part_tenants_on_all_replicas(front):
    other = openai.OpenAI(base_url=f"{front.service.address}/v1", api_key="other", max_retries=0)
    chunks = [{"id": "own", "text": "what only one of them has asked about " * 4}]

    def decision(client, **more):
        body = {"chunks": chunks, "ignore_eos": True, "mode": "reuse", **more}
        done = client.chat.completions.create(model="toy", messages=QUESTION, max_tokens=2, extra_body=body)
        front.settle()
        return done.chunks[0]["decision"], done.id

    first = decision(front.client)
    assert (first[0], decision(other)[0], decision(front.client, cache_salt="s")[0]) == ("computed",) * 3
    assert decision(front.client)[0] != "computed" and decision(front.client, cache_salt="s")[0] != "computed"
    assert other.delete("/cache/chunks/own?cache_salt=s", cast_to=object)["deleted"] is False
    with pytest.raises(openai.BadRequestError, match="cache_salt"):
        other.delete("/cache/chunks/own?cache_salt=", cast_to=object)
    with pytest.raises(openai.NotFoundError, match="is not known here"):
        other.get(f"/cache/explain?request={first[1]}", cast_to=object)
    assert json.loads(front.get(f"/v1/cache/explain?request={first[1]}"))["chunks"]
    assert other.delete("/cache/chunks/own", cast_to=object)["deleted"] is True
    assert decision(front.client)[0] != "computed" and decision(other)[0] == "computed"


def test_retrieval_is_done_in_front_so_that_the_router_sees_the_chunks(front):
    question = [{"role": "user", "content": "number3"}]
    answer = front.ask([], messages=question, extra_body={"retrieve": 2})
    assert answer.chunks[0]["chunk_id"].startswith("kb-3") and len(answer.chunks) == 2
    again = front.ask([], messages=question, extra_body={"retrieve": 1, "chunk_texts": True})
    assert again.chunks[0]["text"].endswith("number3") and "text" not in answer.chunks[0]
    assert front.replicas.asked[0] == front.replicas.asked[1] and len(again.chunks) == 1


def test_metrics_of_all_replicas_are_told_apart(front):
    front.ask()
    time.sleep(0.1)
    shown = list(text_string_to_metric_families(front.get("/metrics")))
    families = {family.name: family for family in shown}
    assert len(families) == len(shown)  # each once, though every replica has it
    waiting = families["nonet_ragcache_requests_waiting"].samples
    assert {one.labels["replica"] for one in waiting} == {"one", "two"}
    finished = sum(one.value for one in families["nonet_ragcache_requests"].samples if one.name.endswith("_total"))
    assert finished == sum(len(served.engine.remembered) for served in front.replicas.served.values())
    assert families["nonet_ragcache_replicas"].samples[0].value == 2
    assert families["nonet_ragcache_routed_requests"].samples[0].value == front.replicas.router.stats.num_routed
    assert set(json.loads(front.get("/v1/cache/stats"))["replicas"]) == {"one", "two"}


def test_a_deleted_document_is_gone_from_all_replicas(front):
    for _ in range(2):  # both replicas read it into their memory
        front.ask(CHUNKS[3:4])
        front.settle()
        front.replicas.router.forget(front.replicas.asked[-1])
    front.replicas.router.set_replicas(["one", "two"])
    assert json.loads(front.get("/v1/cache/chunks/kb-3", "DELETE"))["deleted"]
    for name in ("one", "two"):
        front.replicas.router.set_replicas([name])
        after = front.ask(CHUNKS[3:4], extra_body={"mode": "reuse"})
        assert after.chunks[0]["decision"] == "computed"
        front.get("/v1/cache/chunks/kb-3", "DELETE")


def test_many_at_once_are_spread(front):
    answers = []

    def one(number):
        answers.append(front.ask(random.Random(number).sample(CHUNKS, 3)))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(answers) == 24 and min(front.replicas.asked.count(name) for name in ("one", "two")) >= 4


def run(generator):
    async def collect():
        return [piece async for piece in generator]

    return asyncio.run(collect())


def test_calls_of_an_application_that_fails(caplog):
    async def before(scope, receive, send):
        raise ValueError("at once")

    async def after(scope, receive, send):
        assert (await receive())["body"] == b"asked"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"Date", b"today"), (b"X-A", b"b")]})
        await send({"type": "http.response.body", "body": b"some", "more_body": True})
        raise ValueError("too late")

    with pytest.raises(ValueError, match="at once"):
        run(respond(before, Call("GET", "/")))
    assert run(respond(after, Call("POST", "/x", body=b"asked"))) == [Head(200, ((b"x-a", b"b"),)), b"some"]
    assert "after the answer had begun" in caplog.text


def test_to_close_a_call_is_a_client_that_goes_away():
    seen = []

    async def app(scope, receive, send):
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        seen.append((await receive())["type"])

    async def begin():
        pieces = respond(app, Call("GET", "/"))
        await anext(pieces)
        await pieces.aclose()

    asyncio.run(begin())
    assert seen == ["http.disconnect"]
