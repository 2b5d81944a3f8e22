"""A load: requests with their arrival, tokens in and out, priority and service, as plain arrays in order of arrival."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from nonet.common.atomic import atomic_path
from nonet.common.errors import InputError
from nonet.power.policies.protocol import Priority

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]
MAX_TOKENS = 2**30


@dataclass(frozen=True, eq=False, slots=True)
class RequestLoad:
    """Requests in order of arrival.

    Attributes:
        arrival_s: float64, seconds from the start of the load, not falling.
        prompt_tokens: int32, at least 1.
        output_tokens: int32, at least 1; the first of them comes with the prompt phase.
        priority: int8, a `Priority`.
        service: int16, index into `service_names`.
        service_names: names of the services.
        repairs: what `of` had to mend, by kind; empty for clean input.

    Raises:
        InputError: arrays of different lengths, unsorted or negative times, tokens below 1, an unknown priority or
            service. `of` mends what can be mended.

    >>> load = RequestLoad.of([0.0, 2.5], [512, 2048], [128, 16], priority=[1, 0])
    >>> len(load), load.duration_s, load.of_priority(Priority.HIGH).prompt_tokens.tolist()
    (2, 2.5, [512])
    """

    arrival_s: Floats
    prompt_tokens: Ints
    output_tokens: Ints
    priority: NDArray[np.int8]
    service: NDArray[np.int16]
    service_names: tuple[str, ...] = ("all",)
    repairs: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.check_integrity()

    def check_integrity(self) -> None:
        """Raise InputError, naming the first request that is wrong."""
        num = len(self.arrival_s)
        for name in ("prompt_tokens", "output_tokens", "priority", "service"):
            if getattr(self, name).shape != (num,):
                raise InputError(f"load: {name} has {getattr(self, name).shape} entries, arrival_s {num}")
        _first(~np.isfinite(self.arrival_s), self.arrival_s, "arrival_s is no finite number")
        _first(self.arrival_s < 0, self.arrival_s, "arrival_s is negative")
        falls = np.concatenate([[False], np.diff(self.arrival_s) < 0])
        _first(falls, self.arrival_s, "arrival_s falls; sort the requests, or read them with RequestLoad.of")
        for name in ("prompt_tokens", "output_tokens"):
            tokens = getattr(self, name)
            _first((tokens < 1) | (tokens > MAX_TOKENS), tokens, f"{name} is not between 1 and {MAX_TOKENS}")
        _first(
            (self.priority < Priority.LOW) | (self.priority > Priority.HIGH), self.priority, "priority is not 0 or 1"
        )
        known = len(self.service_names)
        _first((self.service < 0) | (self.service >= known), self.service, f"service is not below {known}")

    @classmethod
    def of(
        cls,
        arrival_s: Any,
        prompt_tokens: Any,
        output_tokens: Any,
        *,
        priority: Any = Priority.HIGH,
        service: Any = 0,
        service_names: Sequence[str] = ("all",),
        repairs: Mapping[str, int] | None = None,
    ) -> RequestLoad:
        """A load from arrays or lists; what can be mended is mended and counted in `repairs`.

        Unsorted requests are sorted (stable), requests with zero tokens in or out are left out: they ask for no
        generation. A single priority or service stands for all requests.

        Raises:
            InputError: what cannot be mended: NaN, negative times or tokens, different lengths.
        """
        times = np.ascontiguousarray(arrival_s, dtype=np.float64)
        prompts, outputs = _whole(prompt_tokens, "prompt_tokens"), _whole(output_tokens, "output_tokens")
        if not (times.ndim == 1 and times.shape == prompts.shape == outputs.shape):
            raise InputError(f"load: {times.shape} arrivals, {prompts.shape} prompts, {outputs.shape} outputs")
        try:
            priorities = np.ascontiguousarray(np.broadcast_to(np.asarray(priority, dtype=np.int8), times.shape))
            services = np.ascontiguousarray(np.broadcast_to(np.asarray(service, dtype=np.int16), times.shape))
        except ValueError as error:
            raise InputError(f"load: priority or service has another length than {times.shape}") from error
        mended = dict(repairs or {})
        keep = (prompts != 0) & (outputs != 0)
        if not keep.all():
            mended["zero tokens, left out"] = mended.get("zero tokens, left out", 0) + int((~keep).sum())
        num_falls = int((np.diff(times) < 0).sum())
        order = np.flatnonzero(keep)
        if num_falls:
            mended["out of order, sorted"] = mended.get("out of order, sorted", 0) + num_falls
            order = order[np.argsort(times[order], kind="stable")]
        priorities, services = priorities[order], services[order]
        names = tuple(service_names)
        return cls(times[order], prompts[order], outputs[order], priorities, services, names, mended)

    def __len__(self) -> int:
        return len(self.arrival_s)

    @property
    def duration_s(self) -> float:
        """Time of the last arrival, seconds; 0 when empty."""
        return float(self.arrival_s[-1]) if len(self) else 0.0

    def select(self, which: Any) -> RequestLoad:
        """Some of the requests, by mask or indices in order."""
        return replace(
            self,
            arrival_s=self.arrival_s[which],
            prompt_tokens=self.prompt_tokens[which],
            output_tokens=self.output_tokens[which],
            priority=self.priority[which],
            service=self.service[which],
        )

    def of_priority(self, priority: Priority) -> RequestLoad:
        """The requests of one class."""
        return self.select(self.priority == int(priority))

    def between(self, start_s: float, end_s: float) -> RequestLoad:
        """The requests that arrive in [start_s, end_s), with the clock set to `start_s`."""
        low, high = np.searchsorted(self.arrival_s, [start_s, end_s])
        part = self.select(slice(low, high))
        return replace(part, arrival_s=part.arrival_s - start_s)

    def with_priorities(self, low_share: float | Mapping[str, float], *, seed: int = 0) -> RequestLoad:
        """The same requests with priorities drawn anew.

        Public traces have no priorities: they are assigned by service, each request by its own draw from `seed`.

        Args:
            low_share: share of low-priority requests, one for all services or one for each.
            seed: of the draws.

        Raises:
            InputError: a share outside [0, 1] or a service without one.

        >>> load = RequestLoad.of(range(1000), [9] * 1000, [9] * 1000).with_priorities(0.25, seed=1)
        >>> 200 < int((load.priority == Priority.LOW).sum()) < 300
        True
        """
        shares = low_share if isinstance(low_share, Mapping) else dict.fromkeys(self.service_names, low_share)
        for name in self.service_names:
            if name not in shares or not 0 <= shares[name] <= 1:
                raise InputError(f"low_share of service {name!r} must be in [0, 1], got {shares.get(name)}")
        share = np.array([shares[name] for name in self.service_names])[self.service]
        low = np.random.Generator(np.random.Philox(seed)).random(len(self)) < share
        priority = np.where(low, Priority.LOW, Priority.HIGH).astype(np.int8)
        return replace(self, priority=priority)

    def to_arrow(self) -> pa.Table:
        """A table with the columns of the class, services by name."""
        names = pa.DictionaryArray.from_arrays(pa.array(self.service), pa.array(self.service_names, pa.string()))
        columns = (self.arrival_s, self.prompt_tokens, self.output_tokens, self.priority)
        named = zip(("arrival_s", "prompt_tokens", "output_tokens", "priority"), columns, strict=True)
        return pa.table({**{name: pa.array(column) for name, column in named}, "service": names})

    def to_parquet(self, path: str | Path) -> None:
        """Write the load, atomically; `readers.read_requests` reads it back."""
        with atomic_path(path) as beside:
            pq.write_table(self.to_arrow(), beside, compression="zstd")


def merge(loads: Sequence[RequestLoad]) -> RequestLoad:
    """One load of several, in order of arrival; at the same moment the earlier load comes first.

    >>> a, b = RequestLoad.of([0.0, 2.0], [8, 8], [8, 8]), RequestLoad.of([1.0], [9], [9])
    >>> merge([a, b]).prompt_tokens.tolist()
    [8, 9, 8]
    """
    if not loads:
        raise InputError("merge: no loads given")
    names = tuple(dict.fromkeys(name for load in loads for name in load.service_names))
    services = [np.array([names.index(n) for n in load.service_names], np.int16)[load.service] for load in loads]
    times = np.concatenate([load.arrival_s for load in loads])
    order = np.argsort(times, kind="stable")
    repairs: dict[str, int] = {}
    for load in loads:
        for kind, count in load.repairs.items():
            repairs[kind] = repairs.get(kind, 0) + count
    prompts = np.concatenate([load.prompt_tokens for load in loads])[order]
    outputs = np.concatenate([load.output_tokens for load in loads])[order]
    priority = np.concatenate([load.priority for load in loads])[order]
    service = np.concatenate(services)[order]
    return RequestLoad(times[order], prompts, outputs, priority, service, names, repairs)


def _whole(values: Any, name: str) -> Ints:
    given = np.asarray(values)
    if given.dtype.kind not in "iuf":
        raise InputError(f"load: {name} must be numbers, got {given.dtype}")
    bad = ~np.isfinite(given) | (given < 0) | (given > MAX_TOKENS) | (given != np.floor(given))
    _first(bad, given, f"{name} is no whole number from 0 to {MAX_TOKENS}")
    return np.ascontiguousarray(given, dtype=np.int32)


def _first(bad: NDArray[np.bool_], values: NDArray[Any], what: str) -> None:
    if bad.any():
        at = int(np.argmax(bad))
        raise InputError(f"load: request {at} (from 0): {what}: {values[at]}")
