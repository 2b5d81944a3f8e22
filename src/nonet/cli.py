"""The command line: puts the rooms' commands together.

A room's commands are imported when they are used, so `nonet --help` stays quick. Errors end as one line on stderr:
exit 0 done, 1 a check or gate failed, 2 bad usage or bad input, 130 interrupted. NONET_DEBUG=1 shows tracebacks.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup
from typer.main import get_command

import nonet
from nonet.common.errors import NonetError
from nonet.rooms import ROOMS, Room

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_READER_GONE = 141  # what a shell shows for SIGPIPE, as for `cat FILE | head`


class LazyRoom(TyperGroup):
    """A room's place in the list of commands: its name and its line of help, until the room itself is asked for."""

    def __init__(self, room: Room) -> None:
        super().__init__(name=room.name, help=room.help)
        self._room = room

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Import the room's command line and hand over to it."""
        command = get_command(self._room.load("cli").app)
        command.name = self._room.name
        return command.make_context(info_name, args, parent, **extra)


class House(TyperGroup):
    """The root command: the rooms first, then what concerns the house."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = {**{name: LazyRoom(room) for name, room in ROOMS.items()}, **self.commands}

    def invoke(self, ctx: Any) -> Any:
        """Run the command; a reader that went away (`nonet ... | head`) ends it, and a missing package is explained."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            _silence_stdout()
            raise typer.Exit(EXIT_READER_GONE) from None
        except ModuleNotFoundError as error:  # a room that imports its packages late
            room = ROOMS.get(ctx.invoked_subcommand)
            raise (room.explain_missing(error) if room else error) from error


app = typer.Typer(
    cls=House,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: importing what draws boxes takes longer than everything else here
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: nonet logs top /var/log/dpkg.log",
)
config_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Settings: what they are, where each comes from."
)
app.add_typer(config_app, name="config")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"nonet {nonet.__version__}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes on stderr.")] = False,
) -> None:
    """Nine published systems for running AI infrastructure, rebuilt as one toolbox. Each room works alone."""
    from nonet.common.settings import export_settings, load_settings

    context.obj = load_settings({"quiet": True} if quiet else {})
    export_settings(context.obj[0])


@app.command()
def tour(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the page and of findings.jsonl.")] = Path("tour"),
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes on stderr.")] = False,
) -> None:
    """Run every room's quick bench; write one HTML page.

    Example: nonet tour -o /tmp/tour
    """
    from nonet.common.console import set_quiet
    from nonet.tour import run_tour

    if quiet:
        set_quiet(True)
    if not run_tour(out):
        raise typer.Exit(EXIT_FAILED)


@config_app.command("show")
def config_show(
    context: typer.Context,
    origin: Annotated[bool, typer.Option("--origin", help="Also say where each value comes from.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Print the settings in force: flag over NONET_* variable over nonet.toml (or [tool.nonet]) over default.

    Example: nonet config show --origin
    """
    from nonet.common.console import emit_json, print_table

    settings, origins = context.obj
    values = settings.model_dump(mode="json")
    if as_json:
        emit_json({name: {"value": v, "origin": origins[name]} for name, v in values.items()} if origin else values)
    elif origin:
        print_table(["setting", "value", "origin"], [(name, v, origins[name]) for name, v in values.items()])
    else:
        print_table(["setting", "value"], list(values.items()))


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit; the entry point `nonet`."""
    try:
        code = app(args=arguments, prog_name="nonet", standalone_mode=False)
    except BaseException as error:
        code = exit_code_of(error)
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # the reader went away before the last buffer
        _silence_stdout()
        code = EXIT_READER_GONE
    if "duckdb" not in sys.modules:  # it complains on stderr about what is left uncollected
        gc.freeze()  # else the collection at exit walks through all that numba made: a third of a second
    sys.exit(code if isinstance(code, int) else 0)


def exit_code_of(error: BaseException) -> int:
    """Say what went wrong in one line on stderr (under NONET_DEBUG=1 with a traceback) and give the exit code.

    >>> exit_code_of(SystemExit(2)), exit_code_of(KeyboardInterrupt())
    (2, 130)
    """
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(bool(error.code))
    if isinstance(error, (KeyboardInterrupt, typer.Abort)):
        return EXIT_INTERRUPTED
    if os.environ.get("NONET_DEBUG", "") not in ("", "0"):
        import traceback

        traceback.print_exception(error)
    message, code = _explain(error)
    if message:
        from nonet.common.console import print_error

        print_error(message)
    return code


def _explain(error: BaseException) -> tuple[str, int]:
    if isinstance(error, NonetError):
        return str(error), error.exit_code
    if isinstance(error, typer.TyperException):
        message, context = error.format_message().strip(), getattr(error, "ctx", None)
        if message.startswith("Usage:"):  # a command without arguments: its help is the message
            print(message, file=sys.stderr)
            return "", error.exit_code
        return (f"{message} (see: {context.command_path} --help)" if message and context else message), error.exit_code
    if isinstance(error, OSError):
        place = f": {error.filename}" if error.filename else ""
        bad_input = isinstance(error, (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError))
        return f"{error.strerror or error}{place}", EXIT_USAGE if bad_input else EXIT_FAILED
    if isinstance(error, MemoryError):
        return "out of memory: give the command a smaller input, or the machine more memory", EXIT_FAILED
    name = type(error).__name__
    return f"unexpected {name}: {error} (a bug in nonet; NONET_DEBUG=1 shows where)", EXIT_FAILED


def _silence_stdout() -> None:
    # Python flushes stdout once more at exit; the rest of the buffer goes nowhere instead of raising again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
