"""Parsers that misbehave on purpose, loaded by an evaluation through `fake_parsers:Name`."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from nonet.common.errors import InputError
from nonet.logs.parsers.base import Parsed


def identity(contents: Sequence[str]) -> Parsed:
    return Parsed.from_lines(contents)


def starred(contents: Sequence[str]) -> Parsed:
    """Every digit word is a `#spec#`."""
    return Parsed.from_lines([" ".join("#spec#" if w.isdigit() else w for w in c.split()) for c in contents])


def counted(contents: Sequence[str]) -> Parsed:
    """Notes every call in the file named by CALLS; waits there while a file named HOLD exists."""
    with Path(os.environ["CALLS"]).open("a") as file:
        file.write(f"{len(contents)}\n")
    while Path(os.environ["HOLD"]).exists():
        time.sleep(0.05)
    return Parsed.from_lines(contents)


def sleepy(contents: Sequence[str]) -> Parsed:
    time.sleep(60)
    return Parsed.from_lines(contents)


def greedy(contents: Sequence[str]) -> Parsed:
    hoard = []
    for _ in range(64):
        hoard.append(bytearray(os.urandom(1 << 20)) * 32)
        time.sleep(0.05)
    return Parsed.from_lines(contents)


def wrong(contents: Sequence[str]) -> Parsed:
    return Parsed.from_lines(contents[1:])


def broken(contents: Sequence[str]) -> Parsed:
    raise ZeroDivisionError("division by zero in a parser")


def fussy(contents: Sequence[str]) -> Parsed:
    raise InputError("this parser wants\nanother log")
