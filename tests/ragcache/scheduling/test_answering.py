"""Streamed text never shows a part of a stop text, and holds back no more than it must."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nonet.ragcache.scheduling.answering import Answer


class Pieces:
    """Token n is the n-th piece of a text."""

    def __init__(self, pieces):
        self._pieces = pieces

    def push(self, token_id):
        return self._pieces[token_id]


def streamed(pieces, stops):
    answer = Answer(Pieces(pieces), stops)
    shown = [answer.push(number) for number in range(len(pieces))]
    return shown, answer.rest(), answer.stopped


def test_the_longest_beginning_of_a_stop_text_is_held_back():
    assert streamed("xaab", ["aab"]) == (["x", "", "", ""], "", True)
    assert streamed("aaaab", ["aab"]) == (["", "", "a", "a", ""], "", True)
    assert streamed("abac", ["abad"]) == (["", "", "", "abac"], "", False)
    assert streamed(["a", "ba"], ["abad"]) == (["", ""], "aba", False)


@pytest.mark.parametrize("stops", [["b"], ["ab", "b"], ["b", "ab"]])
def test_of_several_stop_texts_the_earliest_place_counts(stops):
    shown, rest, stopped = streamed(["xab", "y"], stops)
    assert ("".join(shown), rest, stopped) == ("x" if "ab" in stops else "xa", "", True)


@given(
    st.lists(st.text("ab", min_size=1, max_size=3), max_size=12),
    st.lists(st.text("ab", min_size=1, max_size=5), max_size=3),
)
def test_streamed_text_is_the_whole_text_up_to_a_stop_text(pieces, stops):
    shown, rest, stopped = streamed(pieces, stops)
    text = ""
    for piece in pieces:  # what has come when the first stop text is complete, cut where one begins
        text += piece
        if any(stop in text for stop in stops):
            break
    expected = min((text[: text.find(stop)] for stop in stops if stop in text), key=len, default=text)
    assert "".join(shown) + rest == expected
    assert stopped == any(stop in text for stop in stops)
    # All that no stop text can begin with any more is shown at once.
    if not stopped:
        held = [size for size in range(1, len(text) + 1) if any(stop.startswith(text[-size:]) for stop in stops)]
        assert len(rest) == max(held, default=0)
