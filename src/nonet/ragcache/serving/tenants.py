"""Whose a request is: the keys of a server, and the salt that keeps the chunks of one tenant from those of another.

Without keys all clients are one tenant. With keys each is a tenant of its own; keys of one name are one tenant, so that
a key can be changed without losing what was computed. `cache_salt` of a request parts a tenant further, with and
without keys. Whoever computes for a tenant, or drops or explains what is a tenant's, gets the salt here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import blake3

from nonet.common.errors import InputError

SHARED = ""
"""The tenant of all clients of a server without keys."""
_CONTEXT = "nonet ragcache: tenant of a chunk, 2026"
_SALT_CHARACTERS = 32


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key that a server knows.

    Args:
        secret: what clients send.
        name: of its owner; keys of one name share their chunks. Without one, the key's chunks are its own.

    Raises:
        InputError: a key or name that is empty where it must not be, or does not fit into a header or a line.

    >>> ApiKey("s3cret", "search")
    ApiKey(name='search')
    """

    secret: str = field(repr=False)
    name: str = ""

    def __post_init__(self) -> None:
        if not _is_word(self.secret):
            raise InputError("an API key must be printable ASCII without blanks, and not empty")
        if self.name and not (self.name.isprintable() and not any(letter.isspace() for letter in self.name)):
            raise InputError(f"the name of an API key must be printable and without blanks, not {self.name!r}")

    @property
    def owner(self) -> tuple[str, str]:
        """What stays the same when a key with a name is changed."""
        return ("name", self.name) if self.name else ("key", self.secret)


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys of a server; none lets everybody in, as one tenant.

    Args:
        keys: each once; given again without a name, a key keeps its name.

    Raises:
        InputError: one key under two names.

    >>> ring = KeyRing([ApiKey("old", "search"), ApiKey("new", "search"), ApiKey("other")])
    >>> ring.tenant(0) == ring.tenant(1) != ring.tenant(2)
    True
    >>> KeyRing().tenant(None)
    ''
    """

    keys: Sequence[ApiKey] = ()

    def __post_init__(self) -> None:
        found: dict[str, ApiKey] = {}
        for key in self.keys:
            known = found.setdefault(key.secret, key)
            if known.name and key.name and known.name != key.name:
                raise InputError(f"one API key has two names, {known.name} and {key.name}; give each its own key")
            if key.name:
                found[key.secret] = key
        object.__setattr__(self, "keys", tuple(found.values()))

    @property
    def secrets(self) -> tuple[str, ...]:
        """What clients may send, in the order by which `tenant` counts."""
        return tuple(key.secret for key in self.keys)

    def tenant(self, number: int | None, cache_salt: str | None = None) -> str:
        """The tenant of a request: `SHARED`, or 32 hex digits that do not show the key.

        Args:
            number: of its key; None where there are no keys.
            cache_salt: parts a tenant further; None for none.

        Raises:
            InputError: an empty salt.
        """
        if cache_salt is not None and not cache_salt:
            raise InputError("cache_salt must not be empty; leave it out to share with requests that have none")
        if number is None and self.keys:
            raise InputError("a server with keys has no tenant without one; name the key")
        owner = self.keys[number].owner if number is not None else None
        if owner is None and cache_salt is None:
            return SHARED
        hasher = blake3.blake3(derive_key_context=_CONTEXT)
        for part in (*(owner or ("", "")), cache_salt or ""):
            raw = part.encode()
            hasher.update(len(raw).to_bytes(8, "little"))
            hasher.update(raw)
        return hasher.hexdigest()[:_SALT_CHARACTERS]

    def tenant_of(self, secret: str, cache_salt: str | None = None) -> str:
        """The tenant of whoever sends a key.

        Args:
            secret: the key; "" for a client of a server without keys.
            cache_salt: as for `tenant`.

        Raises:
            InputError: not a key of this ring.
        """
        if not secret:
            return self.tenant(None, cache_salt)
        if secret not in self.secrets:
            raise InputError("the API key is none of those that the server knows")
        return self.tenant(self.secrets.index(secret), cache_salt)


NO_KEYS = KeyRing()
"""Of a server that lets everybody in."""


def read_keys(given: Iterable[str], file: Path | None = None) -> KeyRing:
    """The keys that a command line names.

    Args:
        given: keys without names.
        file: one key a line, or a name, blanks and a key; from # on a line is a comment.

    Raises:
        InputError: a file that cannot be read or has no keys, or a line that is none.
    """
    keys = [ApiKey(one) for one in given]
    if file is None:
        return KeyRing(keys)
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read: {error}") from error
    named = [key for number, line in enumerate(lines, 1) if (key := _key_of(line, f"{file}:{number}")) is not None]
    if not named:
        raise InputError(f"{file}: no keys; give one a line, or a name and a key")
    return KeyRing([*named, *keys])


def _key_of(line: str, place: str) -> ApiKey | None:
    words = line.split()
    comment = next((n for n, word in enumerate(words) if word.startswith("#")), len(words))
    words = words[:comment]
    if not words:
        return None
    if len(words) > 2:
        raise InputError(f"{place}: {len(words)} words; give a key, or a name and a key")
    try:
        return ApiKey(words[-1], words[0] if len(words) == 2 else "")
    except InputError as error:
        raise InputError(f"{place}: {error}") from error


def _is_word(text: str) -> bool:
    return bool(text) and all("!" <= letter <= "~" for letter in text)
