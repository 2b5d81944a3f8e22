"""Laws of raw CSV columns against NumPy, bad files, and memory that does not grow."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from nonet.coldstart.analytics.raw import column_histograms
from nonet.common.errors import InputError

HEADER = "time_worker,podID,totalCost_worker,cpu_usage,requestBodySize\n"


def rows(num: int, seed: int = 1) -> tuple[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    costs = np.exp(rng.normal(-3, 2, num)).round(6)
    text = "".join(f"{i}.5,pool22-300-128-{i:09},{costs[i]:.6f},0.{i % 9}5,{i}\n" for i in range(num))
    return text, costs


@pytest.mark.parametrize("kind", ["csv", "gz", "parquet", "two"])
def test_quantiles_are_within_a_bin_of_the_true_ones(tmp_path: Path, kind: str) -> None:
    text, costs = rows(30_000)
    paths = [tmp_path / ("a.csv.gz" if kind == "gz" else f"a.{'csv' if kind == 'two' else kind}")]
    if kind == "gz":
        paths[0].write_bytes(gzip.compress((HEADER + text).encode()))
    elif kind == "parquet":
        pl.DataFrame({"totalCost_worker": costs, "x": costs}).write_parquet(paths[0])
    elif kind == "csv":
        paths[0].write_text(HEADER + text)
    else:
        paths.append(tmp_path / "b.csv")
        lines = text.splitlines(keepends=True)
        for path, part in zip(paths, (lines[:7], lines[7:]), strict=True):
            path.write_text(HEADER + "".join(part))
    found = column_histograms(paths, ["totalCost_worker"])["totalCost_worker"]
    assert found.num == 30_000 and found.num_missing == 0
    shares = np.array([0.001, 0.1, 0.5, 0.9, 0.999])
    exact = np.quantile(costs, shares, method="inverted_cdf")
    assert np.abs(found.curve().quantile(shares) / exact - 1).max() < 0.0117
    assert found.curve().at(found.curve().x[1::2]) == pytest.approx(
        [(costs <= x).mean() for x in found.curve().x[1::2]]
    )


def test_missing_and_zero_values_are_counted_apart(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,2\n,3\n0,4\n-1,5\r\nNaN,6\n")
    found = column_histograms([tmp_path / "a.csv"], ["a"])["a"]
    assert (found.num, found.num_not_positive, found.num_missing) == (3, 2, 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\n1,2\n", "has no column 'cost'; it has a, b"),
        (b"cost,b\nfast,2\n", r"a\.csv: "),
        (b"", r"a\.csv: "),
        (None, r"a\.csv: "),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(InputError, match=message):
        column_histograms([tmp_path / "a.csv"], ["cost"])


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    block = rows(100_000)[0]
    code = (
        "import re, sys, json\nfrom nonet.coldstart.analytics.raw import column_histograms\n"
        "found = column_histograms(sys.argv[1:], ['totalCost_worker'])['totalCost_worker']\n"
        "peak = re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())\n"
        "print(json.dumps([found.num, int(peak.group(1)) / 1024]))"
    )
    peaks = {}
    for copies in (48, 96):
        path = tmp_path / f"{copies}.csv"
        path.write_text(HEADER + block * copies)
        done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
        num, peaks[copies] = json.loads(done.stdout)
        assert num == copies * 100_000
    assert peaks[96] - peaks[48] < 100  # MiB; the larger file is 210 MB longer
