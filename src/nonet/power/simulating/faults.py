"""What can go wrong between policy and servers, as data: late, lost, doubled and refused commands, lying telemetry."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nonet.common.errors import InputError

TelemetryFaultKind = Literal["gap", "stuck", "nan", "tenfold", "negative"]
_KINDS: tuple[TelemetryFaultKind, ...] = ("gap", "stuck", "nan", "tenfold", "negative")


@dataclass(frozen=True)
class Latency:
    """How long a command takes to land: at least `least_s`, at most `most_s`, uniform in between.

    >>> Latency.constant(40.0).most_s, Latency(10.0, 40.0).sample(np.random.default_rng(1)) < 40.0
    (40.0, True)
    """

    least_s: float
    most_s: float

    def __post_init__(self) -> None:
        if not (0.0 <= self.least_s <= self.most_s and math.isfinite(self.most_s)):
            raise InputError(f"latency: needs 0 <= least_s <= most_s, got {self.least_s!r} and {self.most_s!r}")

    @classmethod
    def constant(cls, seconds: float) -> Latency:
        """Always the same."""
        return cls(seconds, seconds)

    def sample(self, rng: np.random.Generator) -> float:
        """One latency, seconds."""
        if self.least_s == self.most_s:
            return self.most_s
        return float(rng.uniform(self.least_s, self.most_s))


@dataclass(frozen=True)
class ActuationFaults:
    """Shares of writes that go wrong, each drawn from the run's seed.

    Args:
        loss: lost on the way: no effect, no answer.
        duplicate: land twice, the second time after another latency.
        refuse: refused by the BMC: no effect, the answer is no.
        on_brake: whether the fast path suffers them too.
        dead_servers: servers that never answer anything.

    Raises:
        InputError: shares outside [0, 1], or more than 1 together.
    """

    loss: float = 0.0
    duplicate: float = 0.0
    refuse: float = 0.0
    on_brake: bool = True
    dead_servers: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        shares = (self.loss, self.duplicate, self.refuse)
        if not all(0.0 <= share <= 1.0 for share in shares) or sum(shares) > 1.0:
            raise InputError(f"actuation faults: shares must lie in [0, 1] and sum up to at most 1, got {shares}")

    @property
    def none(self) -> bool:
        """Whether nothing goes wrong."""
        return self.loss == self.duplicate == self.refuse == 0.0 and not self.dead_servers


@dataclass(frozen=True)
class TelemetryFault:
    """The row's sensor lies, or is silent, from `start_s` to `end_s`.

    "gap": no samples; "stuck": the last value again and again, with new times; "nan"; "tenfold"; "negative".
    """

    kind: TelemetryFaultKind
    start_s: float
    end_s: float

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise InputError(f"unknown telemetry fault {self.kind!r}; known: {', '.join(_KINDS)}")
        if not 0.0 <= self.start_s < self.end_s:
            raise InputError(f"telemetry fault: {self.start_s} s to {self.end_s} s has no length")

    def value(self, true_w: float, stuck_w: float) -> float:
        """What the sensor says instead of `true_w`; `stuck_w` is what it said before the fault."""
        return {"stuck": stuck_w, "nan": math.nan, "tenfold": 10.0 * true_w, "negative": -true_w}.get(self.kind, true_w)


def random_telemetry_faults(
    duration_s: float, *, per_day: float, mean_length_s: float, seed: int, kinds: Sequence[TelemetryFaultKind] = _KINDS
) -> tuple[TelemetryFault, ...]:
    """Faults that begin as a Poisson process and last exponential times, at least a second; they do not overlap.

    >>> faults = random_telemetry_faults(86400, per_day=20, mean_length_s=60, seed=3)
    >>> 5 < len(faults) < 40, all(a.end_s <= b.start_s for a, b in zip(faults, faults[1:]))
    (True, True)
    """
    if not (0.0 < per_day < math.inf and mean_length_s > 0.0):
        raise InputError(f"telemetry faults: needs per_day and mean_length_s above 0, got {per_day}, {mean_length_s}")
    rng = np.random.Generator(np.random.Philox(seed))
    faults: list[TelemetryFault] = []
    start_s = float(rng.exponential(86400.0 / per_day))
    while start_s < duration_s:
        end_s = start_s + max(1.0, float(rng.exponential(mean_length_s)))
        faults.append(TelemetryFault(kinds[int(rng.integers(len(kinds)))], start_s, end_s))
        start_s = end_s + float(rng.exponential(86400.0 / per_day))
    return tuple(faults)
