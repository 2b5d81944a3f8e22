"""Which request had to wait for its pod: requests joined with what is known of pods.

Where a pod is known (Kubernetes), its earliest request triggered its start when it arrived before the pod was ready (to
the second that Kubernetes gives); others that arrived before only waited with it (piggy-backed). A request that its log
saw only when the pod was ready (the queue-proxy is part of the pod) arrived when the pod was created. Where nothing is
known of a pod, its first request is judged by the log alone: cold when the function had been called before and the log
had run for `HORIZON_US` already, else unknown (left-censored).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa

from nonet.coldstart.importing.kubernetes_objects import PodFacts
from nonet.coldstart.importing.unnamed_pods import Candidate, UnnamedPods
from nonet.common.errors import InputError

RESOLUTION_US = 1_000_000
HORIZON_US = 120_000_000
"""Longer than an idle pod lives by default on Knative (60 s window and 30 s grace)."""
_END_MARGIN_US = 60_000_000

PLACE = "_place"
READY = "_ready_us"
CREATED = "_created_us"
KEY = "_pod_key"
_UNKNOWN_KEY = pl.concat_str("function", "pod", separator="\0")
"""Of a pod that only requests name; two functions may use the same name."""


@dataclass(slots=True)
class _First:
    arrive_us: int
    place: int
    request: str | None


class KnownPods:
    """Pods by name and by address, and the requests that triggered them."""

    def __init__(self, pods: Iterable[PodFacts]) -> None:
        self.pods = sorted(pods, key=lambda pod: (pod.created_us, pod.uid))
        self.by_uid = {pod.uid: pod for pod in self.pods}
        self.window_start_us: int | None = None
        self._by_key: dict[str, list[PodFacts]] = {}
        self._triggers: dict[str, str] = {}
        for pod in self.pods:
            for key in {pod.name, pod.full_name, pod.ip}:
                if key:
                    self._by_key.setdefault(key, []).append(pod)

    def find(self, key: str | None, moment_us: int) -> PodFacts | None:
        """The pod of a name or address that lived at a moment; both are used again in the course of time."""
        best = None
        for pod in self._by_key.get(key or "", ()):
            if pod.created_us <= moment_us + RESOLUTION_US:
                best = pod
        if best is None or (best.end_us is not None and best.end_us + _END_MARGIN_US < moment_us):
            return None
        return best

    def named(self, key: str) -> list[PodFacts]:
        """All pods that ever had a name or an address."""
        return self._by_key.get(key, [])

    def set_trigger(self, uid: str, request: str | None) -> None:
        """Say which request started a pod."""
        self._triggers[uid] = request or ""

    def trigger_of(self, pod: PodFacts) -> str | None:
        """The id of the request that started a pod, "" when it has none, None when no request is known to have."""
        return self._triggers.get(pod.uid)

    def is_before_window(self, pod: PodFacts, margin_us: int) -> bool:
        """Whether a pod was created before the first request of the log; False without a log."""
        return self.window_start_us is not None and pod.created_us + margin_us < self.window_start_us


class FirstCalls:
    """The first request of each pod (first pass over a log), then the verdict on every request (second pass).

    Memory grows with the number of pods and functions, not of requests. Frames have the columns function, request,
    arrive_us, end_us, `_pod_key` (uid of a known pod, else function and name; null for none), `_ready_us` and
    `_created_us` (of a known pod that the log names, null otherwise) and `_place` (grows along the log).
    """

    def __init__(self, known: KnownPods | None, *, infer: bool = True) -> None:
        self._known = known
        self._infer = infer
        self._of_pod: dict[str, _First] = {}
        self._of_function: dict[str, int] = {}
        self._start_us: int | None = None
        self.num_censored = 0

    def observe(self, frame: pl.DataFrame) -> None:
        """First pass."""
        if frame.is_empty():
            return
        by_time = frame.sort("arrive_us", PLACE)
        first_us = int(by_time["arrive_us"][0])
        self._start_us = first_us if self._start_us is None else min(self._start_us, first_us)
        for name, arrive_us in by_time.group_by("function").agg(pl.col("arrive_us").first()).iter_rows():
            self._of_function[name] = min(arrive_us, self._of_function.get(name, arrive_us))
        pods = by_time.filter(pl.col(KEY).is_not_null())
        columns = [pl.col(name).first() for name in ("arrive_us", PLACE, "request")]
        for key, arrive_us, place, request in pods.group_by(KEY).agg(columns).iter_rows():
            first = self._of_pod.get(key)
            if first is None or (arrive_us, place) < (first.arrive_us, first.place):
                self._of_pod[key] = _First(arrive_us, place, request)

    def settle(self) -> None:
        """Between the passes: tell the known pods which request started them."""
        if self._known is None or self._start_us is None:
            return
        earlier = self._known.window_start_us
        self._known.window_start_us = self._start_us if earlier is None else min(earlier, self._start_us)
        for uid, pod in self._known.by_uid.items():
            first = self._of_pod.get(uid)
            trusted = pod.ready_us is not None and pod.is_trusted
            if first is not None and trusted and first.arrive_us < (pod.ready_us or 0) + RESOLUTION_US:
                self._known.set_trigger(uid, first.request)

    def adopt(self, uid: str, candidate: Candidate) -> None:
        """Between the passes: a request that names no pod started this one."""
        if self._known is not None and uid not in self._of_pod:
            self._of_pod[uid] = _First(candidate.arrive_us, candidate.place, candidate.request)
            self._known.set_trigger(uid, candidate.request)

    def judged(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Second pass: the frame with `cold`, `start_us` moved to when a known pod was ready, and `arrive_us` to when
        it was created where the log saw the request that started it only later."""
        firsts = self._firsts(frame)
        is_first = pl.col("_first_place") == pl.col(PLACE)
        known = pl.col(READY).is_not_null()
        waited = pl.col("arrive_us") < pl.col(READY) + RESOLUTION_US
        start_us = self._start_us or 0
        late = (pl.col("arrive_us") >= start_us + HORIZON_US) & (pl.col("_function_us") < pl.col("arrive_us"))
        guess = pl.when(late).then(pl.lit(True)).otherwise(None) if self._infer else pl.lit(None, pl.Boolean)
        cold = (
            pl.when(pl.col(KEY).is_null())
            .then(None)
            .when(~is_first)
            .then(pl.lit(False))
            .when(known)
            .then(waited)
            .otherwise(guess)
        )
        start = pl.max_horizontal("start_us", pl.when(waited).then(pl.col(READY)))
        late_seen = known & is_first & waited & (pl.col("arrive_us") >= pl.col(READY))
        arrive = pl.when(late_seen).then(pl.min_horizontal("arrive_us", CREATED)).otherwise("arrive_us")
        judged = firsts.with_columns(
            cold.alias("cold"), pl.min_horizontal(start, "end_us").alias("start_us"), arrive.alias("arrive_us")
        )
        self.num_censored += int(judged.select((is_first & ~known & pl.col("cold").is_null()).sum()).item())
        return judged

    def _firsts(self, frame: pl.DataFrame) -> pl.DataFrame:
        keys = frame[KEY].drop_nulls().unique().to_list()
        names = frame["function"].unique().to_list()
        places = {KEY: keys, "_first_place": [self._of_pod[key].place for key in keys]}
        functions = {"function": names, "_function_us": [self._of_function[name] for name in names]}
        return frame.join(
            pl.DataFrame(places, {KEY: pl.String, "_first_place": pl.Int64}), on=KEY, how="left", maintain_order="left"
        ).join(
            pl.DataFrame(functions, {"function": pl.String, "_function_us": pl.Int64}),
            on="function",
            how="left",
            maintain_order="left",
        )


def with_places(frames: Iterator[pl.DataFrame], known: KnownPods | None) -> Iterator[pl.DataFrame]:
    """The frames (with pod, arrive_us, end_us) with `_place`, `_pod_key` and `_ready_us`; pods that are known also set
    `pod` to their full name and `function` to theirs."""
    place = 0
    for frame in frames:
        numbered = frame.with_columns(pl.int_range(place, place + frame.height, dtype=pl.Int64).alias(PLACE))
        place += frame.height
        if known is None:
            unknown = (pl.lit(None, pl.Int64).alias(name) for name in (READY, CREATED))
            yield numbered.with_columns(_UNKNOWN_KEY.alias(KEY), *unknown)
        else:
            yield _with_known(numbered, known)


def _with_known(frame: pl.DataFrame, known: KnownPods) -> pl.DataFrame:
    moments = frame.select(pl.coalesce("end_us", "arrive_us")).to_series().to_list()
    found = [known.find(key, moment) for key, moment in zip(frame["pod"].to_list(), moments, strict=True)]
    ready = [pod.ready_us if pod is not None and pod.is_trusted else None for pod in found]
    named = pl.DataFrame(
        {
            KEY: [None if pod is None else pod.uid for pod in found],
            READY: ready,
            CREATED: [None if pod is None else pod.created_us for pod in found],
            "_name": [None if pod is None else pod.full_name for pod in found],
            "_function": [None if pod is None else pod.function for pod in found],
        },
        {KEY: pl.String, READY: pl.Int64, CREATED: pl.Int64, "_name": pl.String, "_function": pl.String},
    )
    return frame.hstack(named).with_columns(
        pl.coalesce(KEY, _UNKNOWN_KEY).alias(KEY),
        pl.coalesce("_name", "pod").alias("pod"),
        pl.coalesce("_function", "function").alias("function"),
    )


def judge_log(
    frames: Iterator[pl.DataFrame], calls: FirstCalls, known: KnownPods | None, spool: Path
) -> Iterator[pl.DataFrame]:
    """Both passes over a log; the frames judged.

    Args:
        frames: the requests, all frames with the same columns.
        calls: fresh; counts the censored.
        known: pods that are known.
        spool: a file that keeps the frames between the passes; it is removed.

    Raises:
        InputError: the disk is full.
    """
    sink: pa.ipc.RecordBatchFileWriter | None = None
    unnamed = None if known is None else UnnamedPods(known)
    try:
        with spool.open("wb") as file:
            for frame in with_places(frames, known):
                calls.observe(frame)
                if unnamed is not None:
                    unnamed.observe(frame)
                rows = frame.to_arrow()
                if sink is None:
                    sink = pa.ipc.new_file(file, rows.schema, options=pa.ipc.IpcWriteOptions(compression="zstd"))
                sink.write_table(rows)
            if sink is not None:
                sink.close()
        calls.settle()
        if sink is not None:
            yield from _second_pass(spool, calls, unnamed)
    except OSError as error:
        raise InputError(f"{spool.parent}: cannot write ({error.strerror or error}); free space") from error
    finally:
        spool.unlink(missing_ok=True)


def _second_pass(spool: Path, calls: FirstCalls, unnamed: UnnamedPods | None) -> Iterator[pl.DataFrame]:
    if unnamed is not None:
        unnamed.settle()
        for uid, candidate in unnamed.triggers.items():
            calls.adopt(uid, candidate)
    with pa.ipc.open_file(spool.open("rb")) as source:
        for number in range(source.num_record_batches):
            frame = pl.DataFrame(pl.from_arrow(source.get_batch(number)))
            if unnamed is None:
                yield calls.judged(frame)
                continue
            judged = calls.judged(unnamed.named(frame))
            yield judged.with_columns(pl.when(unnamed.warm()).then(pl.lit(value=False)).otherwise("cold").alias("cold"))
