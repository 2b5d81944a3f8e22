"""Power and time of prefill and decode by tokens, batch and clock: profiles, and how they are calibrated.

`profile.py` is the profile and its plain arrays; `tables.py` its measured tables with their provenance; `clock.py` the
answer to the clock and the server's power; `hardware.py` GPUs; `published.py` the registry `PROFILES`; `calibration/`
fits profiles.
"""

from nonet.power.profiles.clock import ClockResponse, ServerPower
from nonet.power.profiles.hardware import GPUS, Gpu
from nonet.power.profiles.profile import PowerProfile, ProfileArrays
from nonet.power.profiles.published import PROFILES
from nonet.power.profiles.tables import DecodeTable, PrefillTable, Provenance

__all__ = [
    "GPUS",
    "PROFILES",
    "ClockResponse",
    "DecodeTable",
    "Gpu",
    "PowerProfile",
    "PrefillTable",
    "ProfileArrays",
    "Provenance",
    "ServerPower",
]
