"""Eviction policies of TorchRec's virtual tables, under their names, and what they are here.

`expire` plays the part of the eviction pass; a pass with `training_id_eviction_trigger_count` does something only when
the table has more keys. The `*inference*` fields are for those who publish and are only carried along.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from nonet.common.errors import InputError
from nonet.recsys.config_values import Section
from nonet.recsys.table import BelowCount, Expiry, LowestScore, OnlyAbove, SmallestNorm, TimeToLive, Together

_MINUTE_S = 60
Count = Annotated[int, Field(ge=0)]
Decay = Annotated[float, Field(gt=0, le=1)]


class _Policy(Section):
    training_id_eviction_trigger_count: Count = 0

    def to_expiry(self, slots: Mapping[str, int]) -> Expiry | None:
        """The policy of a table; None evicts nothing.

        Args:
            slots: slot of each feature.

        Raises:
            InputError: a feature without a slot.
        """
        policy = self._policy(slots)
        trigger = self.training_id_eviction_trigger_count
        return OnlyAbove(policy, trigger) if policy is not None and trigger else policy

    @abstractmethod
    def _policy(self, slots: Mapping[str, int]) -> Expiry | None: ...


class CountBasedEvictionPolicy(_Policy):
    """Keys that were trained less often than a threshold, after fading; 0 evicts nothing."""

    policy: Literal["count"] = "count"
    eviction_threshold: Count = 15
    decay_rate: Decay = 0.99
    inference_eviction_threshold: Count | None = None

    def _policy(self, slots: Mapping[str, int]) -> Expiry | None:
        return BelowCount(self.eviction_threshold, self.decay_rate) if self.eviction_threshold else None


class TimestampBasedEvictionPolicy(_Policy):
    """Keys that were not trained for so many minutes; 0 evicts nothing."""

    policy: Literal["timestamp"] = "timestamp"
    eviction_ttl_mins: Count = 24 * 60
    inference_eviction_ttl_mins: Count | None = None
    max_inference_id_num_per_rank: Count = 0

    def _policy(self, slots: Mapping[str, int]) -> Expiry | None:
        return _time_to_live(self.eviction_ttl_mins)


class CountTimestampMixedEvictionPolicy(_Policy):
    """Keys that are both too rare and too old; a limit of 0 leaves the other one alone."""

    policy: Literal["count_timestamp"] = "count_timestamp"
    eviction_threshold: Count = 15
    decay_rate: Decay = 0.99
    eviction_ttl_mins: Count = 24 * 60
    inference_eviction_threshold: Count | None = None
    inference_eviction_ttl_mins: Count | None = None

    def _policy(self, slots: Mapping[str, int]) -> Expiry | None:
        rare = BelowCount(self.eviction_threshold, self.decay_rate) if self.eviction_threshold else None
        old = _time_to_live(self.eviction_ttl_mins)
        return Together((rare, old)) if rare and old else rare or old


class FeatureScoreBasedEvictionPolicy(_Policy):
    """Keeps the keys of the highest score: trainings, after fading, times the score of the feature."""

    policy: Literal["feature_score"] = "feature_score"
    decay_rate: Decay = 0.99
    training_id_keep_count: Count = 0
    eviction_ttl_mins: Count = 0
    max_inference_id_num_per_rank: Count = 0
    inference_eviction_feature_score_threshold: float | None = None
    inference_eviction_ttl_mins: Count | None = None
    feature_score_mapping: dict[str, float] | None = None
    feature_score_default_value: float | None = None
    enable_auto_feature_score_collection: bool = False
    enable_eviction: bool = True

    def _policy(self, slots: Mapping[str, int]) -> Expiry | None:
        if not self.enable_eviction:
            return None
        if self.eviction_ttl_mins:  # as there: the age instead of the score
            return _time_to_live(self.eviction_ttl_mins)
        if not self.training_id_keep_count:
            return None
        scores = self.feature_score_mapping or {}
        unknown = [name for name in scores if name not in slots]
        if unknown:
            raise InputError(
                f"feature_score_mapping: feature {unknown[0]!r} has no slot; give the slots of the features"
            )
        default = 1.0 if self.feature_score_default_value is None else self.feature_score_default_value
        by_slot = {slots[name]: score for name, score in scores.items()}
        return LowestScore(self.training_id_keep_count, self.decay_rate, by_slot, default)


class FeatureL2NormBasedEvictionPolicy(_Policy):
    """Keys whose weights are smaller than a norm; 0 evicts nothing."""

    policy: Literal["l2_norm"] = "l2_norm"
    eviction_threshold: Annotated[float, Field(ge=0)] = 0.0
    inference_eviction_threshold: Annotated[float, Field(ge=0)] | None = None

    def _policy(self, slots: Mapping[str, int]) -> Expiry | None:
        return SmallestNorm(min_norm=self.eviction_threshold) if self.eviction_threshold else None


class NoEvictionPolicy(Section):
    """Evicts nothing."""

    policy: Literal["none"] = "none"

    def to_expiry(self, slots: Mapping[str, int]) -> Expiry | None:
        """None."""
        return None


EvictionPolicy = Annotated[
    CountBasedEvictionPolicy
    | TimestampBasedEvictionPolicy
    | CountTimestampMixedEvictionPolicy
    | FeatureScoreBasedEvictionPolicy
    | FeatureL2NormBasedEvictionPolicy
    | NoEvictionPolicy,
    Field(discriminator="policy"),
]
"""By the key `policy`."""

_KINDS: dict[str, type[_Policy] | type[NoEvictionPolicy]] = {
    kind.__name__: kind
    for kind in (
        CountBasedEvictionPolicy,
        TimestampBasedEvictionPolicy,
        CountTimestampMixedEvictionPolicy,
        FeatureScoreBasedEvictionPolicy,
        FeatureL2NormBasedEvictionPolicy,
        NoEvictionPolicy,
    )
}


def policy_from_torchrec(policy: Any) -> _Policy | NoEvictionPolicy | None:
    """From TorchRec's object of the same name.

    Args:
        policy: a `VirtualTableEvictionPolicy`, or None.

    Raises:
        InputError: a class that is not known here.
    """
    if policy is None:
        return None
    kind = _KINDS.get(type(policy).__name__)
    if kind is None:
        raise InputError(f"eviction policy {type(policy).__name__} is not known (known: {', '.join(_KINDS)})")
    fields = [name for name in kind.model_fields if name != "policy"]
    return kind(**{name: getattr(policy, name) for name in fields if hasattr(policy, name)})


def policy_to_torchrec(policy: _Policy | NoEvictionPolicy | None) -> Any:
    """TorchRec's object of the same name.

    Args:
        policy: ours, or None.
    """
    if policy is None:
        return None
    from torchrec.modules import embedding_configs

    values = policy.model_dump(exclude={"policy"})
    return getattr(embedding_configs, type(policy).__name__)(**values)


def _time_to_live(minutes: int) -> TimeToLive | None:
    return TimeToLive(minutes * _MINUTE_S) if minutes else None
