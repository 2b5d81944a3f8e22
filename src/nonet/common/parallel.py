"""One way to map a function over items: processes or threads of this machine, or Ray, with the same code.

Results come as they get ready, each with the position of its item. Engines:

* `local`: worker processes (spawned, so no state is inherited); the function and its results must be picklable;
* `threads`: threads, for functions that wait for something else (a subprocess, the network);
* `ray`: tasks on a Ray cluster, or on a local one started for the purpose; needs the extra `ray`.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, ProcessPoolExecutor, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

from nonet.common.errors import InputError, MissingExtraError

Item = TypeVar("Item")
Result = TypeVar("Result")
Engine = Literal["local", "threads", "ray"]
ENGINES: tuple[Engine, ...] = ("local", "threads", "ray")
_WAKE_S = 0.2


def parallel_map(
    function: Callable[[Item], Result], items: Sequence[Item], *, workers: int = 1, engine: Engine = "local"
) -> Iterator[tuple[int, Result]]:
    """Apply `function` to every item.

    Args:
        function: a picklable function for `local` and `ray`.
        items: what to apply it to.
        workers: how many run at a time, at least 1.
        engine: see the module.

    Yields:
        (position of the item, result), in order of completion. An exception of the function ends the map: items that
        have not started are given up, and the exception is raised.

    Raises:
        InputError: an unknown engine or fewer than one worker.
        MissingExtraError: Ray is not installed.

    >>> sorted(parallel_map(str.upper, ["a", "b"], workers=2, engine="threads"))
    [(0, 'A'), (1, 'B')]
    """
    check_engine(engine, workers)
    if engine == "ray":
        return _ray_map(function, items, workers)
    if engine == "threads":
        return _pool_map(ThreadPoolExecutor(workers), function, items)
    context = multiprocessing.get_context("spawn")
    return _pool_map(ProcessPoolExecutor(workers, mp_context=context), function, items)


@contextmanager
def kept_open(engine: Engine, workers: int) -> Iterator[None]:
    """Keep Ray from one map to the next within the block: it takes seconds to start. Other engines need nothing.

    A cluster that is connected already stays so; one that `RAY_ADDRESS` names is joined.
    """
    if engine != "ray":
        yield
        return
    import ray

    if ray.is_initialized():
        yield
        return
    own: dict[str, Any] = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": workers, "include_dashboard": False}
    ray.init(log_to_driver=False, **own)
    try:
        yield
    finally:
        ray.shutdown()


def check_engine(engine: str, workers: int) -> None:
    """Refuse what `parallel_map` would refuse, before anything else is done.

    Raises:
        InputError: an unknown engine or fewer than one worker.
        MissingExtraError: Ray is not installed.
    """
    if workers < 1:
        raise InputError(f"workers must be at least 1, got {workers}")
    if engine not in ENGINES:
        raise InputError(f"unknown engine {engine!r}; known: {', '.join(ENGINES)}")
    if engine == "ray":
        try:
            importlib.import_module("ray")
        except ImportError as error:
            raise MissingExtraError("the engine 'ray' needs Ray: pip install 'nonet[ray]'") from error


def _pool_map(
    pool: Executor, function: Callable[[Item], Result], items: Sequence[Item]
) -> Iterator[tuple[int, Result]]:
    try:
        positions = {pool.submit(function, item): position for position, item in enumerate(items)}
        while positions:
            # Waking up now and then lets an interrupt through that the system delivered to another thread.
            ready, _ = wait(positions, timeout=_WAKE_S, return_when=FIRST_COMPLETED)
            for future in ready:
                yield positions.pop(future), future.result()
    except BaseException:
        # Not waiting: the caller may have to tell its running tasks to stop before they end.
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def _ray_map(function: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[tuple[int, Result]]:
    import ray

    def call(item: Item) -> Result:  # Ray takes plain functions only, no built-ins and no partials
        return function(item)

    with kept_open("ray", workers):
        yield from _ray_results(ray, ray.remote(max_retries=0)(call), items, workers)


def _ray_results(ray: Any, task: Any, items: Sequence[Item], workers: int) -> Iterator[tuple[int, Any]]:
    waiting = list(enumerate(items))[::-1]
    positions: dict[Any, int] = {}
    try:
        while waiting or positions:
            while waiting and len(positions) < workers:
                position, item = waiting.pop()
                positions[task.remote(item)] = position
            ready, _ = ray.wait(list(positions), num_returns=1)
            for reference in ready:
                yield positions.pop(reference), ray.get(reference)
    finally:
        for reference in positions:
            ray.cancel(reference, force=True)
