"""The evaluation: parsers x systems, each pair in its own process under limits, resumable.

A run directory holds

* `config.json`: what was asked; another question is refused there;
* `env.json`: the machine, versions, source revision;
* `pairs/`: one JSON file a finished pair, written atomically. A run that was interrupted or killed goes on where it
  was;
* `logs/`: what the processes printed;
* `outputs/`: the CSV pairs, if they are kept;
* `metrics.jsonl`, `results.parquet`: the results, by slice and by pair.

Time is what the paper calls parsing time: raw log to CSV pair on disk. Scores are the paper's, beside them the
normalised ones.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from nonet.common.atomic import atomic_write
from nonet.common.errors import InputError
from nonet.common.jsonable import dumps, jsonable
from nonet.common.machine import describe_machine
from nonet.common.parallel import Engine, check_engine, parallel_map
from nonet.logs.evaluation.contestants import parser_names
from nonet.logs.evaluation.data import LabelledLog, resolve
from nonet.logs.evaluation.job import Job, PairResult, Status, Timing
from nonet.logs.evaluation.parser_settings import Settings, parse_settings
from nonet.logs.evaluation.rules import NO_RULES, rule_set
from nonet.logs.evaluation.slices import parse_slices
from nonet.logs.evaluation.supervision import Supervised, run_limited
from nonet.logs.evaluation.table import EvaluationReport
from nonet.logs.evaluation.worker import DONE_FILE, ERROR_FILE, JOB_FILE, RESULT_FILE
from nonet.logs.parsers.base import Mode

PAPER_TIMEOUT_S = 12 * 3600.0
DEFAULT_FOLDER = Path("nonet-runs")
_CONFIG_VERSION = 1
_FIXED_KEYS = ("version", "mode", "rules", "slices", "timeout_s", "memory_gib")  # of a run directory

Progress = Callable[[int, int, PairResult], None]


def evaluate(
    parsers: str | Sequence[str],
    data: str | Path | LabelledLog | Sequence[str | Path | LabelledLog],
    *,
    mode: Mode = "compat",
    out_dir: Path | str | None = None,
    timeout_s: float | None = PAPER_TIMEOUT_S,
    memory_gib: float | None = None,
    workers: int = 1,
    engine: Engine = "local",
    resume: bool = True,
    rules: str | None = None,
    slices: Sequence[str] | None = None,
    settings: Sequence[str] = (),
    keep_outputs: bool = False,
    progress: Progress | None = None,
) -> EvaluationReport:
    """Run parsers over labelled logs and score them.

    Args:
        parsers: names, as `parser_names` reads them: "nonet", reference parsers, "all", or `package.module:Name`.
        data: names and folders, as `nonet.logs.evaluation.data.resolve` reads them.
        mode: "compat" or "fixed", for the reference parsers.
        out_dir: run directory; parsers and data may be added to what it holds, under the same limits and rules. None
            makes one under `nonet-runs/`, named by what is asked, so that the same call resumes.
        timeout_s: wall-clock limit of a pair, raw log to CSV; None for none.
        memory_gib: limit of a pair's resident set; None for none.
        workers: pairs at a time. More than one disturbs the timing.
        engine: "local", or "ray" (run directory and data must be reachable from every node).
        resume: go on with what the run directory holds; False refuses one that holds a run. Pairs that failed run
            again, timeouts and memory limits are final.
        rules: version of the template rules for scoring; None for none.
        slices: names of slices; None means the paper's nine.
        settings: `PARSER.NAME=VALUE`, which take the place of the tuned parameters; see `parser_settings`.
        keep_outputs: keep the CSV pairs.
        progress: called after each pair with (done, total, its result), also for those resumed.

    Raises:
        InputError: unknown names, unusable data or limits, or a run directory that was made for something else.
        MissingExtraError: `engine="ray"` without Ray.
    """
    check_engine(engine, workers)
    names, logs = parser_names(parsers), resolve(data)
    chosen = parse_settings(settings, names)
    config = _config(names, logs, mode, timeout_s, memory_gib, rules, slices, chosen)
    folder = Path(out_dir) if out_dir is not None else _default_folder(config)
    with _open_run(folder, config, resume):
        shared = (config["rules"], tuple(config["slices"]), timeout_s, memory_gib, keep_outputs)
        jobs = [
            Job(name, log, mode, chosen.get(name, {}), *shared, folder.resolve(), str(os.getpid()))
            for log in logs
            for name in names
        ]
        results = _run_jobs(jobs, workers, engine, progress)
        read_run(folder).save()  # with what earlier runs in this directory found
    return EvaluationReport(folder, config, [results[job.key] for job in jobs])


def read_run(folder: Path | str) -> EvaluationReport:
    """The report of a run directory, finished or not.

    Raises:
        InputError: the folder holds no run, or a damaged one.
    """
    folder = Path(folder)
    config = _read_json(folder / "config.json")
    found = [PairResult.from_dict(_read_json(path)) for path in sorted((folder / "pairs").glob("*.json"))]
    order = {(p, d["name"]): i for i, (d, p) in enumerate((d, p) for d in config["data"] for p in config["parsers"])}
    return EvaluationReport(folder, config, sorted(found, key=lambda r: order.get((r.parser, r.data), len(order))))


def run_pair(job: Job, stop: threading.Event | None = None) -> PairResult | None:
    """Run one pair in its own process and write its result file; None when it was told to stop."""
    folder = job.work_folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / JOB_FILE).write_text(dumps(job.to_dict()), "utf-8")
    log = job.out_dir / "logs" / f"{job.key}.txt"
    ran = run_limited(
        [sys.executable, "-m", "nonet.logs.evaluation.worker", str(folder / JOB_FILE)],
        stderr=log,
        timeout_s=job.timeout_s,
        memory_bytes=None if job.memory_gib is None else int(job.memory_gib * 2**30),
        stop=stop,
        clock_stopped=(folder / DONE_FILE).exists,
    )
    if ran.ending == "stopped":
        return None
    result = _pair_result(job, ran, log)
    if job.keep_outputs and result.status == "finished":
        _keep_outputs(job)
    shutil.rmtree(folder, ignore_errors=True)
    with atomic_write(job.result_path) as file:
        file.write(dumps(result.to_dict(), indent=1))
    return result


def _run_jobs(jobs: list[Job], workers: int, engine: Engine, progress: Progress | None) -> dict[str, PairResult]:
    """Run what has no result yet; the results of all by key."""
    results: dict[str, PairResult] = {}

    def take(job: Job, result: PairResult) -> None:
        results[job.key] = result
        if progress is not None:
            progress(len(results), len(jobs), result)

    for job in jobs:
        known = _known_result(job)
        if known is not None:
            take(job, known)
    waiting = [job for job in jobs if job.key not in results]
    stop = threading.Event()
    run = run_pair if engine == "ray" else partial(run_pair, stop=stop)
    # A pair is a process already, so threads are enough to wait for it.
    waiting_engine: Engine = "threads" if engine == "local" else engine
    try:
        for position, result in parallel_map(run, waiting, workers=workers, engine=waiting_engine):
            if result is not None:
                take(waiting[position], result)
    finally:
        stop.set()
    return results


def _known_result(job: Job) -> PairResult | None:
    """What an earlier run found for a pair, unless it failed."""
    if not job.result_path.is_file():
        return None
    known = PairResult.from_dict(_read_json(job.result_path))
    return None if known.status == "failed" else known


def _pair_result(job: Job, ran: Supervised, log: Path) -> PairResult:
    status: Status = "failed"
    if ran.ending in ("timeout", "out_of_memory"):
        status = ran.ending
    about: dict[str, Any] = {}
    result_file = job.work_folder / RESULT_FILE
    if ran.ending == "exited" and ran.exit_code == 0 and result_file.is_file():
        about = _read_json(result_file)
        about["timing"] = Timing(**about["timing"])
        status = "finished"
    return PairResult(
        parser=job.parser,
        data=job.log.name,
        system=job.log.system,
        edition=job.log.edition,
        mode=job.shown_mode,
        status=status,
        error=_error_line(job, ran, log) if status == "failed" else "",
        wall_s=ran.wall_s,
        peak_rss_bytes=ran.peak_rss_bytes,
        **about,
    )


def _error_line(job: Job, ran: Supervised, log: Path) -> str:
    """What a failed process said: its message, else the last line that it printed."""
    message = job.work_folder / ERROR_FILE
    if message.is_file():
        return message.read_text("utf-8")
    printed = log.read_text("utf-8", "replace").strip().splitlines()
    if ran.exit_code < 0:
        return f"killed by signal {-ran.exit_code}"
    return printed[-1] if printed else f"exit code {ran.exit_code}"


def _keep_outputs(job: Job) -> None:
    target = job.out_dir / "outputs" / job.key
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for path in job.work_folder.glob("*.csv"):
        path.replace(target / path.name)


def _config(
    names: list[str],
    logs: list[LabelledLog],
    mode: Mode,
    timeout_s: float | None,
    memory_gib: float | None,
    rules: str | None,
    slices: Sequence[str] | None,
    settings: Settings,
) -> dict[str, Any]:
    """What decides the results; two runs with equal configs answer the same question."""
    if mode not in ("compat", "fixed"):
        raise InputError(f"mode must be compat or fixed, got {mode!r}")
    for name, limit in (("timeout_s", timeout_s), ("memory_gib", memory_gib)):
        if limit is not None and limit <= 0:
            raise InputError(f"{name} must be above 0, got {limit}")
    data = [{**jsonable(log), "log_bytes": log.log_path.stat().st_size} for log in logs]
    return {
        "version": _CONFIG_VERSION,
        "parsers": names,
        "data": data,
        "mode": mode,
        "rules": rule_set(rules or NO_RULES).version,
        "slices": [which.name for which in parse_slices(slices)],
        "timeout_s": timeout_s,
        "memory_gib": memory_gib,
        "settings": settings,
    }


def _default_folder(config: dict[str, Any]) -> Path:
    digest = hashlib.sha256(dumps(config).encode()).hexdigest()[:8]
    return DEFAULT_FOLDER / f"logs-evaluate-{digest}"


@contextmanager
def _open_run(folder: Path, config: dict[str, Any], resume: bool) -> Iterator[None]:
    """Make the run directory, or check that it was made for the same question; lock out other processes."""
    try:
        for name in ("pairs", "logs"):
            (folder / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write the run directory {folder}: {error.strerror}") from error
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"{folder}: another evaluation is running there; wait for it or name another folder"
            ) from None
        for name, content in (
            ("config.json", _joined_config(folder, config, resume)),
            ("env.json", describe_machine()),
        ):
            with atomic_write(folder / name) as sink:
                sink.write(dumps(content, indent=1))
        try:
            yield
        finally:
            shutil.rmtree(folder / "work", ignore_errors=True)


def _joined_config(folder: Path, config: dict[str, Any], resume: bool) -> dict[str, Any]:
    """What the run directory holds from now on: parsers and data may come in, but no question may change."""
    file = folder / "config.json"
    if not file.is_file():
        if any((folder / "pairs").iterdir()):
            raise InputError(f"{folder} holds results without the config.json they belong to; delete the folder")
        return config
    if not resume:
        raise InputError(f"{folder} holds a run already; delete it, name another folder, or resume")
    try:
        there = _read_json(file)
        data = {log["name"]: log for log in there["data"]}
        old, new = (
            _questions(there, there, data),
            _questions(there, config, {log["name"]: log for log in config["data"]}),
        )
    except (InputError, KeyError, TypeError) as error:
        raise InputError(f"{file}: damaged ({error}); delete the folder {folder} and run again") from error
    changed = [key for key in new if old.get(key, new[key]) != new[key]]
    if changed:
        details = "; ".join(f"{key} was {_short(old[key])}, now {_short(new[key])}" for key in changed)
        raise InputError(f"{folder} was made for another evaluation ({details}); name another folder")
    joined = {**config, "settings": {**there["settings"], **config["settings"]}}
    joined["parsers"] = list(dict.fromkeys([*there["parsers"], *config["parsers"]]))
    joined["data"] = list({**data, **{log["name"]: log for log in config["data"]}}.values())
    return joined


def _questions(there: dict[str, Any], config: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """What must not change between two runs in one directory, by what it is called in a message."""
    common = set(there["parsers"]) & set(config["parsers"])
    return {
        **{key: config.get(key) for key in _FIXED_KEYS},
        **{f"data {name}": log for name, log in data.items()},
        **{f"settings of {name}": config["settings"].get(name, {}) for name in common},
    }


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; is {path.parent} a run directory?") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: damaged ({error}); delete it and run again") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: damaged (not a JSON object); delete it and run again")
    return value
