"""The moves of the reference MoLFI against brute force, its quirks by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nonet.logs.parsers.molfi import MoLFI
from nonet.logs.parsers.molfi_reference import (
    Cluster,
    ReferenceMessages,
    ReferenceSearch,
    ReferenceWords,
    kind_of_word,
    objectives,
    within_another,
)
from nonet.logs.parsers.molfi_search import SPECIAL, STAR, Template

KINDS = np.array([2, 2, 1, 0, 0, 0], np.int8)  # words 0 and 1 may vary, 2 is a mark, 3 a bracket
MESSAGES = st.lists(st.tuples(*[st.integers(-2, 3)] * 3), min_size=1, max_size=12, unique=True)
MATCHED = st.lists(st.frozensets(st.integers(0, 5), min_size=1), min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("at 12:30 on 1/2/2020 took 5 6 7 s", "at #spec# on #spec# took #spec# 6 #spec# s"),
        ("at 12:30:15  12:31", "at #spec# 12 : 31"),
        ("from /10.0.0.1:80, to 10.0.0.2", "from #spec# , to #spec#"),
        ("open a/var/log.txt /x 0xBEEF", "open #spec# /x #spec#"),
        ("id DEADBEEF00 deadbeef DEADBEEF 1.5 -3", "id #spec# #spec# DEADBEEF 1.5 -3"),
        ("f(x)={[1;'2']}<3>", "f ( x ) = { [ 1 ; ' 2 ' ] } < 3 >"),
        ("[ WARN ] a-->b conf.xml xml", "[WARN] a--> b #spec# xml"),
    ],
)
def test_words(text: str, words: str) -> None:
    assert ReferenceWords()(text) == tuple(words.split())


def test_masks_see_the_line_after_its_marks_stand_apart() -> None:
    assert ReferenceWords([r"=\d+", r"id-\w+"])("a=1 id-x9") == ("a", "=", "1", "#spec#")


def test_kinds_of_words() -> None:
    assert [kind_of_word(word) for word in ("[INFO]", "[", ":", "-->", "a", "#spec#")] == [0, 0, 1, 2, 2, 2]


@given(MATCHED)
def test_a_template_goes_when_one_other_has_all_its_messages(matched: list[frozenset[int]]) -> None:
    starts = np.cumsum([0, *map(len, matched)]).astype(np.int64)
    flat = np.array([message for each in matched for message in sorted(each)], np.int32)
    expected = [
        any(ours < theirs or (ours == theirs and at > here) for at, theirs in enumerate(matched))
        for here, ours in enumerate(matched)
    ]
    assert within_another(starts, flat, 6).tolist() == expected


def check_cluster(length: ReferenceMessages, cluster: Cluster) -> None:
    """All messages covered; each template matches what it says and has the objectives of the paper."""
    covered: set[int] = set()
    for template, specificity, frequency in zip(cluster.templates, cluster.specificity, cluster.frequency, strict=True):
        by_hand = [
            n
            for n, message in enumerate(length.tokens)
            if all(p < 0 or p == t for p, t in zip(template.pattern, message, strict=True))
        ]
        assert template.matched.tolist() == by_hand
        covered.update(by_hand)
        assert specificity == np.mean(template.pattern >= 0)
        assert frequency == (len(by_hand) / len(length.tokens) if specificity else 0)
    assert covered == set(range(len(length.tokens)))


@given(MESSAGES, st.integers(0, 100))
@settings(deadline=None)
def test_clusters_stay_covering(messages: list[tuple[int, ...]], seed: int) -> None:
    length = ReferenceMessages(np.array(messages, np.int32), KINDS, np.random.default_rng(seed))
    cluster = length.covering(())
    check_cluster(length, cluster)
    for _ in range(5):
        cluster = length.mutated(cluster)
        check_cluster(length, cluster)
    corrected = length.corrected(cluster)
    check_cluster(length, corrected)
    for template in corrected.templates:
        for column in np.flatnonzero(template.pattern < 0):
            values = set(length.tokens[template.matched, column].tolist())
            assert len(values) > 1 or min(values) < 0


def test_only_a_message_without_a_trivial_value_founds_a_template_with_a_variable() -> None:
    rows = np.array([(0, 1), (SPECIAL, 1), (2, 3), (1, 2)], np.int32)
    length = ReferenceMessages(rows, KINDS, np.random.default_rng(0))
    assert sorted(length._generalised(0).pattern.tolist()) in ([STAR, 0], [STAR, 1])
    assert length._generalised(1).pattern.tolist() == [SPECIAL, 1]
    assert length._generalised(2).pattern.tolist() == [2, 3]
    assert length._generalised(3).pattern.tolist() == [STAR, 2]
    alone = ReferenceMessages(np.array([(0,)], np.int32), KINDS, np.random.default_rng(0))
    assert alone._generalised(0).pattern.tolist() == [0]


def test_a_word_becomes_variable_only_where_more_messages_match_then() -> None:
    rows = np.array([(0, 0), (0, 1), (1, 2)], np.int32)
    for seed in range(20):
        length = ReferenceMessages(rows, KINDS, np.random.default_rng(seed))
        assert length._toggled(length._template(rows[0])).pattern.tolist() in ([0, 0], [0, STAR])
        assert length._toggled(length._template(rows[2])).pattern.tolist() == [1, 2]


def test_a_template_keeps_a_word_beside_brackets() -> None:
    rows = np.array([(3, 0, 0), (3, 1, 1)], np.int32)
    length = ReferenceMessages(rows, KINDS, np.random.default_rng(0))
    empty = length._template(np.array([3, STAR, STAR], np.int32))
    assert length._with_a_word(empty).pattern.tolist() in ([3, 0, STAR], [3, 1, STAR])
    with_mark = Template(np.array([2, STAR, STAR], np.int32), empty.matched)
    assert length._with_a_word(with_mark) is with_mark


def test_a_mutation_changes_one_length_with_probability_one_over_its_templates() -> None:
    rng = np.random.default_rng(0)
    lengths = [ReferenceMessages(np.array([(n,) for n in (0, 1)], np.int32), KINDS, rng) for _ in range(5)]
    search = ReferenceSearch(lengths, population=2, generations=0, crossover=0, rng=rng)
    parent = tuple(length.covering(()) for length in lengths)
    for _ in range(10):
        child = search._mutated(parent)
        assert sum(one is not other for one, other in zip(child, parent, strict=True)) == 1
    drawn = [
        sum(moved is not each for moved, each in zip(_toggles(length, cluster), cluster.templates, strict=True))
        for length, cluster in zip(lengths * 200, parent * 200, strict=True)
    ]
    assert np.mean(drawn) == pytest.approx(1, abs=0.1)


def _toggles(length: ReferenceMessages, cluster: Cluster) -> list[Template]:
    """The templates after the toggles of one mutation, each toggled one a new object."""
    moved: dict[int, Template] = {}

    def toggled(template: Template) -> Template:
        moved[id(template)] = Template(template.pattern, template.matched)
        return moved[id(template)]

    length._toggled = toggled  # type: ignore[method-assign]
    length.mutated(cluster)
    return [moved.get(id(each), each) for each in cluster.templates]


def test_a_tournament_prefers_dominance_then_the_crowded() -> None:
    search = ReferenceSearch([], population=2, generations=0, crossover=0, rng=np.random.default_rng(0))
    scores = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 0.0]])
    crowding = np.array([0.0, np.inf, 1.0])
    assert [search.winner(scores, crowding, a, b) for a, b in ((0, 1), (1, 0), (1, 2), (2, 1))] == [1, 1, 2, 2]
    assert [search.winner(scores, np.ones(3), a, b) for a, b in ((1, 2), (2, 1))] == [1, 2]


def test_objectives_are_means_over_all_templates() -> None:
    one = Cluster((), np.array([1.0, 0.5]), np.array([0.2, 0.4]))
    two = Cluster((), np.array([0.0]), np.array([0.0]))
    assert objectives([(one, two), (two,)]) == pytest.approx(np.array([[0.5, 0.2], [0.0, 0.0]]))


def test_lines_of_no_words_have_an_empty_template() -> None:
    parsed = MoLFI(mode="compat", generations=3).parse(["", "a b", "   "])
    assert parsed.templates == ["", "a b"]
    assert parsed.labels.tolist() == [0, 1, 0]
