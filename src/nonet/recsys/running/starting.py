"""The first files of a job: features.yaml and job.yaml, with comments that teach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nonet.common.atomic import atomic_write
from nonet.common.errors import InputError
from nonet.recsys.config import FeaturesFile, JobFile, load_job
from nonet.recsys.config_values import checked

_LEAST_MS = 10**11  # a Unix time from here on is in milliseconds: as seconds it is the year 5138, as such 1973
PRESETS = ("deepfm", "dlrm", "fm", "lr")


@dataclass(frozen=True, slots=True)
class Columns:
    """What a job reads.

    Args:
        features: in the order of the model's input.
        user: the feature that holds who asks; None for a job that only trains.
        item: the feature that holds what is shown.
        attributes: features that come with the item.
        dense: numbers.
        data: the section `data` of the job.
    """

    features: tuple[str, ...] = ("user", "item")
    user: str | None = "user"
    item: str = "item"
    attributes: tuple[str, ...] = ()
    dense: tuple[str, ...] = ()
    data: tuple[tuple[str, str], ...] = ()


def columns_of(
    path: Path,
    *,
    kind: str | None = None,
    label: str | None = None,
    timestamp: str | None = None,
    features: Sequence[str] = (),
    dense: Sequence[str] = (),
    user: str | None = None,
    item: str | None = None,
) -> Columns:
    """The columns of a file of rows.

    Args:
        path: the file.
        kind: of its format; found by looking at it when None, or "table" where columns are given.
        label: which rows are positive.
        timestamp: column with Unix time, of a table.
        features: columns that are ids, of a table.
        dense: columns that are numbers, of a table.
        user: which feature; by default one named user.
        item: which feature; by default as the format says, or the last one of a table.

    Raises:
        InputError: the file cannot be read, its format is unknown, or a table lacks a column.
    """
    from nonet.recsys.reading.formats import table_format
    from nonet.recsys.reading.frames import open_format, read_frames

    if kind == "table" or features or timestamp:
        if not features or label is None or timestamp is None:
            raise InputError("a table of your own needs --feature (each), --label and --timestamp")
        form = table_format(features, label=label, timestamp=timestamp, dense=dense, item=item or "", unit="ms")
        data: tuple[tuple[str, str], ...] = (("format", "table"), ("label", label), ("timestamp", timestamp))
    else:
        form = open_format(path, kind).with_label(label)
        data = (("format", form.name), ("label", form.label))
    first = next(read_frames(path, form, max_rows=1), None)
    if form.name == "table" and first is not None and first.height and first["ts_ms"][0] >= _LEAST_MS:
        data += (("unit", "ms"),)
    names = tuple(form.features)
    for named in (user, item):
        if named is not None and named not in names:
            raise InputError(f"{path}: {named!r} is none of its features {', '.join(names)}")
    found = item or form.item
    who = user or ("user" if "user" in names else None)
    attributes = ("category",) if form.name == "taobao" else ()
    return Columns(names, who, found, attributes, tuple(form.dense), data)


def job_for(columns: Columns, preset: str = "deepfm") -> JobFile:
    """The job that `write_job` would write.

    Args:
        columns: that the job reads.
        preset: the model.
    """
    import yaml

    checked_preset(preset)
    features = checked(FeaturesFile, yaml.safe_load(_features(columns, preset)), "features")
    return checked(JobFile, {**yaml.safe_load(_job(columns, preset)), "features": features}, "job")


def checked_preset(name: str) -> str:
    """A name of a model.

    Raises:
        InputError: there is none of this name.
    """
    if name not in PRESETS:
        raise InputError(f"unknown preset {name!r} (known: {', '.join(PRESETS)})")
    return name


def write_job(folder: str | Path, columns: Columns, preset: str = "deepfm", *, force: bool = False) -> list[Path]:
    """Write features.yaml and job.yaml.

    Args:
        folder: made if need be.
        columns: that the job reads.
        preset: the model.
        force: overwrite.

    Returns:
        Both files.

    Raises:
        InputError: an unknown preset, or a file is there already.
    """
    checked_preset(preset)
    place = Path(folder)
    files = {place / "features.yaml": _features(columns, preset), place / "job.yaml": _job(columns, preset)}
    there = [path for path in files if path.exists()]
    if there and not force:
        raise InputError(f"{there[0]} exists; name another folder, or overwrite it with --force")
    place.mkdir(parents=True, exist_ok=True)
    for path, text in files.items():
        with atomic_write(path) as file:
            file.write(text)
    load_job(place / "job.yaml")
    return list(files)


def _yaml(value: Any) -> str:
    """A value in one line."""
    import yaml

    text: str = yaml.safe_dump(value, default_flow_style=True, width=1 << 20, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")


_DEFAULTS = {
    "deepfm": "dim: 16\n  bias: true\n  bias_optimizer: ftrl",
    "fm": "dim: 16\n  bias: true\n  bias_optimizer: ftrl",
    "dlrm": "dim: 16\n  bias: false                    # this model has none",
    "lr": "dim: 0                         # this model has a bias alone\n  bias: true\n  bias_optimizer: ftrl",
}


def _features(columns: Columns, preset: str) -> str:
    slots = "\n".join(f"  {_yaml(name)}: {{slot: {slot}}}" for slot, name in enumerate(columns.features, 1))
    user = "# user:" if columns.user is None else f"user: {_yaml(columns.user)}"
    return f"""# What the model knows rows by, and how each feature is trained.

# Who asks, what is shown, and what comes with the item; other features are the context of a request.
{user}
item: {_yaml(columns.item)}
item_attributes: {_yaml(list(columns.attributes))}

# Numbers of a row, in the order of the model's input.
dense: {_yaml(list(columns.dense))}

defaults:
  {_DEFAULTS[preset]}
  optimizer: {{name: adagrad, lr: 0.05}}
  compressor: fp32               # how rows travel to those who serve: fp16 halves, fixed8 quarters the bytes
  # threshold: 5                 # an id gets a row when it has come so often; rare ids cost memory and teach little
  # ttl: 30d                     # ids that were not trained for so long go

# A slot is the upper part of every id: it must never change, and each feature has its own.
# A feature may say otherwise than the defaults: {{slot: 1, threshold: 5, ttl: 90d}}; {{slot: 2, exact: true}} numbers
# its values by a dictionary on disk instead of a hash of 48 bits.
features:
{slots}

admission: exact                 # how thresholds count: exact, sketch (less memory), probabilistic
# max_bytes: 2GB                 # of each table; above it, the ids go that came last longest ago
seed: 0
"""


def _job(columns: Columns, preset: str) -> str:
    data = "".join(f"  {name}: {_yaml(value)}\n" for name, value in columns.data)
    section = f"data:\n{data}" if data else "# data: {format: movielens, label: rating >= 3.5}\n"
    return f"""# A job: `nonet recsys train --data FILE --job job.yaml`, then `nonet recsys up job.yaml`.
# Paths are relative to this file. Durations: 10s, 5m, 1h, 30d.
features: features.yaml

# How files of rows are read (train, simulate).
{section}
# Where events wait: a folder, or kafka, nats, redis with an address.
log:
  backend: segments
  path: log
  partitions: 1
  options: {{retention_ms: 604800000}}   # a week; a restart replays from the last snapshot, so keep more than that

# A row that was shown is positive when one of these actions comes within `wait` of event time.
labels:
  positive: [click]
  wait: 30s                      # longer: fewer clicks are missed; shorter: fresher. See where your clicks end.
  late: correct                  # a click after that: drop it, correct the negative, or fake_negative (no wait at all)
  late_wait: 1h

joiner:
  allowed_lateness: 5s           # how far events may come out of order
  negative_rate: 1.0             # keep this part of the negatives; the model's odds are corrected for it
  cache_rows: 100000             # waiting rows in memory; the rest is in `spill`
  spill: spill

trainer:
  model: {preset}
  hidden: [64, 32]
  dense_optimizer: adam
  dense_lr: 0.001
  batch_size: 256

sync_interval: 5s                # touched rows to the server: what `nonet recsys simulate` helps to choose
dense_sync_interval: 30s         # the network moves slowly
expire_interval: 1h              # event time between passes over expired ids

snapshot:
  path: snapshots
  interval: 1h

# More than one, or processes, when one table is too large or too slow; the answers are the same.
shards:
  count: 1
  run: thread                    # thread, process, ray
  recovery: replay               # a failed shard: replay loses nothing, snapshot goes on at once without its last hour

http:
  host: 127.0.0.1
  port: 8080

# An A/B test: users are dealt out by these shares, and every arm learns from all that was shown. main is what
# trainer: says; another arm says what differs: model, hidden, dense_optimizer, dense_lr, batch_size, seed, and under
# `defaults` what its features have. It begins with the oldest example of the log.
# arms:
#   main: {{share: 0.9}}
#   wide: {{share: 0.1, hidden: [128, 64], dense_lr: 0.0005, defaults: {{dim: 32}}}}
"""
