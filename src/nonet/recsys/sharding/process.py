"""A shard's process: `python -m nonet.recsys.sharding.process SOCKET SNAPSHOT`; ends when its client goes.

It ignores SIGINT and SIGTERM: a terminal or a service manager sends them to a whole group, and the client still needs
its shards to end in order.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from nonet.common.errors import InputError
from nonet.recsys.sharding import wire
from nonet.recsys.sharding.shard import Shard


def answer(shard: Shard, request: Any) -> dict[str, Any]:
    """Do what a request says; what went wrong is part of the answer."""
    try:
        return {"value": shard.call(request["op"], *request["args"])}
    except InputError as error:
        return {"refused": str(error)}
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {error}"}


def main(address: str, path: str) -> None:
    """Serve one client."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    shard = Shard(path)
    beside = address + ".new"  # it takes its name when connecting works
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(beside)
        Path(beside).chmod(0o600)
        listener.listen(1)
        os.rename(beside, address)  # noqa: PTH104 - a socket, not a file
        connection, _ = listener.accept()
    with connection:
        while True:
            try:
                request = wire.receive(connection)
            except ConnectionError:
                return
            wire.send(connection, answer(shard, request))


if __name__ == "__main__":
    main(*sys.argv[1:3])
