"""GPUs and servers that profiles are written for: limits and clocks, with where each number comes from."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nonet.common.errors import InputError
from nonet.common.registry import Registry
from nonet.power.profiles.clock import ClockResponse, ServerPower
from nonet.power.profiles.tables import Provenance


@dataclass(frozen=True, slots=True)
class Gpu:
    """Limits of a GPU and of the eight-GPU server that it comes in.

    Attributes:
        tdp_w: each GPU.
        idle_w: each GPU, with a model loaded.
        min_power_limit_w: each GPU.
        min_clock_mhz: lowest SM clock that can be locked.
        max_clock_mhz: highest one.
        clock_step_mhz: between them.
        server: power of the server around the GPUs.
        clock: answer to the clock.
        idle_source: where `idle_w` comes from.
        server_source: where `server` comes from.
        clock_source: where `clock` comes from.
    """

    tdp_w: float
    idle_w: float
    min_power_limit_w: float
    min_clock_mhz: float
    max_clock_mhz: float
    clock_step_mhz: float
    server: ServerPower
    clock: ClockResponse
    idle_source: Provenance
    server_source: Provenance
    clock_source: Provenance


GPUS: Registry[Gpu] = Registry("GPU")

_BORROWED_CLOCK = Provenance(kind="borrowed", source="clock response of the A100; not measured on this GPU")

GPUS.add(
    "a100",
    Gpu(
        400.0,
        80.0,
        100.0,
        210.0,
        1410.0,
        15.0,
        ServerPower(base_w=450.0, gpu_factor=1.64),
        ClockResponse(),
        Provenance(kind="measured", source="powertrace-sim: 82 W, A100-80GB with a model loaded; 0.20 of TDP"),
        Provenance(kind="assumed", source="DGX-A100: idle 1,500 W at 8 x 80 W, 5.7 kW at 8 x 400 W"),
        Provenance(kind="fitted", source="A100-80GB, Llama-8B, SM clock x batch sweep (power factor RMSE 0.015)"),
    ),
)
GPUS.add(
    "h100",
    Gpu(
        700.0,
        122.0,
        200.0,
        345.0,
        1980.0,
        15.0,
        ServerPower(base_w=1016.0, gpu_factor=1.64),
        ClockResponse(),
        Provenance(kind="assumed", source="122 W with a CUDA context, read second-hand"),
        Provenance(kind="assumed", source="factor of the DGX-A100; base such that 8 x 700 W is DGX-H100's 10.2 kW"),
        _BORROWED_CLOCK,
    ),
)
GPUS.add(
    "b200",
    Gpu(
        1000.0,
        175.0,
        200.0,
        120.0,
        1965.0,
        15.0,
        ServerPower(base_w=1180.0, gpu_factor=1.64),
        ClockResponse(),
        Provenance(kind="assumed", source="share of TDP of the H100"),
        Provenance(kind="assumed", source="factor of the DGX-A100; base such that 8 x 1,000 W is DGX-B200's 14.3 kW"),
        _BORROWED_CLOCK,
    ),
)


def gpu_name(text: str) -> str:
    """The registered name inside a hardware label.

    Raises:
        InputError: it names no GPU that is registered.

    >>> gpu_name("NVIDIA A100-SXM4-80GB"), gpu_name("h100-80gb")
    ('a100', 'h100')
    """
    for word in re.split(r"[^a-z0-9]+", text.lower()):
        if word in GPUS:
            return word
    raise InputError(f"hardware {text!r}: no known GPU in it; name one of {', '.join(GPUS)}")
