"""A profile: power and time of prefill and decode of one model on one kind of GPU, by tokens, batch and clock.

What was not measured is said: ranges of validity count what falls outside, and every quantity has its provenance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from nonet.common.errors import InputError
from nonet.power.profiles._profile_kernels import seconds_between, watts_between
from nonet.power.profiles.clock import ClockResponse, ServerPower, check_level
from nonet.power.profiles.tables import DecodeTable, PrefillTable, Provenance

Quantity = Literal["prefill_seconds", "prefill_watts", "decode_seconds", "decode_watts", "clock", "idle", "server"]
QUANTITIES: tuple[Quantity, ...] = (
    "prefill_seconds",
    "prefill_watts",
    "decode_seconds",
    "decode_watts",
    "clock",
    "idle",
    "server",
)


@dataclass(frozen=True, slots=True)
class ProfileArrays:
    """A profile as plain arrays for compiled code; all float64, C-contiguous, at level 1 unless a factor says so.

    Time of a prompt of n tokens is `seconds_between(n, prefill_tokens, prefill_s) / level`, its power
    `max(idle_w, watts_between(n, prefill_tokens, prefill_w) * level**prefill_power_exponent)` for each GPU. A batch of
    b sequences needs `decode_s[b - 1] * decode_time_factor(level, ...)` a token and draws
    `max(idle_w, decode_w[b - 1] * decode_power_factor(level, ...))`. The functions are in `_profile_kernels`.

    Attributes:
        prefill_tokens: (n,) measured points, rising.
        prefill_log2_tokens: (n,) their logarithms.
        prefill_s: (n,) seconds.
        prefill_w: (n,) W of each GPU.
        decode_s: (max_batch,) seconds a token; index b - 1 holds batch b.
        decode_w: (max_batch,) W of each GPU, likewise.
        decode_power_floor: see `ClockResponse`.
        decode_power_exponent: see `ClockResponse`.
        prefill_power_exponent: see `ClockResponse`.
        decode_time_fixed: see `ClockResponse`.
        decode_time_clocked: see `ClockResponse`.
        idle_w: W of each GPU.
        tdp_w: W of each GPU.
        gpus_per_instance: GPUs that one copy of the model takes (tensor parallelism).
        server_base_w: see `ServerPower`.
        server_gpu_factor: see `ServerPower`.
        gpus_per_server: see `ServerPower`.
        min_tokens: fewest prompt tokens that were measured.
        max_tokens: most of them.
        min_batch: smallest batch that was measured.
        max_batch: largest batch that was measured.
    """

    prefill_tokens: NDArray[np.float64]
    prefill_log2_tokens: NDArray[np.float64]
    prefill_s: NDArray[np.float64]
    prefill_w: NDArray[np.float64]
    decode_s: NDArray[np.float64]
    decode_w: NDArray[np.float64]
    decode_power_floor: float
    decode_power_exponent: float
    prefill_power_exponent: float
    decode_time_fixed: float
    decode_time_clocked: float
    idle_w: float
    tdp_w: float
    gpus_per_instance: int
    server_base_w: float
    server_gpu_factor: float
    gpus_per_server: int
    min_tokens: float
    max_tokens: float
    min_batch: float
    max_batch: float


class PowerProfile(BaseModel):
    """Power and time of one model on one kind of GPU.

    Attributes:
        name: e.g. "a100-bloom-176b-tp8".
        gpu: name in `GPUS`.
        model: what it describes.
        tensor_parallel: GPUs that one copy of the model takes.
        tdp_w: each GPU.
        idle_w: each GPU, with the model loaded.
        min_power_limit_w: each GPU.
        min_clock_mhz: lowest clock that can be set.
        max_clock_mhz: highest clock; level 1.
        clock_step_mhz: between clocks that can be set.
        brake_clock_mhz: where the power brake takes the clock.
        prefill: see there.
        decode: see there.
        clock: see there.
        server: see there.
        provenance: by quantity, for each of `QUANTITIES`.
        labels: what else it was measured with (task, precision, parallelism), by column of its source.

    >>> from nonet.power.profiles import PROFILES
    >>> bloom = PROFILES["a100-bloom-176b-tp8"]
    >>> round(bloom.prefill_watts(2048)), round(bloom.decode_watts(1)), bloom.snap(0.787) * 1410
    (409, 254, 1110.0)
    >>> PowerProfile.from_json(bloom.to_json()) == bloom
    True
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: Literal["nonet-power-profile/1"] = "nonet-power-profile/1"
    name: str = Field(min_length=1)
    gpu: str = Field(min_length=1)
    model: str = Field(min_length=1)
    tensor_parallel: int = Field(ge=1, le=1024)
    tdp_w: float = Field(gt=0)
    idle_w: float = Field(ge=0)
    min_power_limit_w: float = Field(gt=0)
    min_clock_mhz: float = Field(gt=0)
    max_clock_mhz: float = Field(gt=0)
    clock_step_mhz: float = Field(gt=0)
    brake_clock_mhz: float = Field(default=288.0, gt=0)
    prefill: PrefillTable
    decode: DecodeTable
    clock: ClockResponse = ClockResponse()
    server: ServerPower = ServerPower()
    provenance: dict[Quantity, Provenance]
    labels: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> PowerProfile:
        if self.idle_w >= self.tdp_w:
            raise ValueError(f"idle_w {self.idle_w} must be below tdp_w {self.tdp_w}")
        if self.min_power_limit_w > self.tdp_w:
            raise ValueError("min_power_limit_w must not exceed tdp_w")
        if not self.min_clock_mhz <= self.max_clock_mhz or self.brake_clock_mhz > self.max_clock_mhz:
            raise ValueError("min_clock_mhz and brake_clock_mhz must not exceed max_clock_mhz")
        missing = [name for name in QUANTITIES if name not in self.provenance]
        if missing:
            raise ValueError(f"provenance is missing for {', '.join(missing)}")
        return self

    @property
    def _points(self) -> tuple[NDArray[np.float64], ...]:
        """Tokens, seconds, watts of prefill; batch, seconds, watts of decode."""
        return _columns(self.prefill, self.decode)

    @property
    def brake_level(self) -> float:
        """Level of the power brake."""
        return self.brake_clock_mhz / self.max_clock_mhz

    def prefill_seconds(self, tokens: float, level: float = 1.0, batch: float = 1) -> float:
        """Time of a prompt phase of `tokens` tokens (prompt x batch) in `batch` prompts, seconds."""
        _check_amounts(tokens=tokens, batch=batch)
        factor = self.prefill.factors(batch)[0]
        return float(seconds_between(tokens, *self._points[:2])) * factor * self.clock.prefill_time(level)

    def prefill_watts(self, tokens: float, level: float = 1.0, batch: float = 1) -> float:
        """Peak power of each GPU in it, W, never below idle."""
        _check_amounts(tokens=tokens, batch=batch)
        factor = self.prefill.factors(batch)[1]
        watts = float(watts_between(tokens, self._points[0], self._points[2])) * factor
        return max(self.idle_w, watts * self.clock.prefill_power(level))

    def decode_seconds_per_token(self, batch: float, level: float = 1.0) -> float:
        """Time of one token of each of `batch` sequences, seconds."""
        _check_amounts(batch=batch)
        return float(seconds_between(batch, *self._points[3:5])) * self.clock.decode_time(level)

    def decode_watts(self, batch: float, level: float = 1.0) -> float:
        """Power of each GPU while decoding, W, never below idle."""
        _check_amounts(batch=batch)
        return max(
            self.idle_w, float(watts_between(batch, self._points[3], self._points[5])) * self.clock.decode_power(level)
        )

    def server_watts(self, gpu_watts_sum: float) -> float:
        """Power of a server whose GPUs draw `gpu_watts_sum` W together."""
        return self.server.watts(gpu_watts_sum)

    def outside_range(self, tokens: float, batch: float) -> bool:
        """Whether a request lies outside what was measured: prompt tokens, or decode batch in time or power."""
        low, high = self.prefill.range_tokens
        first, last = self.decode.range_batch
        from_b, to_b = self.decode.range_batch_power
        return not (low <= tokens <= high and max(first, from_b) <= batch <= min(last, to_b))

    def snap(self, level: float) -> float:
        """The level of the highest clock that can be set and does not exceed `level` by half a MHz or more."""
        return self.clock_mhz(level) / self.max_clock_mhz

    def clock_mhz(self, level: float) -> float:
        """That clock, MHz. Steps are counted down from the highest clock."""
        wanted = check_level(level) * self.max_clock_mhz
        steps = math.ceil((self.max_clock_mhz - wanted) / self.clock_step_mhz - 0.5 / self.clock_step_mhz)
        return max(self.min_clock_mhz, self.max_clock_mhz - steps * self.clock_step_mhz)

    def power_limit_w(self, level: float) -> float:
        """Power limit of each GPU for back ends without clocks: what prefill at TDP draws at `level`, W."""
        return max(self.min_power_limit_w, min(self.tdp_w, self.tdp_w * self.clock.prefill_power(level)))

    def scaled_power(self, factor: float) -> PowerProfile:
        """The same profile when all work draws `factor` times the power; idle and server base stay.

        Raises:
            InputError: `factor` is not positive.
        """
        if not (factor > 0 and math.isfinite(factor)):
            raise InputError(f"power factor {factor}: give a positive number, such as 1.05")
        prefill = self.prefill.model_copy(update={"watts": tuple(w * factor for w in self.prefill.watts)})
        decode = self.decode.model_copy(update={"watts": tuple(w * factor for w in self.decode.watts)})
        return self.model_copy(update={"prefill": prefill, "decode": decode, "name": f"{self.name}*{factor:g}"})

    def arrays(self, max_batch: int | None = None) -> ProfileArrays:
        """The profile for compiled code, with decode batches 1..`max_batch` (by default the measured ones).

        Raises:
            InputError: `max_batch` is below 1.
        """
        if max_batch is None:
            max_batch = int(self.decode.range_batch[1])
        if max_batch < 1:
            raise InputError(f"max_batch {max_batch}: an instance needs room for at least one request")
        tokens, seconds, watts, batch, step_s, step_w = (column.copy() for column in self._points)
        sizes = range(1, max_batch + 1)
        return ProfileArrays(
            prefill_tokens=tokens,
            prefill_log2_tokens=np.log2(tokens),
            prefill_s=seconds,
            prefill_w=watts,
            decode_s=np.array([seconds_between(float(b), batch, step_s) for b in sizes], np.float64),
            decode_w=np.array([watts_between(float(b), batch, step_w) for b in sizes], np.float64),
            **self.clock.model_dump(exclude={"min_level"}),
            idle_w=self.idle_w,
            tdp_w=self.tdp_w,
            gpus_per_instance=self.tensor_parallel,
            server_base_w=self.server.base_w,
            server_gpu_factor=self.server.gpu_factor,
            gpus_per_server=self.server.num_gpus,
            min_tokens=self.prefill.range_tokens[0],
            max_tokens=self.prefill.range_tokens[1],
            min_batch=max(self.decode.range_batch[0], self.decode.range_batch_power[0]),
            max_batch=min(self.decode.range_batch[1], self.decode.range_batch_power[1]),
        )

    def to_json(self) -> str:
        """The profile as JSON text, read back by `from_json`."""
        return self.model_dump_json(indent=1)

    @classmethod
    def from_json(cls, text: str, where: str = "profile") -> PowerProfile:
        """The inverse of `to_json`; `where` names the file in errors.

        Raises:
            InputError: it is no profile; the message names the first field that is wrong.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"]) or "file"
            raise InputError(f"{where}: {field}: {first['msg']}; write profiles with `calibrate`") from error


@lru_cache(maxsize=64)
def _columns(prefill: PrefillTable, decode: DecodeTable) -> tuple[NDArray[np.float64], ...]:
    columns = (prefill.tokens, prefill.seconds, prefill.watts, decode.batch, decode.seconds_per_token, decode.watts)
    return tuple(np.array(column, np.float64) for column in columns)


def _check_amounts(**amounts: float) -> None:
    for name, value in amounts.items():
        if not (value > 0 and math.isfinite(value)):
            raise InputError(f"{name} {value}: give a positive number")
