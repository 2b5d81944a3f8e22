"""LogMine: worked examples of its quirks and their mending, and a plain rewriting of its pseudo-code as oracle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nonet.common.errors import InputError
from nonet.logs.parsers.logmine import LogMine, _join, _Patterns

LINE = st.lists(st.sampled_from("abc12"), min_size=1, max_size=5).map(" ".join)


def templates(lines: list[str], **settings: object) -> list[str]:
    parsed = LogMine(**settings).parse(lines)
    return [parsed.templates[label] for label in parsed.labels]


def plain_distance(left: list[str], right: list[str], k: float) -> float:
    longest = max(len(left), len(right))
    distance = 1.0
    for a, b in zip(left, right, strict=False):
        if a == b:
            distance -= k / longest
    return distance


def plain_groups(lines: list[str], max_dist: float, levels: int) -> list[int]:
    """Cluster of every line by the pseudo-code, compat: all near clusters are joined, a line's last one counts."""
    clusters = [(line.split(), {number}) for number, line in enumerate(lines)]
    for level in range(levels):
        above: list[tuple[list[str], set[int]]] = []
        for founder, members in clusters:
            near = [c for c in above if 0 != plain_distance(c[0], founder, 1) < max_dist * 100**level]
            for cluster in near:
                cluster[1].update(members)
            if not near:
                above.append((founder, set(members)))
        clusters = above
    return [max(c for c, (_, members) in enumerate(clusters) if line in members) for line in range(len(lines))]


@given(st.lists(LINE, max_size=12), st.sampled_from([0.002, 0.005, 0.009]), st.integers(1, 2))
@settings(deadline=None, max_examples=60)
def test_compat_groups_are_those_of_the_plain_pseudo_code(lines: list[str], max_dist: float, levels: int) -> None:
    ours = templates(lines, max_dist=max_dist, levels=levels, mode="compat")
    plain = plain_groups(lines, max_dist, levels)
    # Equal texts of two clusters are one group for us, so only "same cluster, same template" can be asked.
    for a in range(len(lines)):
        for b in range(a):
            if plain[a] == plain[b] and lines[a].split() != lines[b].split():
                assert ours[a] == ours[b]


def test_lines_at_half_distance_merge_on_the_second_level() -> None:
    lines = ["job 1 started on alpha", "job 2 started on beta", "halt"]
    merged = "job <*> started on <*>"
    assert templates(lines, max_dist=0.005) == [merged, merged, "halt"]
    assert templates(lines, max_dist=0.005, levels=1) == lines


def test_compat_repeats_do_not_join_their_own_kind() -> None:
    # Three tokens: 1 - 1/3 - 1/3 - 1/3 is not exactly 0, so repeats join; two tokens: exactly 0, so they do not.
    assert 1 - 1 / 3 - 1 / 3 - 1 / 3 != 0 == 1 - 1 / 2 - 1 / 2
    two = ["up a", "up a", "up b", "up a"]
    assert templates(two, max_dist=0.006, mode="compat") == ["up <*>", "up <*>", "up <*>", "up a"]
    assert templates(two, max_dist=0.006, mode="fixed") == ["up <*>"] * 4


def test_compat_blank_runs_survive_where_nothing_merged_and_masks_leave_nothing() -> None:
    assert templates(["a  b 10.0.0.1 c"], masks=(r"[\d.]+",), mode="compat") == ["a  b  c"]
    assert templates(["a  b 10.0.0.1 c"], masks=(r"[\d.]+",)) == ["a b <*> c"]


def test_joins_of_equal_clusters_are_kept_as_one() -> None:
    rows = [[0, 1, 2, 3]] * 50 + [[0, 1, 2, number] for number in range(4, 54)]
    patterns = _Patterns.of([np.array(row, np.int32) for row in rows])
    identities = patterns.identities()
    assert identities.tolist() == [0] * 50 + list(range(1, 51))
    pattern, kind, founds = _join(patterns.tokens, patterns.starts, identities, 1.0, 0.5, True)
    assert (pattern.tolist(), set(kind.tolist())) == (list(range(100)), {0})
    assert founds.tolist() == [True] * 50 + [False] * 50


def test_compat_drops_what_stands_before_the_alignment() -> None:
    lines = ["x y same same same", "same same same"]
    # Positional distance sees 1 of 5 columns equal; a threshold of 1 joins them.
    assert templates(lines, max_dist=0.01, mode="compat") == ["same same same"] * 2
    assert templates(lines, max_dist=0.01) == ["<*> <*> same same same"] * 2


@pytest.mark.parametrize("bad", [{"max_dist": 0}, {"k": 0}, {"levels": 0}, {"alpha": 0.5}, {"max_dist": float("nan")}])
def test_bad_settings_are_input_errors(bad: dict[str, float]) -> None:
    with pytest.raises(InputError, match=r"LogMine: \w+ is"):
        LogMine(**bad)
