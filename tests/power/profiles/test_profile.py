"""Profiles against hand arithmetic, the published table of BLOOM, and the paper's anchors."""

import json
import math

import numpy as np
import pytest

from nonet.common.errors import InputError
from nonet.power.profiles import PROFILES, PowerProfile

BLOOM = PROFILES["a100-bloom-176b-tp8"]
LEVELS = [1110 / 1410, 1275 / 1410, 1305 / 1410, 1.0]


def test_bloom_has_the_published_latencies() -> None:
    published_ms = {128: 80, 256: 99, 512: 174, 1024: 287, 2048: 536, 4096: 1333, 8192: 3591}
    for tokens, ms in published_ms.items():
        assert BLOOM.prefill_seconds(tokens) * 1e3 == pytest.approx(ms, rel=0.05)
    assert 0.048 <= BLOOM.decode_seconds_per_token(1) <= 0.054
    assert BLOOM.decode_seconds_per_token(32) == pytest.approx(0.065, rel=0.02)
    assert BLOOM.decode_seconds_per_token(64) == pytest.approx(0.097, rel=0.02)
    assert BLOOM.decode_watts(1) / 400 == pytest.approx(0.63, abs=0.01)


@pytest.mark.parametrize(("tp", "share"), [(2, 0.74), (4, 0.59), (8, 0.43)])
def test_llama_decodes_at_the_published_power(tp: int, share: float) -> None:
    assert PROFILES[f"a100-llama2-70b-tp{tp}"].decode_watts(1) / 400 == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize(("saving", "low", "high"), [(0.20, 0.04, 0.10), (0.13, 0.04, 0.065)])
def test_slowdown_of_bloom_at_the_papers_savings(saving: float, low: float, high: float) -> None:
    level = (1 - saving) ** (1 / 0.93)
    assert BLOOM.prefill_watts(2048, level) == pytest.approx((1 - saving) * BLOOM.prefill_watts(2048))

    def seconds(x: float) -> float:
        return BLOOM.prefill_seconds(2048, x) + 128 * BLOOM.decode_seconds_per_token(1, x)

    assert low <= seconds(level) / seconds(1.0) - 1 <= high


@pytest.mark.parametrize("name", list(PROFILES))
@pytest.mark.parametrize("level", LEVELS)
def test_arrays_say_what_the_profile_says(name: str, level: float) -> None:
    profile = PROFILES[name]
    a = profile.arrays(40)
    assert all(
        v.dtype == np.float64 and v.flags.c_contiguous
        for v in (a.prefill_tokens, a.prefill_s, a.prefill_w, a.decode_s, a.decode_w)
    )
    c, k = a.decode_power_floor, a.decode_power_exponent
    a0, a1 = a.decode_time_fixed, a.decode_time_clocked
    for tokens in np.linspace(a.prefill_tokens[0], a.prefill_tokens[-1], 57):
        seconds = np.interp(tokens, a.prefill_tokens, a.prefill_s) / level
        watts = np.interp(tokens, a.prefill_tokens, a.prefill_w) * level**a.prefill_power_exponent
        assert profile.prefill_seconds(tokens, level) == pytest.approx(seconds, rel=1e-12)
        assert profile.prefill_watts(tokens, level) == pytest.approx(max(a.idle_w, watts), rel=1e-12)
    for batch in range(1, 41):
        seconds = a.decode_s[batch - 1] * (a0 + a1 / level) / (a0 + a1)
        watts = max(a.idle_w, a.decode_w[batch - 1] * (c + (1 - c) * level**k))
        assert profile.decode_seconds_per_token(batch, level) == pytest.approx(seconds, rel=1e-12)
        assert profile.decode_watts(batch, level) == pytest.approx(watts, rel=1e-12)
    for count in (39, 1):
        assert len(profile.arrays(count).decode_s) == count


@pytest.mark.parametrize("name", list(PROFILES))
def test_every_profile_is_sane_far_outside_its_range(name: str) -> None:
    profile = PROFILES[name]
    times = [profile.prefill_seconds(t) for t in (1, 16, 10_000, 100_000, 1_000_000)]
    assert all(t > 0 for t in times) and times[1:] == sorted(times[1:])
    assert profile.outside_range(1_000_000, 8) and profile.outside_range(512, 100_000)
    for level in (288 / 1410, *LEVELS):
        for watts in (profile.prefill_watts(128, level), profile.decode_watts(1, level)):
            assert profile.idle_w <= watts <= 1.2 * profile.tdp_w
    assert PowerProfile.from_json(profile.to_json()) == profile


def test_clocks_snap_down_to_steps() -> None:
    for mhz in range(210, 1411):
        expected = max(c for c in range(210, 1411, 15) if c <= mhz)
        assert BLOOM.clock_mhz(mhz / 1410) == expected
    assert [round(BLOOM.clock_mhz(f)) for f in (0.904, 0.787, 0.926)] == [1275, 1110, 1305]
    assert BLOOM.clock_mhz(0.01) == 210
    assert BLOOM.power_limit_w(1.0) == 400 and BLOOM.power_limit_w(1110 / 1410) == pytest.approx(320, abs=1)
    assert BLOOM.power_limit_w(0.01) == 100


def test_hungrier_work_leaves_idle_and_time() -> None:
    hungry = BLOOM.scaled_power(1.05)
    assert hungry.prefill_watts(2048) == pytest.approx(1.05 * BLOOM.prefill_watts(2048))
    assert hungry.decode_watts(4, 0.9) == pytest.approx(1.05 * BLOOM.decode_watts(4, 0.9))
    assert (hungry.idle_w, hungry.prefill_seconds(999)) == (BLOOM.idle_w, BLOOM.prefill_seconds(999))
    assert hungry.arrays(4).decode_w[0] == pytest.approx(1.05 * BLOOM.arrays(4).decode_w[0])


@pytest.mark.parametrize(
    "change",
    [
        {"tdp_w": -1},
        {"idle_w": 500},
        {"colour": 1},
        {"provenance": {}},
        {"prefill": {**BLOOM.prefill.model_dump(), "tokens": (5.0, 4.0)}},
        {"decode": {**BLOOM.decode.model_dump(), "watts": (math.nan,)}},
    ],
)
def test_a_broken_profile_is_refused(change: dict) -> None:
    broken = {**json.loads(BLOOM.to_json()), **change}
    with pytest.raises(InputError, match=r"mine\.json"):
        PowerProfile.from_json(json.dumps(broken), "mine.json")


@pytest.mark.parametrize("level", [0.0, -1.0, 1.01, math.nan])
def test_a_level_is_a_fraction(level: float) -> None:
    with pytest.raises(InputError, match="level"):
        BLOOM.decode_watts(1, level)
    with pytest.raises(InputError):
        BLOOM.prefill_seconds(0)
    with pytest.raises(InputError):
        BLOOM.scaled_power(0)
