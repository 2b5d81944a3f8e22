"""The experiments of a room's bench: all of them or chosen ones, in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from nonet.common.console import note
from nonet.common.errors import InputError, MissingExtraError
from nonet.common.findings import Finding

Scale = Literal["quick", "full"]
Experiment = Callable[[Scale], list[Finding]]


def run_experiments(known: Mapping[str, Experiment], scale: Scale, only: Sequence[str] = ()) -> list[Finding]:
    """Run experiments one after the other and put their findings together.

    What an experiment lacks (published data, a rival that is not installed) is said on stderr and leaves its findings
    out; nothing else is skipped.

    Args:
        known: by name, in the order in which they run.
        scale: which sizes.
        only: names; none means all.

    Raises:
        InputError: a name that is not one.

    >>> run_experiments({"nothing": lambda scale: []}, "quick")
    []
    """
    if unknown := [name for name in only if name not in known]:
        raise InputError(f"no experiment {unknown[0]!r}; there are {', '.join(known)}")
    findings: list[Finding] = []
    for name, experiment in known.items():
        if only and name not in only:
            continue
        note(f"bench: {name} ...")
        try:
            findings += experiment(scale)
        except MissingExtraError as error:
            note(f"bench: {error}")
    return findings
