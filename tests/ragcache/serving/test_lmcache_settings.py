"""LMCache's settings: its file, its variables, and what is said of each key."""

import textwrap

import pytest

from nonet.common.errors import InputError
from nonet.ragcache.reuse.modes import MODES
from nonet.ragcache.serving.lmcache_settings import load_lmcache
from nonet.ragcache.store.eviction import EVICTIONS
from nonet.ragcache.store.specs import tiers_from_spec


def written(folder, text):
    path = folder / "lmcache.yaml"
    path.write_text(textwrap.dedent(text))
    return path


EXAMPLE = """
    chunk_size: 256
    local_cpu: true
    max_local_cpu_size: 0.5
    local_disk: "file://{folder}/kv/"
    max_local_disk_size: 2
    remote_url: null
    cache_policy: LFU
    enable_blending: true
    blend_recompute_ratios: 0.2
    blend_check_layers: 1
    blend_min_tokens: 256
    blend_special_str: " # # "
    gds_path: /mnt/gds
"""


def test_a_whole_file(tmp_path):
    found = load_lmcache(written(tmp_path, EXAMPLE.format(folder=tmp_path)), {})
    assert (found.mode, found.recompute, found.eviction) == ("blend", 0.2, "lfu")
    assert found.mode in MODES and found.eviction in EVICTIONS
    ram, disk = tiers_from_spec(found.store)
    assert (ram.name, ram.capacity_bytes) == ("ram", 1 << 29)
    assert (disk.name, disk.capacity_bytes) == ("disk", 2 << 30) and (tmp_path / "kv").is_dir()
    taken = {line.split(" ")[0] for line in found.taken}
    ignored = {line.split(" ")[0] for line in found.ignored}
    assert ignored == {"chunk_size", "blend_min_tokens", "blend_special_str", "gds_path"}
    assert taken | ignored == {line.split(":")[0].strip() for line in EXAMPLE.splitlines() if ":" in line} - {
        "remote_url"
    }
    assert all(len(line.split(": ", 1)[1]) > 10 for line in found.ignored)


def test_a_variable_beats_the_file_and_names_one(tmp_path):
    path = written(tmp_path, "max_local_cpu_size: 3\nenable_blending: false\n")
    assert load_lmcache(path, {}).store == "ram:3GiB"
    found = load_lmcache(None, {"LMCACHE_CONFIG_FILE": str(path), "LMCACHE_MAX_LOCAL_CPU_SIZE": '"4"', "PATH": "x"})
    assert (found.store, found.mode, found.recompute) == ("ram:4GiB", "prefix", None)
    assert any(line.startswith("LMCACHE_MAX_LOCAL_CPU_SIZE = 4") for line in found.taken)


def test_what_is_not_said_stays_ours():
    found = load_lmcache(None, {"LMCACHE_CHUNK_SIZE": "128"})
    assert (found.store, found.mode, found.recompute, found.eviction) == (None,) * 4
    assert load_lmcache(None, {}) is None


@pytest.mark.parametrize(
    ("variables", "store"),
    [
        ({"LOCAL_CPU": "False", "REMOTE_URL": "redis://10.0.0.5:6379"}, "redis://10.0.0.5:6379"),
        ({"LOCAL_CPU": "0", "REMOTE_URL": "valkey://h:1"}, "redis://h:1"),
        ({"REMOTE_URL": "s3://b.s3express-usw2-az1.us-west-2.amazonaws.com"}, "ram:5GiB,s3://b"),
        ({"REMOTE_URL": "fs://host:0/mnt/kv"}, "ram:5GiB,disk:/mnt/kv?shared=1"),
        ({"LOCAL_DISK": "/var/kv", "MAX_LOCAL_DISK_SIZE": "1.5"}, "ram:5GiB,disk:/var/kv:1.5GiB"),
        ({"LOCAL_DISK": "/var/kv"}, "ram:5GiB"),
        ({"REMOTE_URL": "mooncakestore://h:1"}, "ram:5GiB"),
    ],
)
def test_stores(variables, store):
    assert load_lmcache(None, {f"LMCACHE_{name}": value for name, value in variables.items()}).store == store


@pytest.mark.parametrize(
    ("variables", "key"),
    [
        ({"REMOTE_URL": "lm://h:1"}, "LMCACHE_REMOTE_URL: lm://h:1 is not spoken"),
        ({"LOCAL_DISK": "/var/kv"}, "LMCACHE_LOCAL_DISK: max_local_disk_size is 0"),
        ({"MAX_LOCAL_DISK_SIZE": "3"}, "LMCACHE_MAX_LOCAL_DISK_SIZE: no local_disk"),
        ({"CACHE_POLICY": "FIFO"}, "LMCACHE_CACHE_POLICY: FIFO is not built"),
        ({"ENABLE_BLENDING": "true", "BLEND_CHECK_LAYERS": "1,2"}, "LMCACHE_BLEND_CHECK_LAYERS: mode blend compares"),
        ({"BLEND_RECOMPUTE_RATIOS": "0.3"}, "LMCACHE_BLEND_RECOMPUTE_RATIOS: enable_blending is not on"),
        ({"USE_LAYERWISE": "true"}, "LMCACHE_USE_LAYERWISE: not known here"),
    ],
)
def test_what_is_ignored_is_named(variables, key):
    found = load_lmcache(None, {f"LMCACHE_{name}": value for name, value in variables.items()})
    assert [line for line in found.ignored if line.startswith(key)], found.ignored


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [", "not valid YAML"),
        ("- 1", "must be a mapping"),
        ("max_local_cpu_size: much", "max_local_cpu_size in .* = 'much'"),
        ("enable_blending: true\nblend_recompute_ratios: [1.5]", "blend_recompute_ratios"),
        ("local_cpu: false", "leave no place"),
    ],
)
def test_wrong_files_are_refused(tmp_path, text, says):
    with pytest.raises(InputError, match=says):
        load_lmcache(written(tmp_path, text), {})


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        load_lmcache(tmp_path / "none.yaml", {})
