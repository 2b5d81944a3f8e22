"""The fast parsers against plain ones, on random lines over few words (so that everything collides)."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import naive_parsers as naive
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nonet.logs.parsers import AEL, LFA, Drain, IPLoM, Parser, Spell
from nonet.logs.parsers import drain as drain_module
from nonet.logs.parsers.base import Parsed
from nonet.logs.parsers.spell import _longest_common
from nonet.logs.testing import template_matches

words = st.sampled_from(["a", "b", "c", "d", "e1", "2", "<*>", "x=1", "y:", ",z"])
blank = st.sampled_from([" ", " ", " ", "  "])
line = st.lists(words, max_size=7).flatmap(lambda row: blank.map(lambda gap: gap.join(row)))


def crowd(seed: int) -> list[str]:
    """Many lines of nearly one length over a handful of words: ties and crossings that single draws seldom make."""
    random = Random(seed)
    vocabulary = random.sample(["a", "b", "c", "d", "e", "f1", "2", "<*>"], random.randint(3, 7))
    length = random.randint(2, 6)
    return [
        " ".join(random.choices(vocabulary, k=length + random.choice([0, 0, 0, -1, 1])))
        for _ in range(random.randint(20, 80))
    ]


some_lines = st.one_of(st.lists(line, max_size=40), *[st.integers(0, 10**9).map(crowd)] * 3)
share = st.sampled_from([0.0, 0.2, 0.25, 0.4, 0.5, 0.6, 0.75, 1.0])


def per_line(parsed: Parsed) -> list[str]:
    return [parsed.templates[label] for label in parsed.labels.tolist()]


@settings(max_examples=150, deadline=None)
@given(some_lines, share, st.integers(3, 6), st.integers(1, 5), st.sampled_from([1, 48]))
def test_drain(lines: list[str], threshold: float, depth: int, max_child: int, scan_limit: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drain_module, "_SCAN_LIMIT", scan_limit)
        parser = Drain(st=threshold, depth=depth, max_child=max_child, mode="compat")
        assert per_line(parser.parse(lines)) == naive.drain(lines, threshold, depth, max_child)


@settings(max_examples=150, deadline=None)
@given(some_lines, st.integers(0, 3), share)
def test_ael(lines: list[str], min_event_count: int, merge_percent: float) -> None:
    parser = AEL(min_event_count=min_event_count, merge_percent=merge_percent, mode="compat")
    assert per_line(parser.parse(lines)) == naive.ael(lines, min_event_count, merge_percent)


@settings(max_examples=100, deadline=None)
@given(some_lines)
def test_lfa(lines: list[str]) -> None:
    assert per_line(LFA(mode="compat").parse(lines)) == naive.lfa(lines)


@settings(max_examples=200, deadline=None)
@given(some_lines, share, share)
@example(["c a c k", "b a b k", "d d c k", "b c a k", "c c d k"], 0.9, 0.25)  # as many words left on both sides
def test_iplom(lines: list[str], ct: float, lower_bound: float) -> None:
    parser = IPLoM(ct=ct, lower_bound=lower_bound, mode="compat")
    assert per_line(parser.parse(lines)) == naive.iplom(lines, ct, lower_bound)


@settings(max_examples=300, deadline=None)
@given(some_lines, share)
@example(["b e", "e c d a a", "b e d e a", "e", "b e c d e a"], 0.75)  # a node that still names a changed cluster
def test_spell(lines: list[str], tau: float) -> None:
    assert per_line(Spell(tau=tau, mode="compat").parse(lines)) == naive.spell(lines, tau)


@settings(max_examples=200, deadline=None)
@given(st.lists(words, max_size=12), st.lists(words, max_size=12))
def test_longest_common_subsequence_breaks_ties_as_the_reference(message: list[str], template: list[str]) -> None:
    assert _longest_common(message, template) == naive.lcs(message, template)


@pytest.mark.parametrize("parser_class", [Drain, AEL, LFA, IPLoM, Spell])
@settings(max_examples=100, deadline=None)
@given(lines=some_lines)
def test_fixed_templates_match_their_lines(parser_class: type[Parser], lines: Sequence[str]) -> None:
    parsed = parser_class(mode="fixed", masks=(r"\d",)).parse(lines)
    for template, content in zip(per_line(parsed), lines, strict=True):
        assert template_matches(template, content), (template, content)
    assert parsed.labels.dtype == np.int32
