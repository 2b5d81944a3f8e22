"""What the event loop looks up instead of computing: time and power of prompts and batches, and factors of a level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nonet.power.profiles._profile_kernels import decode_power_factor, decode_time_factor
from nonet.power.simulating._engine_kernels import tabulate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nonet.power.profiles.profile import PowerProfile, ProfileArrays

DIRECT_TOKENS = 1 << 20


@dataclass(frozen=True)
class Tables:
    """Tables of the profiles of a row.

    Args:
        profiles: the distinct ones, (p).
        prompt_row: int32 (n), row of the prefill tables for each request.
        prefill_s, prefill_gpu_w: (p, rows), at level 1.
        decode_s, decode_gpu_w: (p, largest batch + 1); column b is a batch of b.
    """

    profiles: tuple[ProfileArrays, ...]
    prompt_row: NDArray[np.int32]
    prefill_s: NDArray[np.float64]
    prefill_gpu_w: NDArray[np.float64]
    decode_s: NDArray[np.float64]
    decode_gpu_w: NDArray[np.float64]

    @classmethod
    def of(cls, profiles: Sequence[PowerProfile], max_batch: int, prompt_tokens: NDArray[np.int32]) -> Tables:
        """Tables for these profiles, batches up to `max_batch` and these prompts.

        Prompts up to a million tokens are looked up by their number of tokens; longer ones by their rank.
        """
        arrays = tuple(profile.arrays(max_batch) for profile in profiles)
        longest = int(prompt_tokens.max(initial=1))
        if longest <= DIRECT_TOKENS:
            tokens, prompt_row = np.arange(longest + 1, dtype=np.float64), prompt_tokens
        else:
            distinct, inverse = np.unique(prompt_tokens, return_inverse=True)
            tokens, prompt_row = distinct.astype(np.float64), inverse.astype(np.int32)
        prefill_s = np.empty((len(arrays), len(tokens)))
        prefill_gpu_w = np.empty_like(prefill_s)
        for k, profile in enumerate(arrays):
            tabulate(
                tokens, profile.prefill_tokens, profile.prefill_s, profile.prefill_w, prefill_s[k], prefill_gpu_w[k]
            )
        decode_s = np.stack([np.append(np.inf, profile.decode_s) for profile in arrays])
        decode_gpu_w = np.stack([np.append(profile.idle_w, profile.decode_w) for profile in arrays])
        return cls(arrays, prompt_row, prefill_s, prefill_gpu_w, decode_s, decode_gpu_w)

    def level_values(self, profile: int, level: float) -> tuple[float, float, float, float, float]:
        """(level, prefill speed, prefill power, decode speed, decode power) of a profile, the last four as factors."""
        p = self.profiles[profile]
        return (
            level,
            level,
            level**p.prefill_power_exponent,
            1.0 / decode_time_factor(level, p.decode_time_fixed, p.decode_time_clocked),
            decode_power_factor(level, p.decode_power_floor, p.decode_power_exponent),
        )
