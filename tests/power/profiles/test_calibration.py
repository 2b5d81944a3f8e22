"""Calibration against planted truth, refusals against forged files, shipped constants against their sources."""

import json
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from nonet.common.datasets import find_file
from nonet.common.errors import InputError
from nonet.power.bench.calibration import MLENERGY, SPLITWISE, calibration_findings
from nonet.power.profiles import PROFILES
from nonet.power.profiles.calibration.clock_table import ClockRow, fit_clock, read_clock_table
from nonet.power.profiles.calibration.from_files import held_out_errors
from nonet.power.profiles.calibration.mlenergy import fit_logistic
from nonet.power.profiles.calibration.publish import published_profiles, write_published
from nonet.power.profiles.calibration.splitwise import groups, profile_from_splitwise, read_splitwise
from nonet.power.profiles.calibration.surface import Cell, fit_prefill

HERE = find_file(SPLITWISE) is not None and find_file(MLENERGY) is not None
needs_data = pytest.mark.skipif(not HERE, reason="set NONET_MIRROR to a folder with the data of the room power")


def made(path: Path, *, falling: bool = False, copies: tuple[tuple[str, float], ...] = ()) -> Path:
    """A performance table from a known law, with noise, and forged copies of its first hardware."""
    rng = np.random.default_rng(7)
    rows = []
    for prompt, batch in [(p, 1) for p in (128, 256, 512, 1024, 2048)] + [(512, b) for b in (2, 4, 8)]:
        for _ in range(4):
            n = prompt * batch
            noise = rng.normal(1, 0.005, 2)
            average = 0.5 - (0.2 * prompt / 2048 if falling else 0.0)
            rows.append(
                {
                    "model": "m-7b",
                    "hardware": "a100-80gb",
                    "prompt_size": prompt,
                    "batch_size": batch,
                    "token_size": 512,
                    "peak_power": 0.6 + 0.4 * min(1, n / 2048),
                    "average_power": average,
                    "prompt_time": (20 + 0.2 * n) * noise[0],
                    "token_time": (30 + 0.5 * batch) * noise[1],
                    "e2e_time": 1.0,
                    "tensor_parallel": 1,
                }
            )
    frame = pl.DataFrame(rows)
    parts = [frame]
    for name, factor in copies:
        scaled = pl.col("prompt_time") * factor
        parts.append(frame.with_columns(pl.lit(name).alias("hardware"), scaled, pl.lit(0.0).alias("peak_power")))
    pl.concat(parts).write_csv(path)
    return path


def test_a_table_gives_back_the_law_behind_it(tmp_path: Path) -> None:
    measured = read_splitwise(made(tmp_path / "a.csv"))
    assert measured.refusals == ()
    profile = profile_from_splitwise(measured, groups(measured)[0], "made")
    for tokens in (128, 300, 1024, 4096):
        assert profile.prefill_seconds(tokens) == pytest.approx((20 + 0.2 * tokens) / 1e3, rel=0.02)
    assert profile.decode_seconds_per_token(6) == pytest.approx(0.033, rel=0.02)
    assert profile.decode_watts(1) == pytest.approx(200)
    assert profile.provenance["prefill_seconds"].held_out["rows"] < 0.01


@pytest.mark.parametrize("factor", [1.3, 1.0, 0.5])
def test_a_forged_copy_is_refused_whatever_its_name(tmp_path: Path, factor: float) -> None:
    measured = read_splitwise(made(tmp_path / "a.csv", copies=(("h100-quiet", factor),)))
    assert [r.what for r in measured.refusals] == ["hardware h100-quiet"]
    assert measured.refusals[0].num_rows == 32 and f"{factor:g}" in measured.refusals[0].reason
    assert set(measured.rows["hardware"]) == {"a100-80gb"}


def test_a_falling_average_and_zero_powers_are_told(tmp_path: Path) -> None:
    path = made(tmp_path / "a.csv", falling=True)
    frame = pl.read_csv(path).with_row_index()
    zeroed = pl.when(pl.col("index") < 3).then(0.0).otherwise(pl.col("peak_power")).alias("peak_power")
    frame.with_columns(zeroed).drop("index").write_csv(path)
    told = {r.what.split()[0]: r for r in read_splitwise(path).refusals}
    assert told["power"].num_rows == 3 and "falls" in told["average_power"].reason


@pytest.mark.parametrize(("column", "value"), [("prompt_time", -1.0), ("token_time", math.nan), ("batch_size", 0)])
def test_bad_cells_are_named(tmp_path: Path, column: str, value: float) -> None:
    path = made(tmp_path / "a.csv")
    frame = pl.read_csv(path)
    frame.with_columns(pl.Series(column, [value, *frame[column].to_list()[1:]], strict=False)).write_csv(path)
    with pytest.raises(InputError, match=column):
        read_splitwise(path)
    with pytest.raises(InputError, match="no column"):
        made_short = tmp_path / "b.csv"
        frame.drop(column).write_csv(made_short)
        read_splitwise(made_short)


def test_factors_over_batch_are_told_from_tokens() -> None:
    factor = {1: 1.0, 2: 1.1, 4: 1.25}
    cells = [Cell(p, b, p * b * 1e-3 * factor[b], 300.0) for p in (128, 256, 512, 1024) for b in factor]
    table = fit_prefill(cells)
    assert table.seconds_factor == pytest.approx(tuple(factor.values()), rel=1e-3)
    assert table.seconds == pytest.approx([t * 1e-3 for t in table.tokens], rel=1e-3)
    assert table.factors(math.sqrt(2))[0] == pytest.approx(1.05, rel=1e-3)
    with pytest.raises(InputError, match="two"):
        fit_prefill(cells[:1])


def test_the_curve_over_batch_is_found_again() -> None:
    batch = [8, 16, 32, 64, 128, 256, 512]
    truth = [430.7 + 207.6 / (1 + math.exp(-0.96 * (math.log2(b) - 6.9))) for b in batch]
    curve = fit_logistic(batch, truth)
    assert [curve.watts(b) for b in (12, 90, 400)] == pytest.approx(
        [430.7 + 207.6 / (1 + math.exp(-0.96 * (math.log2(b) - 6.9))) for b in (12, 90, 400)], rel=0.01
    )


def test_the_answer_to_the_clock_is_found_again() -> None:
    rows = [
        ClockRow(f, b, (200 + b) * (0.6 + 0.4 * (f / 1410) ** 3.5), (0.02 + b * 1e-4) * (0.8 + 0.2 * 1410 / f))
        for f in (810, 960, 1110, 1260, 1410)
        for b in (1, 4, 16)
    ]
    fit = fit_clock(rows, 1410)
    assert fit.response.decode_power_floor == pytest.approx(0.6, abs=1e-3)
    assert fit.response.decode_power_exponent == pytest.approx(3.5, abs=0.01)
    assert fit.response.decode_time(0.5) == pytest.approx(1.2, abs=1e-3)
    assert fit.response.min_level == pytest.approx(810 / 1410) and fit.power_rmse < 1e-3 and fit.time_rmse < 1e-3
    with pytest.raises(InputError, match="three clocks"):
        fit_clock(rows[:3], 1410)
    with pytest.raises(InputError, match="no row at"):
        fit_clock([r for r in rows if r.clock_mhz < 1410 or r.batch > 1], 1410)


def test_a_clock_sweep_is_read_from_csv(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text("sm_clock_mhz,batch_size,power_w,latency_ms\n1410,4,300,21.5\n")
    assert read_clock_table(path) == [ClockRow(1410.0, 4.0, 300.0, 21.5)]
    for text, match in (("batch\n1\n", "clock_mhz"), (path.read_text() + "a,4,1,1\n", "sm_clock_mhz")):
        path.write_text(text)
        with pytest.raises(InputError, match=match):
            read_clock_table(path)


@needs_data
def test_shipped_profiles_are_what_their_sources_give(tmp_path: Path) -> None:
    splitwise, mlenergy = find_file(SPLITWISE), find_file(MLENERGY)
    assert splitwise is not None and mlenergy is not None
    write_published(published_profiles(splitwise, mlenergy), tmp_path / "p.json")
    again = json.loads((tmp_path / "p.json").read_text())
    assert [p["name"] for p in again] == list(PROFILES)
    for new in again:
        old = PROFILES[new["name"]]
        assert new["prefill"]["seconds"] == pytest.approx(old.prefill.seconds, rel=1e-5)
        assert new["decode"]["watts"] == pytest.approx(old.decode.watts, rel=1e-3)


@needs_data
def test_the_derived_hardware_and_the_broken_runs_are_refused() -> None:
    path = find_file(SPLITWISE)
    assert path is not None
    told = [str(r) for r in read_splitwise(path).refusals]
    assert any("h100-80gb-pcap" in t and "exact multiple of h100-80gb " in t and "x 1.3" in t for t in told)
    assert sum("shorter than with fewer prompts" in t for t in told) == 2
    zero = int((pl.read_csv(path)["peak_power"] == 0).sum())
    assert zero == 1000


@needs_data
def test_calibration_keeps_its_promises() -> None:
    findings = calibration_findings()
    assert [f.name for f in findings if f.kept is False] == []
    assert {"power_model_h100_mape", "splitwise_time_mape", "splitwise_peak_mape"} <= {f.name for f in findings}


def test_one_call_calibrates_a_published_table_and_sums_up_its_errors() -> None:
    from nonet.power import calibrate_table

    found = calibrate_table("mlenergy/llm-configs")
    assert len(found.profiles) > 100 and len(found.refusals) == 2
    rows = {(row["gpu"], row["quantity"]): row for row in held_out_errors(found.profiles)}
    power = rows["h100", "decode_watts"]
    of_h100 = [
        one.provenance["decode_watts"].held_out["points"]
        for one in found.profiles
        if one.gpu == "h100" and one.provenance["decode_watts"].held_out
    ]
    assert power["num_profiles"] == len(of_h100) == 49
    assert power["median"] == pytest.approx(float(np.median(of_h100))) and power["median"] <= 0.03
    assert power["worst"] == max(of_h100)
