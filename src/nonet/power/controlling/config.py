"""The row file: what the daemon must know of a row, read from TOML and checked before anything starts.

Every key is checked; an unknown one is an error. Flags of the command line beat the file. What is written here is
also what "safe" means: `control.on_exit` when the daemon is asked to stop, `control.on_crash` when it dies.
"""

from __future__ import annotations

import fnmatch
import re
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from nonet.common.errors import InputError
from nonet.power.controlling.actuators.protocol import ACTUATORS, ActuatorConfig, Scale, Server
from nonet.power.controlling.telemetry.protocol import TELEMETRY, TelemetryConfig
from nonet.power.policies.ledger import LedgerConfig
from nonet.power.policies.protocol import Policy, Priority
from nonet.power.policies.registry import build_policy, load_policy

Model = TypeVar("Model", bound=BaseModel)
PREFILL_POWER_EXPONENT = 0.93
"""Prefill power over clock, x^0.93 (fits "-20 % at 1110 of 1410 MHz"): limits when no profile is named."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class BudgetStep(_Section):
    """From this moment on the row has this budget."""

    since: AwareDatetime = Field(description="When, ISO 8601 with its zone.")
    budget_w: float = Field(gt=0, description="Watts.")


class RowSection(_Section):
    """Section `[row]`."""

    name: str = Field(default="row", pattern=r"^[A-Za-z0-9_.-]+$", description="Label of the row in metrics and keys.")
    budget_w: float = Field(gt=0, description="Budget of the row, watts (not kW).")
    budget_steps: list[BudgetStep] = Field(
        default=[], description="Other budgets from given moments on (demand response)."
    )
    telemetry_period_s: float = Field(default=2.0, gt=0, description="Time between samples, seconds.")
    cap_latency_s: float = Field(default=40.0, ge=0, description="Longest time that a cap needs to land, seconds.")
    brake_latency_s: float = Field(default=5.0, ge=0, description="Longest time that a brake needs to land, seconds.")
    backend: str = Field(default="dry", description="Back end of servers that name none.")


class ServerGroup(_Section):
    """One entry of `[[servers]]`: servers that differ in name only."""

    names: str = Field(description='One name or a range: "node[01-26]".')
    priority: Literal["low", "high"]
    backend: str | None = None
    address: str = Field(default="", description="Where the back end finds it; {name} stands for the server's name.")
    options: dict[str, Any] = {}


class ScaleSection(_Section):
    """Section `[scale]`: levels in MHz and watts."""

    profile: str | None = Field(default=None, description="A named power profile; it gives the rest.")
    max_clock_mhz: float = Field(default=1410.0, gt=0)
    tdp_w: float = Field(default=400.0, gt=0, description="Power limit of a GPU without a cap, watts.")
    gpus_per_server: int = Field(default=8, ge=1)
    base_w: float = Field(default=450.0, ge=0, description="What a server draws beside its GPUs, watts.")
    gpu_factor: float = Field(default=1.64, ge=1, description="Server watts per GPU watt.")


class ControlSection(_Section):
    """Section `[control]`."""

    journal: Path = Field(default=Path("nonet-power.sqlite"), description="SQLite file; on a local disk.")
    allow: list[str] = Field(default=[], description="Servers that --apply may write to: names, ranges, patterns.")
    at_start: Literal["adopt", "restore"] = Field(
        default="adopt",
        description="Caps found at the first start: adopt keeps them until the policy orders otherwise, restore lifts "
        "them once a fresh sample is below restore_below.",
    )
    on_exit: Literal["keep", "restore"] = Field(
        default="keep",
        description="At SIGTERM: keep leaves every cap in force; restore sets what was found at the first start, but "
        "only when the last sample is fresh and below restore_below and the brake is off.",
    )
    on_crash: Literal["keep", "cap", "restore"] = Field(
        default="keep",
        description="When the process dies and no other takes over within crash_grace_s: keep leaves every cap as it "
        "is; cap sets crash_level on all servers of low priority, but raises none; restore lifts our caps. The last "
        "two start a guardian process.",
    )
    crash_grace_s: float = Field(default=60.0, ge=0)
    crash_level: float = Field(default=1110 / 1410, gt=0, le=1)
    restore_below: float = Field(
        default=0.75, gt=0, lt=1, description="Share of the budget below which caps may be given back."
    )
    lost_after_periods: float = Field(
        default=5.0, ge=1, description="Without a usable sample for so many periods, the daemon caps by itself."
    )
    lost_level: float = Field(
        default=1110 / 1410, gt=0, le=1, description="Level of low priority without telemetry, if the policy caps less."
    )
    stuck_after_s: float = Field(
        default=600.0, gt=0, description="Row power that stays the same to the last digit for so long counts as lost."
    )
    max_threads: int = Field(default=32, ge=2, le=512, description="Threads that write, half of them for brakes only.")
    caps_per_s: float | None = Field(
        default=None,
        gt=0,
        description="Most caps sent a second; left out: all within a tenth of cap_latency_s.",
    )
    readback_period_s: float = Field(default=60.0, gt=0, description="Every server is read back once in this time.")
    samples_every_s: float = Field(
        default=10.0, gt=0, description="Samples are thinned to one in this time in the journal."
    )
    keep_days: float = Field(default=90.0, gt=0, description="Rows of the journal older than this are dropped.")
    exit_timeout_s: float = Field(default=15.0, gt=0, description="Longest time for giving caps back at exit.")


class MetricsSection(_Section):
    """Section `[metrics]`: the HTTP endpoint."""

    host: str = "127.0.0.1"
    port: int | None = Field(default=None, ge=0, le=65535, description="Served when given; 0 takes a free one.")
    token_env: str | None = Field(default=None, description="Variable of the environment that holds the bearer token.")
    gpus: bool = Field(default=False, description="Also expose DCGM_FI_* of the GPUs of this machine.")


class RowFile(_Section):
    """A whole row file. The planner's sections may stand in it, too; here they are not used."""

    row: RowSection
    servers: list[ServerGroup] = Field(min_length=1)
    scale: ScaleSection = ScaleSection()
    telemetry: dict[str, Any] = Field(description="`source` and what that source needs.")
    policy: dict[str, Any] = Field(default={"name": "polca"}, description="`name` and parameters, or `file`.")
    ledger: dict[str, Any] = {}
    control: ControlSection = ControlSection()
    metrics: MetricsSection = MetricsSection()
    actuators: dict[str, dict[str, Any]] = {}

    @field_validator("telemetry")
    @classmethod
    def _has_source(cls, value: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(value.get("source"), str):
            raise ValueError(f"needs source = one of {', '.join(TELEMETRY)}")
        return value

    @model_validator(mode="after")
    def _unique_servers(self) -> RowFile:
        names = [name for group in self.servers for name in expand(group.names)]
        twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
        if twice:
            raise ValueError(f"server {twice[0]} is named twice")
        return self

    def server_list(self) -> list[Server]:
        """The servers, in the order of the file, their options checked by their back ends.

        Raises:
            InputError: an unknown back end, options that it does not know, or two servers at one place.
        """
        found: list[Server] = []
        places: dict[tuple[str, str, str], str] = {}
        for group in self.servers:
            backend = group.backend or self.row.backend
            kind = ACTUATORS[backend]
            options = _checked(kind.server_options, group.options, f"servers {group.names}: options").model_dump()
            for name in expand(group.names):
                address = group.address.replace("{name}", name)
                other = places.setdefault((backend, address, str(options)), name)
                if address and other != name:
                    raise InputError(
                        f"servers {other} and {name} have one address, {address}: a write to one would end what "
                        "was written to the other; did you mean {name} in it?"
                    )
                found.append(Server(len(found), name, Priority[group.priority.upper()], address, options))
        return found

    def backend_names(self) -> list[str]:
        """The back end of each server."""
        return [group.backend or self.row.backend for group in self.servers for _ in expand(group.names)]

    def actuator_config(self, backend: str) -> ActuatorConfig:
        """The checked section of a back end."""
        return _checked(ACTUATORS[backend].config, self.actuators.get(backend, {}), f"actuators.{backend}")

    def telemetry_config(self) -> TelemetryConfig:
        """The checked section of the source."""
        own = {key: value for key, value in self.telemetry.items() if key != "source"}
        return _checked(TELEMETRY[self.telemetry["source"]].config, own, "telemetry")

    def make_policy(self) -> Policy:
        """A fresh policy: `name` and its parameters, or `file` with a policy file.

        Raises:
            InputError: an unknown policy or parameter.
        """
        values = {key: value for key, value in self.policy.items() if key not in ("name", "file")}
        if "file" in self.policy:
            return load_policy(str(self.policy["file"]))
        return build_policy(str(self.policy.get("name", "polca")), **values)

    def ledger_config(self, one_lever: bool) -> LedgerConfig:
        """Times of the ledger: what the file says, the rest from the row's latencies."""
        row = self.row
        derived: dict[str, Any] = {
            "cap_timeout_s": row.cap_latency_s + 2 * row.telemetry_period_s,
            "brake_timeout_s": row.brake_latency_s + row.telemetry_period_s,
            "stale_after_s": 3 * row.telemetry_period_s,
            "one_lever": one_lever,
        }
        return _checked(LedgerConfig, derived | self.ledger, "ledger")

    def make_scale(self) -> Scale:
        """Levels in the units of this row's devices."""
        section = self.scale
        if section.profile is not None:
            from nonet.power.profiles import PROFILES

            profile = PROFILES[section.profile]
            server = profile.server
            return Scale(
                profile.max_clock_mhz, profile.power_limit_w, server.num_gpus, server.base_w, server.gpu_factor
            )
        limit_w = _limit_of(section.tdp_w)
        return Scale(section.max_clock_mhz, limit_w, section.gpus_per_server, section.base_w, section.gpu_factor)

    def all_budgets_w(self) -> list[float]:
        """The budgets of all times, watts."""
        return [self.row.budget_w, *(step.budget_w for step in self.row.budget_steps)]

    def budget_w_at(self, unix_s: float) -> float:
        """The budget at a moment of the wall clock, watts."""
        started = [step for step in self.row.budget_steps if step.since.timestamp() <= unix_s]
        return max(started, key=lambda step: step.since).budget_w if started else self.row.budget_w


PLANNER_SECTIONS = ("serving", "load", "slo", "plan")
"""Of `nonet power plan`, which reads the same file and checks them."""


def load_row_file(path: str | Path) -> RowFile:
    """Read and check a row file. Relative paths in it are meant relative to it.

    Raises:
        InputError: no such file, no TOML, an unknown key, a wrong value; the message names the key.
    """
    path = Path(path)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; give the row file (TOML)") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path}: {error}") from error
    row = _checked(RowFile, {key: value for key, value in values.items() if key not in PLANNER_SECTIONS}, str(path))
    for actuator in row.actuators:
        ACTUATORS[actuator]
    for group in row.servers:
        ACTUATORS[group.backend or row.row.backend]
    control = row.control.model_copy(update={"journal": path.parent / row.control.journal})
    telemetry = dict(row.telemetry)
    if isinstance(telemetry.get("path"), str):
        telemetry["path"] = str(path.parent / telemetry["path"])
    policy = dict(row.policy)
    if isinstance(policy.get("file"), str) and (path.parent / policy["file"]).is_file():
        policy["file"] = str(path.parent / policy["file"])  # else the name of a preset
    row = row.model_copy(update={"control": control, "telemetry": telemetry, "policy": policy})
    (
        row.telemetry_config(),
        row.ledger_config(one_lever=False),
        row.server_list(),
        row.make_policy(),
    )  # all errors now, not later
    for backend in row.actuators:
        row.actuator_config(backend)
    return row


def expand(names: str) -> list[str]:
    """The names of a range, zero-padded as written.

    Raises:
        InputError: a range that goes down or is not closed.

    >>> expand("node[08-10]"), expand("rack1-gpu7")
    (['node08', 'node09', 'node10'], ['rack1-gpu7'])
    """
    match = re.fullmatch(r"([^\[\]]*)\[(\d+)-(\d+)\]([^\[\]]*)", names)
    if match is None:
        if not names or "[" in names or "]" in names:
            raise InputError(f'server names {names!r}: write one name or a range like "node[01-26]"')
        return [names]
    before, first, last, after = match.groups()
    if int(last) < int(first) or int(last) - int(first) >= 100_000:
        raise InputError(f"server names {names!r}: the range must go up, and name fewer than 100,000")
    return [f"{before}{number:0{len(first)}d}{after}" for number in range(int(first), int(last) + 1)]


def allowed(servers: Sequence[Server], patterns: Sequence[str]) -> set[int]:
    """Indices of the servers that an allow-list names.

    Args:
        servers: of the row.
        patterns: names, ranges as in `expand`, or shell patterns with `*` and `?`.

    Raises:
        InputError: a pattern that names no server, which is more likely a mistake than meant.
    """
    chosen: set[int] = set()
    for pattern in patterns:
        if "[" in pattern:  # a range, never a set of characters, which would match more than meant
            names = set(expand(pattern))
            found = {s.index for s in servers if s.name in names}
        else:
            found = {s.index for s in servers if fnmatch.fnmatchcase(s.name, pattern)}
        if not found:
            raise InputError(f"allow-list: {pattern!r} names no server of the row ({servers[0].name}, ...)")
        chosen |= found
    return chosen


def _limit_of(tdp_w: float) -> Callable[[float], float]:
    return lambda level: tdp_w * level**PREFILL_POWER_EXPONENT


def _checked(model: type[Model], values: dict[str, Any], where: str) -> Model:
    try:
        return model(**values)
    except ValidationError as error:
        raise InputError("; ".join(_problems(error, where))) from error


def _problems(error: ValidationError, where: str) -> Iterator[str]:
    for problem in error.errors()[:3]:
        place = ".".join(str(part) for part in problem["loc"])
        kind = "unknown key" if problem["type"] == "extra_forbidden" else problem["msg"].removeprefix("Value error, ")
        yield f"{where}: {place}: {kind[0].lower()}{kind[1:]}" if place else f"{where}: {kind}"
