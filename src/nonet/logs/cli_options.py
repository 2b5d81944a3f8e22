"""Options that several verbs share, and what they do with them. Nothing heavy is imported before a verb runs."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nonet.common.console import note, progress, set_quiet
from nonet.logs import cli_completion as completion

if TYPE_CHECKING:
    from nonet.logs.mining.miner import Miner


def _standard_input(source: str) -> str:
    """What is piped in, when no file is named."""
    if source:
        return source
    if sys.stdin is None or sys.stdin.isatty():
        raise typer.BadParameter("name a log, or pipe one in")
    return "-"


Source = Annotated[
    str,
    typer.Argument(
        metavar="FILE",
        help='A log, plain or compressed; "-", or none when something is piped in, is standard input.',
        callback=_standard_input,
        show_default=False,
    ),
]
Header = Annotated[
    str,
    typer.Option(
        "--header",
        "--format",
        metavar="FORMAT",
        help='Format such as "<Date> <Time> <Level>: <Content>"; auto recognises common ones, none takes whole lines.',
    ),
]
Multiline = Annotated[
    str,
    typer.Option(
        metavar="auto|join|off",
        help="Lines without header: join continuations (auto), all (join), none (off).",
        autocompletion=completion.one_of("auto", "join", "off"),
    ),
]
InputFormat = Annotated[
    str,
    typer.Option(
        "--input",
        metavar="auto|text|json|cri|docker",
        help="What is around the text of a line.",
        autocompletion=completion.one_of("auto", "text", "json", "cri", "docker"),
    ),
]
JsonField = Annotated[str | None, typer.Option(metavar="PATH", help="Field of JSON lines that holds the message.")]
ContentColumn = Annotated[
    str | None, typer.Option(metavar="NAME", help="FILE is a CSV file and this column holds the messages.")
]
Masks = Annotated[
    list[str] | None,
    typer.Option(
        "--mask",
        metavar="PATTERN[=NAME]",
        help="A mask of your own (RE2), before the general ones; can be given several times.",
    ),
]
ParserSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PARSER.NAME=VALUE",
        help="A parameter of a parser, such as Drain.st=0.4; can be given several times.",
    ),
]
MaxClusters = Annotated[
    int | None,
    typer.Option(min=16, help="Most kinds of lines to keep; the least used are forgotten. [default: 200,000]"),
]
State = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Go on from the miner's state in FILE, if it exists, and save it there; one process at a time.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes on stderr.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=0, help="Rows to show; 0 for all.")]
Html = Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Also write a self-contained HTML page.")]
Samples = Annotated[bool, typer.Option("--samples", help="Also show a line of each template.")]
Data = Annotated[
    str,
    typer.Option(
        metavar="NAMES",
        help="Data sets and folders, separated by commas; see: nonet logs data list.",
        autocompletion=completion.listed(completion.data_sets),
    ),
]
Parsers = Annotated[
    str,
    typer.Option(
        metavar="NAMES",
        help="Parsers, separated by commas; all, or package.module:Name for your own.",
        autocompletion=completion.listed(completion.parsers),
    ),
]
Mode = Annotated[
    str,
    typer.Option(
        metavar="compat|fixed",
        help="Reference parsers with the quirks of the published runs, or without.",
        autocompletion=completion.one_of("compat", "fixed"),
    ),
]
Engine = Annotated[
    str,
    typer.Option(metavar="local|ray", help="Where pairs run.", autocompletion=completion.one_of("local", "ray")),
]
Rules = Annotated[
    str | None,
    typer.Option(
        metavar="VERSION",
        help="Template rules for scoring.",
        autocompletion=completion.listed(completion.rule_versions),
    ),
]
Slices = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES",
        help="Slices. [default: the paper's nine]",
        autocompletion=completion.listed(completion.slices),
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of what is drawn at random.")]


_BLAS = "scipy.linalg"


def reading(
    header: str, multiline: str, input_format: str, json_field: str | None, content_column: str | None
) -> dict[str, Any]:
    """The options of the reader."""
    return {
        "header": header,
        "multiline": multiline,
        "input_format": input_format,
        "json_field": json_field,
        "content_column": content_column,
    }


def start(quiet: bool) -> None:
    """What every verb does first.

    Bytes that are not UTF-8 are lone surrogates in the text of templates; `\\udcff` is their form in JSON, too.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if quiet:
        set_quiet(True)


def _import_numba_without_scipy() -> None:
    """Import the part of numba that asks SciPy for BLAS while that is out of sight.

    Our kernels use no BLAS, and importing `scipy.linalg` for it, where SciPy is installed, would be a fifth of
    the time of a short command. Commands only: a library does not decide this for the program that it is in.
    """
    if _BLAS in sys.modules or "numba.np.arraymath" in sys.modules:
        return
    sys.modules[_BLAS] = None  # type: ignore[assignment]  # Python's way to say: not there
    try:
        import_module("numba.np.arraymath")
    finally:
        del sys.modules[_BLAS]


def open_miner(masks: Sequence[str] | None, max_clusters: int | None, state: Path | None) -> Miner:
    """The miner of the state file when there is one, else a new one.

    Raises:
        InputError: a mask that cannot be used, a damaged state, or a state that was made with other masks.
    """
    _import_numba_without_scipy()
    from nonet.common.errors import InputError
    from nonet.logs.mining.masks import UserMask
    from nonet.logs.mining.miner import DEFAULT_MAX_CLUSTERS, Miner

    wanted = [UserMask.parse(text) for text in masks or ()]
    if wanted:
        from nonet.logs.mining._mask_kernels import search

        if not _is_compiled(search):
            note("compiling the kernel of masks; this happens once ...")
    if state is None or not state.exists():
        return Miner(masks=wanted, max_clusters=max_clusters or DEFAULT_MAX_CLUSTERS)
    miner = Miner.load(state)
    if masks and list(miner.masks) != wanted:
        raise InputError(f"{state}: this state was made with other masks; leave --mask out, or use another state file")
    if max_clusters and max_clusters != miner.max_clusters:
        raise InputError(f"{state}: this state keeps {miner.max_clusters} clusters; leave --max-clusters out")
    return miner


@contextmanager
def kept_state(masks: Sequence[str] | None, max_clusters: int | None, state: Path | None) -> Iterator[Miner]:
    """As `open_miner`; the state is saved at the end, and no other process reads or writes it meanwhile."""
    if state is None:
        yield open_miner(masks, max_clusters, None)
        return
    from nonet.common.atomic import locked

    with locked(state, waiting=lambda: note(f"waiting for another process to be done with {state} ...")):
        miner = open_miner(masks, max_clusters, state)
        yield miner
        miner.save(state)


@contextmanager
def pass_progress(*sources: str) -> Iterator[Callable[[str, int, int | None], None]]:
    """A progress bar over the bytes of two passes, as the callback that `parse_file` and `top` take."""
    note_compilation()
    sizes = [Path(source).stat().st_size if Path(source).is_file() else None for source in sources]
    total = None if None in sizes else 2 * sum(size for size in sizes if size)
    with progress(total, "learning", unit="bytes") as bar:
        last_phase, last_done = "", 0

        def advance(phase: str, done: int, _: int | None) -> None:
            nonlocal last_phase, last_done
            if phase != last_phase or done < last_done:
                last_phase, last_done = phase, 0
                bar.describe("learning" if phase == "learn" else "labelling")
            bar.advance(done - last_done)
            last_done = done

        yield advance


def note_compilation() -> None:
    """Say that kernels are compiled now, when there are no compiled ones yet."""
    _import_numba_without_scipy()
    from nonet.logs.mining._table_kernels import learn

    if not _is_compiled(learn):
        note("compiling kernels; this happens once and takes about a minute ...")


def _is_compiled(kernel: Any) -> bool:
    """Whether numba's cache, wherever it is, holds the kernel."""
    name = kernel.py_func
    return any(Path(kernel.stats.cache_path).glob(f"{name.__module__.rpartition('.')[2]}.{name.__name__}-*.nbi"))
