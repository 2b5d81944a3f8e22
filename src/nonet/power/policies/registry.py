"""Policies by name, and policies from TOML files."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nonet.common.errors import InputError
from nonet.common.registry import Registry
from nonet.power.policies.base import RowConfig
from nonet.power.policies.baselines import NoCap, OneThresholdAll, OneThresholdLow
from nonet.power.policies.dynamo import Dynamo
from nonet.power.policies.null import Null
from nonet.power.policies.polca import Polca
from nonet.power.policies.protocol import Policy
from nonet.power.policies.thunderbolt import Thunderbolt
from nonet.power.policies.water_filling import WaterFilling

MAX_FILE_BYTES = 1 << 20
PRESETS = Path(__file__).parent / "presets"


@dataclass(frozen=True)
class PolicyKind:
    """A registered policy.

    Args:
        build: makes one from keywords, which its config checks.
        config: the model of its parameters.
        summary: one line for the help page.
    """

    build: Any
    config: type[RowConfig]
    summary: str


POLICIES: Registry[PolicyKind] = Registry("policy")


def _add(build: Any, summary: str) -> None:
    POLICIES.add(build.name, PolicyKind(build, build.config_model, summary))


_add(Polca, "two thresholds, two priorities: low priority is capped first")
_add(OneThresholdLow, "above one threshold low priority is capped")
_add(OneThresholdAll, "above one threshold everyone is capped")
_add(NoCap, "nothing but the brake")
_add(Dynamo, "three bands; low priority and the biggest consumers first")
_add(Thunderbolt, "multiplicative decrease of low priority; unthrottled at random")
_add(WaterFilling, "the budget shared by priority and demand")
_add(Null, "nothing at all, not even the brake")


def build_policy(name: str, **values: Any) -> Policy:
    """The policy of that name.

    Raises:
        InputError: an unknown name, an unknown parameter or a bad value.

    >>> build_policy("polca", t1=0.75, t2=0.85).name
    'polca'
    """
    policy: Policy = POLICIES[name].build(**values)
    return policy


def load_policy(path: str | Path) -> Policy:
    """The policy that a TOML file describes: `policy = "polca"` (or `name`), and its parameters beside it.

    A row file's section `[policy]` will do, and so will parameters alone in a file that is called as the policy is. A
    bare name of a preset ("polca", "polca.toml") that is no file here means the one that comes with the package.

    Raises:
        InputError: no such file, no TOML, no `policy`, or a wrong parameter.

    >>> load_policy("polca.toml").config.t2
    0.89
    """
    found = Path(path)
    if not found.exists() and found.name == str(path):
        found = PRESETS / f"{found.stem}.toml"
    try:
        with found.open("rb") as file:
            values = tomllib.loads(file.read(MAX_FILE_BYTES).decode("utf-8"))
    except OSError as error:
        known = ", ".join(sorted(preset.stem for preset in PRESETS.glob("*.toml")))
        raise InputError(f"{path}: {error.strerror or error}; give a TOML file or one of {known}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: no TOML: {error}") from error
    if isinstance(values.get("policy"), dict):  # a row file
        values = values["policy"]
    given = values.pop("policy", None) or values.pop("name", None)
    name = found.stem if given is None and found.stem in POLICIES else given
    if not isinstance(name, str):
        raise InputError(f'{path}: no policy; add a line such as: policy = "polca"')
    try:
        return build_policy(name, **values)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
