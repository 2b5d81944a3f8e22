"""Fixed keep-alive, and the null baseline that keeps nothing."""

from __future__ import annotations

from dataclasses import dataclass

from nonet.coldstart.simulating.policies import parse_seconds_us, register
from nonet.coldstart.simulating.policies.base import RulePolicy, Setup
from nonet.common.errors import InputError


@dataclass
class KeepAlive(RulePolicy):
    """Every pod stays `keep_alive_us` after the end of its last request; None = the platform's keep-alive."""

    keep_alive_us: int | None = None

    def prepare(self, setup: Setup) -> None:
        """See `RulePolicy`."""
        if self.keep_alive_us is not None:
            setup.rules.keep_alive_us[:] = self.keep_alive_us


@register("none", "null baseline: a pod is deleted as soon as it is idle")
def _none(value: str) -> RulePolicy:
    if value:
        raise InputError(f"policy 'none' takes no value, got {value!r}")
    return KeepAlive(0)


@register("ka", "fixed keep-alive in seconds (the platform's without a value)", "ka:60")
def _keep_alive(value: str) -> RulePolicy:
    return KeepAlive(parse_seconds_us(value, "policy ka") if value else None)
