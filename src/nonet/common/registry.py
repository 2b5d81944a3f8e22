"""A registry of named things (parsers, data sets, policies), from which command-line choices and docs are made."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from nonet.common.errors import InputError

T = TypeVar("T")


class Registry(Generic[T]):
    """Names to things, in order of registration; an unknown name is answered with the nearest ones.

    >>> colours: Registry[int] = Registry("colour")
    >>> colours.add("red", 0xFF0000)
    >>> colours["red"] == 0xFF0000, list(colours)
    (True, ['red'])
    >>> colours["rde"]
    Traceback (most recent call last):
    nonet.common.errors.InputError: unknown colour 'rde'; did you mean 'red'? (known: red)
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._things: dict[str, T] = {}

    def add(self, name: str, thing: T) -> None:
        """Register `thing`; a name can be taken once."""
        if name in self._things:
            raise ValueError(f"{self._kind} {name!r} is registered twice")
        self._things[name] = thing

    def register(self, name: str) -> Callable[[T], T]:
        """The same as a decorator."""

        def decorate(thing: T) -> T:
            self.add(name, thing)
            return thing

        return decorate

    def __getitem__(self, name: str) -> T:
        try:
            return self._things[name]
        except KeyError:
            near = difflib.get_close_matches(name, self._things, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            known = ", ".join(self._things)
            raise InputError(f"unknown {self._kind} {name!r}; {hint}(known: {known})") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._things)

    def __len__(self) -> int:
        return len(self._things)

    def __contains__(self, name: object) -> bool:
        return name in self._things
