"""Where shards run: a thread, a process behind a Unix socket, a Ray actor."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

from nonet.common.errors import InputError, MissingExtraError, NonetError
from nonet.common.registry import Registry
from nonet.recsys.sharding import wire
from nonet.recsys.sharding.shard import Shard

_START_TIMEOUT_S = 60.0

Answer = Callable[[], Any]
"""Waits for the answer of a call."""


class ShardDownError(NonetError):
    """A shard does not answer; restore it."""


class Handle(Protocol):
    """A shard from outside. Calls are done one after the other, in the order in which they were begun."""

    def begin(self, operation: str, *args: Any) -> Answer:
        """Begin a call; calling what comes back waits for its answer and raises what went wrong.

        Raises (when waited for):
            ShardDownError: the shard is gone.
            InputError: what the shard refuses.
        """
        ...

    def kill(self) -> None:
        """End it at once, without a word, as a failure does."""
        ...

    def stop(self) -> None:
        """End it in order."""
        ...


BACKENDS: Registry[Callable[[str], Handle]] = Registry("shard backend")
"""Start a shard from the snapshot at a path."""


@BACKENDS.register("thread")
class ThreadShard:
    """A shard with a thread of its own in this process.

    Args:
        path: snapshot that it starts from.
    """

    def __init__(self, path: str) -> None:
        self._shard: Shard | None = Shard(path)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="shard")

    def begin(self, operation: str, *args: Any) -> Answer:
        """See `Handle`."""
        try:
            return partial(self._wait, self._worker.submit(self._call, operation, args))
        except RuntimeError as error:
            raise ShardDownError("a shard's thread has ended; restore it") from error

    def _wait(self, answer: Future[Any]) -> Any:
        try:
            return answer.result()
        except CancelledError as error:
            raise ShardDownError("a shard was killed before its answer; restore it") from error

    def _call(self, operation: str, args: tuple[Any, ...]) -> Any:
        shard = self._shard
        if shard is None:
            raise ShardDownError("a shard was killed; restore it")
        return shard.call(operation, *args)

    def kill(self) -> None:
        """See `Handle`; its memory is dropped."""
        self._shard = None
        self._worker.shutdown(wait=False, cancel_futures=True)

    def stop(self) -> None:
        """See `Handle`."""
        self._worker.shutdown()


@BACKENDS.register("process")
class ProcessShard:
    """A shard in a process of its own, behind a Unix socket that this user alone can reach.

    Args:
        path: snapshot that it starts from. The first call raises InputError, with what the process said, if it does
            not start.
    """

    def __init__(self, path: str) -> None:
        self._folder = tempfile.mkdtemp(prefix="nonet-shard-")
        address = str(Path(self._folder) / "socket")
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, "-m", "nonet.recsys.sharding.process", address, path]
        self._said = Path(self._folder) / "stderr"
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(command, env=environment, stderr=said)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="shard")
        self._connection = self._worker.submit(self._connected, address)  # several start side by side

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def _connected(self, address: str) -> socket.socket:
        until_s = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < until_s and self._process.poll() is None:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                connection.connect(address)
                shutil.rmtree(
                    self._folder, ignore_errors=True
                )  # nobody needs it any more, also if this process is killed
                return connection
            connection.close()
            time.sleep(0.02)
        said = self._said.read_text(errors="replace").strip().splitlines()
        shutil.rmtree(self._folder, ignore_errors=True)
        raise InputError(f"a shard's process did not start: {said[-1] if said else 'it said nothing'}")

    def begin(self, operation: str, *args: Any) -> Answer:
        """See `Handle`."""
        try:
            return self._worker.submit(self._call, operation, args).result
        except RuntimeError as error:
            raise ShardDownError(f"the shard in process {self.pid} was ended; restore it") from error

    def _call(self, operation: str, args: tuple[Any, ...]) -> Any:
        connection = self._connection.result()
        try:
            wire.send(connection, {"op": operation, "args": args})
            answer = wire.receive(connection)
        except OSError as error:
            raise ShardDownError(f"the shard in process {self.pid} is gone ({error}); restore it") from error
        if "refused" in answer:
            raise InputError(answer["refused"])
        if "failed" in answer:
            raise NonetError(f"shard in process {self.pid}: {answer['failed']}")
        return answer["value"]

    def kill(self) -> None:
        """See `Handle`: SIGKILL; calls find the socket closed."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """See `Handle`: the process ends when its socket closes."""
        self._worker.shutdown()
        if self._connection.exception() is None:
            self._connection.result().close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.kill()


@BACKENDS.register("ray")
class RayShard:
    """A shard in a Ray actor; Ray is started on this machine unless it runs already.

    Args:
        path: snapshot that it starts from, on a disk that the actor's machine sees. The first call raises InputError
            if it does not start.

    Raises:
        MissingExtraError: Ray is not installed.
        NonetError: it does not start.
    """

    def __init__(self, path: str) -> None:
        try:
            import ray
        except ImportError as error:
            raise MissingExtraError("shards as actors need Ray: pip install 'nonet[ray]'") from error
        self._ray = ray
        if not ray.is_initialized():
            env = {"env_vars": {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}}
            try:
                ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, runtime_env=env)
            except Exception as error:  # it has no class of its own for this
                raise NonetError(f"Ray does not start ({error}); try again, or `ray stop` what is left") from error
        self._actor: Any = ray.remote(num_cpus=0)(_Actor).remote(path)

    def begin(self, operation: str, *args: Any) -> Answer:
        """See `Handle`."""
        reference = self._actor.call.remote(operation, *args)
        return lambda: self._wait(reference)

    def _wait(self, reference: Any) -> Any:
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayActorError as error:
            raise ShardDownError("the shard's actor is gone; restore it") from error
        except self._ray.exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, NonetError):
                raise cause from error
            raise NonetError(f"shard in an actor: {cause}") from error

    def kill(self) -> None:
        """See `Handle`."""
        self._ray.kill(self._actor, no_restart=True)

    def stop(self) -> None:
        """See `Handle`."""
        self._ray.kill(self._actor, no_restart=True)


class _Actor:
    """A shard that is born with its first call: what an actor's constructor raises would reach nobody."""

    def __init__(self, path: str) -> None:
        self._path = path

    def call(self, operation: str, *args: Any) -> Any:
        return self._shard.call(operation, *args)

    @cached_property
    def _shard(self) -> Shard:
        return Shard(self._path)
