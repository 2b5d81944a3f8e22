"""Where a number was measured: processor, memory, versions, source revision. Goes with every saved finding."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import nonet

# What decides speed in the rooms, and the rivals that are measured beside them.
NOTABLE_PACKAGES = (
    *("numpy", "numba", "llvmlite", "polars", "pyarrow", "zstandard", "google-re2", "rapidfuzz", "torch"),
    *("drain3", "logparser3", "tipping"),
)


def describe_machine(packages: Sequence[str] = NOTABLE_PACKAGES) -> dict[str, Any]:
    """The machine, the interpreter, the versions of `packages` that are installed, the source's git revision, the time.

    >>> sorted(describe_machine(["pip"]))
    ['cores', 'cpu', 'git', 'measured_at', 'memory_gib', 'nonet', 'packages', 'python', 'system']
    """
    return {
        "cpu": _cpu_name(),
        "cores": _usable_cores(),
        "memory_gib": _memory_gib(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "nonet": nonet.__version__,
        "packages": {name: version for name in packages if (version := _version(name))},
        "git": _git_revision(),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def peak_rss_mib() -> float:
    """The largest resident set that this process ever had, MiB.

    Linux starts `ru_maxrss` of a new program at what its parent had; the kernel keeps a better mark beside it.

    >>> peak_rss_mib() > 1
    True
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text("ascii", "replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    import resource  # not on Windows

    unit = 2**20 if platform.system() == "Darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _usable_cores() -> int:
    # The affinity mask is what a container or taskset leaves us; os.cpu_count() is the whole host.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_name() -> str:
    table = Path("/proc/cpuinfo")
    if table.is_file():
        for line in table.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):  # no such name on this system
        return None


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _git_revision() -> str:
    """The commit of the source folder, with "+changes" when files differ from it; "" for an installed package."""
    folder = Path(nonet.__file__).parent
    revision = _git(folder, "rev-parse", "--short=12", "HEAD")
    return f"{revision}+changes" if revision and _git(folder, "status", "--porcelain", "-uno") else revision


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):  # no git here
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
