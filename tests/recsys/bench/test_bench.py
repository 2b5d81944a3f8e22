"""The bench: what each finding is called, what it promises, and what it does where a rival or a data set lacks."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nonet.common.errors import GateFailedError, InputError
from nonet.recsys import bench
from nonet.recsys.bench import learning, tables
from nonet.recsys.freshness.drift import Drift

TARGETS = {
    "upsert_vs_tfra": 4.0,
    "lookup_uniform_vs_tfra": 3.0,
    "lookup_zipf_vs_tfra": 3.0,
    "lookup_vs_torchrec_mch": 10.0,
    "lookup_vs_index_select": 0.5,
}


def stand_in(path: Path, times: dict[str, float]) -> Path:
    """An interpreter that tells these times, whatever it is to run."""
    path.write_text(f"#!/bin/sh\necho '{json.dumps(times)}'\n")
    path.chmod(0o755)
    return path


def test_an_experiment_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="no experiment 'sped'; there are speed, "):
        bench.bench("quick", ["sped"])


def test_rivals_that_lack_are_left_out_and_ours_is_still_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for variable in ("RECSYS_TFRA_PYTHON", "RECSYS_TORCHREC_PYTHON"):
        monkeypatch.setenv(variable, str(tmp_path / "none"))
    found = tables.speed_findings(tables.Workload(num_keys=2000, num_lookups=2000, batch=1000), rounds=1)
    ratio, upsert, uniform, zipf = found
    assert ratio.name == "lookup_vs_index_select" and "2,000 keys" in ratio.input
    assert ratio.value == pytest.approx(uniform.value / uniform.rivals[0].value)
    assert [one.rivals for one in (upsert, zipf)] == [(), ()] and min(upsert.value, zipf.value) > 0
    said = capsys.readouterr().err
    assert "no interpreter with tfra" in said and "no interpreter with torchrec" in said


def test_ratios_are_rates_of_ours_over_theirs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    steps = [f"upsert_{kind}_s" for kind in ("growing", "presized", "cold")]
    steps += [f"lookup_{kind}{how}_s" for kind in ("uniform", "zipf") for how in ("", "_fresh")]
    theirs = {**dict.fromkeys(steps, 8.0), "lookup_faults": 3}
    monkeypatch.setenv("RECSYS_TFRA_PYTHON", str(stand_in(tmp_path / "tfra", theirs)))
    monkeypatch.setenv("RECSYS_TORCHREC_PYTHON", str(stand_in(tmp_path / "mch", {"lookup_uniform_s": 30.0})))
    own = {**dict.fromkeys(steps, 2.0), "index_select_s": 1.0, "index_select_fresh_s": 1.0}
    ours = stand_in(tmp_path / "ours", own)
    monkeypatch.setattr(sys, "executable", str(ours))
    found = {one.name: one for one in tables.speed_findings(tables.Workload(num_keys=1000, num_lookups=1000), rounds=3)}
    assert {name: one.promise for name, one in found.items() if one.promise} == TARGETS
    assert [found[name].value for name in TARGETS] == pytest.approx([4, 4, 4, 15, 0.5])
    assert found["upsert_keys_per_s"].value == pytest.approx(500)
    assert found["upsert_keys_per_s"].rivals[0].value == pytest.approx(1000 / 8)
    assert [rival.value for rival in found["lookup_uniform_keys_per_s"].rivals] == pytest.approx([125, 1000 / 30, 1000])


def test_a_rival_that_fails_is_an_error_and_no_gap(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho 'no such op' >&2\nexit 3\n")
    broken.chmod(0o755)
    with pytest.raises(GateFailedError, match=r"tfra_rival.py ended with 3: no such op"):
        tables.times_of(broken, "tfra_rival.py", tmp_path)


def test_the_workload_is_what_it_says(tmp_path: Path) -> None:
    work = tables.Workload(num_keys=5000, num_lookups=20_000, zipf=1.2)
    work.write(tmp_path)
    new, zipf, uniform = (np.load(tmp_path / f"{name}.npy") for name in ("new", "zipf", "uniform"))
    assert len(set(new.tolist())) == 5000 and np.isin(uniform, new).all() and np.isin(zipf, new).all()
    shares = np.sort(np.unique(zipf, return_counts=True)[1])[::-1] / 20_000
    assert shares[0] == pytest.approx(1 / (1.0 / np.arange(1, 5001) ** 1.2).sum(), rel=0.05)
    assert np.unique(uniform, return_counts=True)[1].max() < 25


def test_without_published_data_a_generated_log_stands_in_and_promises_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(learning, "locate", lambda dataset: {})
    monkeypatch.setattr("nonet.recsys.freshness.drift.Drift", lambda rows: Drift(rows=3000, users=100, items=50))
    found = learning.online_findings(seeds=(0,)) + learning.collision_findings(seeds=(0,))
    assert [one.name for one in found[:3]] == [f"online_minus_frozen_auc_drift_{n}" for n in (10, 50, 100)]
    assert all(one.promise is None and "synthetic drift" in one.input for one in found)
    assert "movielens/100k is not at hand" in capsys.readouterr().err


def test_memory_grows_with_keys_and_not_with_rounds() -> None:
    ratio, growth = tables.memory_findings(50_000, rounds=2)
    assert ratio.name == "bytes_per_key_ratio" and 0.8 < ratio.value < 3 and "140 bytes" in ratio.note
    assert growth.name == "rss_growth_after_expiry" and growth.value < 0.5


def test_the_verb_measures_and_writes_the_findings(tmp_path: Path) -> None:
    out = tmp_path / "findings.jsonl"
    argv = [sys.executable, "-m", "nonet", "recsys", "bench", "--only", "optimizers", "--json", str(out)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(text) for text in out.read_text().splitlines()]
    assert [line["name"] for line in lines] == ["optimizer_error_max", "restore_bitwise"]
    assert 0 < lines[0]["value"] <= 1e-4 and lines[1]["value"] == 1
