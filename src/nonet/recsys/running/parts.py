"""From a job file to the parts of a job."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nonet.common.errors import InputError
from nonet.recsys.config import FeaturesFile, JobFile

if TYPE_CHECKING:
    from nonet.recsys.features.encoder import FeatureEncoder
    from nonet.recsys.joining import Joining
    from nonet.recsys.logs import Log
    from nonet.recsys.reading.formats import Format
    from nonet.recsys.serving import Features
    from nonet.recsys.training.trainer import DenseOptimizer, Trainer

_LATE = {"drop": "drop", "correct": "correction", "fake_negative": "fake_negative"}


def build_trainer(job: JobFile) -> Trainer:
    """A fresh trainer as the job describes it.

    Args:
        job: the file.

    Raises:
        InputError: features that its model cannot take.
    """
    from nonet.recsys.training.correction import LogOdds
    from nonet.recsys.training.trainer import Trainer

    features, options = job.features, job.trainer
    pooling = _check_shapes(features, options.model)
    tables = {config.name: config for config in features.tables()}
    built = {name: config.to_table(features.slots) for name, config in tables.items()}
    of_feature = {feature: built[name] for name, config in tables.items() for feature in config.feature_names}
    return Trainer(
        options.model,
        of_feature,
        features=tuple(features.features),
        num_dense=len(features.dense),
        hidden=options.hidden,
        pooling=pooling,
        optimizer=_dense_optimizer(options.dense_optimizer, options.dense_lr),
        correction=LogOdds(options.correct_in),
        seed=options.seed,
    )


def table_names(features: FeaturesFile) -> dict[str, str]:
    """Of each feature the name of its table."""
    found = {feature: config.name for config in features.tables() for feature in config.feature_names}
    return {feature: found[feature] for feature in features.features}


def feature_roles(features: FeaturesFile, encoders: Mapping[str, FeatureEncoder]) -> Features:
    """Who has which feature, for serving.

    Args:
        features: the file.
        encoders: of it.

    Raises:
        InputError: the file does not say which feature is the user or the item.
    """
    from nonet.recsys.serving import Features

    if features.user is None or features.item is None:
        raise InputError("the features file names no user or no item; serving needs both, as in: user: user_id")
    return Features(
        encoders,
        user=features.user,
        item=features.item,
        item_attributes=tuple(features.item_attributes),
        num_dense=len(features.dense),
    )


def joining_of(job: JobFile) -> Joining:
    """Settings of the joiner."""
    from nonet.recsys.joining import ConstantRate, Joining, Label

    labels, joiner = job.labels, job.joiner
    label = Label(
        "label",
        wait_ms=round(labels.wait * 1000),
        actions=tuple(labels.positive),
        late=_LATE[labels.late],
        late_ms=0 if labels.late == "drop" else round(labels.late_wait * 1000),
        sampling=ConstantRate(joiner.negative_rate),
        topic=job.log.topic("examples"),
    )
    return Joining(
        labels=(label,),
        features=job.log.topic("features"),
        actions=job.log.topic("actions"),
        dead_letters=job.log.topic("dead-letters"),
        allowed_lateness_ms=round(joiner.allowed_lateness * 1000),
        idle_s=joiner.idle,
        cache_rows=joiner.cache_rows,
        output_partitions=job.log.partitions,
    )


def open_job_log(job: JobFile) -> Log:
    """The log, with its topics.

    Raises:
        InputError: a setting that the back end does not know.
        LogUnavailableError: the brokers do not answer.
    """
    from nonet.recsys.logs import open_log

    log = open_log(job.log.url)
    for purpose in ("features", "actions", "examples", "dead-letters"):
        topic = job.log.topic(purpose)
        if log.num_partitions(topic) < job.log.partitions:
            log.create(topic, job.log.partitions)
    return log


def data_format(job: JobFile, path: Path, *, kind: str | None = None, label: str | None = None) -> Format:
    """How a file of rows is read.

    Args:
        job: says so in its section `data`.
        path: of the file, to look at where it does not.
        kind: another format than the job's.
        label: another rule for positives.

    Raises:
        InputError: an unknown format, or one without the features that the job has.
    """
    from nonet.recsys.reading.formats import table_format
    from nonet.recsys.reading.frames import open_format

    data, features = job.data, job.features
    kind = kind or data.format
    if kind == "table":
        if data.timestamp is None or (label or data.label) is None:
            raise InputError("the format table needs a job whose section data has label and timestamp")
        return table_format(
            list(features.features),
            label=label or data.label or "",
            timestamp=data.timestamp,
            dense=features.dense,
            item=features.item or "",
            separator=data.separator,
            unit=data.unit,
        )
    form = open_format(path, kind).with_label(label or data.label)
    lacking = [name for name in features.features if name not in form.features]
    lacking += [name for name in features.dense if name not in form.dense]
    if lacking:
        raise InputError(
            f"{path}: the format {form.name} has no {lacking[0]!r}, which the job's features name "
            f"(it has {', '.join([*form.features, *form.dense])})"
        )
    return form


def _check_shapes(features: FeaturesFile, model: str) -> Any:
    """The pooling that all features have in common; refuses what the model cannot take."""
    from nonet.recsys.training.models import MODELS

    needs_bias = bool(getattr(MODELS[model], "needs_bias", False))
    options = {name: features.resolved(name) for name in features.features}
    for part in ("dim", "pooling"):
        given = {str(one[part]) for one in options.values()}
        if len(given) > 1:
            raise InputError(f"the model {model} takes features of one {part}, the file has {', '.join(sorted(given))}")
    for name, one in options.items():
        if one["bias"] != needs_bias:
            raise InputError(f"feature {name!r}: the model {model} needs bias: {str(needs_bias).lower()}")
        if not one["dim"] and model != "lr":
            raise InputError(f"feature {name!r}: the model {model} needs dim: 1 or more")
    first = next(iter(options.values()))
    return str(first["pooling"]).lower()


def _dense_optimizer(name: str, learning_rate: float) -> DenseOptimizer:
    import torch

    kind = {"adam": torch.optim.Adam, "adagrad": torch.optim.Adagrad, "sgd": torch.optim.SGD}[name]
    return lambda weights: kind(weights, lr=learning_rate, fused=True)
