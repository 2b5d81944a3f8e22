"""Runs daemons in processes of their own, forked from this one, which has imported everything once.

Every line of standard input is an order, {"arguments", "log", "folder", "environment"}; the answer is the process's
number, and beside its log the exit code appears when it ends. A daemon's arguments are
ROW [--apply] [--allow NAMES] [--once] [--replay FILE] [--own-policy].
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import traceback
from pathlib import Path

from nonet.common.errors import NonetError
from nonet.power.controlling.config import load_row_file
from nonet.power.controlling.daemon import RunOptions, run_row

sys.path.insert(0, str(Path(__file__).parent))
from small_policy import SmallPolicy

logs: dict[int, Path] = {}


def main() -> None:
    signal.signal(signal.SIGCHLD, bury)
    for line in sys.stdin:
        order = json.loads(line)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})  # not before its log is known
        pid = os.fork()
        if pid == 0:
            os._exit(become(order))
        logs[pid] = Path(order["log"])
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        print(pid, flush=True)


def become(order: dict) -> int:
    """The life of a daemon."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number, file in enumerate((os.open(os.devnull, os.O_RDONLY), log, log)):
        os.dup2(file, number)
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    try:
        return run(order["arguments"])
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def run(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("row")
    parser.add_argument("--apply", action="store_true")
    parser.add_argument("--allow", action="append", default=[])
    parser.add_argument("--once", action="store_true")
    parser.add_argument("--replay", type=Path)
    parser.add_argument("--own-policy", action="store_true", help="the row file's instead of the small one")
    given = parser.parse_args(arguments)
    options = RunOptions(given.apply, tuple(given.allow), given.once, given.replay)
    try:
        report = run_row(load_row_file(given.row), None if given.own_policy else SmallPolicy(), options)
    except NonetError as error:
        print(f"error: {error}")
        return error.exit_code
    print(json.dumps({"periods": report.periods, "ended": report.ended, "commands": len(report.commands)}))
    return 0


def bury(*_: object) -> None:
    """Write down how daemons have ended."""
    while logs:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        exit_file = logs.pop(pid).with_suffix(".exit")
        exit_file.with_suffix(".new").write_text(str(os.waitstatus_to_exitcode(status)))
        exit_file.with_suffix(".new").rename(exit_file)


if __name__ == "__main__":
    main()
