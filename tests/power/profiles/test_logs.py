"""Profiles from logs of a server that is played here, step by step, with known power and time."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from nonet.cli import app
from nonet.common.errors import InputError
from nonet.power.profiles.calibration.gpu_log import GpuLog, read_gpu_log
from nonet.power.profiles.calibration.latencies import estimate_latencies
from nonet.power.profiles.calibration.request_log import RequestLog, read_request_log
from nonet.power.profiles.calibration.server_log import profile_from_logs
from nonet.power.profiles.calibration.surface import Cell, fit_prefill

EPOCH_S = 1_700_000_000.0
STEP_S = 0.001


def prompt_s(tokens: float) -> float:
    return 0.05 + 2e-4 * tokens


def prompt_w(tokens: float) -> float:
    return 250 + 0.05 * min(tokens, 2048)


def played(seed: int = 3, num: int = 160) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Requests one after the other or overlapping; a prompt stops all decoding; a step of b takes 20 + b ms."""
    rng = np.random.default_rng(seed)
    arrive = np.cumsum(rng.choice([0.8, 2.5, 9.0], num))
    tokens = rng.choice([128, 256, 512, 1024, 2048], num)
    left = {}
    out = rng.integers(40, 200, num)
    first, end = np.zeros(num), np.zeros(num)
    queue, now, prompting, watts = [], 0.0, None, []
    came = 0
    while came < num or queue or left or prompting:
        while came < num and arrive[came] <= now:
            queue.append(came)
            came += 1
        if prompting is None and queue:
            prompting = (queue.pop(0), now)
        if prompting is not None:
            i, since = prompting
            watts.append((now, prompt_w(tokens[i])))
            if now + STEP_S - since >= prompt_s(tokens[i]):
                first[i], left[i], prompting = now + STEP_S, float(out[i] - 1), None
        elif left:
            watts.append((now, 180.0 + 4 * len(left)))
            for i in list(left):
                left[i] -= STEP_S / (0.020 + 0.001 * (len(left)))
            for i in [i for i, rest in left.items() if rest <= 0]:
                end[i] = now + STEP_S
                del left[i]
        else:
            watts.append((now, 82.0))
        now += STEP_S
    log = {"time": arrive + EPOCH_S, "prompt_tokens": tokens, "output_tokens": out}
    requests = pl.DataFrame({**log, "ttft_s": first - arrive, "e2e_s": end - arrive})
    power = pl.DataFrame(watts[::100], schema=["timestamp", "DCGM_FI_DEV_POWER_USAGE"], orient="row")
    return requests, power.with_columns(pl.col("timestamp") + EPOCH_S)


@pytest.fixture(scope="module")
def logs() -> tuple[pl.DataFrame, pl.DataFrame]:
    return played()


def test_a_played_server_is_recognised(tmp_path: Path, logs: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    requests, power = logs
    requests.write_csv(tmp_path / "r.csv")
    power.write_parquet(tmp_path / "p.parquet")
    log = read_request_log(tmp_path / "r.csv")
    profile = profile_from_logs(read_gpu_log(tmp_path / "p.parquet"), log, "a100", "m-7b")
    for tokens in (128, 512, 2048):
        assert profile.prefill_seconds(tokens) == pytest.approx(prompt_s(tokens), rel=0.06)
        assert profile.prefill_watts(tokens) == pytest.approx(prompt_w(tokens), rel=0.03)
    assert profile.decode_watts(1) == pytest.approx(184, rel=0.02)
    assert profile.decode_watts(2) == pytest.approx(188, rel=0.02)
    assert profile.decode_seconds_per_token(1) == pytest.approx(0.021, rel=0.05)
    assert profile.idle_w == pytest.approx(82)
    assert all(error < 0.06 for source in profile.provenance.values() for error in source.held_out.values())
    assert profile.provenance["decode_seconds"].held_out


def test_every_format_reads_the_same(tmp_path: Path) -> None:
    times, watts = [EPOCH_S, EPOCH_S + 0.5, EPOCH_S + 1.0], [[100.0, 300.0], [110.0, 310.0], [120.0, 320.0]]
    series = [
        {
            "metric": {"__name__": "DCGM_FI_DEV_POWER_USAGE", "gpu": str(g)},
            "values": [[t, str(w[g])] for t, w in zip(times, watts, strict=True)],
        }
        for g in (0, 1)
    ]
    (tmp_path / "a.json").write_text(json.dumps({"status": "success", "data": {"result": series}}))
    text = ["# TYPE DCGM_FI_DEV_POWER_USAGE gauge"]
    smi = ["timestamp, index, power.draw [W]"]
    for i, (t, pair) in enumerate(zip(times, watts, strict=True)):
        for g in (0, 1):
            text.append(f'DCGM_FI_DEV_POWER_USAGE{{gpu="{g}"}} {pair[g]} {int(t * 1000)}')
            smi.append(f"2023/11/14 22:13:{20 + i // 2}.{i % 2 * 500:03d}, {g}, {pair[g]} W")
    (tmp_path / "a.prom").write_text("\n".join([*text, ""]))
    (tmp_path / "a.csv").write_text("\n".join(smi))
    flat = [(int(t * 1000), str(g), w[g]) for t, w in zip(times, watts, strict=True) for g in (0, 1)]
    pl.DataFrame(flat, schema=["timestamp", "gpu", "DCGM_FI_DEV_POWER_USAGE"], orient="row").write_parquet(
        tmp_path / "a.parquet"
    )
    for name in ("a.json", "a.prom", "a.csv", "a.parquet"):
        log = read_gpu_log(tmp_path / name)
        assert log.time_s.tolist() == times, name
        assert log.watts.tolist() == [200.0, 210.0, 220.0], name
        assert log.num_gpus == 2


def test_bad_samples_are_counted_and_bad_files_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("t_s,power_w\n0,100\n1,[N/A]\n2,-5\n3,0\n4,120\n5,nan\n")
    log = read_gpu_log(path)
    assert log.watts.tolist() == [100, 120] and log.num_refused == 4
    for text, match in (
        ("t_s,colour\n0,1\n", "no power"),
        ("power_w\n1\n", "no time"),
        ("t_s,power_w\n0,1\n", "1 sam"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=match):
            read_gpu_log(path)
    (tmp_path / "a.json").write_text('{"data": 3}')
    for name, match in (("a.json", "range query"), ("none.csv", "no such file")):
        with pytest.raises(InputError, match=match):
            read_gpu_log(tmp_path / name)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, logs: tuple[pl.DataFrame, pl.DataFrame]) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("logs")
    requests, power = logs
    requests.write_csv(folder / "r.csv")
    power.write_csv(folder / "p.csv")
    return folder / "r.csv", folder / "p.csv"


@pytest.mark.parametrize("missing", [["ttft_s", "e2e_s"], ["ttft_s"], ["e2e_s"]])
def test_power_is_fitted_without_latencies_and_what_could_not_be_says_so(
    tmp_path: Path, files: tuple[Path, Path], missing: list[str]
) -> None:
    path = tmp_path / "r.csv"
    pl.read_csv(files[0]).drop(missing).write_csv(path)
    profile = profile_from_logs(read_gpu_log(files[1]), read_request_log(path), "a100", "m-7b")
    for tokens in (128, 512, 2048):
        assert profile.prefill_watts(tokens) == pytest.approx(prompt_w(tokens), rel=0.1)
    for batch in (1, 2, 3):
        assert profile.decode_watts(batch) == pytest.approx(180 + 4 * batch, rel=0.02)
    assert profile.idle_w == pytest.approx(82)
    known = profile.provenance
    assert known["decode_watts"].kind == "fitted" and known["decode_watts"].held_out["odd"] < 0.03
    assert known["decode_seconds"].kind == "borrowed" and "not fitted" in known["decode_seconds"].source
    assert (known["prefill_seconds"].kind == "borrowed") == ("ttft_s" in missing)
    if "e2e_s" in missing:
        assert profile.decode_seconds_per_token(1) == pytest.approx(0.021, rel=0.1)


def test_estimated_prompts_wait_for_one_another() -> None:
    at = np.arange(0.0, 60.0, 0.25)
    arrival = np.array([10.0, 10.0, 10.0, 40.0])
    log = RequestLog(arrival, np.full(4, 2048.0), np.full(4, 20.0), None, None)
    gpu = GpuLog(at, np.where((at >= 10) & (at < 14) | (at >= 40) & (at < 42), 350.0, 80.0), 1, 0)
    ttft_s, e2e_s, told = estimate_latencies(gpu, log, "a100", "llama2-70b", 8)
    assert ttft_s / ttft_s[3] == pytest.approx([1, 2, 3, 1])
    assert (e2e_s > ttft_s).all() and "a100-llama2-70b-tp8" in told


def test_calibrate_command_reads_a_log_of_times_and_tokens(tmp_path: Path, files: tuple[Path, Path]) -> None:
    path = tmp_path / "r.csv"
    frame = pl.read_csv(files[0]).select("time", "prompt_tokens", "output_tokens")
    zero = frame[:1].with_columns(output_tokens=pl.lit(0).cast(pl.Int64))
    pl.concat([frame, zero]).write_csv(path)
    command = ["power", "calibrate", "--gpu-log", str(files[1]), "--requests", str(path), "--gpu", "a100", "--json"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["refused"] == ["r.csv: requests with a cell that is no positive number: 1"]
    assert "not fitted" in told["profiles"][0]["provenance"]["prefill_seconds"]["source"]


def test_power_below_the_measured_prompts_is_flat() -> None:
    table = fit_prefill([Cell(128, 1, 0.02), Cell(512, 1, 0.05), Cell(2048, 1, 0.2, 350.0)])
    assert table.watts == pytest.approx((350.0, 350.0, 350.0))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (pl.col("w") / 1e3, "kW or mW"),
        (pl.col("w") * 1e3, "kW or mW"),
        (pl.lit(150.0), "stuck"),
    ],
)
def test_gpu_logs_that_cannot_be_are_refused(
    tmp_path: Path, logs: tuple[pl.DataFrame, pl.DataFrame], change: pl.Expr, told: str
) -> None:
    requests, power = logs
    names = {"DCGM_FI_DEV_POWER_USAGE": "w"}
    power.rename(names).with_columns(change.alias("w")).rename({"w": "power"}).write_csv(tmp_path / "p.csv")
    requests.write_csv(tmp_path / "r.csv")
    with pytest.raises(InputError, match=told):
        profile_from_logs(read_gpu_log(tmp_path / "p.csv"), read_request_log(tmp_path / "r.csv"), "a100", "m-7b")


def test_power_that_does_not_follow_the_requests_is_refused() -> None:
    at = np.arange(0.0, 100.0)
    one = np.array([1.0])
    log = RequestLog(0 * one, 512 * one, 100 * one, 2 * one, 40 * one)
    with pytest.raises(InputError, match="draw no more"):
        profile_from_logs(GpuLog(at, np.where(at < 50, 80.0, 300.0), 1, 0), log, "a100", "m-7b")


def test_logs_as_people_have_them_fit_the_same(tmp_path: Path, logs: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    requests, power = logs
    local = pl.from_epoch((pl.col("timestamp") * 1e6 + 7200e6).cast(pl.Int64), "us")
    spiked = pl.when(pl.int_range(pl.len()) == 700).then(10 * pl.col("w")).otherwise(pl.col("w"))
    frame = power.rename({"DCGM_FI_DEV_POWER_USAGE": "w"}).with_columns(
        local.dt.strftime("%Y-%m-%dT%H:%M:%S%.3f+02:00").alias("timestamp"), (spiked / 1e3).alias("board_power_kw")
    )
    frame.drop("w").write_csv(tmp_path / "p.csv")
    ms = {"ttft_ms": pl.col("ttft_s") * 1e3, "e2e_ms": pl.col("e2e_s") * 1e3}
    renamed = requests.with_columns(**ms).drop("ttft_s", "e2e_s").rename({"prompt_tokens": "input_length"})
    renamed.write_csv(tmp_path / "r.csv")
    log = read_gpu_log(tmp_path / "p.csv")
    assert log.num_refused == 1
    profile = profile_from_logs(log, read_request_log(tmp_path / "r.csv"), "a100", "m-7b")
    assert profile.prefill_seconds(512) == pytest.approx(prompt_s(512), rel=0.06)
    assert profile.decode_watts(1) == pytest.approx(184, rel=0.02)


def test_request_logs_without_tokens_or_overlap_are_refused(
    tmp_path: Path, logs: tuple[pl.DataFrame, pl.DataFrame]
) -> None:
    requests, power = logs
    path = tmp_path / "r.csv"
    requests.drop("output_tokens").write_csv(path)
    with pytest.raises(InputError, match="completion_tokens"):
        read_request_log(path)
    requests.with_columns(output_tokens=pl.lit(0)).write_csv(path)
    with pytest.raises(InputError, match="160 of 160 rows"):
        read_request_log(path)
    requests.with_columns(pl.col("time") + 7200).write_csv(path)
    power.write_csv(tmp_path / "p.csv")
    with pytest.raises(InputError, match=r"overlap in time: the requests begin \+2.00 h"):
        profile_from_logs(read_gpu_log(tmp_path / "p.csv"), read_request_log(path), "a100", "m-7b")
