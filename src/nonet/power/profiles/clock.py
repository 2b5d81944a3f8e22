"""How power and time of a GPU answer to its clock, and how a server's power follows from its GPUs."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from nonet.common.errors import InputError
from nonet.power.profiles._profile_kernels import decode_power_factor, decode_time_factor


class ClockResponse(BaseModel):
    """Power and time at a level (clock over the highest clock) as factors of those at level 1.

    Prefill is bound by compute: its time goes with 1/level, its power with a power of the level. Decode is bound by
    memory: part of its power and most of its time do not follow the clock.

    Attributes:
        decode_power_floor: c of the power factor c + (1 - c) * level^k of decoding.
        decode_power_exponent: k of it.
        prefill_power_exponent: power factor level^a.
        decode_time_fixed: a0 of the time factor (a0 + a1/level) / (a0 + a1) of decoding.
        decode_time_clocked: a1 of it.
        min_level: lowest level of the clocks it was fitted on; below, it is extrapolated.

    >>> a100 = ClockResponse()
    >>> round(a100.decode_power(1275 / 1410), 2), round(a100.decode_power(1110 / 1410), 2)
    (0.81, 0.67)
    >>> round(a100.prefill_power(1110 / 1410), 2), round(a100.prefill_time(0.5), 2)
    (0.8, 2.0)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    decode_power_floor: float = Field(default=0.52, ge=0, le=1)
    decode_power_exponent: float = Field(default=4.9, gt=0, le=20)
    prefill_power_exponent: float = Field(default=0.93, ge=0, le=20)
    decode_time_fixed: float = Field(default=0.705, ge=0)
    decode_time_clocked: float = Field(default=0.269, gt=0)
    min_level: float = Field(default=1110 / 1410, gt=0, le=1)

    def decode_power(self, level: float) -> float:
        """Factor on decode power."""
        return float(decode_power_factor(check_level(level), self.decode_power_floor, self.decode_power_exponent))

    def prefill_power(self, level: float) -> float:
        """Factor on prefill power."""
        return float(check_level(level) ** self.prefill_power_exponent)

    def decode_time(self, level: float) -> float:
        """Factor on the time of a token."""
        return float(decode_time_factor(check_level(level), self.decode_time_fixed, self.decode_time_clocked))

    def prefill_time(self, level: float) -> float:
        """Factor on the time of a prompt."""
        return 1.0 / check_level(level)


class ServerPower(BaseModel):
    """Power of a server: base_w + gpu_factor * sum of its GPUs' power (fans and power supplies follow the GPUs).

    >>> ServerPower().watts(8 * 80.0)  # an idle DGX-A100
    1499.6
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_w: float = Field(default=450.0, ge=0)
    gpu_factor: float = Field(default=1.64, ge=1)
    num_gpus: int = Field(default=8, ge=1, le=1024)

    def watts(self, gpu_watts_sum: float) -> float:
        """Power of the server in W when its GPUs draw `gpu_watts_sum` W together."""
        return self.base_w + self.gpu_factor * gpu_watts_sum


def check_level(level: float) -> float:
    """`level` when it is in (0, 1].

    Raises:
        InputError: it is not.
    """
    if not 0.0 < level <= 1.0:
        raise InputError(f"level {level}: a clock level is a fraction of the highest clock; give a number in (0, 1]")
    return level
