"""The guardian: a small process that waits for the daemon to die, and then does what the row file declares.

It reads its orders from standard input, a pipe that the daemon holds open. When the pipe closes without a word the
daemon is dead, however it died. After `crash_grace_s` without another daemon on the journal (a service manager
restarts it), the guardian takes the journal and sets the declared state: `cap` brings servers of low priority down to
`crash_level` and raises nobody; `restore` lifts our caps. It writes down what it did, so that the next daemon goes on
from there.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nonet.common.errors import InputError
from nonet.common.jsonable import dumps
from nonet.power.controlling.actuators.protocol import Actuator, ActuatorError, Server
from nonet.power.controlling.config import RowFile
from nonet.power.controlling.journal import Journal
from nonet.power.controlling.saying import say
from nonet.power.controlling.starting import build_actuators, close_actuators
from nonet.power.policies.ledger import CommandLedger
from nonet.power.policies.protocol import Priority

_FAREWELL = "goodbye"
_ATTEMPTS = 3


class Guardian:
    """The daemon's side: starts the process, and takes leave of it at an orderly end."""

    def __init__(self, row: RowFile, live: frozenset[int]) -> None:
        self._orders = dumps({"row": json.loads(row.model_dump_json()), "live": sorted(live)})
        self._process = self._start()

    def renew(self) -> bool:
        """Start another when it has died; whether it had."""
        if self._process.poll() is None:
            return False
        self._process = self._start()
        return True

    def _start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "nonet.power.controlling.guardian"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True)
        _tell(process, self._orders)
        return process

    def __enter__(self) -> Guardian:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """At an orderly end nothing is to be done; a daemon that ends by an error leaves the rest to the guardian."""
        if kind is None:
            _tell(self._process, _FAREWELL)
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        if kind is not None:
            return
        try:
            self._process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()


def _tell(process: subprocess.Popen[str], line: str) -> None:
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(line + "\n")
            process.stdin.flush()


def act(row: RowFile, live: frozenset[int]) -> str:
    """Set the declared state; one line that says what was done.

    Raises:
        InputError: another process has the journal: the row is in good hands.
    """
    servers = row.server_list()
    with Journal(row.control.journal, [server.name for server in servers]) as journal:
        parts = journal.saved(dry=False)
        if parts is None or "row" not in parts:
            return "the journal holds no state: nothing to do"
        ledger = CommandLedger([int(server.priority) for server in servers], row.ledger_config(one_lever=True))
        saved = parts["row"]
        ledger.restore(saved["ledger"])
        wanted = _wanted(row, ledger, servers, live, saved)
        actuators = build_actuators(row, servers, frozenset(wanted))
        failed = _set_all(actuators, servers, wanted)
        close_actuators(actuators)
        done = {server: level for server, level in wanted.items() if server not in failed}
        text = f"the daemon died; on_crash = {row.control.on_crash}: set {len(done)} servers, {len(failed)} failed"
        journal.event("guardian", text, None, time.time())
        if row.control.on_crash == "restore" and not failed:
            journal.forget_state(dry=False)
        else:
            orphans = {int(server): level for server, level in saved["orphans"]} | done
            state = {"row": saved | {"orphans": sorted(orphans.items())}}
            control_s = float(parts["clock"]["control_s"])
            journal.commit(state, [], [], dry=False, control_s=control_s, wall_s=time.time())
        return text


def _wanted(
    row: RowFile, ledger: CommandLedger, servers: list[Server], live: frozenset[int], saved: Mapping[str, Any]
) -> dict[int, float]:
    control, braked = row.control, ledger.braked
    if control.on_crash == "restore":
        found = {int(server): float(level) for server, level in saved["found"]}
        touched = [s for s in live if braked[s] or ledger.cap_levels[s] < 1.0 or ledger.targets[s] < 1.0]
        return {server: found.get(server, 1.0) for server in touched}
    low = [s.index for s in servers if s.priority == Priority.LOW and s.index in live and not braked[s.index]]
    return {s: control.crash_level for s in low if ledger.cap_levels[s] > control.crash_level}


def _set_all(actuators: Mapping[int, Actuator], servers: list[Server], wanted: Mapping[int, float]) -> set[int]:
    failed = set(wanted)
    for attempt in range(_ATTEMPTS):
        for server in sorted(failed):
            try:
                actuators[server].set_level(servers[server], wanted[server], f"guardian-{server}-{attempt}")
            except ActuatorError as error:
                say(f"guardian: {error}")
            else:
                failed.discard(server)
        if not failed:
            break
        time.sleep(1.0)
    return failed


def main() -> None:
    """Wait for the end of standard input, then act."""
    orders = json.loads(sys.stdin.readline())
    row = RowFile.model_validate(orders["row"])
    if _FAREWELL in sys.stdin.read():
        return
    time.sleep(row.control.crash_grace_s)
    try:
        say(f"guardian: {act(row, frozenset(orders['live']))}")
    except InputError as error:
        say(f"guardian: nothing to do: {error}")


if __name__ == "__main__":
    if not Path("/proc").is_dir():
        sys.exit("guardian: needs Linux")
    main()
