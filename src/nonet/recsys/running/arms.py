"""Further arms of an experiment: each a trainer with tables of its own that learns all examples of the same log.

An arm that learned only from what it had shown itself would be judged on other data than its rival. Here all of them
learn whatever was shown, whoever showed it; and the rows that each is measured on before it learns them are the same.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

from nonet.common.errors import InputError, NonetError
from nonet.recsys.config import MAIN_ARM, ArmSection, FeaturesFile, JobFile, ShardSection
from nonet.recsys.config_values import checked
from nonet.recsys.logs import Log, LogUnavailableError
from nonet.recsys.running import keeping
from nonet.recsys.running.learning import Learner
from nonet.recsys.running.parts import build_trainer, table_names
from nonet.recsys.running.saving import Saves
from nonet.recsys.serving import Arm, Catalogue
from nonet.recsys.syncing import DeltaPublisher, InProcessLink, Replica
from nonet.recsys.syncing.forms import codec_of
from nonet.recsys.training.correction import UNCORRECTED, LogOdds
from nonet.recsys.training.metrics import Quality
from nonet.recsys.training.models import MODELS
from nonet.recsys.training.trainer import Trainer

_PATIENCE_S = 60.0
_WAIT_S = 0.2


def arm_group(name: str) -> str:
    """The consumer group of a further arm."""
    return f"arm-{name}"


def arm_job(job: JobFile, name: str) -> JobFile:
    """The job that a further arm alone would be: its own trainer, features and snapshot folder; one shard.

    Args:
        job: the file.
        name: of the arm.

    Raises:
        InputError: no such arm, or features without a vector and a bias.
    """
    if name == MAIN_ARM or name not in job.arms:
        raise InputError(f"the job has no further arm {name!r} (known: {', '.join(set(job.arms) - {MAIN_ARM}) or '-'})")
    arm = job.arms[name]
    own = arm.model_dump(exclude_none=True, exclude={"share", "defaults"})
    defaults = arm.defaults.model_dump(exclude_none=True)
    if arm.model is not None:
        defaults = {"bias": bool(getattr(MODELS[arm.model], "needs_bias", False)), **defaults}
    features = job.features.model_dump()
    features["defaults"] = {**features["defaults"], **defaults}
    return job.model_copy(
        update={
            "features": checked(FeaturesFile, features, f"arm {name!r}: features"),
            "trainer": job.trainer.model_copy(update=own),
            "snapshot": job.snapshot.model_copy(update={"path": keeping.arm_place(job.snapshot.path, name)}),
            "shards": ShardSection(),
            "arms": {MAIN_ARM: ArmSection()},
        }
    )


def make_arm(name: str, job: JobFile, trainer: Trainer, catalogue: Catalogue) -> Arm:
    """What answers for a trainer, with an empty replica.

    Args:
        name: of the arm.
        job: of the trainer.
        trainer: whose model is served.
        catalogue: items.
    """
    in_serving = job.trainer.correct_in == "serving"
    return Arm(
        name,
        trainer.model,
        Replica({table.name: codec_of(table) for table in trainer.distinct_tables}, name),
        catalogue,
        tables=table_names(job.features),
        pooling=trainer.scorer.pooling,
        correction=LogOdds("serving", job.joiner.negative_rate) if in_serving else UNCORRECTED,
    )


class FurtherArm:
    """A trainer, its replica, and the thread between them.

    It begins with its own snapshot, or with empty tables at the first example that the log still holds. One thread
    learns, expires, syncs and snapshots.

    Args:
        job: the file.
        name: of the arm.
        log: with the examples.
        catalogue: items, which all arms share.

    Raises:
        InputError: settings that its model cannot take, or a snapshot of others.
    """

    def __init__(self, job: JobFile, name: str, log: Log, catalogue: Catalogue) -> None:
        self._job = own = arm_job(job, name)
        self._log, self._topic, self._group = log, own.log.topic("examples"), arm_group(name)
        self.trainer, event_ts_ms = self._trainer(name)
        self._tables = {table.name: table for table in self.trainer.distinct_tables}
        self.arm = make_arm(name, own, self.trainer, catalogue)
        self._publisher = DeltaPublisher(self._tables)
        self._publisher.attach(name, InProcessLink(self.arm.replica))
        self.learner = Learner(
            log,
            self._topic,
            self.trainer,
            num_dense=len(own.features.dense),
            batch_rows=own.trainer.batch_size,
            fake_negatives=own.labels.late == "fake_negative",
        )
        self.learner.event_ts_ms = self._expired_ms = event_ts_ms
        self.saves = Saves(self._save, own.snapshot.interval, f"arm {name}")
        """Written between two steps."""

    def _trainer(self, name: str) -> tuple[Trainer, int]:
        place = self._job.snapshot.path
        if keeping.is_snapshot(place):
            trainer, _, event_ts_ms = keeping.load(place, self._job)
            return trainer, event_ts_ms
        try:
            trainer = build_trainer(self._job)
        except InputError as error:
            raise InputError(f"arm {name!r}: {error}") from error
        partitions = range(self._log.num_partitions(self._topic))
        trainer.offsets = {f"{self._topic}:{at}": self._log.offsets(self._topic, at)[0] for at in partitions}
        return trainer, 0

    def run(self, stop: threading.Event) -> None:
        """Learn and sync until told to stop.

        Args:
            stop: the end.

        Raises:
            LogUnavailableError: the log has not answered for a minute.
        """
        sync_s = dense_s = commit_s = well_s = time.monotonic()
        while not stop.is_set():
            try:
                num = self.learner.step()
                self._expire()
                well_s = now_s = time.monotonic()
                if now_s >= sync_s + self._job.sync_interval:
                    is_due = now_s >= dense_s + self._job.dense_sync_interval
                    self.publish(with_dense=is_due)
                    sync_s, dense_s = now_s, now_s if is_due else dense_s
                self.saves.write_if_due()
                if now_s >= commit_s + 1 or not num:
                    self._commit()
                    commit_s = now_s
                if not num:
                    self.learner.wait(min(_WAIT_S, self._job.sync_interval))
            except LogUnavailableError:
                if time.monotonic() - well_s > _PATIENCE_S:
                    raise
                stop.wait(0.5)
        self.publish()

    def publish(self, *, with_dense: bool = True) -> None:
        """Bring the replica up to date.

        Args:
            with_dense: the network, too.

        Raises:
            NonetError: the replica refuses.
        """
        name, event_ts_ms = self.arm.name, self.learner.event_ts_ms
        if with_dense:
            self._publisher.put_dense(name, self.trainer.dense_state(), event_ts_ms=event_ts_ms)
        published = self._publisher.publish(event_ts_ms=event_ts_ms)
        if published.refused:
            raise NonetError(f"the replica refuses: {published.refused[name]}")

    def _save(self) -> None:
        keeping.save(self._job.snapshot.path, self._job, self.trainer, {}, event_ts_ms=self.learner.event_ts_ms)

    def _expire(self) -> None:
        event_ts_ms = self.learner.event_ts_ms
        if event_ts_ms >= self._expired_ms + self._job.expire_interval * 1000:
            self._expired_ms = event_ts_ms
            for table in self._tables.values():
                table.expire(event_ts_ms // 1000)

    def _commit(self) -> None:
        offsets = self.learner.offsets
        if offsets and offsets != self._log.committed(self._group, self._topic):
            self._log.commit(self._group, self._topic, offsets)


def arm_status(arm: Arm, learner: Learner, now_s: float) -> dict[str, Any]:
    """Numbers of an arm, as JSON values.

    Args:
        arm: that answers.
        learner: of its trainer.
        now_s: seconds since 1970.
    """
    staleness_s = arm.replica.staleness_s(now_s)
    return {
        "staleness_s": staleness_s if math.isfinite(staleness_s) else None,
        "epoch": arm.epoch,
        "keys": {name: len(table) for name, table in arm.replica.tables.items()},
        "learned": learner.rows,
        "rejected": learner.rejected,
        "poison": learner.poison,
        "trimmed": learner.trimmed,
        "validation": validation(list(learner.windows)),
    }


def validation(windows: Iterable[Quality]) -> dict[str, Any]:
    """Windows of progressive validation as one: AUC, NE and log loss are means by row, None where no window has any.

    Args:
        windows: of an arm.

    >>> first, second = Quality(100, 50, 0, 1, 0.7, 0.6, 0.9, 1.2), Quality(300, 50, 1, 2, 0.8, 0.5, 0.7, 0.8)
    >>> {name: round(value, 3) for name, value in validation([first, second]).items()}
    {'rows': 400, 'positives': 100, 'auc': 0.775, 'normalised_entropy': 0.75, 'log_loss': 0.525, 'calibration': 1.0}
    """
    whole = list(windows)
    means = {}
    for measure in ("auc", "normalised_entropy", "log_loss"):
        known = [(one.rows, getattr(one, measure)) for one in whole if not math.isnan(getattr(one, measure))]
        rows = sum(count for count, _ in known)
        means[measure] = sum(count * value for count, value in known) / rows if rows else None
    usable = [one for one in whole if not math.isnan(one.calibration)]
    positives = sum(one.positives for one in usable)
    expected = sum(one.calibration * one.positives for one in usable)
    return {
        "rows": sum(one.rows for one in whole),
        "positives": sum(one.positives for one in whole),
        **means,
        "calibration": expected / positives if positives else None,
    }


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """What JSON can say: None for a measure that has no meaning."""
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in values.items()}
