"""The check that the extra `logs-neural` is installed."""

from __future__ import annotations

from importlib.util import find_spec

from nonet.common.errors import MissingExtraError

PACKAGES = ("torch", "safetensors", "tokenizers")


def require_neural(parser: str, packages: tuple[str, ...] = PACKAGES) -> None:
    """Make sure that the neural packages can be imported.

    Args:
        parser: who asks, for the message.
        packages: what it needs.

    Raises:
        MissingExtraError: one of them is not installed; the message holds the command that mends it.

    >>> require_neural("LogPPT", ("no_such_package",))
    Traceback (most recent call last):
    nonet.common.errors.MissingExtraError: LogPPT needs no_such_package; install: pip install "nonet[logs-neural]"
    """
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise MissingExtraError(f'{parser} needs {", ".join(missing)}; install: pip install "nonet[logs-neural]"')
