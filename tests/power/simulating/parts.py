"""A small profile whose numbers can be followed by hand, and random loads."""

import numpy as np

from nonet.power.load.requests import RequestLoad
from nonet.power.profiles.clock import ClockResponse, ServerPower
from nonet.power.profiles.profile import QUANTITIES, PowerProfile
from nonet.power.profiles.tables import DecodeTable, PrefillTable, Provenance


def profile(tensor_parallel=8, decode_s=(0.05, 0.06, 0.10), watts=(300.0, 320.0, 380.0), clock=None, **more):
    return PowerProfile(
        name=more.pop("name", f"toy-tp{tensor_parallel}"),
        gpu="toy",
        model="toy",
        tensor_parallel=tensor_parallel,
        tdp_w=400.0,
        idle_w=more.pop("idle_w", 80.0),
        min_power_limit_w=100.0,
        min_clock_mhz=210.0,
        max_clock_mhz=1410.0,
        clock_step_mhz=15.0,
        prefill=more.pop(
            "prefill",
            PrefillTable(
                tokens=(128, 1024, 8192), seconds=(0.1, 0.4, 3.6), watts=(280.0, 400.0, 410.0), range_tokens=(128, 8192)
            ),
        ),
        decode=DecodeTable(
            batch=(1, 8, 64), seconds_per_token=decode_s, watts=watts, range_batch=(1, 64), range_batch_power=(1, 64)
        ),
        clock=clock or ClockResponse(),
        server=ServerPower(),
        provenance={q: Provenance(kind="measured", source="made up for tests") for q in QUANTITIES},
        **more,
    )


def poisson_load(num, rate_per_s, seed=0, low_share=0.5, prompts=(128, 4096), outputs=(1, 300)):
    rng = np.random.default_rng(seed)
    return RequestLoad.of(
        np.cumsum(rng.exponential(1 / rate_per_s, num)),
        rng.integers(*prompts, num),
        rng.integers(*outputs, num),
        priority=(rng.random(num) >= low_share).astype(np.int8),
    )
