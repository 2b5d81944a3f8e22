"""What must hold: limits on the latency impact by class, and on brakes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field

from nonet.common.errors import InputError

NAMES = {"hp_p50": "HP P50", "hp_p99": "HP P99", "lp_p50": "LP P50", "lp_p99": "LP P99", "brakes": "brakes"}
LATENCIES = ("hp_p50", "hp_p99", "lp_p50", "lp_p99")
OVERLOADED = "overloaded"
_NAMES = {**NAMES, OVERLOADED: "requests that never end, even without a budget"}


class Slo(BaseModel):
    """Limits, in fractions: 0.05 is 5 % more than the same requests take on the same servers without a budget.

    Args:
        hp_p50, hp_p99: of the end-to-end latency of high priority.
        lp_p50, lp_p99: of low priority.
        brakes: commands to brake in a run.

    The defaults are those of the POLCA evaluation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    hp_p50: float = Field(default=0.01, ge=0, le=5)
    hp_p99: float = Field(default=0.05, ge=0, le=5)
    lp_p50: float = Field(default=0.05, ge=0, le=5)
    lp_p99: float = Field(default=0.50, ge=0, le=5)
    brakes: int = Field(default=0, ge=0)

    @classmethod
    def parse(cls, texts: Sequence[str]) -> Slo:
        """From what is typed: `hp:1,5` is 1 % at the median and 5 % at the 99th percentile, `brakes:0`.

        Raises:
            InputError: anything else.

        >>> Slo.parse(["lp:5,40", "brakes:2"]).lp_p99, Slo.parse(["lp:5,40"]).hp_p50
        (0.4, 0.01)
        """
        values: dict[str, float] = {}
        for text in texts:
            name, _, rest = text.partition(":")
            try:
                numbers = [float(part) for part in rest.split(",")]
            except ValueError:
                numbers = []
            if name in ("hp", "lp") and len(numbers) == 2:
                values |= {f"{name}_p50": numbers[0] / 100, f"{name}_p99": numbers[1] / 100}
            elif name == "brakes" and len(numbers) == 1 and numbers[0].is_integer():
                values["brakes"] = numbers[0]
            else:
                raise InputError(f"SLO {text!r}: expected hp:P50,P99 or lp:P50,P99 in percent, or brakes:N")
        for name, value in values.items():
            if not 0 <= value <= (math.inf if name == "brakes" else 5):
                raise InputError(f"SLO {name}: {value:g} is not between 0 and 500 %")
        return cls(**values)  # type: ignore[arg-type]

    @property
    def limits(self) -> dict[str, float]:
        """Every limit by name."""
        return {name: float(getattr(self, name)) for name in NAMES}

    def broken(self, found: Mapping[str, float], brakes: int) -> tuple[str, ...]:
        """Names of the limits that a run breaks.

        Args:
            found: impact by limit; a class without requests is left out. NaN: the run without a budget never ended.
            brakes: of the run.

        >>> Slo().broken({"hp_p50": 0.0, "hp_p99": 0.06}, 1)
        ('hp_p99', 'brakes')
        """
        if any(math.isnan(value) for value in found.values()):
            return (OVERLOADED,)
        limits = self.limits
        late = tuple(name for name, value in found.items() if value > limits[name])
        return (*late, "brakes") if brakes > self.brakes else late

    def used(self, found: Mapping[str, float]) -> float:
        """Largest part of a latency limit that a run uses up; 1 is all of it, infinite where nothing is allowed."""
        limits = self.limits
        parts = [_part(value, limits[name]) for name, value in found.items()]
        return max(parts, default=0.0)


def name_of(limit: str) -> str:
    """The name of a limit as a reader knows it.

    >>> name_of("lp_p99")
    'LP P99'
    """
    return _NAMES[limit]


def phrase(broken: Sequence[str]) -> str:
    """Limits that break, within a sentence.

    >>> phrase(["hp_p50", "hp_p99", "brakes"])
    'HP P50, HP P99 and the limit on brakes'
    """
    names = ["the limit on brakes" if name == "brakes" else name_of(name) for name in broken]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def percent(value: float | None) -> str:
    """A latency impact as a reader sees it; None where a class has no requests.

    >>> percent(0.05), percent(math.inf), percent(math.nan), percent(None)
    ('+5.00%', 'never ends', 'no baseline', '')
    """
    if value is None:
        return ""
    if math.isnan(value):
        return "no baseline"
    return "never ends" if math.isinf(value) else f"{value:+.2%}"


def _part(value: float, limit: float) -> float:
    if math.isnan(value):
        return math.inf
    if value <= 0:
        return 0.0
    return value / limit if limit > 0 else math.inf
