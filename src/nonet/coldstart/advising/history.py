"""Each cold start of a region with what went on around it: the request that waited, requests under way, idle time.

Memory: some 200 bytes a cold start, 100 a pod and function, 8 a tick (at most 4,096 a function); requests are read
batch by batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from nonet.coldstart.advising._history_kernels import MIN_LIMIT, answer_rest, follow
from nonet.common.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nonet.coldstart.trace.store import Trace

_MAX_TICKS = 4096
_NUM_GAP_BINS = 1600
_MATCH_US = 120_000_000
_OWN_WAIT_US = 100_000
"""A platform needs some time for every request; waits below this, or half a start, are not put down to a start."""
_DETAIL_NUMBERS = (
    "pull_us", "image_bytes", "num_failed_scheduling", "num_failed_pulls", "init_us", "failed_init_us", "restore_us",
    "memory_mb",
)  # fmt: skip
_DETAIL_TEXTS = ("kind", "revision", "image", "node_scale_up")
_REVISIONS = (r"([^/]+-\d{5})-deployment-", r"\[([^\]]+)\]", r"-([a-z0-9]{6,10})-[a-z0-9]{5}$")
"""Names of pods hold their revision: Knative, versions in AWS log streams, template hashes of Deployments."""


@dataclass(frozen=True, eq=False)
class History:
    """The cold starts of one region and what is known of its functions.

    Attributes:
        region: its name.
        names: the functions, sorted; other arrays over functions have this order.
        starts: a row a cold start, ordered by `moment_us` (arrival of the request that waited, else `at_us`), with the
            columns of the cold start table, those of its detail, and: `f` (index of the function), `trigger_us`
            (arrival of the request that waited, null when none is known), `wait_us` (what a user waited), `revision`,
            `in_flight` (requests of the function under way), `gap_us` (since the end of its latest request; -1 without
            an earlier one). `total_us` is null where only a request tells of the start.
        functions: the function table with a row for each of `names`.
        pods: pod, function, revision, create_us, end_us, last_us (end of its last request).
        warm_gaps: int64, gaps before warm requests, bins of 1 % (`exp(k / 100)` seconds).
        ticks: times of each function's calls, those within a second as one.
        calls: by function (those with requests), their number.
        num_requests, num_ahead: requests; pods that were started ahead on purpose (provisioned), not among `starts`.
        piggybacked: function, num, wait_us, at_us (of the first) of warm requests that had to wait for a start.
        formats: what the trace was made from.
    """

    region: str
    names: list[str]
    starts: pl.DataFrame
    functions: pl.DataFrame
    pods: pl.DataFrame
    warm_gaps: np.ndarray
    ticks: list[np.ndarray]
    calls: dict[str, int]
    num_requests: int
    num_ahead: int
    piggybacked: pl.DataFrame
    formats: tuple[str, ...]


def read_history(trace: Trace, region: str) -> History:
    """Read one region of a trace.

    Raises:
        InputError: an unknown region, or one without cold starts and requests.
    """
    requests = trace.scan("request", [region])
    cold_rows = requests.filter(pl.col("cold")).select("function", "pod", "request", "arrive_us", "start_us").collect()
    per_function = requests.group_by("function").len().collect(engine="streaming")
    starts, num_ahead = _starts(trace, region, cold_rows, has_requests=per_function.height > 0)
    names = sorted({*per_function["function"], *starts["function"]})
    if not names:
        raise InputError(f"{trace.path}: region {region} has neither requests nor cold starts; nothing to explain")
    place = pl.DataFrame({"function": names, "f": np.arange(len(names), dtype=np.int32)})
    starts = starts.join(place, on="function", maintain_order="left").sort("moment_us", maintain_order=True)
    followed = _Follower(starts, names, per_function)
    for arrays in _calls(trace, region, names) if per_function.height else _starts_as_calls(starts):
        followed.take(*arrays)
    starts = followed.finished(starts)
    return History(
        region=region,
        names=names,
        starts=starts,
        functions=place.join(_functions(trace, region), on="function", how="left", maintain_order="left"),
        pods=_pods(trace, region, starts),
        warm_gaps=followed.warm_gaps,
        ticks=followed.tick_lists(),
        calls=dict(per_function.iter_rows()),
        num_requests=int(per_function["len"].sum() or 0),
        num_ahead=num_ahead,
        piggybacked=_piggybacked(requests, starts),
        formats=tuple(trace.notes.get("formats") or ()),
    )


def _functions(trace: Trace, region: str) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(trace.functions(region))).unique("function", keep="first")


def _starts(trace: Trace, region: str, cold_rows: pl.DataFrame, *, has_requests: bool) -> tuple[pl.DataFrame, int]:
    """Cold starts of the table, then cold requests of which the table has no start; how many were made ahead."""
    table = trace.scan("coldstart", [region]).drop("region", "day").collect()
    numbers = [
        pl.col("detail").str.json_path_match(f"$.{name}").cast(pl.Float64, strict=False).cast(pl.Int64).alias(name)
        for name in _DETAIL_NUMBERS
    ]
    texts = [pl.col("detail").str.json_path_match(f"$.{name}").alias(name) for name in _DETAIL_TEXTS]
    table = table.with_columns(*numbers, *texts).with_columns(node_scale_up=pl.col("node_scale_up") == "true")
    ahead = table["kind"].is_in(["provisioned"]).fill_null(value=False)
    table = table.filter(~ahead).with_row_index("_start")
    cold_rows = cold_rows.with_row_index("_row")
    matched = _matched(table, cold_rows)
    table = table.join(matched, on="_start", how="left", maintain_order="left")
    alone = cold_rows.join(matched, on="_row", how="anti")
    alone = alone.select(
        "function", "pod", "request", at_us="arrive_us", trigger_us="arrive_us",
        trigger_wait_us=pl.col("start_us") - pl.col("arrive_us"),
    )  # fmt: skip
    whole = pl.concat([table.drop("_start", "_row"), alone], how="diagonal")
    without = pl.when(pl.lit(has_requests) & pl.col("request").is_null()).then(0).otherwise(pl.col("total_us"))
    whole = whole.with_columns(
        wait_us=pl.coalesce("trigger_wait_us", without).fill_null(0),
        moment_us=pl.coalesce("trigger_us", "at_us"),
        revision=pl.coalesce("revision", "image"),
    )
    return whole, int(ahead.sum())


def _matched(table: pl.DataFrame, cold_rows: pl.DataFrame) -> pl.DataFrame:
    """`_start`, `_row`, `trigger_us`, `trigger_wait_us`: the cold request that waited for each start, by pod, else by
    request id, else by function and moment; of several the nearest in time."""
    found = []
    for keys in (["function", "pod"], ["function", "request"]):
        right = cold_rows.filter(pl.col(keys[1]).is_not_null()).select(*keys, "_row", "arrive_us", "start_us")
        found.append(table.select("_start", "at_us", "total_us", *keys).join(right, on=keys))
    # Several starts of one function at the same moment are told apart by their order.
    keys = ["function", "at_us"]
    nth = pl.int_range(pl.len()).over(keys).alias("_nth")
    right = cold_rows.select("function", "_row", "start_us", "arrive_us", at_us="arrive_us").with_columns(nth)
    left = table.select("_start", "at_us", "total_us", "function").with_columns(nth)
    found.append(left.join(right, on=[*keys, "_nth"]))
    columns = ["_start", "at_us", "total_us", "_row", "arrive_us", "start_us"]
    pairs = pl.concat([frame.select(columns).with_columns(_way=k) for k, frame in enumerate(found)])
    pairs = pairs.with_columns(_apart=(pl.col("arrive_us") - pl.col("at_us")).abs())
    pairs = pairs.filter(pl.col("_apart") <= pl.col("total_us") + _MATCH_US).sort("_way", "_apart", "_start")
    pairs = pairs.unique("_start", keep="first", maintain_order=True).unique("_row", keep="first", maintain_order=True)
    wait = (pl.col("start_us") - pl.col("arrive_us")).clip(lower_bound=0)
    return pairs.select("_start", "_row", trigger_us="arrive_us", trigger_wait_us=wait)


def _pods(trace: Trace, region: str, starts: pl.DataFrame) -> pl.DataFrame:
    """Pods of the pod table and pods that only requests name; of pods without a start, the revision that their name
    holds, in functions where names hold what the starts say."""
    last = trace.scan("request", [region]).filter(pl.col("pod").is_not_null()).group_by("pod")
    used = last.agg(
        pl.col("function").first().alias("_function"),
        pl.col("end_us").max().alias("last_us"),
        pl.col("arrive_us").min().alias("_first_us"),
    ).collect(engine="streaming")
    table = trace.scan("pod", [region]).select("pod", "function", "create_us", "end_us").collect()
    joined = table.join(used, on="pod", how="full", coalesce=True).with_columns(
        function=pl.coalesce("function", "_function"), create_us=pl.coalesce("create_us", "_first_us")
    )
    in_name = pl.coalesce(*(pl.col("pod").str.extract(pattern) for pattern in _REVISIONS))
    told = starts.filter(pl.col("revision").is_not_null() & pl.col("pod").is_not_null())
    agrees = told.group_by("function").agg((in_name == pl.col("revision")).all().alias("_agrees"))
    told = told.select("pod", "revision").unique("pod", keep="first", maintain_order=True)
    joined = joined.join(told, on="pod", how="left").join(agrees, on="function", how="left")
    guessed = pl.when(pl.col("_agrees")).then(in_name)
    joined = joined.with_columns(revision=pl.coalesce("revision", guessed))
    return joined.drop("_function", "_first_us", "_agrees").sort("create_us", "pod")


def _piggybacked(requests: pl.LazyFrame, starts: pl.DataFrame) -> pl.DataFrame:
    middle = starts["total_us"].median()
    least_us = _OWN_WAIT_US if middle is None else min(_OWN_WAIT_US, round(middle / 2))  # type: ignore[arg-type,operator]
    waited = requests.filter(~pl.col("cold") & (pl.col("start_us") - pl.col("arrive_us") >= max(least_us, 1)))
    columns = [
        pl.len().alias("num"),
        (pl.col("start_us") - pl.col("arrive_us")).sum().alias("wait_us"),
        (pl.col("start_us") - pl.col("arrive_us")).median().alias("p50_us"),
        pl.col("arrive_us").min().alias("at_us"),
    ]
    return waited.group_by("function").agg(columns).collect(engine="streaming").sort("num", "function", descending=True)


def _calls(trace: Trace, region: str, names: list[str]) -> Iterator[tuple[np.ndarray, ...]]:
    wanted = pa.array(names, pa.string())
    for batch in trace.batches("request", [region], ["arrive_us", "end_us", "function", "cold"], ordered=True):
        arrive = batch.column(0).to_numpy(zero_copy_only=False).astype(np.int64)
        end = pc.coalesce(batch.column(1), batch.column(0)).to_numpy(zero_copy_only=False).astype(np.int64)
        function = pc.index_in(batch.column(2), wanted).to_numpy(zero_copy_only=False).astype(np.int32)
        warm = pc.fill_null(pc.invert(batch.column(3)), False).to_numpy(zero_copy_only=False)
        yield arrive, end, function, warm


def _starts_as_calls(starts: pl.DataFrame) -> Iterator[tuple[np.ndarray, ...]]:
    """Without requests, the starts themselves are the best that is known of the calls."""
    arrive = starts["moment_us"].to_numpy().astype(np.int64)
    end = arrive + starts["total_us"].fill_null(0).to_numpy().astype(np.int64)
    yield arrive, end, starts["f"].to_numpy().astype(np.int32), np.zeros(len(arrive), np.bool_)


class _Follower:
    """State of the pass over the calls (`_history_kernels.follow`)."""

    def __init__(self, starts: pl.DataFrame, names: list[str], per_function: pl.DataFrame) -> None:
        num, num_starts = len(names), starts.height
        self._query_us = starts["moment_us"].to_numpy().astype(np.int64)
        self._query_function = starts["f"].to_numpy().astype(np.int32)
        self._in_flight, self._gap_us = np.zeros(num_starts, np.int64), np.full(num_starts, -1, np.int64)
        self._state = np.array([0, 0, -1], np.int64)
        self._heads, self._counts = np.full(num, -1, np.int64), np.zeros(num, np.int64)
        self._limits = np.full(num, MIN_LIMIT, np.int64)
        self._node_end, self._node_next = np.zeros(4096, np.int64), np.zeros(4096, np.int64)
        self._last_arrive, self._last_end = np.full(num, -1, np.int64), np.full(num, -1, np.int64)
        self.warm_gaps = np.zeros(_NUM_GAP_BINS, np.int64)
        cold = np.bincount(self._query_function, minlength=num)
        calls = dict(per_function.iter_rows())
        most = np.array([calls.get(name, count) for name, count in zip(names, cold.tolist(), strict=True)], np.int64)
        room = np.where(cold >= 3, np.minimum(most, _MAX_TICKS), 0)
        self._tick_at = np.concatenate([[0], np.cumsum(room)]).astype(np.int64)
        self._num_ticks = np.zeros(num, np.int64)
        self._ticks = np.zeros(int(self._tick_at[-1]), np.int64)

    def take(self, arrive: np.ndarray, end: np.ndarray, function: np.ndarray, warm: np.ndarray) -> None:
        """Take a batch of calls."""
        begin = 0
        while True:
            begin = follow(
                arrive, end, function, warm, begin, self._query_us, self._query_function, self._in_flight,
                self._gap_us, self._state, self._heads, self._counts, self._limits, self._node_end, self._node_next,
                self._last_arrive, self._last_end, self.warm_gaps, self._tick_at, self._num_ticks, self._ticks,
            )  # fmt: skip
            if begin == len(arrive):
                return
            self._node_end = np.concatenate([self._node_end, np.zeros_like(self._node_end)])
            self._node_next = np.concatenate([self._node_next, np.zeros_like(self._node_next)])

    def finished(self, starts: pl.DataFrame) -> pl.DataFrame:
        """The starts with their answers."""
        answer_rest(
            self._query_us, self._query_function, self._in_flight, self._gap_us, self._state, self._heads,
            self._node_end, self._node_next, self._last_end,
        )  # fmt: skip
        return starts.with_columns(in_flight=self._in_flight, gap_us=self._gap_us)

    def tick_lists(self) -> list[np.ndarray]:
        """Ticks of each function."""
        at: Any = self._tick_at
        return [self._ticks[at[f] : min(at[f] + self._num_ticks[f], at[f + 1])] for f in range(len(self._num_ticks))]
