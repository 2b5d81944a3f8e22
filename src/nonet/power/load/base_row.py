"""A base row: servers, traffic and budget as one small record, with the statistics that it was fitted to have.

The preset `polca-base` is written by

    python -c 'from nonet.power.load.fit import fit; fit(progress=print).base.to_json("polca-base.json")'
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nonet.common.atomic import atomic_write
from nonet.common.errors import InputError
from nonet.power.load.requests import RequestLoad
from nonet.power.load.rises import rise
from nonet.power.load.services import low_priority_share
from nonet.power.load.week import DAY_S, WeekConfig, generate_week
from nonet.power.profiles import PROFILES
from nonet.power.simulating.row import Row

PRESETS = Path(__file__).with_name("presets")
WARM_UP_S = 600.0
"""A simulated row starts empty; its first ten minutes are no part of its statistics."""
_MAX_FILE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Statistics:
    """Peak and largest rises within 2 s and 40 s of a row-power series, as fractions of the budget."""

    peak: float
    rise_2s: float
    rise_40s: float


class BaseRow(BaseModel):
    """A row and its traffic.

    Args:
        profile: name of the profile of every server.
        num_servers: how many.
        instances_per_server: as in `Row`.
        max_batch: as in `Row`.
        prefill_share: as in `Row`.
        budget_w: watts.
        week: its traffic.
        seed: of the draw of traffic that stands for all: the one with the median peak.
        days: length of that draw.
        peak: median over the draws that it was fitted on, fraction of the budget.
        rise_2s: likewise, the largest rise within 2 s.
        rise_40s: likewise, within 40 s.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    profile: str
    num_servers: int = Field(default=40, ge=1)
    instances_per_server: int = Field(default=1, ge=1)
    max_batch: int = Field(default=32, ge=1)
    prefill_share: float = Field(default=1.0, gt=0, le=1)
    budget_w: float = Field(gt=0)
    week: WeekConfig
    seed: int = 0
    days: float = Field(default=42.0, gt=0)
    peak: float | None = None
    rise_2s: float | None = None
    rise_40s: float | None = None

    def row(self, added: float = 0.0) -> Row:
        """The row with `added` more servers under the same budget.

        >>> load_base_row("polca-base").row(added=0.3).num_servers
        52
        """
        row = Row.uniform(
            self.num_servers,
            PROFILES[self.profile],
            budget_w=self.budget_w,
            low_priority_share=low_priority_share(self.week.services),
            instances_per_server=self.instances_per_server,
            max_batch=self.max_batch,
            prefill_share=self.prefill_share,
        )
        return row.with_added(added)

    def load(self, *, days: float | None = None, seed: int | None = None, added: float = 0.0) -> RequestLoad:
        """Its traffic, grown with the servers; by default what the statistics were measured on."""
        servers = self.row(added).num_servers
        week = self.week.scaled(servers / self.num_servers)
        return generate_week(week, days=days or self.days, seed=self.seed if seed is None else seed)

    def to_json(self, path: str | Path) -> None:
        """Write the record, atomically."""
        with atomic_write(path) as file:
            file.write(json.dumps(self.model_dump(mode="json"), indent=1) + "\n")

    @classmethod
    def from_json(cls, path: str | Path) -> Self:
        """Read what `to_json` wrote.

        Raises:
            InputError: no such file, or no record of a row.
        """
        try:
            with Path(path).open("rb") as file:
                return cls.model_validate_json(file.read(_MAX_FILE_BYTES))
        except OSError as error:
            raise InputError(
                f"{path}: {error.strerror or error}; give a base row as `nonet power` writes it"
            ) from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the file"
            raise InputError(f"{path}: {where}: {first['msg']}") from error


def load_base_row(name_or_path: str | Path) -> BaseRow:
    """A preset by name, or a record by path.

    Raises:
        InputError: neither.

    >>> load_base_row("polca-base").num_servers
    40
    """
    preset = PRESETS / f"{name_or_path}.json"
    return BaseRow.from_json(preset if preset.is_file() else name_or_path)


def settled_power(row_w: NDArray[np.floating[Any]], period_s: float, days: float) -> NDArray[np.float64]:
    """The part of a simulated series that counts: after the warm-up, up to the last arrivals; float64."""
    first, last = int(WARM_UP_S / period_s), int(days * DAY_S / period_s)
    return np.asarray(row_w[first:last], dtype=np.float64)


def statistics_of(power_w: NDArray[np.float64], budget_w: float, period_s: float = 2.0) -> Statistics:
    """Peak and rises of a series under a budget."""
    u = power_w / budget_w
    return Statistics(float(u.max()), rise(u, 2.0, period_s), rise(u, 40.0, period_s))
