"""Whose chunks are whose on a server that listens, asked by the stock OpenAI client."""

import random
import time
import urllib.error
import urllib.request

import openai
import pytest

from nonet.ragcache.models.toy import toy_model
from nonet.ragcache.scheduling.engine import Engine
from nonet.ragcache.scheduling.prompting import ChunkText
from nonet.ragcache.scheduling.settings import EngineConfig
from nonet.ragcache.serving.app import ServerConfig
from nonet.ragcache.serving.server import Address, RagServer
from nonet.ragcache.serving.tenants import ApiKey, KeyRing
from nonet.ragcache.store.chunk_store import ChunkStore

RING = KeyRing([ApiKey("old", "search"), ApiKey("new", "search"), ApiKey("single")])


class Running:
    """A server with its store, and clients of it."""

    def __init__(self, keys, store="ram:100MB"):
        self.engine = Engine(toy_model(), ChunkStore.from_spec(store), EngineConfig(max_model_len=1024))
        self.server = RagServer(self.engine, ServerConfig("toy", keys=keys), Address(port=0)).start()

    def ask(self, key, chunks, salt=None, **body):
        body |= {"chunks": chunks, "ignore_eos": True, "mode": "reuse"} | ({"cache_salt": salt} if salt else {})
        client = openai.OpenAI(base_url=f"{self.server.address}/v1", api_key=key, max_retries=0)
        done = client.chat.completions.create(
            model="toy", messages=[{"role": "user", "content": "why?"}], max_tokens=2, extra_body=body
        )
        self.engine.finish_background()
        return done

    def decisions(self, *asked, **more):
        return {chunk["decision"] for chunk in self.ask(*asked, **more).chunks}

    def call(self, path, key, method="GET"):
        headers = {"Authorization": f"Bearer {key}"}
        with urllib.request.urlopen(
            urllib.request.Request(self.server.address + path, None, headers, method=method)
        ) as done:
            return done.read().decode()


@pytest.fixture(scope="module")
def keyed():
    running = Running(RING)
    yield running
    running.server.stop(1.0)


@pytest.fixture(scope="module")
def keyless():
    running = Running(KeyRing())
    yield running
    running.server.stop(1.0)


@pytest.fixture
def chunks(request):
    """Texts that no other test has."""
    words = random.Random(request.node.name).choices(["row", "cap", "brake", "page", "clock"], k=24)
    return [{"id": "a", "text": " ".join(words[:12])}, {"id": "b", "text": " ".join(words[12:])}]


def test_without_keys_all_clients_share_whatever_they_send(keyless, chunks):
    assert keyless.decisions("none", chunks) == {"computed"}
    assert keyless.decisions("another", chunks[::-1]) == {"reused"}
    request = urllib.request.Request(f"{keyless.server.address}/v1/cache/chunks/a", method="DELETE")
    with urllib.request.urlopen(request) as answer:  # no key at all
        assert b'"deleted":true' in answer.read()
    assert "computed" in keyless.decisions("none", chunks)


def test_what_warm_computed_serves_every_client_of_a_server_without_keys(keyless, chunks):
    company = [ChunkText(one["text"], one["id"]) for one in chunks]
    keyless.engine.warm("Be brief.", [company], tenant=KeyRing().tenant_of(""))
    keyless.engine.finish_background()
    assert keyless.decisions("whoever", chunks[::-1]) == {"reused"}
    assert keyless.decisions("whoever", chunks[::-1], "apart") == {"computed"}


def test_a_salt_parts_clients_without_keys(keyless, chunks):
    assert keyless.decisions("none", chunks, "x") == {"computed"}
    assert keyless.decisions("none", chunks[::-1], "y") == {"computed"}
    assert keyless.decisions("none", chunks[::-1]) == {"computed"}
    assert keyless.decisions("other", chunks[::-1], "x") == {"reused"}


def test_keys_part_and_keys_of_one_name_do_not(keyed, chunks):
    assert keyed.decisions("old", chunks) == {"computed"}
    assert keyed.decisions("single", chunks[::-1]) == {"computed"}
    assert keyed.decisions("new", chunks[::-1]) == {"reused"}
    assert keyed.decisions("new", chunks[::-1], "salt") == {"computed"}
    assert keyed.decisions("old", chunks, "salt") == {"reused"}
    assert keyed.decisions("single", chunks, "salt") == {"computed"}


def test_deletion_is_of_the_callers_own(keyed, chunks):
    for key in ("old", "single"):
        keyed.ask(key, chunks)
    keyed.ask("single", chunks, "salt")
    assert '"deleted":true' in keyed.call("/v1/cache/chunks/a", "single", "DELETE")
    assert keyed.decisions("new", chunks[::-1]) == {"reused"}
    assert keyed.decisions("single", chunks[:1]) == {"computed"}
    assert keyed.decisions("single", chunks[::-1], "salt") == {"reused"}
    assert '"deleted":true' in keyed.call("/v1/cache/chunks/a?cache_salt=salt", "single", "DELETE")
    assert '"deleted":false' in keyed.call("/v1/cache/chunks/a?cache_salt=other", "single", "DELETE")


def test_an_explanation_is_for_who_asked(keyed, chunks):
    plain, salted = keyed.ask("old", chunks), keyed.ask("old", chunks, "salt")
    assert '"chunk_id":"a"' in keyed.call(f"/v1/cache/explain?request={plain.id}", "new")
    assert '"chunk_id":"a"' in keyed.call(f"/v1/cache/explain?request={salted.id}&cache_salt=salt", "new")
    for path, key in ((plain.id, "single"), (salted.id, "old"), (f"{plain.id}&cache_salt=salt", "old")):
        with pytest.raises(urllib.error.HTTPError) as caught:
            keyed.call(f"/v1/cache/explain?request={path}", key)
        assert caught.value.code == 404 and "is not known here" in caught.value.read().decode()


def test_plain_prompts_find_only_the_callers_chunks(keyed, chunks):
    keyed.ask("old", chunks)
    prompt = keyed.engine.prompt(None, [one["text"] for one in chunks], "why?")
    second = prompt.segments[2]
    ids = [70, *prompt.ids[second.start : second.stop].tolist(), 71]

    def found(key, **more):
        client = openai.OpenAI(base_url=f"{keyed.server.address}/v1", api_key=key, max_retries=0)
        done = client.completions.create(model="toy", prompt=ids, max_tokens=1, extra_body={"mode": "reuse", **more})
        return [chunk["chunk_id"] for chunk in done.chunks]

    assert (found("new"), found("single"), found("new", cache_salt="s")) == (["b"], [], [])


def test_a_wrong_key_is_told_apart_from_none_and_an_empty_salt_is_refused(keyed, chunks):
    with pytest.raises(openai.AuthenticationError, match="is not a key of this server") as caught:
        keyed.ask("guess", chunks)
    assert caught.value.body["code"] == "invalid_api_key" and "guess" not in str(caught.value)
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{keyed.server.address}/v1/models")
    assert caught.value.code == 401 and "needs the header" in caught.value.read().decode()
    with pytest.raises(openai.BadRequestError) as caught:
        keyed.ask("old", chunks, cache_salt="")
    assert caught.value.body["param"] == "cache_salt"
    with pytest.raises(urllib.error.HTTPError) as caught:
        keyed.call("/v1/cache/chunks/a?cache_salt=", "old", "DELETE")
    assert caught.value.code == 400 and '"param":"cache_salt"' in caught.value.read().decode()


def test_no_key_is_written_to_the_store(tmp_path, chunks):
    running = Running(KeyRing([ApiKey("very-secret-key")]), f"disk:{tmp_path}/kv:1GB")
    running.ask("very-secret-key", chunks)
    time.sleep(0.1)
    running.server.stop(1.0)
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert files and not any(b"very-secret" in file.read_bytes() for file in files)
