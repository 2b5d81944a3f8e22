"""Client libraries of back ends and sources: optional, and imported when one is built."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from nonet.common.errors import MissingExtraError


@contextmanager
def client_library(what: str) -> Iterator[None]:
    """Around the import of a library.

    Args:
        what: who needs which, as in "IPMI needs python-ipmi".

    Raises:
        MissingExtraError: it is not installed; the message says how to install it.

    >>> with client_library("X needs y"):
    ...     import no_such_library
    Traceback (most recent call last):
    nonet.common.errors.MissingExtraError: X needs y: pip install 'nonet[power-control]'
    """
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(f"{what}: pip install 'nonet[power-control]'") from error
