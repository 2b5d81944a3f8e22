"""Runs the daemon in a process of its own: run_daemon.py ROW [--apply] [--allow NAMES] [--once] [--replay FILE]."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from nonet.common.errors import NonetError
from nonet.power.controlling.config import load_row_file
from nonet.power.controlling.daemon import RunOptions, run_row

sys.path.insert(0, str(Path(__file__).parent))
from small_policy import SmallPolicy


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("row")
    parser.add_argument("--apply", action="store_true")
    parser.add_argument("--allow", action="append", default=[])
    parser.add_argument("--once", action="store_true")
    parser.add_argument("--replay", type=Path)
    parser.add_argument("--own-policy", action="store_true", help="the row file's instead of the small one")
    given = parser.parse_args()
    options = RunOptions(given.apply, tuple(given.allow), given.once, given.replay)
    try:
        report = run_row(load_row_file(given.row), None if given.own_policy else SmallPolicy(), options)
    except NonetError as error:
        print(f"error: {error}")
        return error.exit_code
    print(json.dumps({"periods": report.periods, "ended": report.ended, "commands": len(report.commands)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
