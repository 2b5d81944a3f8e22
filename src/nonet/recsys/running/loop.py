"""All of a job on one machine: events come in over HTTP or the log, fresher answers go out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from nonet.common.errors import NonetError
from nonet.common.service import Service
from nonet.recsys.config import MAIN_ARM, JobFile, Purpose
from nonet.recsys.example import ActionEvent, Example, encode
from nonet.recsys.joining import Joiner
from nonet.recsys.logs import Log, LogUnavailableError, Record
from nonet.recsys.running import keeping
from nonet.recsys.running.arms import FurtherArm, arm_group, arm_status, make_arm, plain
from nonet.recsys.running.control import say_ended, say_running
from nonet.recsys.running.items import Items
from nonet.recsys.running.learning import Learner, named_items
from nonet.recsys.running.metrics import LoopMetrics
from nonet.recsys.running.parts import build_trainer, feature_roles, joining_of, open_job_log
from nonet.recsys.running.saving import Saves
from nonet.recsys.serving import Assignment, Catalogue, Recommender, make_serving_app
from nonet.recsys.sharding import ShardDownError, ShardedTable
from nonet.recsys.syncing import DeltaPublisher, InProcessLink
from nonet.recsys.syncing.frames import NUM_BUCKETS
from nonet.recsys.training import checkpoint
from nonet.recsys.training.trainer import Trainer

TRAINER_GROUP = "trainer"
_CLOCK = "-clock"
_PATIENCE_S = 60.0
_ALL_BUCKETS = np.ones(NUM_BUCKETS, bool)


class Loop:
    """A running job.

    Threads: joiner; trainer, which also expires, snapshots and repairs shards between two steps; sync; HTTP; one for
    each further arm (see `arms`). A restart goes on from the last snapshot and replays the examples that came after it.
    Items are those of the snapshot, those given, and those of the examples.

    Args:
        job: the file.
        items: attributes of items to begin with.
        token: bearer token of the server.
        clock: seconds since 1970.

    Raises:
        InputError: a job that cannot run, a snapshot of another one, or another process that runs it.
        LogUnavailableError: the brokers do not answer.

    >>> from tempfile import TemporaryDirectory
    >>> from nonet.recsys import load_job
    >>> from nonet.recsys.running.starting import Columns, write_job
    >>> with TemporaryDirectory() as folder:
    ...     _ = write_job(folder, Columns())  # as `nonet recsys init`
    ...     job = load_job(f"{folder}/job.yaml")
    ...     free = job.model_copy(update={"http": job.http.model_copy(update={"port": 0})})
    ...     with Loop(free, items={"i1": {}, "i2": {}}) as loop:
    ...         loop.status()["items"], loop.recommender.recommend("u1", 1).source
    (2, 'default')
    """

    def __init__(
        self,
        job: JobFile,
        *,
        items: Items | None = None,
        token: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.job, self._clock = job, clock
        self._stop, self._ended, self._shard_is_down = threading.Event(), threading.Event(), threading.Event()
        self._failure: BaseException | None = None
        self._saves = Saves(self._save, job.snapshot.interval, "the job")
        self._threads: list[threading.Thread] = []
        self.recoveries = 0
        """Shards that failed and were replaced."""
        self.expired = 0
        """Keys that were expired since the start."""
        self._home = ExitStack()
        with ExitStack() as opened:
            self._open(opened, items or {}, token)
            self._home = opened.pop_all()

    def _open(self, opened: ExitStack, items: Items, token: str | None) -> None:
        job = self.job
        if keeping.is_snapshot(job.snapshot.path):
            keeping.bring_back_dictionaries(job.snapshot.path, job)
        features = feature_roles(job.features, job.features.encoders(job.dictionaries))
        for encoder in features.encoders.values():
            if encoder.dictionary is not None:
                opened.callback(encoder.dictionary.close)
        self.log: Log = opened.enter_context(open_job_log(job))
        self.joiner = opened.enter_context(
            Joiner(
                self.log,
                job.joiner.spill,
                joining_of(job),
                clock=self._clock,
                encoders=features.encoders,
                item=features.item,
            )
        )
        self.catalogue = Catalogue(features)
        self.trainer, event_ts_ms = self._trainer()
        for item, attributes in items.items():
            self.catalogue.put(item, attributes)
        self._shard(opened)
        self.tables: dict[str, Any] = {table.name: table for table in self.trainer.distinct_tables}
        self.arm = make_arm(MAIN_ARM, job, self.trainer, self.catalogue)
        self.replica = self.arm.replica
        self.publisher = DeltaPublisher(self.tables)
        self.publisher.attach(MAIN_ARM, InProcessLink(self.replica))
        self.further = [FurtherArm(job, name, self.log, self.catalogue) for name in job.arms if name != MAIN_ARM]
        self.learner = Learner(
            self.log,
            job.log.topic("examples"),
            self.trainer,
            num_dense=len(job.features.dense),
            batch_rows=job.trainer.batch_size,
            fake_negatives=job.labels.late == "fake_negative",
            seen=self._learn_items,
        )
        self.learner.event_ts_ms = self._expired_ms = event_ts_ms
        self.recommender = Recommender(
            [self.arm, *(one.arm for one in self.further)],
            assignment=Assignment({name: arm.share for name, arm in job.arms.items()}),
            log=self.log,
            features_topic=job.log.topic("features"),
            actions_topic=job.log.topic("actions"),
            clock=self._clock,
        )
        app = make_serving_app(self.recommender, token=token)
        app.state.registry.register(LoopMetrics(self.status))
        app.get("/v1/status")(self.status)
        app.post("/v1/snapshot")(self.snapshot)
        self.service = Service(app, job.http.host, job.http.port, has_token=token is not None)
        opened.callback(self.service.stop)

    def _trainer(self) -> tuple[Trainer, int]:
        place = self.job.snapshot.path
        if not keeping.is_snapshot(place):
            return build_trainer(self.job), 0
        trainer, items, event_ts_ms = keeping.load(place, self.job)
        for item, ids in items.items():
            self.catalogue.put_ids(item, ids)
        return trainer, event_ts_ms

    def _shard(self, opened: ExitStack) -> None:
        shards = self.job.shards
        if shards.count == 1 and shards.run == "thread":
            return
        fresh = {
            id(table): opened.enter_context(ShardedTable(table, shards.count, shards.run))
            for table in self.trainer.distinct_tables
        }
        of_feature: dict[str, Any] = {name: fresh[id(table)] for name, table in self.trainer.tables.items()}
        self.trainer.use_tables(of_feature)

    @property
    def address(self) -> str:
        """Of the server."""
        return self.service.address

    def start(self) -> Loop:
        """Begin; returns when requests are answered."""
        self._began_s = self._clock()
        self._saves.write()
        self._put_dense()
        self._publish()
        for one in self.further:
            one.publish()
        self.service.start()
        place = self.job.snapshot.path
        self._home.callback(say_ended, place, say_running(place, self.address))
        runs: dict[str, Callable[[], None]] = {"joiner": self._join, "trainer": self._train, "sync": self._sync}
        runs |= {arm_group(one.arm.name): partial(one.run, self._stop) for one in self.further}
        self._threads = [threading.Thread(target=self._run, args=(run,), name=name) for name, run in runs.items()]
        for thread in self._threads:
            thread.start()
        return self

    def wait(self, timeout_s: float | None = None) -> bool:
        """Sleep until somebody stops it or a part of it fails; False: the time is over."""
        return self._ended.wait(timeout_s)

    def finish(self) -> None:
        """Ask it to end; `stop` does the rest. A signal handler may call it."""
        self._ended.set()

    def stop(self) -> None:
        """End in order: no more requests, what is read is joined and learned, a snapshot, a last sync.

        Raises:
            NonetError: what ended a part of it before.
        """
        try:
            self.service.stop()
            self._stop.set()
            self._ended.set()
            for thread in self._threads:
                thread.join()
            if self._failure is None:
                if self._shard_is_down.is_set():
                    self._recover()
                self._saves.write()
                for one in self.further:
                    one.saves.write()
        finally:
            self._home.close()
        if self._failure is not None:
            raise self._failure

    def __enter__(self) -> Loop:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # What others may ask, from any thread.

    def status(self) -> dict[str, Any]:
        """Numbers of the moment, as JSON values."""
        learner, counts, applied = self.learner, self.joiner.counts, self.trainer.applied
        now_s = self._clock()
        learners = {self.arm: learner, **{one.arm: one.learner for one in self.further}}
        arms = {arm.name: arm_status(arm, own, now_s) for arm, own in learners.items()}
        main = arms[MAIN_ARM]
        tried = applied.updated + applied.created + applied.filtered
        return {
            "now_s": now_s,
            "up_s": now_s - self._began_s,
            "staleness_s": main["staleness_s"],
            "epoch": main["epoch"],
            "items": len(self.catalogue),
            "keys": main["keys"],
            "lag": self._lags(),
            "joined": {name: getattr(counts, name) for name in counts.__struct_fields__},
            "learned": learner.rows,
            "rejected": learner.rejected,
            "poison": learner.poison,
            "trimmed": learner.trimmed,
            "admitted": (applied.updated + applied.created) / tried if tried else None,
            "expired": self.expired,
            "recoveries": self.recoveries,
            "snapshot": self._snapshot_status(),
            "windows": [plain(asdict(window)) for window in list(learner.windows)],
            "arms": {name: {"share": self.job.arms[name].share, **said} for name, said in arms.items()},
        }

    def _snapshot_status(self) -> dict[str, Any]:
        """Of all arms: the oldest snapshot, and what failed."""
        said = [saves.status() for saves in self._all_saves()]
        ages = [one["age_s"] for one in said]
        return {
            "age_s": None if None in ages else max(ages),
            "failures": sum(one["failures"] for one in said),
            "failure": next((one["failure"] for one in said if one["failure"]), None),
        }

    def _lags(self) -> dict[str, int] | None:
        """None while the log does not answer: then the other numbers matter most."""
        try:
            return log_lags(self.log, self.job)
        except LogUnavailableError:
            return None

    def snapshot(self) -> dict[str, Any]:
        """Write a snapshot now, between two steps of the trainer.

        Raises:
            HTTPException: it cannot be written, the trainer has ended, or takes longer than a minute (503).
        """
        from fastapi import HTTPException

        for saves in self._all_saves():
            if failure := saves.ask(_PATIENCE_S):
                raise HTTPException(503, f"no snapshot: {failure}")
        return {"path": str(self.job.snapshot.path.resolve()), "offsets": dict(self.trainer.offsets)}

    def _all_saves(self) -> list[Saves]:
        return [self._saves, *(one.saves for one in self.further)]

    # Threads.

    def _run(self, run: Callable[[], None]) -> None:
        try:
            run()
        except BaseException as error:  # whoever waits raises it
            self._failure = self._failure or error
            self._stop.set()
            self._ended.set()

    def _join(self) -> None:
        self._beat_due_s = time.monotonic()
        self.joiner.run(stop=self._stop, idle=self._beat, patience_s=_PATIENCE_S)

    def _beat(self) -> None:
        """Let event time follow the clock while rows wait and nobody comes."""
        interval_s = self.job.joiner.heartbeat
        if interval_s is None or time.monotonic() < self._beat_due_s or not self.joiner.num_waiting:
            return
        self._beat_due_s = time.monotonic() + interval_s
        now_ms = int(self._clock() * 1000)
        tick = Record(b"", encode(ActionEvent(request_id=b"-", item_id=b"-", ts_ms=now_ms, action=_CLOCK)), now_ms)
        topic = self.job.log.topic("actions")
        for partition in range(self.log.num_partitions(topic)):
            self.log.append(topic, partition, [tick])

    def _train(self) -> None:
        dense_s = commit_s = well_s = time.monotonic()
        while not self._stop.is_set():
            try:
                if self._shard_is_down.is_set():
                    self._recover()
                num = self.learner.step()
                self._expire()
                well_s = now_s = time.monotonic()
                if now_s >= dense_s + self.job.dense_sync_interval:
                    self._put_dense()
                    dense_s = now_s
                self._saves.write_if_due()
                if now_s >= commit_s + 1 or not num:
                    self._commit()
                    commit_s = now_s
                if not num:
                    self.learner.wait(min(0.2, self.job.dense_sync_interval))
            except ShardDownError:
                self._shard_is_down.set()
            except LogUnavailableError:
                if time.monotonic() - well_s > _PATIENCE_S:
                    raise
                self._stop.wait(0.5)

    def _sync(self) -> None:
        due_s = time.monotonic() + self.job.sync_interval
        while not self._stop.wait(max(0.0, due_s - time.monotonic())):
            self._publish()
            due_s = max(due_s + self.job.sync_interval, time.monotonic())
        self._publish()

    def _publish(self) -> None:
        try:
            published = self.publisher.publish(event_ts_ms=self.learner.event_ts_ms)
        except ShardDownError:
            self._shard_is_down.set()  # the trainer repairs it, and then every bucket is sent whole
            return
        if published.refused:
            raise NonetError(f"the replica refuses: {published.refused[MAIN_ARM]}")

    # Between two steps.

    def _put_dense(self) -> None:
        self.publisher.put_dense(MAIN_ARM, self.trainer.dense_state(), event_ts_ms=self.learner.event_ts_ms)

    def _save(self) -> None:
        keeping.save(
            self.job.snapshot.path,
            self.job,
            self.trainer,
            self.catalogue.items(),
            event_ts_ms=self.learner.event_ts_ms,
        )

    def _expire(self) -> None:
        event_ts_ms = self.learner.event_ts_ms
        if event_ts_ms < self._expired_ms + self.job.expire_interval * 1000:
            return
        self._expired_ms = event_ts_ms
        for table in self.tables.values():
            self.expired += len(table.expire(event_ts_ms // 1000))

    def _commit(self) -> None:
        topic, offsets = self.job.log.topic("examples"), self.learner.offsets
        if offsets and offsets != self.log.committed(TRAINER_GROUP, topic):
            self.log.commit(TRAINER_GROUP, topic, offsets)

    def _recover(self) -> None:
        """Put new shards in the place of those that failed; see `ShardSection.recovery`."""
        folder = self.job.snapshot.path
        for table, places in zip(self.tables.values(), checkpoint.table_places(folder), strict=True):
            for number in table.down():
                table.replace(number, places[number])
                self.recoveries += 1
            if self.job.shards.recovery == "replay":
                table.restore(places[0].parent)
        if self.job.shards.recovery == "replay":
            checkpoint.load(self.trainer, folder, with_tables=False)
        for name in self.tables:
            self.publisher.resend(name, _ALL_BUCKETS)
        self._shard_is_down.clear()

    def _learn_items(self, rows: Sequence[Example]) -> None:
        """Items that nobody has named before join the catalogue."""
        fresh = []
        for item, ids in named_items(rows, self.catalogue.features.item):
            if item not in self.catalogue:
                self.catalogue.put_ids(item, ids)
                fresh.append(item)
        if fresh:
            for arm in self.recommender.arms.values():
                arm.refresh(fresh)


def log_lags(log: Log, job: JobFile) -> dict[str, int]:
    """Records that joiner, trainer and further arms have not read yet, as far as they have said so (each second).

    Args:
        log: of the job.
        job: the file.
    """
    lags = {}
    readers: dict[str, tuple[Purpose, ...]] = {"joiner": ("features", "actions"), TRAINER_GROUP: ("examples",)}
    readers |= {arm_group(name): ("examples",) for name in job.arms if name != MAIN_ARM}
    for group, purposes in readers.items():
        lags[group] = 0
        for purpose in purposes:
            topic = job.log.topic(purpose)
            read = log.committed(group, topic)
            for partition in range(log.num_partitions(topic)):
                first, end = log.offsets(topic, partition)
                lags[group] += end - max(first, read.get(partition, 0))
    return lags
