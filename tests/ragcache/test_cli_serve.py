"""Options of `nonet ragcache serve`, and what LMCache's settings make of them."""

import dataclasses
import pickle
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nonet.common.errors import InputError
from nonet.ragcache import cli_options, cli_serve
from nonet.ragcache.cli import app
from nonet.ragcache.reuse.abstain import Guard
from nonet.ragcache.reuse.guard_file import write_guard
from nonet.ragcache.serving import replicas as replicas_module


@pytest.fixture
def serve(monkeypatch):
    """Runs the verb; gives what would be served, and stderr."""

    def run(*arguments, **environment):
        seen = []
        with monkeypatch.context() as patch:
            patch.setattr(cli_serve, "run", lambda *given: seen.append(given))
            result = CliRunner(env=environment).invoke(app, ["serve", *arguments])
        return (seen[0] if seen else result.exception), result.stderr

    return run


def test_lmcaches_file_is_taken_over_and_said(serve, tmp_path):
    file = tmp_path / "lmcache.yaml"
    file.write_text("max_local_cpu_size: 2\nenable_blending: true\nblend_recompute_ratios: 0.3\ncache_policy: LRU\n")
    (settings, *_), said = serve("--config", str(file), LMCACHE_CHUNK_SIZE="64")
    assert (settings.store, settings.eviction, settings.engine.mode) == ("ram:2GiB", "lru", "blend")
    assert settings.server.default_recompute == 0.3
    assert "max_local_cpu_size" in said and "warning: LMCache: ignored: LMCACHE_CHUNK_SIZE: " in said


def test_flags_beat_lmcaches_settings(serve):
    environment = {"LMCACHE_MAX_LOCAL_CPU_SIZE": "2", "LMCACHE_ENABLE_BLENDING": "true"}
    (settings, *_), said = serve("--store", "ram:1GB", "--mode", "guided", **environment)
    assert (settings.store, settings.engine.mode, settings.server.default_recompute) == ("ram:1GB", "guided", None)
    assert "give way to --store ram:1GB" in said and "gives way to mode guided" in said
    (settings, *_), said = serve("--no-enable-prefix-caching", **environment)
    assert (settings.store, settings.engine.mode) == ("ram:2GiB", "full")


def test_without_them_nothing_is_said(serve):
    (settings, *_), said = serve()
    assert (settings.store, settings.eviction, settings.engine.mode) == ("ram:4GB", "value", "guided")
    assert said == ""


def test_an_index_brings_the_store_that_warm_fills(serve):
    (settings, *_), _ = serve("--index", "index")
    assert settings.store == "ram:2GB,disk:index/kv:20GB"
    (settings, *_), _ = serve("--index", "index", "--store", "ram:1GB")
    assert settings.store == "ram:1GB"


def test_keys_from_flags_the_environment_and_a_file(serve, tmp_path):
    def secrets(*arguments, **environment):
        found, _ = serve(*arguments, **environment)
        return {key.secret: key.name for key in found[0].server.keys.keys}

    file = tmp_path / "keys"
    file.write_text("search s1\nsearch s2 # new\nplain\n")
    assert secrets() == {}
    assert secrets("--api-key", "a", "--api-key", "b") == {"a": "", "b": ""}
    assert secrets(RAGCACHE_API_KEY="a b") == {"a": "", "b": ""}
    assert secrets("--api-key", "s1", "--api-keys", str(file)) == {"s1": "search", "s2": "search", "plain": ""}
    error, _ = serve("--api-key", "")
    assert "not empty" in str(error)  # an unset variable of a script must not open the server
    error, _ = serve("--api-keys", str(tmp_path / "none"))
    assert "cannot be read" in str(error)


def test_metrics_compat(serve):
    (settings, *_), _ = serve("--metrics-compat", "lmcache,vllm")
    assert settings.metrics_compat == ("lmcache", "vllm")
    error, _ = serve("--metrics-compat", "sglang")
    assert "takes vllm and lmcache" in str(error)


def test_replicas_are_started_from_the_same_settings(serve, monkeypatch):
    (settings, host, port, index, replicas, threads), _ = serve("--replicas", "3", "--threads", "2")
    assert (host, port, index, replicas, threads) == ("127.0.0.1", 8000, None, 3, 2)
    with pytest.raises(InputError, match="keeps every replica's KV to itself"):
        cli_serve.run(settings, host, port, index, replicas, threads)
    with pytest.raises(InputError, match="nowhere: no index there"):
        cli_serve.run(settings, host, port, Path("nowhere"), replicas, threads)
    started = []
    monkeypatch.setattr(replicas_module.ReplicatedServer, "__init__", lambda _, *given: started.extend(given))
    monkeypatch.setattr(replicas_module.ReplicatedServer, "run", lambda _: None)
    settings = dataclasses.replace(settings, store="redis://h/0")
    cli_serve.run(settings, host, port, index, replicas, threads)
    each, place = started
    assert (each.serve, each.num_replicas, each.threads, each.index_folder) == (settings, 3, 2, None)
    assert (place.host, place.port) == ("127.0.0.1", 8000)


def test_a_guard_holds_for_the_settings_it_was_measured_with(serve, tmp_path):
    file = tmp_path / "guard.json"
    measured = cli_options.guard_settings("float32", "guided", 0.225, "published")
    write_guard(file, Guard(0.0, 0.5, 0.1, 40, "a model"), measured)
    own = ("--guard", str(file), "--alpha", "0.225")
    (settings, *_), _ = serve(*own, "--max-damage", "0.05")
    assert settings.engine.guard == Guard(0.05, 0.5, 0.1, 40, "a model")
    assert pickle.loads(pickle.dumps(settings)) == settings  # as replicas get them
    (settings, *_), _ = serve(*own, "--model", "./m.gguf")
    assert settings.engine.guard.fingerprint == "a model"  # whose name may be another, which the engine checks
    (settings, *_), _ = serve(*own)
    assert settings.engine.guard.limit == 0.1
    for option, says in (
        (("--alpha", "0.5"), "measured with alpha 0.225, not 0.5"),
        (("--mode", "cachecraft"), "measured with mode guided, not cachecraft"),
        (("--symmetric",), "measured with overlap published"),
        (("--dtype", "bfloat16"), "measured with dtype float32"),
    ):
        error, _ = serve(*own, *option)
        assert says in str(error)
    blended = {"LMCACHE_ENABLE_BLENDING": "true", "LMCACHE_BLEND_RECOMPUTE_RATIOS": "0.3"}
    write_guard(tmp_path / "blend.json", Guard(0.0, 0.5), {**measured, "mode": "blend"})
    error, _ = serve("--guard", str(tmp_path / "blend.json"), "--alpha", "0.225", **blended)
    assert "measured with recompute unset, not 0.3" in str(error)
    error, _ = serve("--max-damage", "0.1")
    assert "--max-damage needs --guard FILE" in str(error)
    error, _ = serve("--guard", str(tmp_path / "none"))
    assert "cannot be read" in str(error)
    file.write_text('{"factor": 1}')
    error, _ = serve(*own)
    assert "no guard; calibrate --guard writes one" in str(error)
