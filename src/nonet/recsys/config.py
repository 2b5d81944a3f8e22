"""The files of the room: features (what ids there are, and how each is trained) and the job of `nonet recsys up`.

YAML or TOML; unknown keys are errors. Durations have units ("10s", "30d"), sizes too ("2GB"). A whole job:

    features: features.yaml        # or the section itself
    data: {format: movielens, label: rating >= 4}
    log: {backend: segments, path: ./log}
    labels: {positive: [click], wait: 10m, late: correct, late_wait: 1h}
    joiner: {cache_rows: 100000, negative_rate: 0.1}
    trainer: {model: deepfm}
    sync_interval: 10s
    snapshot: {path: ./snapshots, interval: 1d}
    shards: {count: 2, run: thread, recovery: replay}
    http: {port: 8080}
    arms: {main: {share: 0.9}, wide: {share: 0.1, model: dlrm, hidden: [128, 64]}}
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from pydantic import Field, model_validator

from nonet.common.errors import InputError
from nonet.recsys.config_values import Bytes, Seconds, Section, WholeSeconds, checked, read_values
from nonet.recsys.features import Dictionary, FeatureEncoder
from nonet.recsys.table_config import CompressorSpec, InitializerSpec, OptimizerSpec, SegmentConfig, TableConfig

__all__ = [
    "FeatureConfig",
    "FeaturesFile",
    "JobFile",
    "SegmentConfig",
    "TableConfig",
    "load_features",
    "load_job",
    "load_table",
]

MAIN_ARM = "main"
"""The arm that the section `trainer` describes."""

Model = Literal["deepfm", "dlrm", "lr", "fm"]
Hidden = list[Annotated[int, Field(ge=1)]]
ArmName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
Probability = Annotated[float, Field(gt=0, le=1)]


class _FeatureOptions(Section):
    dim: int | None = Field(default=None, ge=0, description="Floats of its vectors; 0: a bias alone.")
    bias: bool | None = Field(default=None, description="One float more, with an optimizer of its own.")
    bias_optimizer: OptimizerSpec | None = Field(default=None, description="FTRL without it.")
    optimizer: OptimizerSpec | None = None
    initializer: InitializerSpec | None = None
    compressor: CompressorSpec | None = None
    pooling: Literal["SUM", "MEAN"] | None = None
    threshold: int | None = Field(default=None, ge=0, le=1 << 24, description="Occurrences before an id gets a row.")
    ttl: WholeSeconds | None = Field(default=None, description="Ids that were not trained for so long go.")


class FeatureConfig(_FeatureOptions):
    """One feature."""

    slot: int = Field(ge=0, lt=1 << 15, description="Upper bits of its ids; must never change.")
    exact: bool = Field(default=False, description="Numbers from a dictionary on disk instead of a hash of 48 bits.")


class DefaultFeature(_FeatureOptions):
    """What features have that do not say otherwise."""

    dim: int = Field(default=16, ge=0, description="Floats of its vectors; 0: a bias alone.")
    bias: bool = True
    bias_optimizer: OptimizerSpec = "ftrl"
    optimizer: OptimizerSpec = Field(default={"name": "adagrad", "lr": 0.05})
    initializer: InitializerSpec = "uniform"
    compressor: CompressorSpec = "fp32"
    pooling: Literal["SUM", "MEAN"] = "SUM"
    threshold: int = Field(default=0, ge=0, le=1 << 24)


class FeaturesFile(Section):
    """All features of a model.

    >>> file = FeaturesFile.model_validate(
    ...     {"defaults": {"dim": 8}, "features": {"user": {"slot": 1, "threshold": 5}, "item": {"slot": 2}}}
    ... )
    >>> [(table.name, table.feature_names) for table in file.tables()]
    [('user', ['user', 'item'])]
    """

    defaults: DefaultFeature = DefaultFeature()
    features: dict[str, FeatureConfig] = Field(min_length=1, description="In the order of the model's input.")
    user: str | None = Field(default=None, description="The feature that holds who asks.")
    item: str | None = Field(default=None, description="The feature that holds what is shown.")
    item_attributes: list[str] = Field(default=[], description="Features that come with the item.")
    dense: list[str] = Field(default=[], description="Numbers of a row, in the order of the model's input.")
    admission: Literal["exact", "sketch", "probabilistic"] = Field(default="exact", description="How ids are counted.")
    max_bytes: Bytes | None = Field(default=None, description="Of each table.")
    seed: int = Field(default=0, ge=0, lt=2**63)

    @model_validator(mode="after")
    def _check(self) -> FeaturesFile:
        slot, times = Counter(feature.slot for feature in self.features.values()).most_common(1)[0]
        if times > 1:
            names = [name for name, feature in self.features.items() if feature.slot == slot]
            raise InputError(f"features {' and '.join(names)} have the same slot {slot}")
        named = [name for name in (self.user, self.item, *self.item_attributes) if name is not None]
        unknown = [name for name in named if name not in self.features]
        if unknown or len(set(named)) < len(named):
            raise InputError(f"user, item and item_attributes name features, each once; {named} does not")
        empty = [name for name in self.features if not self.resolved(name)["dim"] and not self.resolved(name)["bias"]]
        if empty:
            raise InputError(f"feature {empty[0]!r} has neither a vector (dim) nor a bias")
        return self

    @property
    def slots(self) -> dict[str, int]:
        """Slot of each feature."""
        return {name: feature.slot for name, feature in self.features.items()}

    def resolved(self, name: str) -> dict[str, Any]:
        """The options of a feature, with the defaults.

        Args:
            name: of the feature.
        """
        own = self.features[name].model_dump(exclude_none=True)
        return {**self.defaults.model_dump(), **own}

    def tables(self) -> tuple[TableConfig, ...]:
        """The tables that are needed: features of one shape share one, since the slot is in the id.

        A table is named after its first feature.
        """
        shape = ("dim", "bias", "bias_optimizer", "optimizer", "initializer", "compressor", "pooling")
        groups: dict[str, list[str]] = {}
        for name in self.features:
            options = self.resolved(name)
            groups.setdefault(repr([options[part] for part in shape]), []).append(name)
        return tuple(self._table(names) for names in groups.values())

    def _table(self, names: list[str]) -> TableConfig:
        options = self.resolved(names[0])
        segments = []
        if options["bias"]:
            segments.append(SegmentConfig(dim=1, name="bias", optimizer=options["bias_optimizer"], initializer="zeros"))
        if options["dim"]:
            parts = {part: options[part] for part in ("dim", "optimizer", "initializer", "compressor")}
            segments.append(SegmentConfig(name="vector", **parts))
        by_slot = {self.features[name].slot: self.resolved(name) for name in names}
        thresholds = {slot: feature["threshold"] for slot, feature in by_slot.items() if feature["threshold"] > 1}
        ttls = {slot: feature["ttl"] for slot, feature in by_slot.items() if feature["ttl"] is not None}
        admission = {"name": self.admission, "threshold": 0, "slot_thresholds": thresholds}
        return TableConfig(
            name=names[0],
            feature_names=names,
            pooling=options["pooling"],
            segments=segments,
            admission=admission if thresholds else None,
            expiry={"name": "ttl", "by_slot_s": ttls} if ttls else None,
            max_bytes=self.max_bytes,
            seed=self.seed,
        )

    def encoders(self, folder: str | Path | None = None) -> dict[str, FeatureEncoder]:
        """What makes ids of raw values, by feature.

        Args:
            folder: of the dictionaries, made if need be; needed when a feature is exact.

        Raises:
            InputError: an exact feature but no folder, or a damaged dictionary.
        """
        if folder is None:
            exact = [name for name, feature in self.features.items() if feature.exact]
            if exact:
                raise InputError(f"feature {exact[0]!r} is exact: name the folder of its dictionary")
            paths = {}
        else:
            paths = self.dictionary_paths(folder)
        for path in paths.values():
            path.parent.mkdir(parents=True, exist_ok=True)
        return {
            name: FeatureEncoder(name, feature.slot, Dictionary(paths[name]) if name in paths else None)
            for name, feature in self.features.items()
        }

    def dictionary_paths(self, folder: str | Path) -> dict[str, Path]:
        """The file of the dictionary of each feature that is exact.

        Args:
            folder: of the dictionaries.
        """
        return {
            name: Path(folder) / f"slot-{feature.slot:05d}.dictionary"
            for name, feature in self.features.items()
            if feature.exact
        }


Purpose = Literal["features", "actions", "examples", "dead-letters"]
"""Of a topic."""


class DataSection(Section):
    """How files of rows are read (`train --data`, `simulate --data`)."""

    format: str | None = Field(default=None, description="Of the registry, or table; by looking at the file.")
    label: str | None = Field(default=None, description="Which rows are positive, in SQL over the columns.")
    timestamp: str | None = Field(default=None, description="Column with Unix time, of a table.")
    unit: Literal["s", "ms"] = Field(default="s", description="Of the time, of a table.")
    separator: str = Field(default=",", min_length=1, max_length=1, description="Between fields, of a table.")

    @model_validator(mode="after")
    def _check(self) -> DataSection:
        own = [
            name
            for name, usual in (("timestamp", None), ("unit", "s"), ("separator", ","))
            if getattr(self, name) != usual
        ]
        if self.format == "table" and (self.label is None or self.timestamp is None):
            raise InputError("the format table needs a label and a timestamp")
        if self.format != "table" and own:
            raise InputError(f"{own[0]} is for the format table; {self.format or 'a known format'} says it itself")
        return self


class LogSection(Section):
    """Where events and examples are kept."""

    backend: Literal["segments", "kafka", "nats", "redis"] = "segments"
    path: Path = Field(default=Path("log"), description="Folder of the embedded log.")
    address: str | None = Field(default=None, description="Of the brokers (HOST:PORT), for the other back ends.")
    partitions: int = Field(default=1, ge=1, le=1024, description="Of topics that are made.")
    topics: dict[Purpose, str] = Field(default={}, description="Other names.")
    options: dict[str, str | int | float | bool] = Field(default={}, description="As the back end names them.")

    @model_validator(mode="after")
    def _check(self) -> LogSection:
        if self.backend != "segments" and not self.address:
            raise InputError(f"the back end {self.backend} needs an address")
        if self.backend == "nats" and self.options:
            raise InputError("the back end nats takes no options; the server has them")
        return self

    @property
    def url(self) -> str:
        """For `logs.open_log`.

        >>> LogSection(backend="kafka", address="localhost:9092", options={"acks": "all"}).url
        'kafka://localhost:9092?acks=all'
        """
        place = f"file:{self.path}" if self.backend == "segments" else f"{self.backend}://{self.address}"
        return f"{place}?{urlencode(self.options)}" if self.options else place

    def topic(self, purpose: Purpose) -> str:
        """The name of a topic."""
        return self.topics.get(purpose, purpose)


class LabelSection(Section):
    """What makes an example positive, and how long to wait for it."""

    positive: list[str] = Field(default=["click"], min_length=1, description="Actions.")
    wait: Seconds = Field(default=600.0, description="Event time from the features to the label.")
    late: Literal["drop", "correct", "fake_negative"] = Field(
        default="drop", description="A positive after its negative went out."
    )
    late_wait: Seconds = Field(default=3600.0, description="How much longer late positives count, unless dropped.")


class JoinerSection(Section):
    """Features and actions to examples."""

    cache_rows: int = Field(default=100_000, ge=1, description="Waiting rows in memory; the rest is on disk.")
    allowed_lateness: Seconds = Field(default=60.0, description="By which the watermark stays behind.")
    idle: Seconds = Field(default=2.0, description="A partition silent for so long does not hold event time back.")
    heartbeat: Seconds | None = Field(
        default=1.0,
        description="While rows wait and nothing comes, event time follows the clock in such steps; null: it stands.",
    )
    negative_rate: Probability = Field(default=1.0, description="Part of the negatives that are kept.")
    spill: Path = Field(default=Path("spill"), description="Folder of the waiting rows on disk.")


class TrainerSection(Section):
    """The model and its steps."""

    model: Model = "deepfm"
    hidden: Hidden = Field(default=[64, 32], description="Layers of the network.")
    dense_optimizer: Literal["adam", "adagrad", "sgd"] = "adam"
    dense_lr: float = Field(default=0.001, gt=0)
    batch_size: int = Field(default=512, ge=1, description="Rows of a step, at most.")
    correct_in: Literal["training", "serving"] = Field(default="training", description="Where sampling is undone.")
    seed: int = Field(default=0, ge=0, description="Of the network; that of the tables stands with the features.")


class ArmSection(Section):
    """An arm of an experiment; what it does not say is as in `trainer` and in the features' `defaults`."""

    share: float = Field(default=1.0, gt=0, description="Of the users; shares need not sum to 1.")
    model: Model | None = Field(default=None, description="Another one; its vectors have a bias where it takes one.")
    hidden: Hidden | None = None
    dense_optimizer: Literal["adam", "adagrad", "sgd"] | None = None
    dense_lr: float | None = Field(default=None, gt=0)
    batch_size: int | None = Field(default=None, ge=1)
    seed: int | None = Field(default=None, ge=0)
    defaults: _FeatureOptions = Field(default=_FeatureOptions(), description="Of its features.")


class SnapshotSection(Section):
    """Snapshots of tables, network, items and offsets; each replaces the one before."""

    path: Path = Path("snapshots")
    interval: Seconds = 86_400.0


class ShardSection(Section):
    """Parameter servers."""

    count: int = Field(default=1, ge=1, le=1024)
    run: Literal["thread", "process", "ray"] = "thread"
    recovery: Literal["snapshot", "replay"] = Field(
        default="replay", description="After a failure: back to the last snapshot, or replay the log from there, too."
    )


class HttpSection(Section):
    """The server."""

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65_535, description="0 takes a free one.")


class JobFile(Section):
    """All that `nonet recsys up` needs.

    >>> features = {"features": {"user": {"slot": 1}, "item": {"slot": 2}}, "user": "user", "item": "item"}
    >>> job = JobFile.model_validate({"features": features, "sync_interval": "5s", "labels": {"wait": "10m"}})
    >>> job.sync_interval, job.labels.wait, job.trainer.model
    (5.0, 600.0, 'deepfm')
    """

    features: FeaturesFile
    data: DataSection = DataSection()
    log: LogSection = LogSection()
    labels: LabelSection = LabelSection()
    joiner: JoinerSection = JoinerSection()
    trainer: TrainerSection = TrainerSection()
    sync_interval: Seconds = Field(default=10.0, description="Of touched rows to the replicas.")
    dense_sync_interval: Seconds = Field(default=60.0, description="Of the network.")
    expire_interval: Seconds = Field(default=3600.0, description="Of passes that erase expired ids, event time.")
    snapshot: SnapshotSection = SnapshotSection()
    dictionaries: Path = Field(default=Path("dictionaries"), description="Folder of the values of exact features.")
    shards: ShardSection = ShardSection()
    http: HttpSection = HttpSection()
    arms: dict[ArmName, ArmSection] = Field(default={MAIN_ARM: ArmSection()}, description="Of an A/B test.")

    @model_validator(mode="after")
    def _check(self) -> JobFile:
        main = self.arms.get(MAIN_ARM)
        if main is None:
            raise InputError(f"arms: {MAIN_ARM!r} is missing, which trainer: describes; add {MAIN_ARM}: {{share: 0.9}}")
        if main != ArmSection(share=main.share):
            raise InputError(f"arms: {MAIN_ARM!r} takes a share alone; the rest of it stands in trainer: and features:")
        return self


def load_table(path: str | Path) -> TableConfig:
    """A table's configuration from a YAML or TOML file.

    Args:
        path: the file.

    Raises:
        InputError: names the file and the key.
    """
    return checked(TableConfig, read_values(path), str(path))


def load_features(path: str | Path) -> FeaturesFile:
    """The features file.

    Args:
        path: a YAML or TOML file.

    Raises:
        InputError: names the file and the key.
    """
    return checked(FeaturesFile, read_values(path), str(path))


def load_job(path: str | Path) -> JobFile:
    """The job file. A relative path in it is meant relative to the file; `features` may name a file.

    Args:
        path: a YAML or TOML file.

    Raises:
        InputError: names the file and the key.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "job.yaml")
    ...     _ = path.write_text("features: {features: {item: {slot: 1}}}\\nsync_interva: 5s\\n")
    ...     load_job(path)
    Traceback (most recent call last):
    nonet.common.errors.InputError: ...job.yaml: unknown key 'sync_interva'; did you mean 'sync_interval'?...
    """
    place = Path(path)
    values = dict(read_values(place))
    named = values.get("features")
    if isinstance(named, str):
        values["features"] = load_features(place.parent / named)
    job = checked(JobFile, values, str(place))
    return job.model_copy(
        update={
            "log": job.log.model_copy(update={"path": place.parent / job.log.path}),
            "joiner": job.joiner.model_copy(update={"spill": place.parent / job.joiner.spill}),
            "snapshot": job.snapshot.model_copy(update={"path": place.parent / job.snapshot.path}),
            "dictionaries": place.parent / job.dictionaries,
        }
    )
