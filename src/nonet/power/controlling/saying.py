"""Words for whoever reads the log. Control does not depend on a reader."""

from __future__ import annotations

import contextlib

from nonet.common.console import note


def say(text: str) -> None:
    """One line on stderr. A log on a full disk, or a reader that went away, ends nothing: the journal has it too."""
    with contextlib.suppress(OSError, ValueError):
        note(text)
