"""Scale: time and memory as the input grows, each size in a process of its own so that its peak memory is its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nonet.common.findings import Finding
from nonet.common.machine import peak_rss_mib
from nonet.logs.bench import inputs

if TYPE_CHECKING:
    from nonet.logs.bench import Scale

ROOM = "logs"


def _measured(experiment: str, *arguments: object) -> dict[str, Any]:
    """Run one of the functions below in a new process; its result and `peak_rss_mib`."""
    code = (
        "import json, sys; from nonet.common.machine import peak_rss_mib; from nonet.logs.bench import scale\n"
        "result = getattr(scale, sys.argv[1])(*sys.argv[2:])\n"
        "result['peak_rss_mib'] = peak_rss_mib()\n"
        "print(json.dumps(result))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, experiment, *map(str, arguments)], check=True, stdout=subprocess.PIPE, text=True
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def parse_timed(log: str) -> dict[str, Any]:
    """Seconds from a raw file to Parquet, kernels warm."""
    import time

    from nonet.logs.parse import parse_file

    with tempfile.TemporaryDirectory() as folder:
        warm = Path(folder) / "warm.log"
        with Path(log).open("rb") as file:
            warm.write_bytes(b"".join(file.readline() for _ in range(200)))
        parse_file(warm, out=Path(folder) / "warm")
        started = time.perf_counter()
        report = parse_file(log, out=Path(folder) / "out")
        return {"seconds": time.perf_counter() - started, "num_lines": report.num_lines}


def cost_grows_linearly(scale: Scale) -> list[Finding]:
    """Raw file to Parquet at 1x and 10x."""
    base = 100_000 if scale == "quick" else 500_000
    results = []
    for times in (1, 10):
        with inputs.twin_log(base * times) as log:
            results.append(_measured("parse_timed", log))
    small, large = results
    described = f"synthetic twin with headers, {base:,} and {10 * base:,} lines"
    rate = large["num_lines"] / large["seconds"]
    return [
        Finding(
            ROOM,
            "raw_to_parquet_lines_per_s",
            rate,
            "lines/s",
            "higher",
            described,
            note="the ambition is 1,000,000 on two cores",
        ),
        Finding(
            ROOM,
            "cost_of_10x",
            large["seconds"] / small["seconds"],
            "x",
            "lower",
            described,
            (),
            12.0,
            f"{small['seconds']:.2f} s and {large['seconds']:.2f} s; linear is 10",
        ),
        Finding(ROOM, "raw_to_parquet_peak_rss_gib", large["peak_rss_mib"] / 1024, "GiB", "lower", described, (), 1.0),
    ]


def learn_random_tokens(max_clusters: str, *sizes: str) -> dict[str, Any]:
    """Peak memory after each size, and the speed beside ordinary lines."""
    import time

    import numpy as np

    from nonet.logs.mining.miner import Miner

    letters = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz", np.uint8)
    rng = np.random.Generator(np.random.Philox(7))
    miner = Miner(max_clusters=int(max_clusters))
    peaks, learned, spent = [], 0, 0.0
    for size in map(int, sizes):
        while learned < size:
            block = letters[rng.integers(0, 26, (20_000, 48))]
            block[:, 7::8], block[:, -1] = ord(" "), ord("\n")
            starts = np.arange(len(block), dtype=np.int64) * block.shape[1]
            lines = miner.spans(block.ravel(), starts, starts + block.shape[1] - 1)
            started = time.perf_counter()
            miner.learn(lines)
            spent += time.perf_counter() - started
            learned += len(block)
        peaks.append(peak_rss_mib())
    started = time.perf_counter()
    num_templates = len(miner.templates())
    return {
        "peaks": peaks,
        "lines_per_s": learned / spent,
        "num_templates": num_templates,
        "settle_s": time.perf_counter() - started,
        "accounted": sum(t.count for t in miner.templates()) + miner.num_evicted_lines == learned,
    }


def hostile_memory(scale: Scale) -> list[Finding]:
    """Lines of random tokens into a miner of 10,000 clusters: memory must stay where it is."""
    sizes = (100_000, 200_000, 500_000) if scale == "quick" else (1_000_000, 2_000_000, 5_000_000)
    result = _measured("learn_random_tokens", 10_000, *sizes)
    first, *_, last = result["peaks"]
    described = f"synthetic: {sizes[-1]:,} lines of six random words, max_clusters=10,000"
    text = ", ".join(f"{n:,} lines {peak:.0f} MiB" for n, peak in zip(sizes, result["peaks"], strict=True))
    return [
        Finding(ROOM, "hostile_rss_growth", last / first, "x", "lower", described, (), 1.1, text),
        Finding(
            ROOM,
            "hostile_lines_per_s",
            result["lines_per_s"],
            "lines/s",
            "higher",
            described,
            note="learning, one thread",
        ),
        Finding(ROOM, "hostile_lines_accounted", float(result["accounted"]), "", "match", described, (), 1.0),
    ]


def evaluate_pair(folder: str, num_lines: str, num_templates: str) -> dict[str, Any]:
    """Seconds of all metrics and slices over a pair of Parquet files."""
    import time

    from nonet.logs.evaluation.scorecard import evaluate_files

    started = time.perf_counter()
    evaluate_files(Path(folder) / "predicted.parquet", Path(folder) / "truth.parquet")
    return {"seconds": time.perf_counter() - started}


def write_pair(folder: Path, num_lines: int, num_templates: int) -> None:
    """Two Parquet files: 500 true templates of skewed frequency; `num_templates` predicted ones refine them."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.Generator(np.random.Philox(11))
    true_names = pa.array([f"event {k} of service <*> took <*> ms" for k in range(500)])
    names = pa.array([f"event {k % 500} of service <*> took <*> ms part {k}" for k in range(num_templates)])
    schema = pa.schema([("EventTemplate", pa.string())])
    with (
        pq.ParquetWriter(folder / "truth.parquet", schema) as truth,
        pq.ParquetWriter(folder / "predicted.parquet", schema) as predicted,
    ):
        for begin in range(0, num_lines, 1_000_000):
            size = min(1_000_000, num_lines - begin)
            event = np.minimum(rng.zipf(1.4, size) - 1, 499)
            part = event + 500 * rng.integers(0, num_templates // 500, size)
            truth.write_table(pa.table([true_names.take(pa.array(event))], schema))
            predicted.write_table(pa.table([names.take(pa.array(part))], schema))


def evaluate_many_lines(scale: Scale) -> list[Finding]:
    """All metrics and slices over a labelled pair of files."""
    millions = 1 if scale == "quick" else 10
    with tempfile.TemporaryDirectory() as folder:
        write_pair(Path(folder), millions * 1_000_000, 30_000)
        result = _measured("evaluate_pair", folder, millions * 1_000_000, 30_000)
    described = f"synthetic pair of Parquet files, {millions} million lines, 30,000 predicted templates"
    name = f"evaluate_{millions}m"
    return [
        Finding(ROOM, f"{name}_seconds", result["seconds"], "s", "lower", described, (), 60.0),
        Finding(ROOM, f"{name}_rss_gib", result["peak_rss_mib"] / 1024, "GiB", "lower", described, (), 2.0),
    ]
