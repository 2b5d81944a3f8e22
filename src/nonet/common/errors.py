"""The exceptions of the toolbox, one tree.

NonetError               anything we raise on purpose; the command line prints one line and exits with `exit_code`
├── InputError           bad usage or bad input (also a ValueError); exit 2
├── MissingExtraError    an optional dependency is not installed (also an ImportError); exit 2
└── GateFailedError      a check or a gate did not hold; exit 1
"""

from __future__ import annotations


class NonetError(Exception):
    """Something went wrong in a way that the user can act on; the message is one line: what, where, how to mend it."""

    exit_code = 1


class InputError(NonetError, ValueError):
    """The input or the usage is wrong: a missing file, a damaged archive, a header format that matches nothing."""

    exit_code = 2


class MissingExtraError(NonetError, ImportError):
    """A room's optional dependencies are not installed; the message holds the command that installs them."""

    exit_code = 2


class GateFailedError(NonetError):
    """A check ran and did not hold (a benchmark promise, a regression gate)."""

    exit_code = 1
