"""The table beside TFRA, TorchRec's MCH and a plain `index_select`: the same keys, by turns, each in its own process.

TFRA needs TensorFlow and TorchRec another build of torch, so each lives in an environment of its own, made by `make
bench`; `RECSYS_TFRA_PYTHON` and `RECSYS_TORCHREC_PYTHON` name other interpreters.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import GateFailedError, MissingExtraError
from nonet.common.findings import Finding, Rival
from nonet.recsys.table.embedding_table import EmbeddingTable
from nonet.recsys.table.optimizers import SGD

_HERE = Path(__file__).parent
_TIMEOUT_S = 600
_TFRA, _MCH = "TFRA 0.8.1, CPU", "TorchRec MCH, CPU remap and index_select"
_RIVALS = {"tfra": "RECSYS_TFRA_PYTHON", "torchrec": "RECSYS_TORCHREC_PYTHON"}


@dataclass(frozen=True, slots=True)
class Workload:
    """Keys to insert and to look up.

    Args:
        num_keys: in the table.
        num_lookups: of each kind.
        dim: floats a row.
        batch: keys a call.
        zipf: exponent of the skewed lookups.
        seed: of all.
    """

    num_keys: int = 1_000_000
    num_lookups: int = 1_000_000
    dim: int = 16
    batch: int = 1_000_000
    zipf: float = 1.2
    seed: int = 0

    def write(self, folder: Path) -> None:
        """Put the arrays into a folder, for processes to read."""
        rng = np.random.default_rng(self.seed)
        bounds = np.iinfo(np.int64)
        new = rng.integers(bounds.min, bounds.max, self.num_keys)
        odds = np.cumsum(1.0 / np.arange(1, self.num_keys + 1) ** self.zipf)
        arrays: dict[str, NDArray[Any]] = {
            "new": new,
            "uniform": new[rng.integers(0, self.num_keys, self.num_lookups)],
            "zipf": new[np.searchsorted(odds / odds[-1], rng.random(self.num_lookups))],
            "rows": rng.standard_normal((self.num_keys, self.dim), np.float32),
        }
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", array, allow_pickle=False)
        (folder / "sizes.json").write_text(json.dumps({"batch": self.batch}))

    def __str__(self) -> str:
        return f"synthetic: {self.num_keys:,} keys of 64 bits, dim {self.dim}, batches of {self.batch:,}"


def interpreter_of(rival: str) -> Path:
    """The interpreter that has a rival.

    Raises:
        MissingExtraError: there is none; says how to make it.
    """
    named = os.environ.get(_RIVALS[rival])
    found = Path(named) if named else Path(sys.prefix) / "rivals" / rival / "bin" / "python"
    if not found.exists():
        raise MissingExtraError(f"no interpreter with {rival} at {found}; `make bench` installs it")
    return found


def times_of(python: Path, script: str, folder: Path) -> dict[str, float]:
    """Run a timed script over a workload's folder in a process of its own.

    Raises:
        GateFailedError: it failed; gives the end of what it said.
    """
    done = subprocess.run(
        [str(python), str(_HERE / script), str(folder)], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        raise GateFailedError(f"{script} ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return {name: float(value) for name, value in json.loads(lines[-1]).items()}


def speed_findings(workload: Workload, *, rounds: int = 5) -> list[Finding]:
    """Inserting and looking up beside TFRA, TorchRec's MCH and `index_select`, findings `*_vs_*`.

    A rival that is not installed is said on stderr and leaves its findings out.

    Args:
        workload: keys.
        rounds: by turns, each contestant in a fresh process; medians count.
    """
    from nonet.common.console import note, track

    contestants: dict[str, tuple[Path, str]] = {"ours": (Path(sys.executable), "our_table.py")}
    for rival, script in (("tfra", "tfra_rival.py"), ("torchrec", "mch_rival.py")):
        try:
            contestants[rival] = interpreter_of(rival), script
        except MissingExtraError as error:
            note(f"bench: {error}")
    times: dict[str, list[dict[str, float]]] = {name: [] for name in contestants}
    with tempfile.TemporaryDirectory(prefix="nonet-recsys-") as place:
        workload.write(Path(place))
        for _ in track(range(rounds), "tables by turns"):
            for name, (python, script) in contestants.items():
                times[name].append(times_of(python, script, Path(place)))

    def median_s(name: str, step: str) -> float:
        return statistics.median(one[step] for one in times[name])

    return _compared(workload, contestants, median_s, rounds)


def _compared(
    workload: Workload, contestants: Mapping[str, object], median_s: Callable[[str, str], float], rounds: int
) -> list[Finding]:
    source = f"{workload}; medians of {rounds} interleaved runs"
    findings: list[Finding] = []
    beside: dict[str, list[Rival]] = {"upsert": [], "lookup_uniform": [], "lookup_zipf": []}
    sizes = {step: workload.num_keys if step == "upsert" else workload.num_lookups for step in beside}
    timed = {"upsert": "upsert_growing_s", "lookup_uniform": "lookup_uniform_s", "lookup_zipf": "lookup_zipf_s"}

    def ratio(name: str, step: str, rival: str, its_step: str, label: str, promise: float, more: str) -> None:
        ours, theirs = sizes[step] / median_s("ours", timed[step]), sizes[step] / median_s(rival, its_step)
        note = f"{ours / 1e6:.2f} M/s here, {theirs / 1e6:.2f} M/s there; {more}"
        beside[step].append(Rival(label, theirs, "measured"))
        findings.append(Finding("recsys", name, ours / theirs, "x", "higher", source, (), promise, note))

    def fresh(step: str, rival: str, its_step: str) -> str:
        times = median_s(rival, its_step) / median_s("ours", step.replace("_s", "_fresh_s"))
        return f"{times:.2f}x with an output allocated every time"

    if "tfra" in contestants:
        told, cold = (
            median_s("tfra", f"upsert_{kind}_s") / median_s("ours", f"upsert_{kind}_s") for kind in ("presized", "cold")
        )
        more = f"told the number of keys beforehand: {told:.2f}x; in a process that has just begun: {cold:.2f}x"
        ratio("upsert_vs_tfra", "upsert", "tfra", "upsert_growing_s", _TFRA, 4.0, more)
        faults = median_s("tfra", "lookup_faults")
        for step in ("lookup_uniform", "lookup_zipf"):
            its = timed[step]
            more = f"into memory that is used again ({faults:.0f} page faults there); {fresh(its, 'tfra', its)}"
            ratio(f"{step}_vs_tfra", step, "tfra", its, _TFRA, 3.0, more)
    if "torchrec" in contestants:
        its, more = "lookup_uniform_s", "both into memory that is used again"
        ratio("lookup_vs_torchrec_mch", "lookup_uniform", "torchrec", its, _MCH, 10.0, more)
    more = f"both into memory that is used again; {fresh('lookup_uniform_s', 'ours', 'index_select_fresh_s')}"
    label = "torch.index_select, rows known"
    ratio("lookup_vs_index_select", "lookup_uniform", "ours", "index_select_s", label, 0.5, more)
    for step, rivals in beside.items():
        rate = sizes[step] / median_s("ours", timed[step])
        findings.append(Finding("recsys", f"{step}_keys_per_s", rate, "keys/s", "higher", source, tuple(rivals)))
    return findings


def memory_findings(num_keys: int, *, rounds: int = 5, dim: int = 16) -> list[Finding]:
    """`bytes_per_key_ratio` and `rss_growth_after_expiry`.

    Args:
        num_keys: in the table.
        rounds: of expiring 90 % and refilling with new keys.
        dim: floats a row; Adagrad's state has as many.
    """
    script = (
        "import sys; from nonet.recsys.bench.tables import memory_rounds; import json; "
        "print(json.dumps(memory_rounds(*map(int, sys.argv[1:]))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(num_keys), str(rounds), str(dim)],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise GateFailedError(f"the memory rounds failed: {done.stderr.strip()[-500:]}")
    told = json.loads(done.stdout.strip().splitlines()[-1])
    allowed = 12 + 4 * 2 * dim
    rss = told["rss_bytes"]
    source = f"synthetic: {num_keys:,} keys, dim {dim}, Adagrad"
    return [
        Finding(
            "recsys",
            "bytes_per_key_ratio",
            max(told["num_bytes"] / num_keys, (rss[0] - told["base_bytes"]) / num_keys) / allowed,
            "x",
            "lower",
            source,
            promise=1.35,
            note=f"of {allowed} bytes; the table says {told['num_bytes'] / num_keys:.0f}, "
            f"the process grew by {(rss[0] - told['base_bytes']) / num_keys:.0f}",
        ),
        Finding(
            "recsys",
            "rss_growth_after_expiry",
            max(rss) / rss[0] - 1,
            "",
            "lower",
            f"{source}; {rounds} rounds",
            promise=0.1,
            note=", ".join(f"{one / 2**20:.0f}" for one in rss) + " MiB after each refill",
        ),
    ]


def memory_rounds(num_keys: int, rounds: int, dim: int) -> dict[str, object]:
    """Resident memory of this process after filling a table, and after each round of expiring 90 % and refilling."""
    from nonet.recsys.table.expiry import TimeToLive
    from nonet.recsys.table.optimizers import Adagrad

    rng = np.random.default_rng(0)
    bounds = np.iinfo(np.int64)
    batch = 1 << 16

    def keys() -> np.ndarray:
        return rng.integers(bounds.min, bounds.max, num_keys)

    def fill(table: EmbeddingTable, some: np.ndarray, now_s: int) -> None:
        rows = np.ones((batch, dim), np.float32)
        for first in range(0, len(some), batch):
            part = some[first : first + batch]
            table.upsert(part, rows[: len(part)], now_s=now_s)

    warm = EmbeddingTable(dim, optimizer=Adagrad(), expiry=TimeToLive(1000))
    fill(warm, keys()[:batch], 1)  # what is compiled or allocated once does not count
    warm.expire(5000)
    del warm
    base = _rss_bytes()
    table = EmbeddingTable(dim, optimizer=Adagrad(), expiry=TimeToLive(1000), track_touched=False)
    kept = keys()
    fill(table, kept, 10_000)
    rss, num_bytes = [_rss_bytes()], table.num_bytes
    for number in range(1, rounds + 1):
        now_s = 10_000 + number * 2000
        stays = kept[: num_keys // 10]
        fill(table, stays, now_s)
        table.expire(now_s)
        fresh = keys()[: num_keys - len(stays)]
        fill(table, fresh, now_s)
        kept = np.concatenate([fresh, stays])
        if len(table) != num_keys:
            raise GateFailedError(f"{len(table):,} keys after a refill, {num_keys:,} are due")
        rss.append(_rss_bytes())
    return {"base_bytes": base, "num_bytes": num_bytes, "rss_bytes": rss}


def time_ours(folder: Path) -> dict[str, float]:
    """Seconds of inserting, growing and with the room made beforehand, of looking up, and of torch's `index_select`.

    Lookups and `index_select` write into memory that is there already, as TensorFlow's do, which keeps what it has
    freed; `*_fresh_s` are those that allocate their output every time.
    """
    import torch

    batch = json.loads((folder / "sizes.json").read_text())["batch"]
    arrays = {name: np.load(folder / f"{name}.npy", allow_pickle=False) for name in ("new", "uniform", "zipf", "rows")}
    num_keys, dim = arrays["rows"].shape
    _warm_up(dim)

    def filled(capacity: int) -> tuple[EmbeddingTable, float]:
        table = EmbeddingTable(dim, optimizer=SGD(), capacity=capacity)
        began = time.perf_counter()
        for first in range(0, num_keys, batch):
            part = slice(first, first + batch)
            table.upsert(arrays["new"][part], arrays["rows"][part])
        return table, time.perf_counter() - began

    # The first is of a process that has just begun; the others find memory that was used before.
    told = {"upsert_cold_s": filled(0)[1], "upsert_growing_s": filled(0)[1]}
    table, told["upsert_presized_s"] = filled(num_keys)
    out = np.zeros((batch, dim), np.float32)
    for name in ("uniform", "zipf"):
        parts = [arrays[name][first : first + batch] for first in range(0, len(arrays[name]), batch)]
        told[f"lookup_{name}_s"] = _seconds(lambda part: table.lookup(part, out[: len(part)]), parts)
        told[f"lookup_{name}_fresh_s"] = _seconds(table.lookup, parts)
    if not np.array_equal(table.lookup(arrays["new"]), arrays["rows"]):
        raise GateFailedError("the table gave other rows than were put in")
    rows, into = torch.from_numpy(arrays["rows"]), torch.from_numpy(out)
    order = np.argsort(arrays["new"])
    known = torch.from_numpy(order[np.searchsorted(arrays["new"][order], arrays["uniform"])])
    pieces = known.split(batch)
    told["index_select_s"] = _seconds(lambda piece: torch.index_select(rows, 0, piece, out=into[: len(piece)]), pieces)
    told["index_select_fresh_s"] = _seconds(lambda piece: rows.index_select(0, piece), pieces)
    return told


def _seconds(call: Callable[[Any], object], parts: Sequence[Any]) -> float:
    """Of a call with every part, after one that does not count."""
    call(parts[0])
    began = time.perf_counter()
    for part in parts:
        call(part)
    return time.perf_counter() - began


def _warm_up(dim: int) -> None:
    table = EmbeddingTable(dim, optimizer=SGD())
    keys = np.arange(5000)
    table.upsert(keys, np.ones((len(keys), dim), np.float32))
    table.lookup(keys)


def _rss_bytes() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)
