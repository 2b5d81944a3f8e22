r"""From a user's regular expression to programs that a linear-time engine (RE2) can run.

RE2 has no lookarounds and no back-references. Lookarounds at the edges of a mask are translated (`mask_edges`), among
them the idiom of Drain3's masks, `((?<=[^A-Za-z0-9])|^)(X)((?=[^A-Za-z0-9])|$)`. All else is refused with a reason.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import re2

from nonet.common.errors import InputError
from nonet.logs.mining.mask_automaton import Automaton, automaton_of
from nonet.logs.mining.mask_bans import Ban
from nonet.logs.mining.mask_edges import FLAGS, Parts, RefusedError, split, uncaptured

GROUP = "match"  # the group of a program that is the match itself
MAX_MEMORY_BYTES = 8 << 20  # of one compiled pattern; also the limit inside Arrow's RE2
MAX_PROGRAM_SIZE = 5_000  # instructions; a step of the search costs at most so many

_TOKEN = re.compile(
    r"""\\Q.*?(?:\\E|$) | \\[pP]\{\^?\w+\} | \\x\{\w+\} | \\.
    | \[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*\]
    | \(\?P?<\w+> | \(\?<[=!] | \(\?P= | \(\?[a-zA-Z-]*[:)] | \(\?[=!] | \(\?
    | .""",
    re.DOTALL | re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Programs:
    """RE2 patterns of a mask; the named group `GROUP` is the match.

    Attributes:
        source: the pattern as the user wrote it.
        first: finds the first match of a line.
        later: finds the next one in the rest of the line that begins `num_before` characters before where it may start.
        num_before: see `later`.
        bans: what may not stand where a match begins; a candidate at such a place is none.
        joined: the pattern without its bans, for `mask_automaton`: what it finds is the match with `lead` characters
            before and `trail` behind it.
        lead, trail: see `joined`.
    """

    source: str
    first: str
    later: str
    num_before: int
    bans: tuple[Ban, ...]
    joined: str
    lead: int
    trail: int

    @property
    def automaton(self) -> Automaton | None:
        """The automaton of the mask, where it has one."""
        return automaton_of(self.joined, self.lead, self.trail, self.bans)

    def is_banned(self, text: bytes, position: int) -> bool:
        """Whether no match may begin at a place."""
        return any(ban.stands_at(text, position) for ban in self.bans)


@lru_cache(maxsize=256)
def compile_mask(pattern: str) -> Programs:
    r"""Translate a pattern.

    Raises:
        InputError: a back-reference, a lookaround that cannot be translated, a syntax error, or a pattern too large.

    >>> compile_mask(r"(?<!\w)\d+").first
    '(?:^|\\W)(?P<match>\\d+)'
    >>> compile_mask(r"(?<=id )\d+(?=;)").later
    '(?:id )(?P<match>\\d+)(?:;)'
    """
    tokens = _TOKEN.findall(pattern)
    num_flags = 0
    while num_flags < len(tokens) and FLAGS.fullmatch(tokens[num_flags]):
        num_flags += 1
    prefix = "".join(tokens[:num_flags])
    try:
        parts = split(tokens[num_flags:], tokens[:num_flags])
        if parts.before and "m" in prefix:
            raise RefusedError("no (?m) beside a lookbehind; a mask sees one line at a time")
    except RefusedError as refused:
        raise InputError(f"mask {pattern!r} cannot be used: {refused}") from None
    core = uncaptured(parts.body)
    if not core:
        raise InputError(f"mask {pattern!r} is empty; it needs at least one character to look for")
    _checked(pattern, prefix + core)
    programs = _programs(pattern, prefix, parts, core)
    _checked(pattern, programs.first)
    _checked(pattern, programs.later)
    return programs


def _programs(pattern: str, prefix: str, parts: Parts, core: str) -> Programs:
    before, after = parts.before, parts.after
    tail = f"(?P<{GROUP}>{core})" + (after.consumed("$") if after else "")
    first = prefix + (before.consumed("^") if before else "") + tail
    later = prefix + (f"(?:{before.expression})" if before else r"\C") + tail
    # The automaton looks at single characters itself, and then begins at fewer places.
    lead = before.num_min if before and before.is_fixed and before.num_min > 1 else 0
    trail = after.num_min if after and after.is_fixed and after.num_min > 1 else 0
    in_front = "" if before is None else before.consumed("^") if lead else before.source
    behind = "" if after is None else after.consumed("$") if trail else after.source
    joined = prefix + in_front + f"(?:{core})" + behind
    return Programs(pattern, first, later, before.num_max if before else 1, parts.bans, joined, lead, trail)


@lru_cache(maxsize=512)
def engine(program: str) -> Any:
    """The compiled RE2 object of a program."""
    options = re2.Options()
    options.max_mem = MAX_MEMORY_BYTES
    options.log_errors = False
    return re2.compile(program.encode(), options)


def _checked(pattern: str, program: str) -> None:
    try:
        size = engine(program).programsize
    except re2.error as error:
        reason = error.args[0].decode("utf-8", "replace") if isinstance(error.args[0], bytes) else str(error)
        raise InputError(f"mask {pattern!r} cannot be used: {reason} (masks are RE2 expressions)") from None
    if size > MAX_PROGRAM_SIZE:
        raise InputError(
            f"mask {pattern!r} is too large: {size:,} instructions, at most {MAX_PROGRAM_SIZE:,}; "
            "repeat less, or list fewer words"
        )
