"""The rivals, driven as their users drive them.

They are imported here and nowhere else; a missing one is a `MissingExtraError` that names the command.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType

from nonet.common.errors import MissingExtraError
from nonet.logs.parsers import settings

# The fourteen general masks as Python regular expressions, most specific first, for rivals that mask by `re`.
GENERAL_MASKS = (
    r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"'<>)\]}|`]+",
    r"/?\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+|/\d+)?\b",
    r"\b[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)+:\d+\b",
    r"\b[A-Za-z][\w-]*(?:\.[\w-]+){2,}\b",
    r"\b(?:[0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}\b|\b(?:[0-9A-Fa-f]{1,4}:)*:(?::?[0-9A-Fa-f]{1,4})+\b",
    r"\b[0-9A-Fa-f]{2}(?:[:-][0-9A-Fa-f]{2}){5}\b",
    r"\b\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?\b",
    r"(?<!\S)~?/[^\s,;|\"'()\[\]{}<>=]+",
    r"\bblk_-?\d+\b",
    r"\b\d{4}[-/.]\d{1,2}[-/.]\d{1,2}\b|\b\d{1,2}[-/.]\d{1,2}[-/.]\d{4}\b",
    r"\b\d+(?:\.\d+)?(?:ns|us|ms|s|secs?|m|mins?|h|hrs?|hours?|d)\b",
    r"\b\d+(?:\.\d+)?(?:[BKMGT]|[kKMGT]i?B)(?:/s)?\b",
    r"\b0[xX][0-9A-Fa-f]+\b|\b[0-9A-Fa-f]{6,}\b|(?<![A-Za-z0-9_])[+-]?\d+(?:\.\d+)*%?(?![A-Za-z0-9_])",
    r"\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun|Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\b",
)


def _need(module: str, package: str) -> ModuleType:
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(f"the rival {package} is not installed: pip install {package}") from error


def drain3_seconds(contents: Sequence[str], masks: Sequence[str]) -> float:
    """Seconds of Drain3's `add_log_message` over all lines, with masks as its own masking instructions."""
    drain3 = _need("drain3", "drain3==0.9.11")
    masking = _need("drain3.masking", "drain3==0.9.11")
    config = _need("drain3.template_miner_config", "drain3==0.9.11").TemplateMinerConfig()
    config.masking_instructions = [masking.MaskingInstruction(pattern, "*") for pattern in masks]
    miner = drain3.TemplateMiner(config=config)
    started = time.perf_counter()
    for content in contents:
        miner.add_log_message(content)
    return time.perf_counter() - started


def tipping_seconds(contents: Sequence[str]) -> float:
    """Seconds of tipping's one-shot `parse` over all lines, at its defaults (it uses all cores)."""
    tipping = _need("tipping", "tipping==0.2.1")
    started = time.perf_counter()
    tipping.parse(list(contents))
    return time.perf_counter() - started


def logparser3_drain_seconds(log: Path, system: str) -> float:
    """Seconds of logparser3's Drain from the raw log to its CSV pair, parameters included, tuned for `system`."""
    drain = _need("logparser.Drain", "logparser3==1.0.4")
    tuned = settings.parameters_for("Drain", system)
    with tempfile.TemporaryDirectory() as out, contextlib.redirect_stdout(io.StringIO()):
        parser = drain.LogParser(
            settings.header_format(system),
            indir=os.fspath(log.parent),
            outdir=out,
            depth=tuned["depth"],
            st=tuned["st"],
            rex=list(settings.masks_for("Drain", system)),
        )
        started = time.perf_counter()
        parser.parse(log.name)
        return time.perf_counter() - started
