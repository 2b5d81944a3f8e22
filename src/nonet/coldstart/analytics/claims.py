"""Claims: one number that somebody states, and how it is computed. The paper's come with us, a user's from a TOML file.

```toml
[[claim]]
id = "median-r2"
section = "Figure 10a"
text = "The median cold start of Region 2 takes 0.83 s."
quantity = "median"
args = { figure = "10a", group = "R2" }
value = 0.83
relative = 0.02        # or tolerance = 0.02; relation = ">=" for a bound
days = 31              # of a number that grows with time; regions = ["R1", "R2"] of one over regions together
```
"""

from __future__ import annotations

import inspect
import math
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from nonet.coldstart.analytics import point_quantities  # noqa: F401  (registers its quantities)
from nonet.coldstart.analytics.quantities import QUANTITIES
from nonet.common.errors import InputError

Relation = Literal["=", "<=", ">=", "<", ">"]


class Claim(BaseModel):
    """One checkable statement.

    Attributes:
        id: short and unique.
        section: where it is stated.
        text: what it says, in plain words.
        quantity: a name of `QUANTITIES`.
        args: its arguments.
        value: what is stated.
        relation: how the computed number stands to `value`: "=" within the tolerance, or a bound.
        tolerance: absolute; how far off is still what was said.
        relative: the same as a share of `value`; the larger of the two holds.
        regions: the claim is about these regions together, so that data of some of them cannot decide it.
        days: and about so many days; a shorter trace cannot decide it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(min_length=1)
    section: str = ""
    text: str = Field(min_length=1)
    quantity: str
    args: dict[str, Any] = Field(default_factory=dict)
    value: float = Field(allow_inf_nan=False)
    relation: Relation = "="
    tolerance: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    relative: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    regions: tuple[str, ...] = ()
    days: float = Field(default=0.0, ge=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _known_quantity(self) -> Claim:
        quantity = QUANTITIES[self.quantity]
        signature = inspect.signature(quantity)
        try:
            signature.bind(None, **self.args)
        except TypeError as error:
            names = ", ".join(list(signature.parameters)[1:])
            raise ValueError(f"{self.quantity} takes {names}: {error}") from None
        kinds = get_type_hints(quantity)
        for name, value in self.args.items():
            try:
                TypeAdapter(kinds[name]).validate_python(value, strict=True)
            except ValidationError as error:
                raise ValueError(f"args.{name}: {error.errors()[0]['msg']}, got {value!r}") from None
        return self

    @property
    def slack(self) -> float:
        """The tolerance in the unit of the value."""
        return max(self.tolerance, self.relative * abs(self.value))

    @property
    def bounds(self) -> tuple[float, float]:
        """The numbers that the claim allows, from - to (a strict bound is left out by `allows`)."""
        low = -math.inf if self.relation in ("<=", "<") else self.value - self.slack
        high = math.inf if self.relation in (">=", ">") else self.value + self.slack
        return low, high

    def allows(self, number: float) -> bool:
        """Whether a computed number agrees with the claim."""
        low, high = self.bounds
        if self.relation == ">":
            return number > low
        if self.relation == "<":
            return number < high
        rounding = 1e-9 * max(1.0, abs(self.value))
        return low - rounding <= number <= high + rounding

    def stated(self) -> str:
        """The statement as numbers, e.g. "= 0.83 ± 0.0166"."""
        slack = f" ± {self.slack:.3g}" if self.slack else ""
        return f"{self.relation} {self.value:g}{slack}"


def paper_claims() -> list[Claim]:
    """The claims of the paper that we check."""
    text = (files("nonet.coldstart.analytics") / "claims_eurosys2025.toml").read_text(encoding="utf-8")
    return _parsed(text, "claims_eurosys2025.toml")


def read_claims(path: str | Path) -> list[Claim]:
    """The claims of a TOML file.

    Raises:
        InputError: no such file, no TOML, an unknown key or quantity, a missing or wrong value, an id twice.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the claims {path}: {error}") from error
    return _parsed(text, str(path))


def _parsed(text: str, name: str) -> list[Claim]:
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{name}: not TOML ({error})") from error
    unknown = [key for key in tables if key != "claim"]
    found = tables.get("claim", [])
    if unknown or not isinstance(found, list) or not found:
        problem = f"unknown key {unknown[0]!r}" if unknown else "no claim"
        raise InputError(f"{name}: {problem}; it should hold tables [[claim]] with id, text, quantity, args, value")
    claims = [_claim(table, f"{name}, claim {number}") for number, table in enumerate(found, start=1)]
    seen: set[str] = set()
    for claim in claims:
        if claim.id in seen:
            raise InputError(f"{name}: the id {claim.id!r} is used twice")
        seen.add(claim.id)
    return claims


def _claim(table: Any, place: str) -> Claim:
    name = f"{place} ({table['id']})" if isinstance(table, dict) and isinstance(table.get("id"), str) else place
    try:
        return Claim.model_validate(table)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise InputError(f"{name}: {where + ': ' if where else ''}{message}") from None
