"""The configuration of a table: TorchRec's names, and ours for what it does not have."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from nonet.common.errors import InputError, MissingExtraError
from nonet.common.registry import Registry
from nonet.recsys.config_values import Bytes, Section, WholeSeconds
from nonet.recsys.eviction_config import EvictionPolicy, policy_from_torchrec, policy_to_torchrec
from nonet.recsys.table import (
    ADMISSIONS,
    COMPRESSORS,
    EXPIRIES,
    INITIALIZERS,
    OPTIMIZERS,
    Constant,
    EmbeddingTable,
    Expiry,
    Initializer,
    LeastRecent,
    Normal,
    Segment,
    Several,
    TimeToLive,
    Uniform,
    Zeros,
)
from nonet.recsys.table.specs import from_spec, to_spec

Spec = str | dict[str, Any]


def _checked_by(registry: Registry[Any], what: str) -> Callable[[Spec], Spec]:
    def check(spec: Spec) -> Spec:
        from_spec(spec, registry, what)
        return spec

    return check


OptimizerSpec = Annotated[Spec, AfterValidator(_checked_by(OPTIMIZERS, "optimizer"))]
InitializerSpec = Annotated[Spec, AfterValidator(_checked_by(INITIALIZERS, "initializer"))]
CompressorSpec = Annotated[Spec, AfterValidator(_checked_by(COMPRESSORS, "compressor"))]
AdmissionSpec = Annotated[Spec, AfterValidator(_checked_by(ADMISSIONS, "admission"))]
ExpirySpec = Annotated[Spec, AfterValidator(_checked_by(EXPIRIES, "expiry"))]
"""A name, or `{name: ..., option: ...}`, from the registry of its kind."""

_COMPRESSOR_OF = {"FP32": "fp32", "FP16": "fp16", "INT8": "fixed8"}
_DEFAULT_BOUND = 0.05


class SegmentConfig(Section):
    """A slice of the rows."""

    dim: int = Field(ge=1, description="Floats.")
    name: str = Field(default="", description="To find it by.")
    optimizer: OptimizerSpec = "adagrad"
    initializer: InitializerSpec = "uniform"
    compressor: CompressorSpec = "fp32"

    def to_segment(self) -> Segment:
        """The segment that it describes."""
        return Segment(
            self.dim,
            from_spec(self.optimizer, OPTIMIZERS, "optimizer"),
            from_spec(self.initializer, INITIALIZERS, "initializer"),
            self.name,
            from_spec(self.compressor, COMPRESSORS, "compressor"),
        )


class TableConfig(Section):
    """One table. The first part has the names and the meaning of TorchRec's `EmbeddingBagConfig`.

    `num_embeddings` is the number of keys to make room for at once, not a ceiling: the table grows; with
    `use_virtual_table` it is the size of the space of ids, and no room is made. `data_type` is the form in which rows
    travel to those who serve; training keeps float32. `init_fn` is a spec from the registry of initializers; without
    it, weights are uniform within `weight_init_min` and `weight_init_max`, or +-0.05.

    >>> config = TableConfig(name="users", embedding_dim=4, optimizer={"name": "adagrad", "lr": 0.1}, ttl="30d")
    >>> table = config.to_table()
    >>> table.dim, table.expiry
    (4, TimeToLive(default_s=2592000, by_slot_s={}))
    """

    num_embeddings: int = Field(default=0, ge=0, description="Keys to make room for at once.")
    embedding_dim: int | None = Field(default=None, ge=1, description="Floats a row; or `segments`.")
    name: str = "table"
    data_type: Literal["FP32", "FP16", "INT8"] = "FP32"
    feature_names: list[str] = Field(default=[], description="Features whose ids the table holds.")
    weight_init_max: float | None = None
    weight_init_min: float | None = None
    init_fn: InitializerSpec | None = None
    pooling: Literal["SUM", "MEAN", "NONE"] = "SUM"
    total_num_buckets: int | None = Field(default=None, description="Carried along; a table here has 1,024.")
    use_virtual_table: bool = Field(default=False, description="`num_embeddings` says what ids there may be.")
    virtual_table_eviction_policy: EvictionPolicy | None = None

    segments: list[SegmentConfig] = Field(default=[], description="Slices of the row; or `embedding_dim`.")
    optimizer: OptimizerSpec = "adagrad"
    admission: AdmissionSpec | None = Field(default=None, description="Which new keys get a row; all without it.")
    expiry: ExpirySpec | None = None
    ttl: WholeSeconds | None = Field(default=None, description="Keys that were not trained for so long go.")
    max_bytes: Bytes | None = Field(default=None, description="Above it, the keys go that came last longest ago.")
    seed: int = Field(default=0, ge=-(2**63), lt=2**63, description="Of first weights.")

    @model_validator(mode="after")
    def _check(self) -> TableConfig:
        total = sum(segment.dim for segment in self.segments)
        if (self.embedding_dim or total) != (total or self.embedding_dim) or not (total or self.embedding_dim):
            raise InputError(
                f"give embedding_dim or segments; {self.embedding_dim} and segments of {total} do not agree"
            )
        if self.segments:
            with_segments = {"optimizer", "init_fn", "weight_init_min", "weight_init_max", "data_type"}
            both = sorted(with_segments & self.model_fields_set)
            if both:
                raise InputError(f"{both[0]} stands beside segments; each segment has its own")
        low, high = self.weight_init_min, self.weight_init_max
        if (low is None) != (high is None) or (low is not None and high is not None and low > high):
            raise InputError("weight_init_min and weight_init_max belong together, the lower one first")
        if low is not None and self.init_fn is not None:
            raise InputError("give init_fn, or weight_init_min and weight_init_max")
        return self

    def to_segments(self) -> list[Segment]:
        """The segments of the table."""
        if self.segments:
            return [segment.to_segment() for segment in self.segments]
        assert self.embedding_dim is not None
        compressor = from_spec(_COMPRESSOR_OF[self.data_type], COMPRESSORS, "data_type")
        optimizer = from_spec(self.optimizer, OPTIMIZERS, "optimizer")
        return [Segment(self.embedding_dim, optimizer, self._initializer(), compressor=compressor)]

    def to_expiry(self, slots: Mapping[str, int] | None = None) -> Expiry | None:
        """What `ttl`, `max_bytes`, `expiry` and the eviction policy say together: a key goes when one of them says so.

        Args:
            slots: slot of each feature, for scores by feature.
        """
        policies: list[Expiry] = []
        if self.ttl is not None:
            policies.append(TimeToLive(self.ttl))
        if self.expiry is not None:
            policies.append(from_spec(self.expiry, EXPIRIES, f"table {self.name!r}: expiry"))
        if self.virtual_table_eviction_policy is not None:
            evicts = self.virtual_table_eviction_policy.to_expiry(slots or {})
            policies += [evicts] if evicts is not None else []
        if self.max_bytes is not None:
            policies.append(LeastRecent(max_bytes=self.max_bytes))
        return Several(tuple(policies)) if len(policies) > 1 else policies[0] if policies else None

    def to_table(self, slots: Mapping[str, int] | None = None) -> EmbeddingTable:
        """A new table, with an admission filter of its own.

        Args:
            slots: slot of each feature, for scores by feature.

        Raises:
            InputError: values that a part of the table refuses.
        """
        admission = self.admission and from_spec(self.admission, ADMISSIONS, f"table {self.name!r}: admission")
        return EmbeddingTable(
            segments=self.to_segments(),
            admission=admission or None,
            expiry=self.to_expiry(slots),
            capacity=0 if self.use_virtual_table else self.num_embeddings,
            seed=self.seed,
            name=self.name,
        )

    def _initializer(self) -> Initializer:
        if self.init_fn is not None:
            initializer: Initializer = from_spec(self.init_fn, INITIALIZERS, "init_fn")
            return initializer
        if self.weight_init_min is not None and self.weight_init_max is not None:
            return Uniform(self.weight_init_min, self.weight_init_max)
        return Uniform(-_DEFAULT_BOUND, _DEFAULT_BOUND)

    @classmethod
    def from_torchrec(cls, config: Any) -> TableConfig:
        """From TorchRec's `EmbeddingBagConfig` or `EmbeddingConfig`.

        Its first weights, where it names none, are uniform within +-sqrt(1/num_embeddings), and so they are here.

        Args:
            config: one of these objects.

        Raises:
            InputError: what a table here does not do: weights by position, another data type, or an `init_fn` that is
                none of torch's `zeros_`, `ones_`, `constant_`, `uniform_`, `normal_` (or a partial of one).
        """
        where = f"TorchRec table {config.name!r}"
        if getattr(config, "need_pos", False):
            raise InputError(f"{where}: need_pos: weights by position are not supported")
        data_type = getattr(config.data_type, "value", config.data_type)
        if data_type not in _COMPRESSOR_OF:
            raise InputError(f"{where}: data_type {data_type} is not supported (known: {', '.join(_COMPRESSOR_OF)})")
        values = {
            "num_embeddings": config.num_embeddings,
            "embedding_dim": config.embedding_dim,
            "name": config.name,
            "data_type": data_type,
            "feature_names": list(config.feature_names),
            "pooling": getattr(getattr(config, "pooling", None), "value", "NONE"),
            "total_num_buckets": config.total_num_buckets,
            "use_virtual_table": config.use_virtual_table,
            "virtual_table_eviction_policy": policy_from_torchrec(config.virtual_table_eviction_policy),
        }
        bounds = Uniform(config.get_weight_init_min(), config.get_weight_init_max())
        initializer = bounds if config.init_fn is None else _initializer_of(config.init_fn, where)
        if initializer == bounds:  # TorchRec makes a function of the bounds
            values |= {"weight_init_min": bounds.low, "weight_init_max": bounds.high}
        else:
            values["init_fn"] = to_spec(initializer, INITIALIZERS)
        return cls(**values)

    def to_torchrec(self) -> Any:
        """TorchRec's object: an `EmbeddingBagConfig`, or an `EmbeddingConfig` for a pooling of NONE.

        Raises:
            MissingExtraError: torchrec is not installed.
            InputError: several segments, or no `num_embeddings`, which it cannot do without.
        """
        try:
            import torchrec
            from torchrec.modules import embedding_configs as theirs
        except ImportError as error:
            raise MissingExtraError("this needs torchrec: pip install torchrec fbgemm-gpu-cpu") from error
        if self.segments:
            raise InputError(f"table {self.name!r}: TorchRec's rows have no segments")
        if self.num_embeddings < 1:
            raise InputError(f"table {self.name!r}: TorchRec needs num_embeddings, how many rows it may have")
        initializer = self._initializer()
        is_uniform = isinstance(initializer, Uniform)
        values = {
            "num_embeddings": self.num_embeddings,
            "embedding_dim": self.embedding_dim,
            "name": self.name,
            "data_type": theirs.DataType(self.data_type),
            "feature_names": list(self.feature_names),
            "weight_init_min": initializer.low if isinstance(initializer, Uniform) else None,
            "weight_init_max": initializer.high if isinstance(initializer, Uniform) else None,
            "init_fn": None if is_uniform else _init_fn_of(initializer),
            "total_num_buckets": self.total_num_buckets,
            "use_virtual_table": self.use_virtual_table,
            "virtual_table_eviction_policy": policy_to_torchrec(self.virtual_table_eviction_policy),
        }
        if self.pooling == "NONE":
            return torchrec.EmbeddingConfig(**values)
        return torchrec.EmbeddingBagConfig(**values, pooling=theirs.PoolingType(self.pooling))


def _initializer_of(init_fn: Any, where: str) -> Initializer:
    """Ours for a function of `torch.nn.init`, or a partial of one."""
    options = dict(getattr(init_fn, "keywords", {}))
    function = getattr(init_fn, "func", init_fn)
    name = getattr(function, "__name__", repr(function))
    kinds: dict[str, Callable[..., Initializer]] = {
        "zeros_": Zeros,
        "ones_": lambda: Constant(1.0),
        "constant_": lambda val: Constant(float(val)),
        "uniform_": lambda a=0.0, b=1.0: Uniform(float(a), float(b)),
        "normal_": lambda mean=0.0, std=1.0: Normal(float(mean), float(std)),
    }
    if getattr(function, "__module__", "") != "torch.nn.init" or name not in kinds or getattr(init_fn, "args", ()):
        raise InputError(f"{where}: init_fn {name} is not supported; use one of torch.nn.init: {', '.join(kinds)}")
    try:
        return kinds[name](**options)
    except TypeError as error:
        raise InputError(f"{where}: init_fn {name}: options {options} are not supported") from error


def _init_fn_of(initializer: Initializer) -> Any:
    from torch.nn import init

    if isinstance(initializer, Zeros):
        return init.zeros_
    if isinstance(initializer, Constant):
        return functools.partial(init.constant_, val=initializer.value)
    if isinstance(initializer, Normal):
        return functools.partial(init.normal_, mean=initializer.mean, std=initializer.std)
    raise InputError(f"init_fn {initializer} has no counterpart in torch.nn.init")
