"""The planner's file: the daemon's row file, and beside it what the servers run, their traffic and what must hold.

Sections `[row]`, `[[servers]]`, `[scale]` and `[policy]` are those of the row file of the daemon; its other sections
are read and checked but not used. Of its own the planner has `[serving]`, `[load]`, `[slo]` and `[plan]`, every key of
which stands in `examples/plan.toml`. Unknown keys are errors.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator, model_validator

from nonet.common.errors import InputError
from nonet.power.controlling.config import RowFile, expand
from nonet.power.load.base_row import load_base_row
from nonet.power.load.readers import read_requests
from nonet.power.load.requests import RequestLoad
from nonet.power.load.week import DAY_S, WeekConfig
from nonet.power.planning.outcome import MakeLoad
from nonet.power.planning.slo import Slo
from nonet.power.planning.traffic import RecordedTraffic, WeekTraffic
from nonet.power.policies.base import checked_config
from nonet.power.policies.protocol import Policy, Priority
from nonet.power.policies.registry import POLICIES, build_policy, load_policy
from nonet.power.profiles import PROFILES, PowerProfile
from nonet.power.simulating.budget import BudgetSchedule
from nonet.power.simulating.faults import Latency
from nonet.power.simulating.row import Row, Server

_MOST_BUDGETS = 20.0
_MAX_FILE_BYTES = 1 << 20


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ServingSection(_Section):
    """Section `[serving]`."""

    profile: str | None = Field(default=None, description="Name of a profile, or its JSON file.")
    instances: int = Field(default=1, ge=1, description="Model instances a server.")
    max_batch: int = Field(default=32, ge=1, description="Requests that an instance holds at most.")
    prefill_share: float = Field(default=1.0, gt=0, le=1, description="Below 1: prompts interleave with decoding.")
    shared: bool = Field(default=False, description="Both classes on all servers.")


class LoadSection(_Section):
    """Section `[load]`: `file` or `week`."""

    file: Path | None = Field(default=None, description="Requests: Parquet, CSV or JSON lines.")
    columns: dict[str, str] | None = Field(default=None, description="Columns of a table of your own.")
    low_share: float | dict[str, float] | None = Field(
        default=None, description="Low priority, where the file says none: half, or all of a row of one class."
    )
    spread_s: float = Field(default=10.0, ge=0, description="How late the copies come that added servers bring.")
    week: WeekConfig | None = Field(default=None, description="A synthetic week.")
    starts: AwareDatetime | None = Field(default=None, description="When the load begins; for row.budget_steps.")


class PlanSection(_Section):
    """Section `[plan]`."""

    max_added: float = Field(default=0.5, ge=0, le=10)
    step: float = Field(default=0.025, gt=0)
    seeds: int = Field(default=3, ge=1, le=1000)
    days: float | None = Field(default=None, gt=0, le=366, description="Length of the traffic; all of a file, a week.")


class PlanFile(RowFile):
    """A whole planner's file."""

    telemetry: dict[str, Any] = Field(default={}, description="Not used here.")
    serving: ServingSection = ServingSection()
    load: LoadSection = LoadSection()
    slo: Slo = Slo()
    plan: PlanSection = PlanSection()

    @field_validator("telemetry")
    @classmethod
    def _has_source(cls, value: dict[str, Any]) -> dict[str, Any]:
        return value

    @model_validator(mode="after")
    def _one_load(self) -> PlanFile:
        if self.load.file is not None and self.load.week is not None:
            raise ValueError("load: give file or week, not both")
        if self.row.budget_steps and self.load.starts is None:
            raise ValueError("row.budget_steps need load.starts, the moment at which the requests begin")
        return self


@dataclass(frozen=True, eq=False)
class Scenario:
    """What `plan` and `sweep` take.

    Args:
        name: of the row.
        row, make_load, policies, slo: see `plan`.
        max_added, step, seeds, days: see `plan`.
    """

    name: str
    row: Row
    make_load: MakeLoad
    policies: tuple[Policy, ...]
    slo: Slo
    max_added: float = 0.5
    step: float = 0.025
    seeds: int = 3
    days: float | None = None

    def grown(self, added: float, seed: int) -> tuple[Row, RequestLoad]:
        """The row with a share of added servers, and its requests under a seed.

        >>> row, load = base_scenario("polca-base", days=0.01).grown(0.3, seed=1)
        >>> row.num_servers, len(load) > 1000
        (52, True)
        """
        row = self.row.with_added(added)
        load = self.make_load(row.num_servers / self.row.num_servers - 1.0, seed)
        return row, load if self.days is None else load.between(0.0, self.days * DAY_S)

    def arguments(self) -> dict[str, Any]:
        """Keywords of `plan`.

        >>> base_scenario("polca-base", days=1).arguments()["seeds"]
        3
        """
        names = ("row", "make_load", "policies", "slo", "seeds", "max_added", "step", "days")
        return {name: getattr(self, name) for name in names}


def load_scenario(
    path: str | Path,
    *,
    load: str | Path | None = None,
    profile: str | None = None,
    policies: Sequence[str | Path] = (),
    slo: Sequence[str] = (),
    **options: Any,
) -> Scenario:
    """Read a planner's file; what is given beside it beats it.

    Args:
        path: the file; paths in it are relative to it.
        load: a file of requests.
        profile: of every server, a name or a JSON file.
        policies: names, or TOML files.
        slo: as typed, see `Slo.parse`.
        options: `max_added`, `step`, `seeds`, `days`; None leaves the file's.

    Raises:
        InputError: no such file, an unknown key, a wrong value or unit; the message names the key.
    """
    path = Path(path)
    file = checked_config(PlanFile, _toml(path), str(path))
    section = file.load if load is None else file.load.model_copy(update={"file": Path(load), "week": None})
    if load is None and section.file is not None:
        section = section.model_copy(update={"file": path.parent / section.file})
    given = {name: value for name, value in options.items() if value is not None}
    numbers = checked_config(PlanSection, file.plan.model_dump() | given, f"{path}: plan")
    own = str(Path(profile).absolute()) if profile is not None and Path(profile).is_file() else profile
    row = row_of(file, path, own)
    return Scenario(
        name=file.row.name,
        row=row,
        make_load=_traffic(section, row, numbers.days, path),
        policies=tuple(policy_of(name) for name in policies) or (_own_policy(file, path),),
        slo=Slo.parse(slo) if slo else file.slo,
        max_added=numbers.max_added,
        step=numbers.step,
        seeds=numbers.seeds,
        days=numbers.days,
    )


def base_scenario(
    name: str | Path = "polca-base",
    *,
    days: float = 7.0,
    policies: Sequence[str | Path] = ("polca",),
    slo: Sequence[str] = (),
    **options: Any,
) -> Scenario:
    """The scenario of a fitted base row, by name of its preset or path of its record; `options` as in `load_scenario`.

    >>> base_scenario("polca-base", days=1, seeds=5).row.num_servers
    40
    """
    base = load_base_row(name)
    given = {key: value for key, value in options.items() if value is not None}
    numbers = checked_config(PlanSection, {"days": days, **given}, "plan")
    return Scenario(
        name=str(name),
        row=base.row(),
        make_load=WeekTraffic(base.week, numbers.days or days),
        policies=tuple(policy_of(policy) for policy in policies),
        slo=Slo.parse(slo),
        max_added=numbers.max_added,
        step=numbers.step,
        seeds=numbers.seeds,
        days=numbers.days,
    )


def row_of(file: PlanFile, path: Path, profile: str | None = None) -> Row:
    """The simulator's row of a planner's file.

    Args:
        file: as read.
        path: where it was.
        profile: instead of the file's.

    Raises:
        InputError: no profile, or a budget that is in another unit.
    """
    serving, section = file.serving, file.row
    chosen = _profile(profile or serving.profile or file.scale.profile, path)
    servers = tuple(
        Server(name, Priority[group.priority.upper()], chosen, serving.instances, serving.max_batch)
        for group in file.servers
        for name in expand(group.names)
    )
    for watts in (section.budget_w, *(step.budget_w for step in section.budget_steps)):
        check_budget(watts, len(servers), chosen, str(path))
    return Row(
        servers,
        _budget(file),
        shared=serving.shared,
        prefill_share=serving.prefill_share,
        telemetry_period_s=section.telemetry_period_s,
        cap_latency=Latency.constant(section.cap_latency_s),
        brake_latency=Latency.constant(section.brake_latency_s),
    )


def check_budget(budget_w: float, num_servers: int, profile: PowerProfile, where: str) -> None:
    """Refuse a budget that cannot be meant in watts.

    Raises:
        InputError: less than the servers draw doing nothing, or twenty times what they can draw.

    >>> check_budget(203, 40, PROFILES["a100-llama2-70b-tp8"], "row.toml")
    Traceback (most recent call last):
    nonet.common.errors.InputError: row.toml: row.budget_w: 203 W is less than ...; is it in kW? Give watts
    """
    gpus = profile.server.num_gpus
    idle_w = num_servers * profile.server_watts(gpus * profile.idle_w)
    most_w = num_servers * profile.server_watts(gpus * profile.tdp_w)
    if budget_w < idle_w:
        raise InputError(
            f"{where}: row.budget_w: {budget_w:g} W is less than the {num_servers} servers draw when idle"
            f" ({idle_w:,.0f} W); is it in kW? Give watts"
        )
    if budget_w > _MOST_BUDGETS * most_w:
        raise InputError(
            f"{where}: row.budget_w: {budget_w:g} W is {budget_w / most_w:,.0f} times what the {num_servers} servers"
            f" draw at most ({most_w:,.0f} W); is it in mW? Give watts"
        )


def policy_of(name: str | Path) -> Policy:
    """A policy by name, or from a TOML file."""
    return build_policy(str(name)) if str(name) in POLICIES else load_policy(name)


def _own_policy(file: PlanFile, path: Path) -> Policy:
    beside = path.parent / str(file.policy.get("file", ""))
    return load_policy(beside) if beside.is_file() else file.make_policy()


def _budget(file: PlanFile) -> BudgetSchedule:
    budget, starts = BudgetSchedule.constant(file.row.budget_w), file.load.starts
    for step in sorted(file.row.budget_steps, key=lambda step: step.since):
        since_s = (step.since - starts).total_seconds() if starts is not None else 0.0
        budget = budget.between(max(0.0, since_s), float("inf"), step.budget_w)
    return budget


def _traffic(section: LoadSection, row: Row, days: float | None, path: Path) -> MakeLoad:
    if section.file is not None:
        load = read_requests(section.file, columns=section.columns, low_share=_low_share(section, row))
        if len(load) == 0:
            raise InputError(f"{section.file}: no requests")
        _refuse_unserved(row, {Priority(int(priority)) for priority in np.unique(load.priority)}, section.file)
        return RecordedTraffic(load, section.spread_s)
    if section.week is not None:
        shares = [service.low_share for service in section.week.services]
        mixed = {Priority.LOW: any(share > 0 for share in shares), Priority.HIGH: any(share < 1 for share in shares)}
        _refuse_unserved(row, {priority for priority, asked in mixed.items() if asked}, f"{path}: load.week")
        return WeekTraffic(section.week, days or 7.0)
    raise InputError(f"{path}: load: give a file of requests or a week, or name a file with --load")


def _low_share(section: LoadSection, row: Row) -> float | dict[str, float]:
    if section.low_share is not None:
        return section.low_share
    one_class = not row.shared and (row.num_low == 0 or row.num_high == 0)
    return float(row.num_low > 0) if one_class else 0.5


def _refuse_unserved(row: Row, asked: set[Priority], where: Path | str) -> None:
    served = {server.priority for server in row.servers}
    if not row.shared and (missing := asked - served):
        name = missing.pop().name.lower()
        raise InputError(
            f"{where}: has requests of {name} priority, but no server of the row is of that class; give some servers"
            f' priority = "{name}", set serving.shared = true, or change load.low_share (of each service in a week)'
        )


def _profile(name: str | None, path: Path) -> PowerProfile:
    if name is None:
        raise InputError(f"{path}: serving.profile: name one of {', '.join(PROFILES)}, or a JSON file (or --profile)")
    if name in PROFILES:
        return PROFILES[name]
    beside = path.parent / name
    if not beside.is_file():
        raise InputError(f"{path}: serving.profile: {name!r} is neither a file nor one of {', '.join(PROFILES)}")
    return PowerProfile.from_json(beside.read_text("utf-8"))


def _toml(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.loads(file.read(_MAX_FILE_BYTES).decode("utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; give the row file (TOML)") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path}: {error}") from error
