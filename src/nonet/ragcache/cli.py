"""The command line of the room: `nonet ragcache VERB`. It parses options, calls the API and prints; no more."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nonet.ragcache import cli_ask, cli_bench, cli_serve
from nonet.ragcache import cli_options as options

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="An inference server that reuses the KV cache of retrieved chunks at any position of a prompt.",
    epilog='Start with: nonet ragcache ask docs/ "What is kept in the cache?" --explain',
)


@app.command()
def serve(
    context: typer.Context,
    model: options.Model = "smollm2",
    dtype: options.Dtype = "float32",
    store: options.ServeStore = "",
    index: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Index for requests with `retrieve`, see ingest.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; a wide one needs keys.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    served_model_name: Annotated[str, typer.Option(help="Name in the API. [default: as --model says]")] = "",
    max_model_len: Annotated[int | None, typer.Option(min=16, help="Tokens of prompt and answer.")] = None,
    max_num_seqs: Annotated[int, typer.Option(min=1, help="Requests that are computed at a time.")] = 8,
    max_num_batched_tokens: Annotated[int, typer.Option(min=16, help="Rows of one step.")] = 512,
    api_key: options.ServeKey = None,
    api_keys: options.ApiKeys = None,
    enable_prefix_caching: Annotated[
        bool, typer.Option(help="Off: compute every prompt in full, whatever --mode says.")
    ] = True,
    mode: options.ModeName = "guided",
    alpha: options.Alpha = 0.5,
    symmetric: options.Symmetric = False,
    shadow_rate: options.ShadowRate = 0.0,
    shadow_limit: Annotated[float, typer.Option(min=1e-9, help="Mean KL in nats that raises the alarm.")] = 0.1,
    guard: options.Guard = None,
    max_damage: options.MaxDamage = None,
    metrics_compat: options.MetricsCompat = "",
    config: options.LmcacheConfig = None,
    replicas: Annotated[
        int, typer.Option(min=1, help="Engines on Ray Serve (RAY_ADDRESS or this machine) that share the store.")
    ] = 1,
    threads: options.Threads = None,
    quiet: options.Quiet = False,
) -> None:
    """Serve OpenAI's API with chunks, and a chat page, until SIGTERM.

    Examples:

        nonet ragcache serve --index index/

        nonet ragcache serve --model model.gguf --port 8001 --metrics-compat vllm,lmcache

        nonet ragcache serve --config lmcache.yaml

        nonet ragcache serve --host 0.0.0.0 --api-keys keys.txt

        nonet ragcache serve --alpha 0.3 --guard guard.json --max-damage 0.05

        nonet ragcache serve --replicas 4 --store ram:4GB,redis://cache/0
    """
    from nonet.ragcache.front.ask import beside
    from nonet.ragcache.scheduling.engine import DEFAULT_STORE
    from nonet.ragcache.scheduling.settings import EngineConfig
    from nonet.ragcache.scheduling.shadow import ShadowConfig
    from nonet.ragcache.serving.app import ServerConfig
    from nonet.ragcache.serving.settings import ServeSettings
    from nonet.ragcache.serving.tenants import read_keys

    options.start(quiet, threads)
    engine = EngineConfig(
        max_model_len=max_model_len,
        max_running=max_num_seqs,
        step_tokens=max_num_batched_tokens,
        mode=mode if enable_prefix_caching else "full",
        alpha=alpha,
        overlap="symmetric" if symmetric else "published",
        shadow=ShadowConfig(shadow_rate, shadow_limit),
    )
    settings = ServeSettings(
        model=model,
        dtype=dtype,
        store=store or (beside(index) if index is not None else DEFAULT_STORE),
        engine=engine,
        server=ServerConfig(served_model_name, keys=read_keys(api_key or [], api_keys)),
        metrics_compat=cli_serve.compat_names(metrics_compat),
    )
    settings = cli_serve.with_guard(cli_serve.with_lmcache(settings, context, config), guard, max_damage)
    cli_serve.run(settings, host, port, index, replicas, threads)


@app.command()
def ingest(
    index: Annotated[Path, typer.Option("--index", "-o", metavar="FOLDER", help="Where the index is written.")],
    documents: Annotated[
        list[Path] | None,
        typer.Argument(help="Files and folders: text, Markdown, HTML, PDF, JSON lines.", show_default=False),
    ] = None,
    remove: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|PATH",
            help="Drop a document, or all of a file or folder, be it gone or not; may be repeated.",
            show_default=False,
        ),
    ] = None,
    model: options.Model = "smollm2",
    max_tokens: Annotated[int, typer.Option(min=8, help="Tokens of a chunk.")] = 300,
    words_only: Annotated[bool, typer.Option(help="No embeddings: chunks are found by words only.")] = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Take documents into an index of chunks; unchanged ones cost nothing.

    What is gone from a folder since it was last taken in is dropped; what cannot be read there is named, and left out.
    A folder that is gone as a whole keeps its documents until --remove names it.

    Examples:

        nonet ragcache ingest docs/ handbook.pdf -o index/

        nonet ragcache ingest -o index/ --remove old-docs/ --remove handbook.pdf
    """
    from functools import cache

    from nonet.common.console import emit_json
    from nonet.ragcache.front.ask import take_in
    from nonet.ragcache.front.embedding import Embedder, packaged_model
    from nonet.ragcache.front.index import ChunkIndex, check_index
    from nonet.ragcache.models.loading import load_tokenizer

    options.start(quiet, None)
    if not documents:
        check_index(index)
    embedder = Embedder() if documents and not words_only and packaged_model() is not None else None
    place = ChunkIndex(index, embedder)
    tokenizer = cache(load_tokenizer)  # read for the first document that is new; there may be none
    done = take_in(place, documents or [], lambda text: tokenizer(model).encode(text), max_tokens, remove=remove or [])
    what = {kind: getattr(done, kind) for kind in ("added", "changed", "unchanged", "removed", "skipped")}
    if as_json:
        emit_json({**what, "chunks": len(place)})
        return
    print("documents:", ", ".join(f"{len(names)} {kind}" for kind, names in what.items()))
    how = ", found by words and meaning" if embedder is not None else ", found by words" if documents else ""
    print(f"{len(place)} chunks in {index}{how}")


app.command()(cli_ask.ask)
app.command()(cli_ask.warm)
app.command()(cli_ask.calibrate)
app.command()(cli_ask.explain)
app.command()(cli_bench.bench)
