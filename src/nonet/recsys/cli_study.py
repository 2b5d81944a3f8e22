"""`simulate` and `doctor`: what a log would gain, and how a job is."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
