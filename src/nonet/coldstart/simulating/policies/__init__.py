"""Policies by the names of the command line; `parse_policy` makes one, names joined by `+` make one of several.

`register(name, help)` puts a maker into the registry: it gets the text after the colon ("" without one) and returns a
`RulePolicy`. Modules of policies are imported when a policy is first looked for.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass

from nonet.coldstart.simulating.policies.base import (
    NEVER_US,
    Chains,
    Eviction,
    IdleRule,
    Joined,
    Orders,
    Policy,
    Prewarm,
    RulePolicy,
    Rules,
    Setup,
    TickView,
)
from nonet.common.errors import InputError
from nonet.common.registry import Registry


@dataclass(frozen=True)
class PolicyKind:
    """An entry of the registry: how to make a policy, one line of help, an example of its name."""

    make: Callable[[str], RulePolicy]
    help: str
    example: str


_REGISTRY: Registry[PolicyKind] = Registry("policy")
_loaded: set[str] = set()


def register(
    name: str, help: str, example: str = ""
) -> Callable[[Callable[[str], RulePolicy]], Callable[[str], RulePolicy]]:
    """Decorator of a function from the text after the colon to a policy. Raises ValueError for a name taken twice."""

    def decorate(make: Callable[[str], RulePolicy]) -> Callable[[str], RulePolicy]:
        _REGISTRY.add(name, PolicyKind(make, help, example or name))
        return make

    return decorate


def policies() -> Registry[PolicyKind]:
    """All registered policies."""
    if not _loaded:
        for module in sorted(found.name for found in pkgutil.iter_modules(__path__)):
            if not module.startswith("_"):
                importlib.import_module(f"{__name__}.{module}")
                _loaded.add(module)
    return _REGISTRY


def parse_policy(text: str) -> RulePolicy:
    """The policy of a name such as "ka:60", "gd:8GB" or "hist+paper:pool".

    `paper:` names contain a colon themselves; in "paper:timer+pool" the prefix holds for the names after it too,
    unless they are policies of their own.

    Raises:
        InputError: an unknown name (with the nearest known one), or a value that the policy does not take.

    >>> parse_policy("ka:60").name
    'ka:60'
    """
    known = policies()
    parts, in_paper = [], False
    for piece in text.split("+"):
        name, _, value = piece.strip().partition(":")
        if name == "paper":
            in_paper = True
            second, _, value = value.partition(":")
            name = f"paper:{second}"
        elif in_paper and name not in known and f"paper:{name}" in known:
            name = f"paper:{name}"
        policy = known[name].make(value)
        policy.name = policy.name or (f"{name}:{value}" if value else name)
        parts.append(policy)
    return parts[0] if len(parts) == 1 else Joined(parts)


def parse_seconds_us(text: str, what: str) -> int:
    """Seconds as text ("60", "0.5", "inf") to microseconds.

    Raises:
        InputError: no number, or a negative one.
    """
    try:
        value = float(text)
    except ValueError:
        raise InputError(f"{what}: {text!r} is no number of seconds") from None
    if not value >= 0:
        raise InputError(f"{what}: {text!r} must be at least 0 seconds")
    return min(round(value * 1e6), NEVER_US) if value < 1e12 else NEVER_US


_UNITS_MB = {"MB": 1, "GB": 1024, "TB": 1024 * 1024}


def parse_memory_mb(text: str, what: str) -> int:
    """Memory as text ("8GB", "512MB") to whole MB.

    Raises:
        InputError: no number with a unit of MB, GB or TB, or not above 0.
    """
    for unit, factor in _UNITS_MB.items():
        if text.upper().endswith(unit):
            try:
                value = float(text[: -len(unit)]) * factor
            except ValueError:
                break
            if 1 <= value < 1 << 50:
                return int(value)
    raise InputError(f"{what}: {text!r} is no memory; give for example 8GB or 512MB")


__all__ = [
    "NEVER_US",
    "Chains",
    "Eviction",
    "IdleRule",
    "Joined",
    "Orders",
    "Policy",
    "PolicyKind",
    "Prewarm",
    "RulePolicy",
    "Rules",
    "Setup",
    "TickView",
    "parse_memory_mb",
    "parse_policy",
    "parse_seconds_us",
    "policies",
    "register",
]
