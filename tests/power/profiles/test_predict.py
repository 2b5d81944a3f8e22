"""Predictions at points: names of columns, choice of profile, flags."""

import math
from pathlib import Path

import polars as pl
import pytest

from nonet.common.errors import InputError
from nonet.power.profiles import PROFILES
from nonet.power.profiles.predict import predict

ALL = [PROFILES[name] for name in PROFILES]


def test_points_choose_their_profile_and_are_flagged(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_text(
        "hardware,model,tensor_parallel,prompt_size,batch_size,clock\n"
        "a100-80gb,bloom-176b,8,512,2,1110\n"
        "NVIDIA H100 80GB,meta-llama/Llama-3.1-8B-Instruct,1,,64,\n"
        "a100-80gb,llama2-70b,4,90000,1,\n"
        "a100-80gb,other-13b,1,512,1,\n"
        "a100-80gb,bloom-176b,8,512,1,900\n"
    )
    out = predict(ALL, path)
    assert out["profile"].to_list()[:3] == ["a100-bloom-176b-tp8", "h100-llama3.1-8b-tp1", "a100-llama2-70b-tp4"]
    assert out["extrapolated"].to_list() == [False, False, True, True, True]
    assert out["reasons"][2].startswith("90000 prompt tokens outside")
    assert "other-13b was not calibrated" in out["reasons"][3] and "level" in out["reasons"][4]
    x = 1110 / 1410
    assert out["prefill_s"][0] == pytest.approx(0.2868 / x, rel=0.01)
    assert out["prefill_w"][0] == pytest.approx(1.006 * 400 * x**0.93, rel=0.01)
    assert out["decode_w"][1] == pytest.approx(610, rel=0.03) and math.isnan(out["prefill_s"][1])


def test_a_point_gets_the_profile_of_its_own_model_and_gpu() -> None:
    points = pl.DataFrame(
        {
            "hardware": ["h100-80gb", "B200", "a100-80gb", "H100", "h100"],
            "model": ["llama2-70b", "Qwen/Qwen3-14B", "bloom", "google/gemma-3-27b-it", "bloom-176b"],
            "tp": [8, 1, 8, 2, 8],
            "batch": [1, 8, 1, 32, 1],
        }
    )
    assert predict(ALL, points)["profile"].to_list() == [
        "h100-llama2-70b-tp8",
        "b200-qwen3-14b-tp1",
        "a100-bloom-176b-tp8",
        "h100-gemma3-27b-tp2",
        "h100-bloom-176b-tp8",
    ]


def test_what_is_borrowed_is_an_extrapolation() -> None:
    out = predict(PROFILES["h100-llama3.1-70b-tp4"], pl.DataFrame({"prompt": [512], "batch": [16]}))
    assert out["extrapolated"][0] and "prefill_watts borrowed" in out["reasons"][0]


@pytest.mark.parametrize(
    ("points", "match"),
    [
        ({"colour": [1]}, "neither"),
        ({"hardware": ["mi300"], "batch": [1]}, "no known GPU"),
        ({"hardware": ["a100"], "batch": [0]}, "batch"),
        ({"batch": [1]}, "hardware"),
        ({"hardware": ["a100"], "batch": [1], "clock": [2000]}, "level"),
    ],
)
def test_bad_points_are_named(points: dict, match: str) -> None:
    with pytest.raises(InputError, match=match):
        predict(ALL, pl.DataFrame(points))
