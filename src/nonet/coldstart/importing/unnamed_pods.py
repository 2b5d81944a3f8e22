"""Requests of a log that names no pods, joined with known pods by function and time.

A pod was started by a request of its function that arrived shortly before it was created and had not ended when it was
ready. Most such requests of a busy function ran on other pods all the time. The one that waited is told by how long it
took: what is left of it after the pod was ready is as long as runs of the function are, the whole is longer. Run times
are learned from the log (first from requests that cannot have waited, then from all), and so is how long after its
request a pod is created. Pods and requests are matched together, one request a pod at most; a pod whose requests all
look as if they ran elsewhere gets none (it was made ahead, or in vain). Where there is too little to learn from, each
pod has the earliest request that it can have. Requests after the first known start of their function that started no
pod are warm; those before it stay unknown.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from nonet.coldstart.importing.run_times import RESOLUTION_US, RunTimes

if TYPE_CHECKING:
    from nonet.coldstart.importing.kubernetes_objects import PodFacts
    from nonet.coldstart.importing.pod_join import KnownPods

BEFORE_US = 10_000_000
"""An autoscaler that decides every 2 s creates a pod well within this time after the request arrived."""
_PROMPT_US = 3_000_000
"""Two ticks and the resolution: a pod is as likely created so long after its request as earlier."""
_DELAY_US = 2_000_000
_DELAY_BIN_US, _NUM_DELAYS = 500_000, 22
_PRIOR_WEIGHT = 5
_MAX_CANDIDATES = 256
_MAX_TOGETHER = 64
_MIN_RUNS = 20
_ROUNDS = 6
_RAN_ELSEWHERE = 2.0
"""Log odds against waiting from which on a request does not count as having waited."""
_WAITED = 2.0
"""Log odds from which it is as good as certain that a request waited for the pod."""
_TOGETHER_US = 1_000_000
_NEVER = 1e6


class Candidate(NamedTuple):
    """A request that may have started a pod: its arrival and end, its place in the log, its id."""

    arrive_us: int
    place: int
    request: str | None
    end_us: int | None


class UnnamedPods:
    """Candidates of each pod (first pass), then which request started it. Memory: up to 256 candidates a pod."""

    def __init__(self, known: KnownPods) -> None:
        self._pods: dict[str, list[PodFacts]] = {}
        for pod in known.pods:
            if pod.is_trusted:
                self._pods.setdefault(pod.function, []).append(pod)
        self._candidates: dict[str, list[Candidate]] = {}
        self._others: dict[str, RunTimes] = {name: RunTimes() for name in self._pods}
        self.triggers: dict[str, Candidate] = {}
        """The request that started each pod, by uid; known after `settle`."""

    def observe(self, frame: pl.DataFrame) -> None:
        """First pass: a frame with `_pod_key`, `_place`, function, arrive_us, end_us, request."""
        nameless = frame.filter(pl.col("_pod_key").is_null() & pl.col("function").is_in(list(self._pods)))
        for (name,), rows in nameless.group_by(["function"]):
            function = str(name)
            by_time = rows.sort("arrive_us", "_place").select("arrive_us", "_place", "request", "end_us")
            arrive_us, end_us = by_time["arrive_us"].to_numpy(), by_time["end_us"].to_numpy()
            may_have_waited = np.zeros(len(arrive_us), bool)
            for pod in self._pods[function]:
                ready_us = pod.ready_us or pod.created_us
                moments = [pod.created_us - BEFORE_US, pod.created_us + RESOLUTION_US, ready_us + RESOLUTION_US]
                first, last, joining = np.searchsorted(arrive_us, moments)
                may_have_waited[first:joining] |= ~(end_us[first:joining] < ready_us)
                found = first + np.flatnonzero(~(end_us[first:last] < ready_us))
                if len(found):
                    rivals = [*self._candidates.get(pod.uid, ()), *map(Candidate._make, by_time[found].rows())]
                    self._candidates[pod.uid] = heapq.nsmallest(
                        _MAX_CANDIDATES, rivals, key=partial(_distance, pod.created_us)
                    )
            took_us = (end_us - arrive_us)[~may_have_waited]
            self._others[function].add(took_us[~np.isnan(took_us)])

    def settle(self) -> None:
        """Between the passes."""
        for function, pods in self._pods.items():
            others, found = self._others[function], [c for pod in pods for c in self._candidates.get(pod.uid, ())]
            took = {c.place: c.end_us - c.arrive_us for c in found if c.end_us is not None}
            runs = others if len(others) >= _MIN_RUNS else None
            delays = np.zeros(_NUM_DELAYS)
            for _ in range(_ROUNDS):
                triggers, waited = self._matched(pods, runs, delays)
                if runs is None:
                    break
                known, delays = {place: t for place, t in took.items() if place not in waited}, np.zeros(_NUM_DELAYS)
                for pod in pods:
                    first = triggers.get(pod.uid)
                    if first is None:
                        continue
                    delays[_delay_bins(pod, np.array([first.arrive_us]))] += 1
                    if first.end_us is not None:
                        known[first.place] = max(first.end_us - (pod.ready_us or 0) - RESOLUTION_US // 2, 0)
                runs = others.with_times(np.array(list(known.values()), float))
            self.triggers |= triggers

    def _matched(
        self, pods: list[PodFacts], runs: RunTimes | None, delays: np.ndarray
    ) -> tuple[dict[str, Candidate], set[int]]:
        """The requests that started pods of one function, by uid, and the places of all that seem to have waited.

        Without run times, each pod has a request if it can.
        """
        from scipy.optimize import linear_sum_assignment

        triggers: dict[str, Candidate] = {}
        taken: set[int] = set()
        waited: set[int] = set()
        for together in _batches([pod for pod in pods if pod.uid in self._candidates]):
            lists = [[c for c in self._candidates[pod.uid] if c.place not in taken] for pod in together]
            columns = {place: k for k, place in enumerate(sorted({c.place for of in lists for c in of}))}
            costs = np.full((len(together), len(columns) + len(together)), _NEVER)
            costs[:, len(columns) :] = _RAN_ELSEWHERE if runs is not None else _NEVER / 2
            odds = [_log_odds(pod, of, runs) for pod, of in zip(together, lists, strict=True)]
            for row, (pod, of) in enumerate(zip(together, lists, strict=True)):
                costs[row, [columns[c.place] for c in of]] = _unlikely(pod, of, delays) - odds[row]
                waited |= {of[k].place for k in np.flatnonzero(odds[row] >= _WAITED)}
            chosen = linear_sum_assignment(costs)[1].tolist()
            taken |= {place for place, column in columns.items() if column in chosen}
            for pod, of, own_odds, column in zip(together, lists, odds, chosen, strict=True):
                match = next((c for c in of if columns[c.place] == column), None)
                if match is None:
                    continue
                # Requests that joined it in waiting came later: the earliest that waited asked for the pod.
                since_us = match.arrive_us - _TOGETHER_US
                joined = [c for c, k in zip(of, own_odds, strict=True) if k >= _WAITED and c.arrive_us >= since_us]
                free = [c for c in joined if c.place not in taken]
                triggers[pod.uid] = min([match, *free], key=lambda c: (c.arrive_us, c.place))
                taken.add(triggers[pod.uid].place)
        return triggers, waited

    def named(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Second pass: the frame with the pods that requests started."""
        by_place = {candidate.place: uid for uid, candidate in self.triggers.items()}
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


def _batches(pods: list[PodFacts]) -> Iterator[list[PodFacts]]:
    """Pods in order of creation, cut where two share no candidates, and where there are too many."""
    batch: list[PodFacts] = []
    for pod in pods:
        apart = batch and pod.created_us - batch[-1].created_us > BEFORE_US + RESOLUTION_US
        if batch and (apart or len(batch) == _MAX_TOGETHER):
            yield batch
            batch = []
        batch.append(pod)
    if batch:
        yield batch


def _distance(moment_us: int, candidate: Candidate) -> tuple[int, int]:
    return abs(candidate.arrive_us - moment_us), candidate.place


def _delay_bins(pod: PodFacts, arrive_us: np.ndarray) -> np.ndarray:
    delay_us = pod.created_us + RESOLUTION_US - arrive_us
    return np.clip(delay_us // _DELAY_BIN_US, 0, _NUM_DELAYS - 1).astype(np.int64)


def _log_odds(pod: PodFacts, of: list[Candidate], runs: RunTimes | None) -> np.ndarray:
    """How much likelier candidates waited for a pod than not, float64 (candidates,); 0 where nothing tells."""
    if runs is None:
        return np.zeros(len(of))
    arrive_us = np.array([c.arrive_us for c in of], float)
    end_us = np.array([np.nan if c.end_us is None else c.end_us for c in of], float)
    return np.nan_to_num(runs.log_odds(end_us - arrive_us, end_us - (pod.ready_us or pod.created_us)))


def _unlikely(pod: PodFacts, of: list[Candidate], delays: np.ndarray) -> np.ndarray:
    """What speaks against candidates because of when they arrived, as a logarithm, float64 (candidates,).

    Args:
        delays: how many requests of the function arrived so long before their pod was created, by bins.
    """
    arrive_us = np.array([c.arrive_us for c in of], float)
    prior = np.exp(-np.maximum(np.arange(_NUM_DELAYS) * _DELAY_BIN_US - _PROMPT_US, 0) / _DELAY_US)
    likely = np.log(prior / prior.sum() * _PRIOR_WEIGHT + delays)
    # Of requests that are equal otherwise, the earliest; of several pods, the first has the earliest.
    order = 0.01 * np.exp((arrive_us - pod.created_us) / RESOLUTION_US)
    return order + likely.max() - likely[_delay_bins(pod, arrive_us)]
