"""How long to wait before computing begins while layers still come in, and how fast they come.

With L layers, T_prefill seconds of compute and T_load seconds of loading, both spread evenly over the layers, computing
may begin when L_p = max(1, ceil((L - 1)(1 - T_prefill / T_load) + 1)) layers are there, and never waits again.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction

from nonet.common.errors import InputError


def preload_layers(num_layers: int, prefill_s: float, load_s: float) -> int:
    """The fewest layers to have in memory so that computing, once begun, never waits for one.

    Computed in exact fractions of the given numbers: at the boundary a rounding error would cost or save a layer.

    Args:
        num_layers: of the model.
        prefill_s: compute time of all layers.
        load_s: load time of all layers.

    Raises:
        InputError: no layers, or a time that is negative or not finite.

    >>> preload_layers(28, 28 * 0.07, 28 * 0.5)
    25
    >>> preload_layers(30, 2.0, 1.0), preload_layers(30, 0.0, 1.0), preload_layers(30, 1.0, 0.0)
    (1, 30, 1)
    """
    if num_layers < 1 or not (0 <= prefill_s < math.inf and 0 <= load_s < math.inf):
        raise InputError(f"cannot preload {num_layers} layers with {prefill_s} s of compute and {load_s} s of loading")
    if load_s <= prefill_s:
        return 1
    return max(1, math.ceil((num_layers - 1) * (1 - Fraction(prefill_s) / Fraction(load_s)) + 1))


def can_start(num_layers: int, ready_layers: int, elapsed_s: float, prefill_s: float, expected_load_s: float) -> bool:
    """Whether enough layers are there to begin, judged again as they arrive.

    A store that turns out slower than it was of late is believed: the load time is the longer of what was expected and
    what the layers that came so far foretell.

    Args:
        num_layers: of the model.
        ready_layers: that are there, from the first on.
        elapsed_s: since loading began.
        prefill_s: compute time of all layers.
        expected_load_s: load time of all layers, as `ChunkStore.load_time_s` gives it.

    Raises:
        InputError: as for `preload_layers`.

    >>> can_start(30, 1, 0.01, 1.0, 0.5), can_start(30, 1, 0.10, 1.0, 0.5), can_start(30, 21, 2.1, 1.0, 0.5)
    (True, False, True)
    """
    foretold_s = elapsed_s * num_layers / ready_layers if ready_layers else math.inf
    if ready_layers >= num_layers or foretold_s == math.inf:
        return ready_layers >= num_layers
    return ready_layers >= preload_layers(num_layers, prefill_s, max(expected_load_s, foretold_s))


class BandwidthMeter:
    """How many bytes a second a tier delivers, as a moving average that forgets with the bytes that pass.

    Weighing by bytes, not by calls, keeps small reads, which tell of latency, from drowning the large ones.

    Args:
        initial_bytes_per_s: believed before anything was read.
        half_life_bytes: after so many bytes, what was before counts half.

    >>> meter = BandwidthMeter(100e6, half_life_bytes=1000)
    >>> meter.add(1000, 0.001)
    >>> meter.bytes_per_s
    1000000.0
    >>> meter.add(1000, 0.003)
    >>> round(meter.bytes_per_s)
    428571
    """

    def __init__(self, initial_bytes_per_s: float = 500e6, half_life_bytes: float = 32e6) -> None:
        self._initial_bytes_per_s, self._half_life_bytes = initial_bytes_per_s, half_life_bytes
        self._bytes = self._seconds = 0.0
        self._total_bytes = self._active = 0
        self._mark_s = 0.0
        self._lock = threading.Lock()

    def add(self, num_bytes: int, seconds: float) -> None:
        """Take note of a read.

        Args:
            num_bytes: how much.
            seconds: how long it took.
        """
        with self._lock:
            self._add(num_bytes, seconds)

    @contextmanager
    def reading(self, num_bytes: int) -> Iterator[None]:
        """Measure a read, possibly one of several at the same time: seconds that they share count once.

        Args:
            num_bytes: how much is read; a read that raises counts no bytes, only its time.
        """
        with self._lock:
            if not self._active:
                self._mark_s = time.perf_counter()
            self._active += 1
        done_bytes = 0
        try:
            yield
            done_bytes = num_bytes
        finally:
            with self._lock:
                now_s = time.perf_counter()
                self._active -= 1
                self._add(done_bytes, now_s - self._mark_s)
                self._mark_s = now_s

    def _add(self, num_bytes: int, seconds: float) -> None:
        keep = 0.5 ** (num_bytes / self._half_life_bytes)
        self._bytes = self._bytes * keep + num_bytes
        self._seconds = self._seconds * keep + seconds
        self._total_bytes += num_bytes

    @property
    def bytes_per_s(self) -> float:
        """The average now."""
        with self._lock:
            return self._bytes / self._seconds if self._bytes and self._seconds > 0 else self._initial_bytes_per_s

    @property
    def total_bytes(self) -> int:
        """All that was read."""
        return self._total_bytes
