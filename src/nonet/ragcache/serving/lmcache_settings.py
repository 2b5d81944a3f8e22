"""Settings that users of LMCache bring: its YAML file and its LMCACHE_* variables, as settings of ours.

As in LMCache, a variable beats the file, sizes are in GiB, and LMCACHE_CONFIG_FILE names a file. What has no equivalent
here is named with the reason, since a setting that is silently dropped misleads whoever wrote it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from nonet.common.errors import InputError, MissingExtraError

_PREFIX = "LMCACHE_"
_FILE_VARIABLE = "LMCACHE_CONFIG_FILE"
_DEFAULT_RATIO = 0.15
_CHECK_LAYERS = [1]
_POLICIES = {"LRU": "lru", "LFU": "lfu"}
_IGNORED = {
    "chunk_size": "chunks are as long as requests give them, not cut into pieces of one size",
    "blend_min_tokens": "a stored chunk is reused whatever its length",
    "blend_special_str": "chunks come in the field chunks of a request, or are found in a prompt without separators",
}


def _listed(value: Any) -> Any:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value if isinstance(value, list) or value is None else [value]


class _Keys(BaseModel):
    """The keys that mean something here, with LMCache's own defaults where it has some."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    local_cpu: bool = True
    max_local_cpu_size: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 5.0
    local_disk: str | None = None
    max_local_disk_size: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    remote_url: str | None = None
    cache_policy: str | None = None
    enable_blending: bool | None = None
    blend_recompute_ratios: Annotated[list[Annotated[float, Field(ge=0, le=1)]] | None, BeforeValidator(_listed)] = None
    blend_check_layers: Annotated[list[int] | None, BeforeValidator(_listed)] = None


@dataclass(frozen=True, slots=True)
class Imported:
    """What was found, as settings of ours; None where nothing was said.

    Args:
        store: tiers, as `--store` takes them.
        eviction: a name of `EVICTIONS`.
        mode: a name of `MODES`.
        recompute: share of reused rows to compute anew.
        taken: one line a setting that was taken over, "key = value: what it became".
        ignored: one line a setting that was not, "key: why".
    """

    store: str | None = None
    eviction: str | None = None
    mode: str | None = None
    recompute: float | None = None
    taken: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()


def load_lmcache(path: Path | None, environment: Mapping[str, str]) -> Imported | None:
    """Read LMCache's settings; None when there are none.

    Args:
        path: a YAML file, or None for the one that LMCACHE_CONFIG_FILE names, if any.
        environment: its LMCACHE_* beat the file.

    Raises:
        InputError: no such file, no YAML, or a value of the wrong kind.
        MissingExtraError: PyYAML is not installed.

    >>> found = load_lmcache(None, {"LMCACHE_MAX_LOCAL_CPU_SIZE": "2", "LMCACHE_ENABLE_BLENDING": "True"})
    >>> found.store, found.mode, found.recompute
    ('ram:2GiB', 'blend', 0.15)
    >>> load_lmcache(None, {"HOME": "/"}) is None
    True
    """
    variables = {name: value for name, value in environment.items() if name.startswith(_PREFIX)}
    named = variables.pop(_FILE_VARIABLE, "")
    file = path or (Path(named) if named else None)
    if file is None and not variables:
        return None
    found: dict[str, tuple[Any, str]] = {}
    if file is not None:
        found = {key: (value, f"{key} in {file}") for key, value in _yaml(file).items()}
    for name, value in variables.items():
        found[name.removeprefix(_PREFIX).lower()] = (value.strip().strip("\"'"), name)
    return _imported({key: value for key, (value, _) in found.items()}, {key: one for key, (_, one) in found.items()})


def _yaml(file: Path) -> dict[str, Any]:
    try:
        import yaml
    except ImportError as error:
        raise MissingExtraError("--config needs PyYAML: pip install 'nonet[ragcache]'") from error
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise InputError(f"{file}: not valid YAML: {' '.join(str(error).split())}") from error
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise InputError(f"{file}: must be a mapping of LMCache's keys, such as max_local_cpu_size: 5")
    return found


def _imported(found: dict[str, Any], origins: Mapping[str, str]) -> Imported:
    given = {key: value for key, value in found.items() if value is not None}
    try:
        keys = _Keys(**{key: value for key, value in given.items() if key in _Keys.model_fields})
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        raise InputError(f"{origins[key]} = {given[key]!r}: {first['msg'].lower()}") from error
    taken: dict[str, str] = {}
    ignored = {key: _IGNORED.get(key, "not known here") for key in given if key not in _Keys.model_fields}
    store = _store(keys, given, taken, ignored)
    mode, recompute = _blending(keys, given, taken, ignored)
    eviction = _POLICIES.get((keys.cache_policy or "").upper())
    if eviction is not None:
        taken["cache_policy"] = f"eviction {eviction}"
    elif keys.cache_policy is not None:
        ignored["cache_policy"] = f"{keys.cache_policy} is not built; there are {', '.join(_POLICIES)}"
    return Imported(
        store,
        eviction,
        mode,
        recompute,
        tuple(f"{origins[key]} = {given[key]}: {what}" for key, what in taken.items()),
        tuple(f"{origins[key]}: {why}" for key, why in ignored.items()),
    )


def _store(keys: _Keys, given: Mapping[str, Any], taken: dict[str, str], ignored: dict[str, str]) -> str | None:
    places = ("local_cpu", "max_local_cpu_size", "local_disk", "max_local_disk_size", "remote_url")
    if not any(key in given for key in places):
        return None
    tiers: dict[str, str] = {}
    if keys.local_cpu and keys.max_local_cpu_size > 0:
        tiers["max_local_cpu_size" if "max_local_cpu_size" in given else "local_cpu"] = (
            f"ram:{keys.max_local_cpu_size:g}GiB"
        )
    elif not keys.local_cpu:
        taken["local_cpu"] = "no tier in memory"
        ignored |= {"max_local_cpu_size": "local_cpu is false"} if "max_local_cpu_size" in given else {}
    if keys.local_disk is not None and keys.max_local_disk_size > 0:
        tiers["local_disk"] = f"disk:{_folder(keys.local_disk)}:{keys.max_local_disk_size:g}GiB"
    elif keys.local_disk is not None:
        ignored["local_disk"] = "max_local_disk_size is 0, which LMCache takes for no disk; give it a size"
    elif "max_local_disk_size" in given:
        ignored["max_local_disk_size"] = "no local_disk is given"
    if keys.remote_url is not None:
        remote = _remote(keys.remote_url)
        if remote is None:
            ignored["remote_url"] = f"{keys.remote_url} is not spoken; there are redis://, rediss://, s3:// and fs://"
        else:
            tiers["remote_url"] = remote
    if not tiers:
        raise InputError("LMCache's settings leave no place to keep KV: give local_cpu, local_disk or remote_url")
    taken |= {key: f"tier {tier}" for key, tier in tiers.items() if key in given}
    if "local_cpu" in given:
        taken.setdefault("local_cpu", "a tier in memory")
    if "local_disk" in tiers:
        taken["max_local_disk_size"] = "size of that tier"
    return ",".join(tiers.values())


def _folder(local_disk: str) -> str:
    folder = local_disk.removeprefix("file://")
    if "," in folder:
        raise InputError(f"local_disk = {local_disk!r}: one folder, without a comma")
    return folder.rstrip("/") or "/"


def _remote(url: str) -> str | None:
    """LMCache's address of a server as a tier of ours, None for what we do not speak.

    >>> _remote("redis://host:6379"), _remote("s3://mine.s3.eu-west-1.amazonaws.com"), _remote("fs://host:0/mnt/kv")
    ('redis://host:6379', 's3://mine', 'disk:/mnt/kv?shared=1')
    >>> _remote("lm://host:65432") is None
    True
    """
    parts = urlsplit(url)
    if parts.scheme in ("redis", "rediss", "valkey"):
        return url.replace("valkey:", "redis:", 1)
    if parts.scheme == "s3" and parts.netloc:
        return f"s3://{parts.netloc.partition('.s3')[0]}{parts.path.rstrip('/')}"
    if parts.scheme == "fs" and parts.path:
        return f"disk:{_folder(parts.path)}?shared=1"
    return None


def _blending(
    keys: _Keys, given: Mapping[str, Any], taken: dict[str, str], ignored: dict[str, str]
) -> tuple[str | None, float | None]:
    if keys.enable_blending is not None:
        taken["enable_blending"] = "mode blend" if keys.enable_blending else "mode prefix"
    if not keys.enable_blending:
        for key in ("blend_recompute_ratios", "blend_check_layers"):
            if key in given:
                ignored[key] = "enable_blending is not on"
        return ("prefix" if keys.enable_blending is False else None), None
    ratios = keys.blend_recompute_ratios
    ratio = ratios[0] if ratios else _DEFAULT_RATIO
    if ratios:
        rest = f"; the later ones, {', '.join(map(str, ratios[1:]))}, are not used" if ratios[1:] else ""
        taken["blend_recompute_ratios"] = f"{ratio:g} of the reused rows are computed anew{rest}"
    if keys.blend_check_layers == _CHECK_LAYERS:
        taken["blend_check_layers"] = "mode blend compares there"
    elif "blend_check_layers" in given:
        ignored["blend_check_layers"] = "mode blend compares in layer 1 (the second) only"
    return "blend", ratio
