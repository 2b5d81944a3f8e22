"""NSGA-II's rankings against brute force, and the invariants of MoLFI's chromosomes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nonet.common.errors import InputError
from nonet.logs.parsers.molfi import MoLFI
from nonet.logs.parsers.molfi_search import Chromosome, Cluster, MessagesOfLength, TemplateSearch, matching, objectives
from nonet.logs.parsers.nsga2 import crowded_order, crowding_distances, front_ranks, knee_point

POINTS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=10)
MESSAGES = st.lists(st.tuples(*[st.integers(0, 2)] * 3), min_size=1, max_size=12, unique=True)


def beats(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return all(x >= y for x, y in zip(a, b, strict=True)) and a != b


@given(POINTS)
def test_ranks_are_the_longest_chains_of_dominance(points: list[tuple[int, int]]) -> None:
    def depth(point: tuple[int, int]) -> int:
        return max((1 + depth(other) for other in points if beats(other, point)), default=0)

    assert front_ranks(np.array(points, float)).tolist() == [depth(point) for point in points]


@given(st.lists(st.integers(0, 50), min_size=3, max_size=10, unique=True))
def test_crowding_is_the_gap_between_neighbours(values: list[int]) -> None:
    points = np.array([(x, -x) for x in values], float)
    spread = max(values) - min(values)
    for x, distance in zip(values, crowding_distances(points), strict=True):
        below, above = [y for y in values if y < x], [y for y in values if y > x]
        expected = 2 * (min(above) - max(below)) / spread if below and above else np.inf
        assert distance == pytest.approx(expected)


@given(POINTS)
def test_crowded_order_puts_better_fronts_first(points: list[tuple[int, int]]) -> None:
    scores = np.array(points, float)
    order = crowded_order(scores)
    assert sorted(order) == list(range(len(points)))
    assert (np.diff(front_ranks(scores)[order]) >= 0).all()


def test_knee_is_farthest_from_the_line_between_the_ends() -> None:
    assert knee_point(np.array([[0, 10], [5, 9], [9, 6], [10, 0]], float)) == 2
    assert knee_point(np.array([[3.0, 3.0]])) == 0
    assert knee_point(np.array([[1.0, 0.2], [0.8, 1.0]])) == 1


def check_cluster(length: MessagesOfLength, cluster: Cluster) -> None:
    """Covers all messages; every template matches what it says, is corrected, and is needed by some message."""
    cover = np.zeros(len(length.tokens), int)
    for template in cluster.templates:
        by_hand = [
            n
            for n, message in enumerate(length.tokens)
            if all(p in (-1, t) for p, t in zip(template.pattern, message, strict=True))
        ]
        assert template.matched.tolist() == by_hand
        for column in np.flatnonzero(template.pattern == -1):
            assert len(set(length.tokens[by_hand, column])) > 1
        cover[by_hand] += 1
    assert (cover > 0).all()
    assert all((cover[template.matched] == 1).any() for template in cluster.templates)
    shares = [len(t.matched) / len(length.tokens) for t in cluster.templates]
    assert cluster.frequency == pytest.approx(sum(shares))
    assert cluster.specificity == pytest.approx(sum((t.pattern != -1).mean() for t in cluster.templates))


@given(MESSAGES, st.integers(0, 100))
@settings(deadline=None)
def test_clusters_stay_covering_corrected_and_needed(messages: list[tuple[int, ...]], seed: int) -> None:
    length = MessagesOfLength(np.array(messages, np.int32), np.random.default_rng(seed))
    cluster = length.covering(())
    check_cluster(length, cluster)
    for _ in range(5):
        cluster = length.mutated(cluster)
        check_cluster(length, cluster)


def test_search_ends_on_a_front_and_keeps_the_best() -> None:
    rng = np.random.default_rng(0)
    messages = [(0, n, 1) for n in range(8)] + [(2, 3, n) for n in range(4)]
    lengths = [MessagesOfLength(np.array(messages, np.int32), rng)]

    def best(generations: int) -> np.ndarray:
        rng = np.random.default_rng(1)
        lengths[0]._rng = rng
        search = TemplateSearch(lengths, population=8, generations=generations, crossover=0.7, rng=rng)
        return objectives([search.best()])[0]

    start, end = best(0), best(60)
    ideal = np.array([2 / 3, 0.5])  # (0, *, 1) and (2, 3, *)
    assert np.abs(end - ideal).sum() <= np.abs(start - ideal).sum()
    assert not (start > end).all()


class Scripted:
    """A generator that answers from a list, whatever the distribution."""

    def __init__(self, *answers: object) -> None:
        self._answers = list(answers)

    def random(self, size: int | None = None) -> np.ndarray | float:
        answer = np.asarray(self._answers.pop(0), float)
        assert answer.shape == (() if size is None else (size,))
        return answer

    def integers(self, high: int, size: tuple[int, ...] = ()) -> np.ndarray:
        answer = np.asarray(self._answers.pop(0))
        assert answer.shape == size
        assert (answer < high).all()
        return answer


def a_search(rng: object, population: int = 2) -> TemplateSearch:
    return TemplateSearch([], population=population, generations=0, crossover=0.7, rng=rng)  # type: ignore[arg-type]


def test_a_mutation_draws_each_template_with_probability_one_over_their_number() -> None:
    length = MessagesOfLength(np.array([(n, 0) for n in range(4)], np.int32), np.random.default_rng(0))
    cluster = length.covering([length.template(row) for row in length.tokens])
    assert len(cluster.templates) == 4
    for draws in ([0.25] * 4, [0.3, 0.49, 0.9, 0.26]):
        length._rng = Scripted(draws)  # type: ignore[assignment]
        assert length.mutated(cluster) is cluster  # a second draw would raise: the script is over
    length._rng = Scripted([0.3, 0.24, 0.3, 0.3])  # type: ignore[assignment]
    with pytest.raises(IndexError):
        length.mutated(cluster)


def test_a_crossover_happens_below_its_probability_and_swaps_below_one_half() -> None:
    left, right = (tuple(Cluster((), number, 0) for _ in range(3)) for number in range(2))
    assert a_search(Scripted(0.7))._crossed(left, right) == (left, right)
    first, second = a_search(Scripted(0.69, [0.4, 0.5, 0.6]))._crossed(left, right)
    assert first == (right[0], left[1], left[2])
    assert second == (left[0], right[1], right[2])


def test_a_tournament_goes_to_the_lower_place() -> None:
    population: list[Chromosome] = [(Cluster((), number, 0),) for number in range(4)]
    places = np.array([[3, 2], [1, 3], [0, 3], [1, 1], [2, 3]])
    search = a_search(Scripted(places), population=4)
    search._crossed = lambda left, right: (left, right)  # type: ignore[method-assign]
    search._mutated = lambda child: child  # type: ignore[method-assign]
    assert [population.index(child) for child in search._offspring(population)] == [2, 1, 0, 1]


def test_matching_treats_only_the_star_as_variable() -> None:
    tokens = np.array([[1, 2], [1, 3], [4, 2]], np.int32)
    assert matching(tokens, np.array([1, -1], np.int32)).tolist() == [0, 1]
    assert matching(tokens, np.array([4, 3], np.int32)).tolist() == []


def test_finds_the_templates_of_a_small_log() -> None:
    names = ("ann", "bob", "eve", "joe", "kim", "lea")
    lines = [f"user {name} used {n} GB" for n, name in enumerate(names)] + ["disk (sda) failed"]
    parsed = MoLFI(seed=3, generations=60).parse(lines)
    assert parsed.templates == ["user <*> used <*> GB", "disk (sda) failed"]
    compat = MoLFI(seed=3, generations=60, mode="compat").parse(lines)
    assert compat.templates == ["user * used #spec# GB", "disk ( sda ) failed"]


def test_same_seed_same_result() -> None:
    lines = [f"a {n % 3} b{n % 5} c{n % 7}" for n in range(30)]
    one, two = (MoLFI(seed=5, generations=10).parse(lines) for _ in range(2))
    assert one.templates == two.templates
    assert one.labels.tolist() == two.labels.tolist()


@pytest.mark.parametrize("bad", [{"population": 3}, {"population": 0}, {"generations": -1}, {"crossover": 1.5}])
def test_bad_settings_are_input_errors(bad: dict[str, float]) -> None:
    with pytest.raises(InputError, match=r"MoLFI: \w+ is"):
        MoLFI(**bad)
