"""What `nonet ragcache serve` does with its options before it serves."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from nonet.ragcache.serving.settings import ServeSettings

_MAX_DAMAGE = 0.1


def compat_names(text: str) -> tuple[str, ...]:
    """Whose metric names `--metrics-compat` asks for.

    Args:
        text: names with commas between them.

    Raises:
        InputError: an unknown one.
    """
    from nonet.common.errors import InputError
    from nonet.ragcache.serving.metrics import COMPAT

    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        if name not in COMPAT:
            raise InputError(f"--metrics-compat takes {' and '.join(COMPAT)}, with a comma between, not {name!r}")
    return names


def with_lmcache(settings: ServeSettings, context: typer.Context, config: Path | None) -> ServeSettings:
    """Take over LMCache's settings where no flag says otherwise, and say on stderr what became of each.

    Args:
        settings: from the flags.
        context: of the command; knows which flags were given.
        config: a file of LMCache's, besides its LMCACHE_* variables.

    Raises:
        InputError: the file or a variable is wrong.
    """
    from nonet.common.console import note
    from nonet.ragcache.serving.lmcache_settings import load_lmcache

    found = load_lmcache(config, os.environ)
    if found is None:
        return settings
    for line in found.taken:
        note(f"LMCache: {line}")
    for line in found.ignored:
        note(f"warning: LMCache: ignored: {line}")
    if found.store is not None and _is_flag(context, "store"):
        note(f"warning: LMCache: its tiers ({found.store}) give way to --store {settings.store}")
    elif found.store is not None:
        settings = replace(settings, store=found.store)
    if found.mode is not None and (_is_flag(context, "mode") or _is_flag(context, "enable_prefix_caching")):
        note(f"warning: LMCache: its mode {found.mode} gives way to mode {settings.engine.mode}, as the flags say")
    elif found.mode is not None:
        server = replace(settings.server, default_recompute=found.recompute)
        settings = replace(settings, engine=replace(settings.engine, mode=found.mode), server=server)
    return replace(settings, eviction=found.eviction or settings.eviction)


def with_guard(settings: ServeSettings, file: Path | None, max_damage: float | None) -> ServeSettings:
    """Let the engine abstain where a measured bound exceeds a limit.

    Args:
        settings: from the flags and LMCache's; the guard must have been measured under them.
        file: that `calibrate --guard` wrote, None for no guard.
        max_damage: the limit in nats a token; None for 0.1, at which the shadow check raises its alarm, too.

    Raises:
        InputError: a limit without a guard, no such file, or one that was measured under other settings.
    """
    from nonet.common.errors import InputError
    from nonet.ragcache.cli_options import guard_settings
    from nonet.ragcache.reuse.guard_file import read_guard

    if file is None:
        if max_damage is not None:
            raise InputError("--max-damage needs --guard FILE, which calibrate --guard measures")
        return settings
    engine = settings.engine
    share = settings.server.default_recompute
    here = guard_settings(settings.dtype, engine.mode, engine.alpha, engine.overlap, share)
    limit = _MAX_DAMAGE if max_damage is None else max_damage
    return replace(settings, engine=replace(engine, guard=read_guard(file, limit, here)))


def _is_flag(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def run(settings: ServeSettings, host: str, port: int, index: Path | None, replicas: int, threads: int | None) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        settings: of each engine.
        host: address to listen on.
        port: 0 takes a free one.
        index: folder of chunks, or None.
        replicas: 1 computes in this process, more are started on Ray Serve.
        threads: of each replica's model; None shares this machine's processors out.

    Raises:
        InputError: settings that cannot be served, or no index in that folder.
        MissingExtraError: replicas without Ray Serve.
    """
    from nonet.ragcache.front.index import check_index
    from nonet.ragcache.serving.server import Address, RagServer

    if index is not None:
        check_index(index)  # before the store makes a folder inside
    place = Address(host, port)
    if replicas > 1:
        from nonet.ragcache.serving.replicas import ReplicaSettings, ReplicatedServer

        each = threads or max(1, (os.cpu_count() or 1) // replicas)
        ReplicatedServer(ReplicaSettings(settings, replicas, each, index), place).run()
        return
    engine, allowed = settings.open_engine()
    RagServer(engine, allowed, place, index_folder=index, metrics_compat=settings.metrics_compat).run()
