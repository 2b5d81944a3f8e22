"""Bodies of requests; unknown fields, huge names and numbers that are none are refused with 422."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

KNOWN_ACTIONS = frozenset({"click", "like", "view", "cart", "purchase", "convert", "dislike", "share"})
"""Kinds with a counter of their own; others count together, so that clients cannot make metrics without end."""

Name = Annotated[str, Field(min_length=1, max_length=256)]
Finite = Annotated[float, Field(allow_inf_nan=False, ge=-3.4e38, le=3.4e38)]
Value = Annotated[str, Field(max_length=1024)] | Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]
Context = dict[Name, Value | Annotated[list[Value], Field(max_length=100_000)]]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Request(_Body):
    user: Name
    request_id: Annotated[str, Field(max_length=256)] = ""
    context: Context = {}
    dense: Annotated[list[Finite], Field(max_length=10_000)] = []


class Recommend(_Request):
    """Ask for the best items."""

    k: Annotated[int, Field(ge=1, le=1000)] = 20
    exclude: Annotated[list[Name], Field(max_length=10_000)] = []


class Rank(_Request):
    """Ask for the order of the items given."""

    items: Annotated[list[Name], Field(max_length=10_000)]
    shown: bool = False


class Action(_Body):
    """Tell what somebody did; `ts` in seconds since 1970, by default now."""

    request_id: Name
    item: Name
    action: Name = "click"
    value: Finite = 1.0
    ts: Annotated[float, Field(ge=0, le=1e11, allow_inf_nan=False)] | None = None
