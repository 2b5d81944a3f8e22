"""The contract of a parser as a check that anyone can run on their own.

>>> from nonet.logs.parsers import get_parser
>>> check_parser(get_parser("Drain"))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from nonet.logs.parsers.base import WILDCARD, Parsed, Parser

_WORDS = ("open", "close", "sshd(pam_unix)", "uid=0", "rhost=10.0.0.7", "[error]", "a:b", "x,y", "C:\\tmp", "100%")

CORPORA: dict[str, tuple[str, ...]] = {
    "nothing": (),
    "one line": ("Connection from 10.0.0.7 port 22",),
    "equal lines": ("session opened for user root by (uid=0)",) * 2000,
    "one word": ("up", "down", "up", "up", "17", "up", "down"),
    "blanks only": ("", " ", "\t", "", "   \t "),
    "some empty": ("a b c", "", "a b d", "  ", "a b e", "a  b\tf", " a b g "),
    "separators only": ("=", ":", ", ,", "= :", "a", "=", "::"),
    "literal wildcard": (
        WILDCARD,
        f"a {WILDCARD} b",
        "a x b",
        "a y b",
        f"{WILDCARD} {WILDCARD}",
        f"a{WILDCARD}b",
        WILDCARD,
    ),
    "control bytes": (
        "a\x00b c",
        "a\x00b d",
        "\x00",
        "\x1b[31mred\x1b[0m alert",
        "tab\there",
        "a\rb",
        "\udcff\udcfe bad",
    ),
    "expressions": ("a.*b (c", "a.*b [c", "\\d+ $1 ^x", "\\d+ $2 ^x", "?", "*", "* {1,2}", "a|b", "%s \\1 {0}"),
    "other scripts": ("错误 连接 10.0.0.7", "错误 连接 10.0.0.8", "é ü", "é ö", "🙂 ok", "🙂 ko"),
    "growing": tuple(" ".join(str(word) for word in range(length)) for length in range(40)),
    "long line": (" ".join(f"w{word}" for word in range(1500)), "short one", " ".join(["x"] * 1500)),
    "logs": tuple(
        f"{_WORDS[number % 7]} {_WORDS[(number * 3) % 10]} took {number * 37 % 101} ms, code={number % 4}"
        for number in range(150)
    ),
}
"""Small inputs, most of them unkind: what a parser must take without an error and without losing a line."""


def template_matches(template: str, line: str) -> bool:
    """Whether a line fits a template: a wildcard stands for any characters, a run of blanks for one blank.

    >>> template_matches("uid=<*> by  <*>", "uid=0 by root now"), template_matches("a <*> b", "a b")
    (True, False)
    """
    line = " ".join(line.split())
    first, *rest = " ".join(template.split()).split(WILDCARD)
    if not rest:
        return line == first
    *middle, last = rest
    if len(line) < len(first) + len(last) or not line.startswith(first) or not line.endswith(last):
        return False
    at, end = len(first), len(line) - len(last)
    for piece in middle:
        found = line.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True


def check_parser(parser_factory: Callable[[], Parser], corpora: dict[str, Sequence[str]] | None = None) -> None:
    """Hold a parser to its contract on small, unkind inputs.

    All lines labelled; labels in order of first appearance; distinct templates, each used; the same answer from a
    second instance and from the same instance after other work; the input untouched; equal lines under one label; and,
    where the parser promises `templates_match_lines`, every template matching its lines.

    Args:
        parser_factory: makes a parser; called several times, without arguments.
        corpora: inputs by name; `CORPORA` when absent.

    Raises:
        AssertionError: the contract is broken; the message says by what, and on which input.
    """
    reused = parser_factory()
    corpora = dict(CORPORA) if corpora is None else corpora
    first_results = {name: reused.parse(corpus) for name, corpus in corpora.items()}
    for name, corpus in corpora.items():
        lines = list(corpus)
        fresh = parser_factory()
        result = fresh.parse(lines)
        problems = [*_broken(fresh, tuple(corpus), result)]
        if lines != list(corpus):
            problems.append("the input was changed")
        if not _equal(result, first_results[name]):
            problems.append("a second instance, or one that was used before, answers otherwise")
        if not _equal(result, reused.parse(lines)):
            problems.append("the same instance answers otherwise the second time")
        if problems:
            raise AssertionError(f"{type(fresh).__name__}, mode {fresh.mode}, on {name!r}: {'; '.join(problems)}")


def _equal(one: Parsed, other: Parsed) -> bool:
    return one.templates == other.templates and np.array_equal(one.labels, other.labels)


def _broken(parser: Parser, lines: Sequence[str], result: Parsed) -> Iterator[str]:
    """What is wrong with one result."""
    labels, templates = result.labels, result.templates
    if labels.dtype != np.int32 or labels.shape != (len(lines),):
        yield f"labels are {labels.dtype} of shape {labels.shape}, not int32 of shape ({len(lines)},)"
        return
    if len(set(templates)) != len(templates):
        yield "a template occurs twice"
    if list(dict.fromkeys(labels.tolist())) != list(range(len(templates))):
        yield "labels do not number the templates in order of first appearance, or a template has no line"
        return
    if len(set(lines)) == 1 and len(templates) != 1:
        yield f"equal lines have {len(templates)} templates"
    if parser.templates_match_lines:
        pairs = dict.fromkeys(zip(labels.tolist(), lines, strict=True))
        for label, line in pairs:
            if not template_matches(templates[label], line):
                yield f"template {templates[label]!r} does not match its line {line[:200]!r}"
                return
