"""Options that several verbs of the room share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nonet.ragcache.reuse.modes import MODES

Model = Annotated[
    str, typer.Option(metavar="NAME|PATH", help="smollm2, a GGUF file, a folder with safetensors, or a hub name.")
]
Dtype = Annotated[str, typer.Option(metavar="float32|bfloat16", help="Of the weights and the KV.")]
ServeStore = Annotated[
    str,
    typer.Option(
        metavar="SPEC",
        help="Tiers, the fastest first, such as ram:4GB,disk:kv/:50GB,redis://host/0. "
        "[default: what warm keeps beside --index; ram:4GB without]",
    ),
]
ModeName = Annotated[
    str,
    typer.Option("--mode", metavar="NAME", help=f"One of {', '.join(MODES)}.", autocompletion=lambda: list(MODES)),
]
Alpha = Annotated[float, typer.Option(min=0, help="More repairs more; calibrate finds it.")]
Symmetric = Annotated[bool, typer.Option("--symmetric", help="Count new neighbours against a stored chunk, too.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads of the model. [default: all cores]")]
ServeKey = Annotated[
    list[str] | None,
    typer.Option(envvar="RAGCACHE_API_KEY", help="Key that clients may send; may be repeated.", show_default=False),
]
ApiKeys = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Keys of the server: one a line, or a name and a key. # comments.")
]
CacheSalt = Annotated[
    str | None, typer.Option(metavar="TEXT", help="As in the requests that are meant. [default: without]")
]
ShadowRate = Annotated[
    float,
    typer.Option(min=0, max=1, help="Share of the requests with inexact reuse to compare with full recomputation."),
]
Guard = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Of calibrate --guard: compute in full what reuse might change too much."),
]
MaxDamage = Annotated[
    float | None,
    typer.Option(min=0, metavar="LIMIT", help="With --guard: KL in nats a token that is accepted. [default: 0.1]"),
]
MetricsCompat = Annotated[
    str, typer.Option(metavar="vllm,lmcache", help="Also metrics under the names of vLLM, LMCache, or both.")
]
LmcacheConfig = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="LMCache's YAML; flags beat it. LMCACHE_* variables are read as well."),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes on stderr.")]


def start(quiet: bool, threads: int | None) -> None:
    """What every verb does first: what is said on stderr, and how many threads compute.

    Args:
        quiet: say nothing there.
        threads: None leaves it to torch.
    """
    from nonet.common.console import set_quiet

    set_quiet(quiet)
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def guard_settings(
    dtype: str, mode: str, alpha: float, overlap: str, recompute: float | None = None
) -> dict[str, str | float | None]:
    """The settings under which a guard is measured, and so the only ones under which it may be used.

    Args:
        dtype: of the weights and the KV.
        mode: of requests that do not say.
        alpha: factor of the fix overhead.
        overlap: the rule for new neighbours.
        recompute: share of the reused rows that requests which do not say have computed anew, None for what alpha says.
    """
    return {"dtype": dtype, "mode": mode, "alpha": alpha, "overlap": overlap, "recompute": recompute}
