"""Round trips through TorchRec's own objects, and its field names where it is not installed."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest
from torch.nn import init

from nonet.common.errors import InputError
from nonet.recsys.config import TableConfig
from nonet.recsys.eviction_config import _KINDS
from nonet.recsys.table import Constant, Fixed8, Normal, Uniform, Zeros

# `dataclasses.fields` of torchrec 1.8.0, without those of its private bookkeeping.
POLICY_FIELDS = {
    "CountBasedEvictionPolicy": (
        "training_id_eviction_trigger_count eviction_threshold decay_rate inference_eviction_threshold"
    ),
    "TimestampBasedEvictionPolicy": (
        "training_id_eviction_trigger_count eviction_ttl_mins inference_eviction_ttl_mins max_inference_id_num_per_rank"
    ),
    "CountTimestampMixedEvictionPolicy": (
        "training_id_eviction_trigger_count eviction_threshold decay_rate eviction_ttl_mins "
        "inference_eviction_threshold inference_eviction_ttl_mins"
    ),
    "FeatureScoreBasedEvictionPolicy": (
        "decay_rate training_id_eviction_trigger_count training_id_keep_count eviction_ttl_mins "
        "max_inference_id_num_per_rank inference_eviction_feature_score_threshold inference_eviction_ttl_mins "
        "feature_score_mapping feature_score_default_value enable_auto_feature_score_collection enable_eviction"
    ),
    "FeatureL2NormBasedEvictionPolicy": (
        "training_id_eviction_trigger_count eviction_threshold inference_eviction_threshold"
    ),
    "NoEvictionPolicy": "",
}


def test_field_names_are_torchrecs() -> None:
    names = {"num_embeddings", "embedding_dim", "name", "feature_names", "data_type", "pooling", "init_fn"}
    names |= {"weight_init_min", "weight_init_max", "use_virtual_table", "virtual_table_eviction_policy"}
    assert names <= set(TableConfig.model_fields)
    assert {name: set(fields.split()) for name, fields in POLICY_FIELDS.items()} == {
        name: set(kind.model_fields) - {"policy"} for name, kind in _KINDS.items()
    }


def torchrec():
    return pytest.importorskip("torchrec", reason="torchrec is not installed", exc_type=ImportError)


def test_the_recorded_field_names_are_those_of_the_installed_version() -> None:
    torchrec()
    from torchrec.modules import embedding_configs as theirs

    inherited = {field.name for field in dataclasses.fields(theirs.VirtualTableEvictionPolicy)}
    for name, fields in POLICY_FIELDS.items():
        assert {field.name for field in dataclasses.fields(getattr(theirs, name))} - inherited == set(fields.split())


POLICIES = [
    None,
    {"policy": "count", "eviction_threshold": 3, "decay_rate": 0.5, "training_id_eviction_trigger_count": 10},
    {"policy": "timestamp", "eviction_ttl_mins": 60},
    {"policy": "count_timestamp", "eviction_threshold": 2, "eviction_ttl_mins": 5},
    {"policy": "feature_score", "training_id_keep_count": 9, "feature_score_mapping": {"f1": 2.0}},
    {"policy": "l2_norm", "eviction_threshold": 0.25},
    {"policy": "none"},
]


def plain(config) -> dict[str, object]:
    """Fields of theirs; a partial equals nothing but itself, so it is taken apart."""
    fields = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return fields | {"init_fn": (config.init_fn.func, config.init_fn.keywords)}


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy and policy["policy"])
@pytest.mark.parametrize("pooling", ["SUM", "MEAN", "NONE"])
def test_ours_to_theirs_and_back_means_the_same(policy: dict[str, object] | None, pooling: str) -> None:
    torchrec()
    config = TableConfig(
        num_embeddings=100,
        embedding_dim=8,
        name="t1",
        feature_names=["f1", "f2"],
        pooling=pooling,
        data_type="FP16",
        weight_init_min=-0.5,
        weight_init_max=0.25,
        use_virtual_table=True,
        total_num_buckets=10,
        virtual_table_eviction_policy=policy,
    )
    theirs = config.to_torchrec()
    assert type(theirs).__name__ == ("EmbeddingConfig" if pooling == "NONE" else "EmbeddingBagConfig")
    back = TableConfig.from_torchrec(theirs)
    assert plain(back.to_torchrec()) == plain(theirs)
    slots = {"f1": 1, "f2": 2}
    assert (back.to_segments(), back.to_expiry(slots)) == (config.to_segments(), config.to_expiry(slots))
    ignored = {"virtual_table_eviction_policy"}  # there, thresholds of inference are filled in
    assert back.model_dump(exclude=ignored) == config.model_dump(exclude=ignored)


def test_theirs_becomes_a_table_that_their_module_agrees_with() -> None:
    rec = torchrec()
    theirs = rec.EmbeddingBagConfig(num_embeddings=400, embedding_dim=4, name="t", feature_names=["f"])
    table = TableConfig.from_torchrec(theirs).to_table()
    table.apply_gradients(np.arange(2_000), np.zeros((2_000, 4)))
    weights = rec.EmbeddingBagCollection(tables=[theirs]).state_dict()["embedding_bags.t.weight"]
    bound = 1 / 400**0.5
    assert np.abs(table.export().rows).max() == pytest.approx(bound, rel=0.01)
    assert weights.abs().max().item() == pytest.approx(bound, rel=0.01)


@pytest.mark.parametrize(
    ("init_fn", "expected"),
    [
        (init.zeros_, Zeros()),
        (init.ones_, Constant(1.0)),
        (functools.partial(init.constant_, val=0.5), Constant(0.5)),
        (functools.partial(init.uniform_, a=-1.0, b=2.0), Uniform(-1.0, 2.0)),
        (functools.partial(init.normal_, std=0.1), Normal(0.0, 0.1)),
    ],
)
def test_first_weights_by_function(init_fn: object, expected: object) -> None:
    rec = torchrec()
    theirs = rec.EmbeddingBagConfig(num_embeddings=9, embedding_dim=4, name="t", feature_names=["f"], init_fn=init_fn)
    config = TableConfig.from_torchrec(theirs)
    assert config.to_segments()[0].initializer == expected
    assert TableConfig.from_torchrec(config.to_torchrec()).to_segments() == config.to_segments()


def test_int8_is_a_form_of_serving() -> None:
    assert TableConfig(embedding_dim=2, data_type="INT8").to_segments()[0].compressor == Fixed8(1.0)


def test_a_virtual_space_of_ids_reserves_nothing() -> None:
    rec = torchrec()
    theirs = rec.EmbeddingBagConfig(
        num_embeddings=1 << 50, embedding_dim=4, name="t", feature_names=["f"], use_virtual_table=True
    )
    assert TableConfig.from_torchrec(theirs).to_table().num_bytes < 1 << 20


def test_what_a_table_does_not_do_is_refused() -> None:
    rec = torchrec()
    base = {"num_embeddings": 9, "embedding_dim": 4, "name": "t", "feature_names": ["f"]}
    from torchrec.modules.embedding_configs import DataType

    for options, message in (
        ({"need_pos": True}, "need_pos"),
        ({"data_type": DataType.INT4}, "INT4"),
        ({"init_fn": lambda weights: weights}, "init_fn <lambda> is not supported"),
        ({"init_fn": functools.partial(init.constant_, value=1)}, "not supported"),
    ):
        with pytest.raises(InputError, match=message):
            TableConfig.from_torchrec(rec.EmbeddingBagConfig(**base, **options))
    for values, message in (
        ({"segments": [{"dim": 1}], "num_embeddings": 1}, "segments"),
        ({"embedding_dim": 1}, "num_embeddings"),
    ):
        with pytest.raises(InputError, match=message):
            TableConfig.model_validate(values).to_torchrec()
