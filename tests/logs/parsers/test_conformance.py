"""The contract of a parser, over every registered one, and over broken ones that must be caught."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from nonet.common.errors import InputError
from nonet.logs.parsers import PARSERS, WILDCARD, Parsed, Parser, get_parser
from nonet.logs.parsers.base import Mode
from nonet.logs.testing import check_parser, template_matches

NEURAL = {"UniParser", "LogPPT"}  # they need training lines before they parse
FEWER_ROUNDS: dict[str, dict[str, int]] = {"MoLFI": {"generations": 3, "population": 6}}
MODES: tuple[Mode, ...] = ("compat", "fixed")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", [name for name in PARSERS if name not in NEURAL])
def test_every_parser_keeps_the_contract(name: str, mode: Mode) -> None:
    check_parser(lambda: PARSERS[name](mode=mode, masks=(r"\d+ms",), **FEWER_ROUNDS.get(name, {})))


def test_names_are_found_whatever_their_case() -> None:
    assert get_parser("iplom") is get_parser("IPLoM")
    assert get_parser("DRAIN").name == "Drain"
    with pytest.raises(InputError, match="did you mean 'Drain'"):
        get_parser("Drian")


def test_a_bad_mask_is_a_one_line_input_error() -> None:
    with pytest.raises(InputError, match=r"mask 2 \('\('\) is not a regular expression") as caught:
        get_parser("Drain")(masks=("a", "(")).parse(["a"])
    assert "\n" not in str(caught.value)


class Honest(Parser):
    """Every line is its own template."""

    templates_match_lines = True

    def parse(self, contents: Sequence[str]) -> Parsed:
        return Parsed.from_lines([" ".join(line.split()) for line in contents])


class DropsALine(Honest):
    def parse(self, contents: Sequence[str]) -> Parsed:
        return super().parse([line for line in contents if line.strip()])


class Remembers(Honest):
    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def parse(self, contents: Sequence[str]) -> Parsed:
        self.seen += 1
        return Parsed.from_lines([f"{WILDCARD}" if self.seen > 2 else line for line in contents])


class WrongText(Honest):
    def parse(self, contents: Sequence[str]) -> Parsed:
        return Parsed.from_lines([f"{WILDCARD} never" for _ in contents])


class WrongOrder(Honest):
    def parse(self, contents: Sequence[str]) -> Parsed:
        parsed = super().parse(contents)
        last = len(parsed.templates) - 1
        return Parsed((last - parsed.labels).astype(np.int32), parsed.templates[::-1])


class UnusedTemplate(Honest):
    def parse(self, contents: Sequence[str]) -> Parsed:
        parsed = super().parse(contents)
        return Parsed(parsed.labels, [*parsed.templates, "nobody's"])


class RepeatedTemplate(Honest):
    def parse(self, contents: Sequence[str]) -> Parsed:
        return Parsed(np.arange(len(contents), dtype=np.int32), [" ".join(line.split()) for line in contents])


class NumbersEveryLine(Honest):
    def parse(self, contents: Sequence[str]) -> Parsed:
        return Parsed.from_lines([f"{WILDCARD}{line}" * (1 + at % 2) for at, line in enumerate(contents)])


def test_an_honest_parser_passes() -> None:
    check_parser(Honest)


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (DropsALine, "not int32 of shape"),
        (Remembers, "answers otherwise"),
        (WrongText, "does not match its line"),
        (WrongOrder, "order of first appearance"),
        (UnusedTemplate, "a template has no line"),
        (RepeatedTemplate, "occurs twice"),
        (NumbersEveryLine, "equal lines have 2 templates"),
    ],
)
def test_a_broken_parser_is_caught(broken: type[Parser], why: str) -> None:
    with pytest.raises(AssertionError, match=why):
        check_parser(broken)


@pytest.mark.parametrize(
    ("template", "line", "fits"),
    [
        ("a <*> c", "a b c", True),
        ("a <*> c", "a  b1 b2\tc", True),
        ("a <*> c", "a c", False),
        ("<*>", "", True),
        ("ab<*>ba", "aba", False),
        ("a<*>b<*>c", "a1c2b3c", True),
        ("a<*>b<*>bc", "abc", False),
        ("a.c", "abc", False),
        ("<*> x <*> x <*>", "1 x 2 x 3", True),
        ("<*> x <*> x <*>", "1 x 3", False),
    ],
)
def test_template_matching(template: str, line: str, fits: bool) -> None:
    assert template_matches(template, line) is fits
