"""The server, asked by the stock OpenAI client and by a real browser."""

import json
import random
import threading
import time
import urllib.error
import urllib.request

import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from nonet.common.errors import InputError
from nonet.ragcache.front.documents import Document
from nonet.ragcache.front.index import ChunkIndex
from nonet.ragcache.models.toy import toy_model
from nonet.ragcache.scheduling.engine import Engine
from nonet.ragcache.scheduling.settings import EngineConfig
from nonet.ragcache.scheduling.shadow import ShadowConfig
from nonet.ragcache.serving.app import ServerConfig
from nonet.ragcache.serving.server import Address, RagServer
from nonet.ragcache.store.chunk_store import ChunkStore

CHUNKS = [
    {"id": f"kb-{n}", "text": " ".join(random.Random(n).choices(["row", "cap", "brake", "page"], k=15))}
    for n in range(5)
]
QUESTION = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "why?"}]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("index")
    index = ChunkIndex(folder)
    documents = [Document(chunk["id"], chunk["id"], f"{chunk['text']} number{n}") for n, chunk in enumerate(CHUNKS)]
    index.ingest(documents, str.split, 50)
    index.close()
    config = EngineConfig(max_model_len=1024, shadow=ShadowConfig(rate=1.0, limit=1e-9), max_waiting=4)
    engine = Engine(toy_model(), ChunkStore.from_spec("ram:100MB"), config)
    running = RagServer(
        engine,
        ServerConfig("toy", token="secret", timeout_s=30.0),
        Address(port=0),
        index_folder=folder,
        metrics_compat=("vllm", "lmcache"),
    ).start()
    yield running
    running.stop(1.0)


@pytest.fixture
def client(server):
    return openai.OpenAI(base_url=f"{server.address}/v1", api_key="secret", max_retries=0)


def ask(client, chunks=CHUNKS[:3], **options):
    body = {"chunks": chunks, "ignore_eos": True, **options.pop("extra_body", {})}
    return client.chat.completions.create(model="toy", messages=QUESTION, max_tokens=5, extra_body=body, **options)


def get(server, path, key="secret"):
    request = urllib.request.Request(server.address + path, headers={"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request) as answer:
        return answer.read().decode()


def test_chat_with_usage_chunks_and_explanation(client, server):
    first = ask(client)
    time.sleep(0.3)
    again = ask(client, chunks=CHUNKS[2::-1])
    assert again.usage.completion_tokens == 5 and again.choices[0].finish_reason == "length"
    assert again.usage.prompt_tokens == first.usage.prompt_tokens
    assert again.usage.prompt_tokens_details.cached_tokens > 0
    counts = again.usage.nonet
    total = counts["prefix"] + counts["reused"] + counts["repaired"] + counts["computed"]
    assert total == again.usage.prompt_tokens
    assert [chunk["chunk_id"] for chunk in again.chunks] == ["kb-2", "kb-1", "kb-0"]
    assert {chunk["decision"] for chunk in again.chunks} <= {"reused", "repaired", "computed", "prefix"}
    told = json.loads(get(server, f"/v1/cache/explain?request={again.id}"))
    assert told["considered"]["kb-0"] and told["prompt_tokens"] == total


def test_streaming_gives_the_same_text_and_usage_at_the_end(client):
    whole = ask(client)
    events = list(ask(client, stream=True, stream_options={"include_usage": True}))
    text = "".join(event.choices[0].delta.content or "" for event in events if event.choices)
    assert text == whole.choices[0].message.content
    assert events[0].choices[0].delta.role == "assistant"
    assert [event.choices[0].finish_reason for event in events if event.choices][-1] == "length"
    assert events[-1].choices == [] and events[-1].usage.prompt_tokens == whole.usage.prompt_tokens
    assert any(getattr(event, "chunks", None) for event in events)


def test_completions_models_and_retrieval(client):
    assert [model.id for model in client.models.list()] == ["toy"]
    plain = client.completions.create(
        model="toy", prompt="one two three", max_tokens=3, extra_body={"ignore_eos": True}
    )
    assert plain.usage.completion_tokens == 3
    ids = client.completions.create(model="toy", prompt=[5, 6, 7], max_tokens=2, extra_body={"ignore_eos": True})
    assert ids.usage.prompt_tokens == 3
    body = {"retrieve": 2, "question": "number3"}
    found = ask(client, chunks=[], extra_body=body)
    assert found.chunks[0]["chunk_id"] == "kb-3#0" and len(found.chunks) == 2
    found = ask(client, chunks=[{"id": "kb-3#0", "text": "given"}], extra_body={**body, "chunk_texts": True})
    assert [chunk["text"].split()[-1] for chunk in found.chunks][:2] == ["given", "number3"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "last message"),
        ({"n": 3}, "n must be 1"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools is not supported"),
        ({"logprobs": True}, "logprobs is not supported"),
        ({"temperature": 3}, "temperature"),
        ({"seed": 2**70}, "seed"),
        ({"extra_body": {"chunks": [{"txt": "a"}]}}, "text"),
        ({"extra_body": {"mode": "fastest"}}, "unknown mode"),
        ({"extra_body": {"recompute": 2}}, "recompute"),
        ({"extra_body": {"chunks": ["x" * 3000]}}, "maximum context length is 1024"),
    ],
)
def test_wrong_requests_get_openai_errors(client, options, says):
    given = {"model": "toy", "messages": QUESTION, "max_tokens": 3, **options}
    with pytest.raises(openai.BadRequestError, match=says) as caught:
        client.chat.completions.create(**given)
    assert caught.value.body["type"] == "invalid_request_error"


def test_other_models_keys_and_bodies_are_refused(client, server):
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        client.chat.completions.create(model="gpt-4o", messages=QUESTION)
    wrong = openai.OpenAI(base_url=f"{server.address}/v1", api_key="guess", max_retries=0)
    with pytest.raises(openai.AuthenticationError) as caught:
        wrong.models.list()
    assert caught.value.body["code"] == "invalid_api_key"
    with pytest.raises(openai.APIStatusError) as caught:
        ask(client, chunks=["x" * (9 << 20)])
    assert caught.value.status_code == 413


def test_a_client_that_goes_away_frees_its_place(client, server):
    stream = client.chat.completions.create(
        model="toy", messages=QUESTION, max_tokens=900, stream=True, extra_body={"chunks": CHUNKS, "ignore_eos": True}
    )
    next(iter(stream))
    stream.close()
    deadline = time.monotonic() + 10
    while 'nonet_ragcache_requests_running{model_name="toy"} 0.0' not in get(server, "/metrics"):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_hundred_clients_are_served_or_told_to_come_again(server):
    client = openai.OpenAI(base_url=f"{server.address}/v1", api_key="secret", max_retries=0)
    outcomes = []

    def one(number):
        try:
            ask(client, chunks=random.Random(number).sample(CHUNKS, 3))
            outcomes.append("served")
        except openai.RateLimitError:
            outcomes.append("busy")

    threads = [threading.Thread(target=one, args=(number,)) for number in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    # Refused are only those who find four waiting, so four at least are served, however slow the machine is.
    assert len(outcomes) == 100 and outcomes.count("served") >= 4
    assert ask(client, chunks=CHUNKS[:2]).usage.completion_tokens == 5


def test_metrics_have_our_names_and_vllms(client, server):
    ask(client)
    time.sleep(0.2)
    shown = get(server, "/metrics")
    for name in (
        "nonet_ragcache_requests_total",
        "nonet_ragcache_active_rows_total",
        "nonet_ragcache_time_to_first_token_seconds_bucket",
        "vllm:num_requests_running",
        "vllm:kv_cache_usage_perc",
        "vllm:time_to_first_token_seconds_bucket",
        "vllm:inter_token_latency_seconds_bucket",
        "vllm:prefix_cache_hits_total",
        "vllm:generation_tokens_total",
    ):
        assert name in shown, name
    assert "nonet_ragcache_shadow_checks" in shown


def test_metrics_have_lmcaches_names_with_what_they_count_there(client, server):
    def shown():
        families = text_string_to_metric_families(get(server, "/metrics"))
        return {sample.name: sample.value for family in families for sample in family.samples}

    ask(client)
    time.sleep(0.3)
    before = shown()
    answer = ask(client, chunks=CHUNKS[2::-1], extra_body={"mode": "reuse", "recompute": 0.25})
    time.sleep(0.3)
    after = shown()
    spent = answer.usage.nonet
    requested = after["lmcache:num_requested_tokens_total"] - before["lmcache:num_requested_tokens_total"]
    assert requested == answer.usage.prompt_tokens
    found = after["lmcache:num_hit_tokens_total"] - before["lmcache:num_hit_tokens_total"]
    assert found == requested - spent["computed"] > spent["computed"]
    assert 0 < after["lmcache:retrieve_hit_rate"] < 1
    stats = json.loads(get(server, "/v1/cache/stats"))
    (ram,) = stats["tiers"]
    assert after["lmcache:local_cache_usage"] == after["nonet_ragcache_stored_bytes"] == ram["used_bytes"] > 0
    assert after["lmcache:remote_cache_usage"] == after["lmcache:local_storage_usage"] == 0


def test_the_shadow_check_measures_and_raises_the_alarm(client, server):
    ask(client, chunks=CHUNKS[1:4])
    for order in ([3, 1, 2], [2, 3, 1]):
        ask(client, chunks=[CHUNKS[n] for n in order], extra_body={"mode": "reuse"})
    deadline = time.monotonic() + 20
    while 'shadow_alarm{model_name="toy"} 1.0' not in get(server, "/metrics"):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_deleted_document_is_computed_again(client, server):
    ask(client, chunks=CHUNKS[3:])
    time.sleep(0.3)
    request = urllib.request.Request(
        f"{server.address}/v1/cache/chunks/kb-4", method="DELETE", headers={"Authorization": "Bearer secret"}
    )
    with urllib.request.urlopen(request) as answer:
        assert json.load(answer)["deleted"]
    after = ask(client, chunks=CHUNKS[:2:-1], extra_body={"mode": "reuse"})
    assert {chunk["chunk_id"]: chunk["decision"] for chunk in after.chunks}["kb-4"] == "computed"


def test_health_is_open_and_unknown_requests_are_not_found(server):
    assert json.loads(get(server, "/healthz", key="none"))["status"] == "ok"
    assert json.loads(get(server, "/readyz", key="none"))["status"] == "ok"
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(server, "/v1/cache/explain?request=chatcmpl-none")
    assert caught.value.code == 404 and "not known" in caught.value.read().decode()


def test_a_folder_that_is_no_index_is_not_made_one(tmp_path):
    engine = Engine(toy_model(), ChunkStore.from_spec("ram:10MB"))
    with pytest.raises(InputError, match="no index there; make one with: nonet ragcache ingest"):
        RagServer(engine, ServerConfig("toy"), Address(port=0), index_folder=tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
