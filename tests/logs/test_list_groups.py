"""How repeated groups of tokens become one token."""

from __future__ import annotations

import pytest

from nonet.logs.mining.merging import _list_plan
from nonet.logs.mining.tokens import WILD


def group(size: int) -> list[bytes]:
    """Tokens that do not repeat among themselves, a variable last."""
    return [b" w%d" % number for number in range(size - 1)] + [WILD]


@pytest.mark.parametrize(("size", "joined"), [(2, True), (7, True), (8, True), (9, False), (10, False)])
def test_groups_of_two_to_eight_tokens_are_joined(size: int, joined: bool) -> None:
    row = (b"list", *group(size), *group(size), b" end")
    spans = [(first, end) for first, end, _ in _list_plan(row)]
    one_by_one = [(at, at + 1) for at in range(len(row))]
    assert spans == ([(0, 1), (1, 1 + 2 * size), (1 + 2 * size, 2 + 2 * size)] if joined else one_by_one)


def test_a_group_without_a_variable_is_not_joined() -> None:
    row = (b"a", b" b", b" c", b" b", b" c", WILD, b" d", WILD)
    assert all(end == first + 1 for first, end, _ in _list_plan(row))
