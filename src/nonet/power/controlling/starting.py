"""What happens between the start of the process and the first control period: privileges, caps found, the old state.

A first start reads every server back. Caps that it finds are nobody's any more (the tool that set them died, or a
person forgot them): they are adopted or, once the row is low, lifted, as `control.at_start` says, and written down
either way. A restart goes on in the saved mode; writes that were in flight go out again under their old keys, levels
that cannot be read back are set once more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from nonet.common.errors import InputError
from nonet.power.controlling.actuators.protocol import (
    ACTUATORS,
    Actuator,
    ActuatorError,
    NoPermissionError,
    Server,
)
from nonet.power.controlling.config import RowFile
from nonet.power.controlling.controller import Controller
from nonet.power.policies.protocol import Action, Command

_READERS = 128
_SHOWN = 5


def build_actuators(row: RowFile, servers: Sequence[Server], chosen: frozenset[int]) -> dict[int, Actuator]:
    """The back end of each chosen server, one object for all servers of a back end.

    Raises:
        NonetError: a back end cannot be built (a library or a driver is missing, a wrong address).
    """
    scale = row.make_scale()
    by_backend: dict[str, list[Server]] = {}
    for server, backend in zip(servers, row.backend_names(), strict=True):
        if server.index in chosen:
            by_backend.setdefault(backend, []).append(server)
    found: dict[int, Actuator] = {}
    for backend, own in by_backend.items():
        actuator = ACTUATORS[backend].build(row.actuator_config(backend), own, scale)
        found.update(dict.fromkeys((server.index for server in own), actuator))
    return found


def check_actuators(actuators: Mapping[int, Actuator], servers: Sequence[Server]) -> list[ActuatorError]:
    """What the back ends complain about before anything is written, each complaint once.

    All servers at the same time: a row whose management network is down must not wait for one after the other.
    """

    def check(index: int) -> list[ActuatorError]:
        return actuators[index].check([servers[index]])

    with _readers(len(actuators)) as pool:
        problems = [problem for found in pool.map(check, sorted(actuators)) for problem in found]
    return list({str(problem): problem for problem in problems}.values())


def require_permission(problems: Sequence[ActuatorError]) -> None:
    """Refuse to start when a back end may not write.

    Raises:
        InputError: with the first such complaint.
    """
    forbidden = [problem for problem in problems if isinstance(problem, NoPermissionError)]
    if forbidden:
        more = f" (and {len(forbidden) - 1} more)" if len(forbidden) > 1 else ""
        raise InputError(f"{forbidden[0]}{more}; or leave --apply out")


def read_levels(actuators: Mapping[int, Actuator], servers: Sequence[Server]) -> tuple[dict[int, float], list[str]]:
    """The level in force on each server that answers, and one line for each that does not."""

    def read(index: int) -> tuple[int, float | None, str]:
        try:
            return index, actuators[index].read_level(servers[index]), ""
        except ActuatorError as error:
            return index, None, str(error)

    with _readers(len(actuators)) as pool:
        answers = list(pool.map(read, sorted(actuators)))
    levels = {index: level for index, level, _ in answers if level is not None}
    return levels, [problem for _, _, problem in answers if problem]


def _readers(num_servers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(_READERS, max(1, num_servers)), "start")


def start_controller(
    controller: Controller,
    saved: dict[str, Any] | None,
    actuators: Mapping[int, Actuator],
    servers: Sequence[Server],
    now_s: float,
) -> None:
    """Bring a controller to where it goes on from.

    Args:
        controller: fresh.
        saved: state of the last process, None at the first start.
        actuators: back ends of the servers that are written to.
        servers: of the row.
        now_s: control time.
    """
    levels, problems = read_levels(actuators, servers)
    for problem in problems[:_SHOWN]:
        controller.event("start", f"not read back: {problem}")
    if len(problems) > _SHOWN:
        controller.event("start", f"and {len(problems) - _SHOWN} more servers that could not be read back")
    unread = sorted({actuator.name for actuator in actuators.values() if not actuator.reads_back})
    if unread:
        controller.event(
            "mind",
            f"locked clocks cannot be read back ({', '.join(unread)}): landed means that the driver took them; only "
            "a clock that runs higher shows that one is gone",
        )
    if saved is None or not {"row", "policy"} <= set(saved):
        controller.event(
            "start", f"first start on this journal; {len(actuators)} of {len(servers)} servers are written to"
        )
        _take_found(controller, levels, actuators)
        return
    _restore(controller, saved)
    before = set(saved["row"]["live"])
    new = {index: level for index, level in levels.items() if index not in before}
    gone = sorted(before - set(actuators))
    if gone:
        names = ", ".join(servers[index].name for index in gone[:_SHOWN])
        controller.event("start", f"no longer in the allow-list, caps stay as they are: {names} ({len(gone)})")
    controller.send_again(controller.ledger.resume(now_s))
    _repair(controller, {index: levels[index] for index in levels if index in before}, actuators, now_s)
    _take_found(controller, new, {index: actuators[index] for index in new})


def _restore(controller: Controller, saved: dict[str, Any]) -> None:
    row, policy = saved["row"], saved["policy"]
    controller.ledger.restore(row["ledger"])
    controller.orphans = {int(server): float(level) for server, level in row["orphans"]}
    controller.held = {int(server): float(level) for server, level in row["held"]}
    controller.found = {int(server): float(level) for server, level in row["found"]}
    if policy["name"] != controller.policy.name:
        _start_afresh(controller, f"the policy was {policy['name']} and is {controller.policy.name} now")
    elif row.get("priorities", list(controller.ledger.priorities)) != list(controller.ledger.priorities):
        _start_afresh(controller, "priorities of servers were changed")
    else:
        controller.restore_policy(policy["state"])
        mode = policy["state"].get("mode", "")
        controller.event("start", f"going on as {controller.policy.name}" + (f" in mode {mode}" if mode != "" else ""))


def _start_afresh(controller: Controller, why: str) -> None:
    """The policy begins in its first mode; what it does not know of is lifted once the row is low.

    Raises:
        InputError: the row is under the brake, which a policy releases only when it has pulled it.
    """
    ledger = controller.ledger
    if any(ledger.braked):
        raise InputError(f"{why} while the row is under the brake: change it back until the brake is released")
    left = {server: level for server, level in enumerate(ledger.targets) if level < 1.0}
    controller.orphans |= left
    controller.held = {}
    controller.event("start", f"{why}: it starts afresh; caps left on {len(left)} servers stay until the row is low")


def _repair(
    controller: Controller, levels: Mapping[int, float], actuators: Mapping[int, Actuator], now_s: float
) -> None:
    """Set again what vanished while nobody looked, and what cannot be read back."""
    ledger, writes = controller.ledger, []
    for server, level in levels.items():
        capped = ledger.cap_levels[server] < 1.0 or ledger.braked[server]
        if server in controller.orphans:
            continue
        if actuators[server].reads_back:
            writes += ledger.observe(server, level, now_s)
        elif capped:
            writes += ledger.observe(server, 1.0, now_s)
    controller.send_again(writes)


def _take_found(controller: Controller, levels: Mapping[int, float], actuators: Mapping[int, Actuator]) -> None:
    """Adopt or mark for lifting what a first start finds."""
    capped = {s: level for s, level in levels.items() if level < 1.0 - controller.ledger.config.resolution}
    unseen = sorted(server for server in levels if not actuators[server].reads_back)
    restore = controller.row.control.at_start == "restore"
    controller.found.update(dict.fromkeys(levels, 1.0) if restore else levels)
    if capped and restore:
        controller.event("orphans", f"caps found on {len(capped)} servers; they are lifted once the row is low")
        controller.orphans |= capped
    elif capped:
        controller.event(
            "orphans", f"caps found on {len(capped)} servers are adopted: kept until the policy orders otherwise"
        )
        controller.order([Command(Action.CAP, (s,), level, "found at start") for s, level in capped.items()])
    if unseen and restore:
        controller.event("orphans", f"locked clocks of {len(unseen)} servers cannot be read; reset once the row is low")
        lowest = controller.row.control.crash_level
        controller.orphans |= {server: lowest for server in unseen if server not in capped}
    elif unseen:
        controller.event(
            "orphans",
            f"locked clocks of {len(unseen)} servers cannot be read: a lock of somebody else would stay (at_start = "
            "restore resets them)",
        )


def _distinct(actuators: Mapping[int, Actuator]) -> list[Actuator]:
    return list({id(actuator): actuator for actuator in actuators.values()}.values())


def close_actuators(actuators: Mapping[int, Actuator]) -> None:
    """Close every back end once."""
    for actuator in _distinct(actuators):
        actuator.close()
