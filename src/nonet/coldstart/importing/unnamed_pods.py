"""Requests of a log that names no pods, joined with known pods by function and time.

A pod was started by a request of its function that arrived shortly before it was created and had not ended when it was
ready. Pods are served in the order they were created, each with the earliest such request that is left. Requests after
the first known start of their function that started no pod are warm; those before it stay unknown.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from nonet.coldstart.importing.kubernetes_objects import PodFacts
    from nonet.coldstart.importing.pod_join import KnownPods

BEFORE_US = 10_000_000
"""An autoscaler that decides every 2 s creates a pod well within this time after the request arrived."""
_RESOLUTION_US = 1_000_000
_MAX_CANDIDATES = 256

Candidate = tuple[int, int, str | None]
"""Arrival, place in the log, id."""


class UnnamedPods:
    """Candidates of each pod (first pass), then which request started it. Memory grows with the number of pods."""

    def __init__(self, known: KnownPods) -> None:
        self._pods: dict[str, list[PodFacts]] = {}
        for pod in known.pods:
            if pod.is_trusted:
                self._pods.setdefault(pod.function, []).append(pod)
        self._candidates: dict[str, list[tuple[int, int, str | None]]] = {}
        self.triggers: dict[str, Candidate] = {}
        """The request that started each pod, by uid; known after `settle`."""

    def observe(self, frame: pl.DataFrame) -> None:
        """First pass: a frame with `_pod_key`, `_place`, function, arrive_us, end_us, request."""
        nameless = frame.filter(pl.col("_pod_key").is_null() & pl.col("function").is_in(list(self._pods)))
        for (function,), rows in nameless.group_by(["function"]):
            first_us, last_us = rows["arrive_us"].min(), rows["arrive_us"].max()
            for pod in self._pods[str(function)]:
                ready_us = pod.ready_us or pod.created_us
                if pod.created_us - BEFORE_US <= last_us and ready_us + _RESOLUTION_US > first_us:  # type: ignore[operator]
                    waiting = rows.filter(
                        (pl.col("arrive_us") >= pod.created_us - BEFORE_US)
                        & (pl.col("arrive_us") < pod.created_us + _RESOLUTION_US)
                        & (pl.col("end_us").is_null() | (pl.col("end_us") >= ready_us))
                    )
                    known = self._candidates.get(pod.uid, [])
                    found = waiting.select("arrive_us", "_place", "request").rows()
                    self._candidates[pod.uid] = heapq.nsmallest(_MAX_CANDIDATES, [*known, *found], key=lambda c: c[:2])

    def settle(self) -> None:
        """Between the passes."""
        taken: set[int] = set()
        for pods in self._pods.values():
            for pod in pods:
                free = (c for c in self._candidates.get(pod.uid, ()) if c[1] not in taken)
                first = next(free, None)
                if first is not None:
                    taken.add(first[1])
                    self.triggers[pod.uid] = first

    def named(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Second pass: the frame with the pods that requests started."""
        by_place = {candidate[1]: uid for uid, candidate in self.triggers.items()}
        pods = {pod.uid: pod for pods in self._pods.values() for pod in pods}
        found = [(place, by_place[place]) for place in frame["_place"].to_list() if place in by_place]
        rows = [(place, uid, pods[uid].ready_us, pods[uid].full_name) for place, uid in found]
        schema = {"_place": pl.Int64, "_uid": pl.String, "_uid_ready": pl.Int64, "_uid_name": pl.String}
        joined = frame.join(pl.DataFrame(rows, schema, orient="row"), on="_place", how="left", maintain_order="left")
        return joined.with_columns(
            pl.coalesce("_pod_key", "_uid").alias("_pod_key"),
            pl.coalesce("_ready_us", "_uid_ready").alias("_ready_us"),
            pl.coalesce("pod", "_uid_name").alias("pod"),
        )

    def warm(self) -> pl.Expr:
        """Of judged rows that name no pod, whether their function has known starts up to then."""
        first_us = {function: pods[0].created_us for function, pods in self._pods.items()}
        since = pl.col("function").replace_strict(first_us, default=None, return_dtype=pl.Int64)
        return pl.col("_pod_key").is_null() & (since <= pl.col("arrive_us")).fill_null(value=False)
