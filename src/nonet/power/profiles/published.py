"""The profiles that ship with the package, by name.

`published.json` is written by `calibration.publish` from the files that its provenance entries name.
"""

from __future__ import annotations

from importlib.resources import files

from pydantic import TypeAdapter

from nonet.common.registry import Registry
from nonet.power.profiles.profile import PowerProfile

PROFILES: Registry[PowerProfile] = Registry("power profile")

for _profile in TypeAdapter(list[PowerProfile]).validate_json(
    files("nonet.power.profiles").joinpath("published.json").read_bytes()
):
    PROFILES.add(_profile.name, _profile)
