"""Predictions at points: names of columns, choice of profile, flags."""

import math
from pathlib import Path

import polars as pl
import pytest

from nonet.common.datasets import DataFile, find_file
from nonet.common.errors import InputError
from nonet.power.profiles import PROFILES
from nonet.power.profiles.calibration.from_files import calibrate_table
from nonet.power.profiles.calibration.mlenergy import CONFIG
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


def test_points_of_the_benchmark_choose_the_configuration_that_they_are_of(tmp_path: Path) -> None:
    # Every second batch of two tasks on H100: what is fitted on the others must know them, task by task.
    table = find_file(DataFile("mlenergy", "power/mlenergy_v3_llm_configs.csv"))
    assert table is not None
    rows = pl.read_csv(table, infer_schema_length=None).filter(
        (pl.col("gpu_model") == "H100") & pl.col("task").is_in(["lm-arena-chat", "gpqa"])
    )
    rows = rows.sort(*CONFIG, "avg_batch_size").with_columns(
        at=pl.int_range(pl.len()).over(CONFIG), num=pl.len().over(CONFIG)
    )
    odd = (pl.col("at") % 2 == 1) & (pl.col("at") < pl.col("num") - 1) & (pl.col("num") > 4)
    rows.filter(~odd).write_csv(tmp_path / "train.csv")
    rows.filter(odd).write_csv(tmp_path / "points.csv")
    out = predict(calibrate_table(tmp_path / "train.csv").profiles, tmp_path / "points.csv")
    errors = (out["decode_w"] / (out["avg_power_watts"] / out["num_gpus"]) - 1).abs()
    assert len(errors) > 30 and float(errors.to_numpy().mean()) < 0.03
    assert not any("was not calibrated" in why for why in out["reasons"])


def test_another_task_or_precision_is_flagged() -> None:
    point = {"gpu_model": ["H100"], "model_id": ["meta-llama/Llama-3.1-70B-Instruct"], "num_gpus": [4], "batch": [32]}
    same, other = (
        predict(
            ALL, pl.DataFrame({**point, "tensor_parallel": [4], "task": ["lm-arena-chat"], "weight_precision": [how]})
        )
        for how in ("bfloat16", "fp8")
    )
    assert "was not calibrated" not in same["reasons"][0]
    assert "weight_precision fp8 was not calibrated, bfloat16 was" in other["reasons"][0]
    assert predict(ALL, pl.DataFrame({"gpu": ["a100"], "model": ["bigscience/bloom"], "prompt": [512]}))["profile"][
        0
    ] == ("a100-bloom-176b-tp8")
