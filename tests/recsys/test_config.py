"""Configurations from files: what they build, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from nonet.common.errors import InputError
from nonet.recsys.config import FeaturesFile, TableConfig, load_features, load_job, load_table
from nonet.recsys.config_values import checked, parse_bytes, parse_seconds, read_values
from nonet.recsys.features.fid import fid_v2
from nonet.recsys.table import (
    FTRL,
    Adagrad,
    Adam,
    BelowCount,
    ExactCount,
    Fixed8,
    Fp16,
    LeastRecent,
    LowestScore,
    Normal,
    OnlyAbove,
    Segment,
    Several,
    SlidingSketch,
    SmallestNorm,
    TimeToLive,
    Together,
    Uniform,
    Zeros,
)

FEATURES = """
defaults: {dim: 4, optimizer: {name: adagrad, lr: 0.1}, ttl: 90d}
admission: sketch
max_bytes: 1GB
features:
  user: {slot: 1, threshold: 3, ttl: 30d}
  item: {slot: 2}
  tags: {slot: 7, dim: 2, pooling: MEAN, compressor: {name: fixed8, r: 2.0}, bias: false, exact: true}
"""

TABLE = """
name = "clicks"
ttl = "1h"
max_bytes = "10MB"
admission = {name = "exact", threshold = 2, slot_thresholds = {3 = 9}}
[[segments]]
dim = 1
name = "bias"
optimizer = {name = "ftrl", l1 = 0.1}
initializer = "zeros"
[[segments]]
dim = 8
optimizer = "adam"
initializer = {name = "normal", std = 0.1}
compressor = "fp16"
"""


def written(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_a_table_from_toml(tmp_path: Path) -> None:
    table = load_table(written(tmp_path, "t.toml", TABLE)).to_table()
    assert table.segments == (
        Segment(1, FTRL(l1=0.1), Zeros(), "bias"),
        Segment(8, Adam(), Normal(0.0, 0.1), "", Fp16()),
    )
    assert table.admission == ExactCount(2, {3: 9})
    assert table.expiry == Several((TimeToLive(3600), LeastRecent(max_bytes=10_000_000)))
    assert table.name == "clicks"


def test_a_config_survives_json() -> None:
    config = TableConfig(
        num_embeddings=5,
        embedding_dim=3,
        feature_names=["a"],
        optimizer={"name": "adagrad", "lr": 0.1},
        virtual_table_eviction_policy={"policy": "timestamp", "eviction_ttl_mins": 7},
        expiry={"name": "ttl", "by_slot_s": {"4": 60}},
    )
    assert TableConfig.model_validate_json(config.model_dump_json()) == config


def test_two_tables_of_one_config_have_filters_of_their_own() -> None:
    config = TableConfig(embedding_dim=1, admission={"name": "exact", "threshold": 2})
    one, two = config.to_table(), config.to_table()
    assert one.apply_gradients([1], [[1.0]]).filtered == 1
    assert two.apply_gradients([1], [[1.0]]).filtered == 1


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ({"policy": "timestamp", "eviction_ttl_mins": 5}, TimeToLive(300)),
        ({"policy": "timestamp", "eviction_ttl_mins": 0}, None),
        ({"policy": "count", "eviction_threshold": 4, "decay_rate": 0.5}, BelowCount(4, 0.5)),
        ({"policy": "count", "training_id_eviction_trigger_count": 9}, OnlyAbove(BelowCount(15, 0.99), 9)),
        ({"policy": "count_timestamp", "eviction_ttl_mins": 1}, Together((BelowCount(15, 0.99), TimeToLive(60)))),
        ({"policy": "count_timestamp", "eviction_ttl_mins": 0}, BelowCount(15, 0.99)),
        ({"policy": "l2_norm", "eviction_threshold": 0.5}, SmallestNorm(min_norm=0.5)),
        ({"policy": "none"}, None),
        (
            {"policy": "feature_score", "training_id_keep_count": 3, "feature_score_mapping": {"f": 2.0}},
            LowestScore(3, 0.99, {6: 2.0}, 1.0),
        ),
        ({"policy": "feature_score", "eviction_ttl_mins": 2, "training_id_keep_count": 3}, TimeToLive(120)),
    ],
)
def test_eviction_policies(policy: dict[str, object], expected: object) -> None:
    config = TableConfig(embedding_dim=1, virtual_table_eviction_policy=policy)
    assert config.to_expiry({"f": 6}) == expected
    assert config.to_table({"f": 6}).expiry == expected


def test_a_mixed_policy_evicts_what_is_both_rare_and_old() -> None:
    policy = {"policy": "count_timestamp", "eviction_threshold": 3, "eviction_ttl_mins": 1, "decay_rate": 1.0}
    table = TableConfig(embedding_dim=1, virtual_table_eviction_policy=policy).to_table()
    one = np.ones((2, 1), np.float32)
    table.apply_gradients([1, 2], one, counts=[1, 5], now_s=0)
    table.apply_gradients([3, 4], one, counts=[1, 5], now_s=60)
    assert table.expire().tolist() == [1]


def test_features_of_one_shape_share_a_table(tmp_path: Path) -> None:
    file = load_features(written(tmp_path, "f.yaml", FEATURES))
    shared, tags = (config.to_table(file.slots) for config in file.tables())
    assert [config.feature_names for config in file.tables()] == [["user", "item"], ["tags"]]
    assert shared.segments == (
        Segment(1, FTRL(), Zeros(), "bias"),
        Segment(4, Adagrad(lr=0.1), Uniform(), "vector"),
    )
    assert tags.segments == (Segment(2, Adagrad(lr=0.1), Uniform(), "vector", Fixed8(2.0)),)
    assert shared.admission == SlidingSketch(0, {1: 3})
    day = 86_400
    assert shared.expiry == Several((TimeToLive(None, {1: 30 * day, 2: 90 * day}), LeastRecent(max_bytes=10**9)))
    row = np.ones((1, 5), np.float32)
    assert [shared.apply_gradients(fid_v2(1, [5]), row).created for _ in range(3)] == [0, 0, 1]
    assert shared.apply_gradients(fid_v2(2, [5]), row).created == 1


def test_features_encode_and_exact_ones_keep_a_dictionary(tmp_path: Path) -> None:
    file = load_features(written(tmp_path, "f.yaml", FEATURES))
    with pytest.raises(InputError, match="'tags' is exact"):
        file.encoders()
    encoders = file.encoders(tmp_path / "words")
    assert (encoders["user"].ids(["u1"]) >> 48).tolist() == [1]
    assert encoders["tags"].bags(pa.array([["x", "y"], ["x"]])).values.tolist() == fid_v2(7, [0, 1, 0]).tolist()
    assert [path.name for path in (tmp_path / "words").iterdir()] == ["slot-00007.dictionary"]


def test_a_job_names_its_features_file_and_its_paths_are_beside_it(tmp_path: Path) -> None:
    written(tmp_path, "f.yaml", FEATURES)
    job = load_job(
        written(
            tmp_path,
            "job.toml",
            'features = "f.yaml"\nsync_interval = "2s"\n[shards]\ncount = 3\nrun = "process"\n'
            '[labels]\nwait = "7d"\nlate = "correct"\n[log]\npath = "events"\n',
        )
    )
    assert job.features.slots == {"user": 1, "item": 2, "tags": 7}
    assert (job.sync_interval, job.labels.wait, job.shards.count) == (2.0, 604_800.0, 3)
    assert job.log.path == tmp_path / "events"
    assert job.snapshot.path == tmp_path / "snapshots"
    assert job.http.host == "127.0.0.1"


def test_the_job_in_the_docstring_is_a_job(tmp_path: Path) -> None:
    from nonet.recsys import config

    text = (config.__doc__ or "").partition("A whole job:\n")[2]
    written(tmp_path, "features.yaml", FEATURES)
    job = load_job(written(tmp_path, "job.yaml", text))
    assert (job.labels.late, job.joiner.negative_rate, job.shards.recovery) == ("correct", 0.1, "replay")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "features: {features: {a: {slot: 1}}}\nshard: {count: 2}",
            r"j.yaml: unknown key 'shard'; did you mean 'shards'",
        ),
        (
            "features: {features: {a: {slot: 1}}}\nshards: {cuont: 2}",
            r"unknown key 'shards.cuont'; did you mean 'count'",
        ),
        ("features: {features: {a: {slot: 1, tll: 3}}}", r"unknown key 'features.features.a.tll'; did you mean 'ttl'"),
        ("features: {features: {a: {slot: 40000}}}", r"features.features.a.slot"),
        ("features: {features: {a: {slot: -1}}}", r"features.features.a.slot"),
        ("features: {features: {a: {slot: 1}, b: {slot: 1}}}", r"features a and b have the same slot 1"),
        ("features: {features: {a: {slot: 1, ttl: 3 fortnights}}}", r"a.ttl: '3 fortnights' is not a duration"),
        ("features: {features: {a: {slot: 1, optimizer: adagrat}}}", r"unknown optimizer 'adagrat'; did you mean"),
        ("features: {features: {a: {slot: 1, optimizer: {name: sgd, rate: 1}}}}", r"sgd has no option 'rate'"),
        ("features: {features: {a: {slot: 1}}}\nsync_interval: 0s", "sync_interval"),
        ("features: {features: {a: {slot: 1}}}\nlog: {backend: kafka}", "kafka needs an address"),
        ("features: {features: {}}", "features.features"),
        ("http: {port: 1}", "features: field required"),
        ("a: 1\na: 2", "line 1: the key 'a' stands twice"),
        ("a: &x [1]\nb: *x", "line 2: YAML aliases are not read"),
        ("a: [1", "not valid YAML"),
        ("- 1", "must hold keys and values, not list"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_what_is_wrong_in_a_job_is_named(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        load_job(written(tmp_path, "j.yaml", text))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "embedding_dim"),
        ({"embedding_dim": 3, "segments": [{"dim": 2}]}, "do not agree"),
        ({"segments": [{"dim": 2}], "optimizer": "sgd"}, "optimizer stands beside segments"),
        ({"embedding_dim": 1, "weight_init_min": 1.0}, "belong together"),
        ({"embedding_dim": 1, "weight_init_min": -1.0, "weight_init_max": 1.0, "init_fn": "zeros"}, "give init_fn, or"),
        ({"embedding_dim": 1, "data_type": "INT4"}, "data_type"),
        ({"embedding_dim": 1, "num_embedding": 1}, "did you mean 'num_embeddings'"),
        ({"embedding_dim": 1, "admission": {"name": "exact", "slot_thresholds": {"x": 1}}}, "'x' is no slot"),
        ({"embedding_dim": 1, "virtual_table_eviction_policy": {"policy": "timestamp", "ttl": 1}}, "unknown key"),
        ({"embedding_dim": 1, "optimizer": {"name": "sgd", "lr": "fast"}}, "lr must be float, got 'fast'"),
    ],
)
def test_what_is_wrong_in_a_table_is_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        checked(TableConfig, values, "table")


def test_a_score_by_feature_needs_the_slot() -> None:
    policy = {"policy": "feature_score", "training_id_keep_count": 3, "feature_score_mapping": {"f": 2.0}}
    with pytest.raises(InputError, match="'f' has no slot"):
        TableConfig(embedding_dim=1, virtual_table_eviction_policy=policy).to_table()


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    for name, content, message in (
        ("a.json", b"{}", "a .yaml, .yml or .toml"),
        ("a.toml", b"\xff", "not valid"),
        ("b.toml", b"a = ", "not valid"),
        ("c.yaml", b"#" * (1 << 21), "more than"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=message):
            read_values(tmp_path / name)
    with pytest.raises(InputError, match="cannot read"):
        read_values(tmp_path / "none.toml")


def test_units() -> None:
    assert [parse_seconds(text) for text in ("10s", "2m", "3min", "1h", "1d", "1w")] == [
        10,
        120,
        180,
        3600,
        86400,
        604800,
    ]
    assert [parse_bytes(text) for text in ("5B", "1kB", "2MB", "1GiB")] == [5, 1000, 2_000_000, 2**30]
    for text in ("10", "s", "-1s", "1x", ""):
        with pytest.raises(InputError):
            parse_seconds(text)


def test_a_file_of_features_needs_no_defaults() -> None:
    file = FeaturesFile.model_validate({"features": {"a": {"slot": 3}}})
    table = file.tables()[0].to_table(file.slots)
    assert (table.dim, table.admission, table.expiry) == (17, None, None)
