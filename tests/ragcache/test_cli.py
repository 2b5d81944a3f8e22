"""`nonet ragcache` as typed: what each verb prints, and one line with exit code 2 for what cannot be done.

Most tests use a tiny model in a folder of its own, read as a user's would be; one asks SmolLM2.
"""

import http.server
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nonet.cli import exit_code_of
from nonet.common.errors import InputError
from nonet.common.findings import read_findings
from nonet.ragcache import cli_serve
from nonet.ragcache.bench import quality
from nonet.ragcache.bench.quality import Trialled
from nonet.ragcache.cli import app
from nonet.ragcache.cli_ask import print_report
from nonet.ragcache.models.loading import load_model
from nonet.ragcache.models.toy import toy_tokenizer
from nonet.ragcache.scheduling.prompting import document_name
from nonet.ragcache.scheduling.request import SamplingParams
from nonet.ragcache.store.chunk_store import ChunkStore
from nonet.ragcache.store.disk import DiskTier
from tests.ragcache.models.saved import transformers_model

VERBS = ("serve", "ingest", "ask", "warm", "calibrate", "explain")
TEXTS = {
    "rows.md": "# Rows\n\nA row of servers has a budget of 200 kW.",
    "brake.txt": "The brake lowers all clocks to 288 MHz.",
    "pods.html": "<title>Pods</title><p>A cold pod takes two seconds to start.</p>",
}
QUESTION = "What is the budget of a row?"


def run(*arguments):
    return CliRunner().invoke(app, [str(one) for one in arguments])


def typed(*arguments):
    """Standard output of a command that ends with 0."""
    done = run(*arguments)
    if done.exception is not None:
        raise done.exception
    return done.stdout


def refused(capsys, *arguments):
    """The one line that is said of a command that cannot be done."""
    done = run(*arguments)
    assert done.exception is not None and done.stdout == ""
    capsys.readouterr()
    assert exit_code_of(done.exception) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1
    return said


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with a Llama of random weights: one token a byte, 1,024 tokens of context."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    shape = {"vocab_size": 300, "max_position_embeddings": 1024, "bos_token_id": 256, "eos_token_id": 257}
    transformers_model("llama", **shape).save_pretrained(folder)
    toy_tokenizer()._backend.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def documents(tmp_path):
    folder = tmp_path / "documents"
    folder.mkdir()
    for name, text in TEXTS.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def index(tmp_path, documents, model):
    """An index of the documents, found by words."""
    typed("ingest", documents, "-o", tmp_path / "index", "--model", model, "--words-only", "-q")
    return tmp_path / "index"


def asked(source, model, *more):
    command = ("ask", source, QUESTION, "--model", model, "--max-tokens", 3, "--json", "-q", *more)
    return json.loads(typed(*command))["report"]


def test_every_verb_teaches():
    shown = typed("--help")
    for verb in VERBS:
        assert verb in shown
        assert f"nonet ragcache {verb}" in typed(verb, "--help")


def test_ingest_counts_what_is_new_changed_and_the_same(tmp_path, documents, model):
    command = ("ingest", documents, "-o", tmp_path / "index", "--model", model, "--words-only", "-q")
    assert "documents: 3 added, 0 changed, 0 unchanged, 0 removed, 0 skipped\n3 chunks" in typed(*command)
    (documents / "brake.txt").write_text("The brake is off.")
    (documents / "pods.html").unlink()
    (documents / "latin.txt").write_bytes(b"caf\xe9")
    assert json.loads(typed(*command, "--json")) == {
        "added": [],
        "changed": ["brake.txt"],
        "unchanged": ["rows.md"],
        "removed": ["pods.html"],
        "skipped": [str(documents / "latin.txt")],
        "chunks": 2,
    }
    assert "0 removed, 1 skipped" in typed(*command)


def test_ingest_removes_what_it_is_told_to(tmp_path, index, documents, model, capsys):
    shown = typed("ingest", "-o", index, "--remove", "rows.md", "--remove", documents / "pods.html", "-q")
    assert shown == f"documents: 0 added, 0 changed, 0 unchanged, 2 removed, 0 skipped\n1 chunks in {index}\n"
    more = ("--remove", "brake.txt", "--model", model, "--words-only", "-q", "--json")
    told = json.loads(typed("ingest", "-o", index, documents, *more))
    assert (told["added"], told["removed"]) == (["brake.txt", "pods.html", "rows.md"], ["brake.txt"])
    assert "'rows.txt': no document of" in refused(capsys, "ingest", "-o", index, "--remove", "rows.txt", "-q")
    assert "nothing to do: give files and folders" in refused(capsys, "ingest", "-o", index, "-q")
    assert "no index there" in refused(capsys, "ingest", "-o", tmp_path / "new", "--remove", "rows.md", "-q")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("what", ["changed", "gone", "removed"])
def test_ingest_drops_the_kv_of_documents_that_changed_or_are_gone(index, documents, model, what):
    asked(index, model)
    tier = DiskTier(index / "kv")
    before = [tier.meta(one) for one in tier.ids()]
    (changed,) = {one.chunk_key for one in before if one.documents == (document_name("", "rows.md"),)}
    kept = {one.variant_id for one in before if changed not in (one.chunk_key, *one.prefix_keys)}
    assert 0 < len(kept) < len(before)
    if what == "changed":
        (documents / "rows.md").write_text("A row has a budget of 300 kW.")
    else:
        (documents / "rows.md").unlink()
    which = ("--remove", documents / "rows.md") if what == "removed" else (documents, "--model", model, "--words-only")
    typed("ingest", *which, "-o", index, "-q")
    assert tier.ids() == kept


def test_ask_takes_over_what_it_read_before_and_follows_the_folder(documents, model, monkeypatch):
    first = asked(documents, model)
    assert len(first["chunks"]) == 3 and first["computed_tokens"] == first["prompt_tokens"]
    again = asked(documents, model, "-k", 2, "--mode", "reuse")
    assert [chunk["decision"] for chunk in again["chunks"]] == ["prefix", "prefix"]
    assert again["computed_tokens"] < again["prompt_tokens"] / 2
    (documents / "pods.html").unlink()
    (documents / "brake.txt").write_text("The brake is off.")
    names = {chunk["chunk_id"]: chunk["decision"] for chunk in asked(documents, model)["chunks"]}
    assert names.keys() == {"rows.md#0", "brake.txt#0"} and names["brake.txt#0"] == "computed"


def test_ask_prints_the_answer_and_explains_it(documents, model):
    done = run("ask", documents, QUESTION, "--model", model, "--max-tokens", 3, "--explain")
    assert done.exit_code == 0
    assert re.search(r"\d+ prompt tokens: 0 prefix, 0 reused, 0 repaired, \d+ computed; first token after", done.stdout)
    assert re.search(r"rows\.md#0 +computed +(\d+)/\1 +never computed before", done.stdout)
    assert "cut after 3 tokens" in done.stderr and "reading" not in done.stdout
    assert "for the first time: indexing its documents" in done.stderr
    again = run("ask", documents, QUESTION, "--model", model, "--max-tokens", 3)
    assert again.exit_code == 0 and "indexing" not in again.stderr


def test_a_real_model_answers_from_the_documents(documents, smollm2, monkeypatch):
    from nonet.ragcache.models import loading
    from nonet.ragcache.scheduling import engine

    monkeypatch.setattr(engine, "load_model", lambda *_, **__: smollm2)
    monkeypatch.setattr(loading, "load_tokenizer", lambda *_: smollm2.tokenizer)
    command = ("ask", documents, QUESTION, "-k", 2, "--max-tokens", 16, "--json", "-q")
    first = json.loads(typed(*command))
    assert "200" in first["answer"]
    again = json.loads(typed(*command))
    assert again["answer"] == first["answer"]
    assert again["report"]["computed_tokens"] < first["report"]["computed_tokens"] / 2


def test_warm_leaves_no_chunk_to_compute_for_those_it_was_meant_for(index, model):
    command = ("warm", index, "--neighbours", 0, "--model", model, "-q")
    found = json.loads(typed(*command, "--api-key", "secret", "--json"))
    assert found["chunks"] == 3 <= found["variants"]
    assert {chunk["decision"] for chunk in asked(index, model)["chunks"]} == {"computed"}
    assert "variants of 3 chunks are stored in ram:2GB,disk:" in typed(*command)
    assert not {chunk["decision"] for chunk in asked(index, model, "--alpha", 0)["chunks"]} & {"computed"}


def test_warm_computes_for_the_clients_of_a_server_with_keys(index, model, tmp_path, capsys):
    from nonet.ragcache import Address, Engine, RagServer, ServerConfig
    from nonet.ragcache.serving.tenants import read_keys

    keys = tmp_path / "keys"
    keys.write_text("search old\nsearch new\nother\n")
    store = f"ram:50MB,disk:{tmp_path}/kv:1GB"
    command = ("warm", index, "--neighbours", 0, "--model", model, "--store", store, "-q", "--api-keys", keys)
    typed(*command, "--api-key", "old")
    typed(*command, "--api-key", "other", "--cache-salt", "s")
    assert "for which of these keys" in refused(capsys, *command)
    assert "none of those" in refused(capsys, *command, "--api-key", "guess")
    engine = Engine.from_pretrained(model, store=store)
    server = RagServer(
        engine, ServerConfig("toy", keys=read_keys([], keys)), Address(port=0), index_folder=index
    ).start()
    asked_of = {"messages": [{"role": "user", "content": QUESTION}], "retrieve": 1, "mode": "reuse", "max_tokens": 1}

    def decision(key, **salt):
        told = post(server.address, key, **asked_of, **salt)
        shown = typed("explain", told["id"], "--url", server.address, "--api-key", key, *_option(salt))
        assert told["chunks"][0]["decision"] in shown
        return told["chunks"][0]["decision"]

    try:
        assert decision("new") != "computed" and decision("other", cache_salt="s") != "computed"
        assert decision("other") == "computed"
        told = post(server.address, "new", **asked_of)
        assert "not known here" in refused(capsys, "explain", told["id"], "--url", server.address, "--api-key", "other")
        assert "not a key" in refused(capsys, "explain", told["id"], "--url", server.address, "--api-key", "guess")
    finally:
        server.stop(0.5)


def _option(salt):
    return ("--cache-salt", salt["cache_salt"]) if salt else ()


@pytest.fixture
def trace(tmp_path):
    """Options for questions whose chunks come back in other orders."""
    names = ["a", "b", "c"]
    chunks = "".join(json.dumps({"chunk_id": name, "text": f"text {name} " * 3}) + "\n" for name in names)
    orders = ["abc", "bca", "cab", "acb", "bac", "cba"]
    lines = "".join(json.dumps({"question": f"{order}?", "chunks": list(order)}) + "\n" for order in orders)
    (tmp_path / "chunks.jsonl").write_text(chunks)
    (tmp_path / "asked.jsonl").write_text(lines)
    return ("--questions", tmp_path / "asked.jsonl", "--chunks", tmp_path / "chunks.jsonl", "--num-warming", 2)


def test_calibrate_ends_with_1_when_nothing_reaches_the_target(trace, model):
    command = ("calibrate", *trace, "--num-questions", 4, "--model", model, "--max-tokens", 6, "-q")
    found = json.loads(typed(*command, "--target", 0, "--mode", "cachecraft", "--json"))
    assert found["alpha"] == 0 and {line["alpha"] for line in found["table"]} >= {0, 0.5, 2}
    computed = [line["computed"] for line in found["table"]]
    assert computed == sorted(computed) and computed[0] < computed[-1]
    done = run(*command, "--target", 1, "--mode", "reuse")
    assert done.exit_code == 1 and "reaches" in done.stdout and "alpha 2 reaches" not in done.stdout


def test_calibrate_parts_a_few_questions_as_it_would_many(trace, model):
    done = run("calibrate", *trace[:-2], "--model", model, "--max-tokens", 2, "--target", 0)
    assert done.exit_code == 0 and "reaches 0 on 2 questions" in done.stdout
    assert "of 6 questions, 4 fill the store, and 2 about the same are asked" in done.stderr


@pytest.fixture
def guarded(tmp_path, trace, model):
    """A command that calibrates on enough questions for a guard."""
    names = "abcd"
    texts = "".join(json.dumps({"chunk_id": name, "text": f"text {name} " * 3}) + "\n" for name in names)
    orders = itertools.permutations(names, 3)
    lines = "".join(json.dumps({"question": f"{order}?", "chunks": list(order)}) + "\n" for order in orders)
    (tmp_path / "chunks.jsonl").write_text(texts)
    (tmp_path / "asked.jsonl").write_text(lines)
    return ("calibrate", *trace[:-1], 8, "--model", model, "--max-tokens", 2, "--target", 0, "--mode", "cachecraft")


def test_where_no_guard_can_be_written_nothing_is_measured(guarded, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Trialled, "prepare", lambda *_, **__: pytest.fail("it is measured"))
    assert "is a folder" in refused(capsys, *guarded, "--guard", tmp_path, "-q")
    assert "no such folder" in refused(capsys, *guarded, "--guard", tmp_path / "none" / "guard.json", "-q")
    assert "cannot be written" in refused(capsys, *guarded, "--guard", "/proc/guard.json", "-q")


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_guard_that_cannot_be_measured_leaves_what_was_found(guarded, tmp_path, monkeypatch, options):
    def fail(*_):
        raise InputError("the model is gone")

    monkeypatch.setattr(quality, "damages_of", fail)
    done = run(*guarded, "--guard", tmp_path / "guard.json", "-q", *options)
    assert "the model is gone" in str(done.exception) and "alpha" in done.stdout and "is for: serve" not in done.stdout


def test_a_guard_that_calibrate_measures_is_served(guarded, tmp_path, model, capsys, monkeypatch):
    guard, command = tmp_path / "guard.json", guarded
    assert "at least 9 requests, not 8" in refused(capsys, *command, "--num-questions", 8, "--guard", guard, "-q")
    done = run(*command, "--guard", guard)
    assert done.exit_code == 0 and f"serve --alpha 0 --guard {guard} --max-damage LIMIT" in done.stdout
    assert "bounds of these answers: " in done.stderr
    told = json.loads(guard.read_text())
    assert told["factor"] > 0 and told["num_calibrated"] >= 9 and told["settings"]["alpha"] == 0
    assert told["fingerprint"] == load_model(model).fingerprint and "model" not in told["settings"]

    def engine_of(model, limit):
        served = []
        monkeypatch.setattr(cli_serve, "run", lambda settings, *_: served.append(settings))
        options = ("--mode", "cachecraft", "--alpha", 0, "--guard", guard, "--max-damage", limit)
        typed("serve", "--model", model, *options, "-q")
        return served[0].open_engine()[0]

    def report(limit):
        engine = engine_of(model, limit)
        short = SamplingParams(max_tokens=1)
        for order in ("abc", "cba"):
            done = engine.generate("", [f"text {name} " * 3 for name in order], "why?", params=short)
            engine.finish_background()
        engine.stop(0)
        return done.report

    reused = report(1000)
    assert "reused" in {chunk.decision for chunk in reused.chunks} and 0 < reused.damage_bound < 1000
    print_report(reused)
    assert f"reuse may cost up to {reused.damage_bound:.3g}, as measured by calibrate\n" in capsys.readouterr().out
    abstained = report(0)
    assert {chunk.decision for chunk in abstained.chunks} == {"computed"}
    assert abstained.chunks[0].reason.startswith("abstained") and abstained.damage_bound == reused.damage_bound
    assert abstained.abstained and not reused.abstained
    print_report(abstained)
    assert "as measured by calibrate; that is too much" in capsys.readouterr().out
    moved = shutil.copytree(model, tmp_path / "moved")
    engine_of(moved, 1).stop(0)
    weights = next(moved.glob("*.safetensors"))
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1
    weights.write_bytes(raw)
    with pytest.raises(InputError, match="guard: measured on another model"):
        engine_of(moved, 1)


@pytest.fixture
def sample(tmp_path):
    """Options for the questions and chunks of the documentation."""
    text = (Path(__file__).parents[2] / "docs" / "ragcache.md").read_text("utf-8")
    samples = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    files = []
    for name, needed in (("asked.jsonl", '{"question"'), ("chunks.jsonl", '{"chunk_id"')):
        files.append(tmp_path / name)
        files[-1].write_text(next(sample for sample in samples if sample.startswith(needed)), "utf-8")
    return ("--questions", files[0], "--chunks", files[1])


def test_the_sample_of_the_documentation_calibrates(sample, model):
    assert "reaches 0 on" in typed("calibrate", *sample, "--model", model, "--max-tokens", 2, "--target", 0)


@pytest.mark.parametrize("scale", ["--quick", "--full"])
def test_the_quality_of_the_modes_is_measured_on_the_sample_of_the_documentation(sample, model, tmp_path, scale):
    found = tmp_path / "found.jsonl"
    shown = typed("bench", scale, *sample, "--model", model, "--json", found, "-q")
    findings = {one.name: one for one, _ in read_findings(found)}
    assert {"kl_guided_30_asked", "kl_reuse_asked", "tokens_vs_full"} <= findings.keys()
    assert all(name in shown for name in findings) and "logits_max_error" not in findings
    assert all(one.promise is None for one in findings.values())
    assert "4 questions, a store without limits, 30% of reused rows" in findings["tokens_vs_full"].input


@pytest.fixture
def server():
    from nonet.ragcache import Address, Engine, RagServer, ServerConfig, toy_model

    engine = Engine(toy_model(), ChunkStore.from_spec("ram:50MB"))
    running = RagServer(engine, ServerConfig("toy", default_max_tokens=2), Address(port=0)).start()
    yield running
    running.stop(0.5)


def post(address, key="none", **body):
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    request = urllib.request.Request(f"{address}/v1/chat/completions", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def test_explain_tells_of_an_answer_what_the_server_told(server, capsys):
    said = post(
        server.address, messages=[{"role": "user", "content": "why?"}], chunks=[{"id": "kb-1", "text": "a b c"}]
    )
    shown = typed("explain", said["id"], "--url", server.address + "/")
    assert f"{said['usage']['prompt_tokens']} prompt tokens" in shown and re.search(r"kb-1 +computed +\d+/\d+", shown)
    told = json.loads(typed("explain", said["id"], "--url", server.address, "--json"))
    assert told["chunks"] == said["chunks"] and told["considered"] == {"kb-1": []}
    assert "'chatcmpl-none' is not known" in refused(capsys, "explain", "chatcmpl-none", "--url", server.address)


class _Elsewhere(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>another server</html>")

    def log_message(self, *_):
        pass


def test_explain_says_when_nobody_or_somebody_else_answers(capsys):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert "is the server running?" in refused(capsys, "explain", "x", "--url", f"http://127.0.0.1:{port}")
    assert "is the server running?" in refused(capsys, "explain", "x", "--url", "nonsense")
    with http.server.HTTPServer(("127.0.0.1", 0), _Elsewhere) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{other.server_port}"
        assert "is this a server of nonet ragcache?" in refused(capsys, "explain", "x", "--url", url)
        other.shutdown()


def process(*arguments):
    command = [sys.executable, "-m", "nonet", "ragcache", *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "100"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def test_serve_answers_until_it_is_told_to_end_and_keeps_what_it_computed(index, model):
    command = ("serve", "--model", model, "--index", index, "--port", 0, "--store", f"disk:{index / 'kv'}")
    with process(*command, "--served-model-name", "tiny", "--threads", 1) as running:
        try:
            address = re.search(r"http://\S+", running.stderr.readline())[0]
            said = post(
                address, model="tiny", messages=[{"role": "user", "content": QUESTION}], retrieve=2, max_tokens=2
            )
            assert said["chunks"][0]["chunk_id"] == "rows.md#0"
        finally:
            running.send_signal(signal.SIGTERM)
        _, rest = running.communicate(timeout=30)
        assert running.returncode == 0 and "Traceback" not in rest
    stored = ChunkStore.from_spec(f"disk:{index / 'kv'}")
    assert stored.stats().num_chunks >= 2
    stored.close()


def test_the_whole_command_ends_with_one_line_and_2():
    with process("ask", "/no/such/folder", "why?") as running:
        out, err = running.communicate(timeout=60)
    assert (running.returncode, out, err) == (2, "", "error: /no/such/folder: no such file or folder\n")


def test_ask_refuses_what_cannot_be_asked(tmp_path, documents, model, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "table.xlsx").write_bytes(b"PK")

    def said(source, question=QUESTION, *more):
        return refused(capsys, "ask", source, question, "--model", model, "-q", *more)

    assert "no such file or folder" in said(tmp_path / "nowhere")
    assert "empty; known kinds are .txt, .md" in said(tmp_path / "empty")
    assert "unknown kind of document" in said(tmp_path / "table.xlsx")
    assert "unknown mode 'gided'; did you mean 'guided'?" in said(documents, QUESTION, "--mode", "gided")
    assert "the question is empty" in said(documents, "  ")
    too_long = said(documents, "why " * 300)
    assert "maximum context length is 1024 tokens" in too_long and "shorter question" in too_long


def test_models_that_are_none_are_refused(tmp_path, documents, smollm2, capsys):
    from nonet.ragcache.models.loading import packaged_model

    (tmp_path / "text.gguf").write_text("hello")
    with packaged_model().open("rb") as whole:
        (tmp_path / "cut.gguf").write_bytes(whole.read(2_500_000))
    (tmp_path / "folder").mkdir()

    def said(model):
        return refused(capsys, "ask", documents, QUESTION, "--model", model, "-q")

    assert "no such file or folder" in said("no-such-model")
    assert "text.gguf: not a readable GGUF file" in said(tmp_path / "text.gguf")
    assert "truncated or damaged" in said(tmp_path / "cut.gguf")
    assert "folder: no *.safetensors inside" in said(tmp_path / "folder")


def test_stores_indexes_and_traces_that_are_none_are_refused(tmp_path, index, documents, model, trace, capsys):
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "chunks.sqlite").write_text("no database, but longer than a header of one would be" * 20)
    own = ("--model", model, "-q")
    assert "names no tier" in refused(capsys, "warm", index, "--neighbours", 0, "--store", "rom:4GB", *own)
    assert "is no size" in refused(capsys, "serve", "--store", "ram:much", *own)
    assert "not an index of chunks" in refused(capsys, "ask", tmp_path / "odd", QUESTION, *own)
    assert "no folder for an index" in refused(capsys, "ingest", documents, "-o", tmp_path / "file", *own)
    assert "no documents in" in refused(capsys, "ingest", tmp_path / "empty", "-o", tmp_path / "new", *own)
    assert "no such file" in refused(capsys, "calibrate", *trace[2:], "--questions", tmp_path / "none", *own)
    (tmp_path / "asked.jsonl").write_text('{"question": "why?", "chunks": ["a", "b"]}\n' * 4)
    assert "give more questions about these chunks" in refused(capsys, "calibrate", *trace, *own)
    (tmp_path / "asked.jsonl").write_text('{"question": "why?", "chunks": ["a", "zzz"]}\n')
    assert "asked.jsonl:1: chunk zzz is not in" in refused(capsys, "calibrate", *trace, *own)
    (tmp_path / "asked.jsonl").write_text('{"question": "why?"\n')
    assert "asked.jsonl:1: not JSON" in refused(capsys, "calibrate", *trace, *own)


def test_serve_refuses_modes_names_indexes_and_addresses(tmp_path, model, capsys):
    own = ("--model", model, "-q")
    assert "unknown mode" in refused(capsys, "serve", "--mode", "fastest", *own)
    nowhere = tmp_path / "nowhere"
    assert f"ragcache ingest DOCUMENTS -o {nowhere}" in refused(capsys, "serve", "--index", nowhere, *own)
    assert not nowhere.exists()
    assert "--metrics-compat takes vllm" in refused(capsys, "serve", "--metrics-compat", "sglang", *own)
    assert "token" in refused(capsys, "serve", "--host", "0.0.0.0", "--port", 0, *own)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "127.0.0.1" in refused(capsys, "serve", "--port", taken.getsockname()[1], *own)
