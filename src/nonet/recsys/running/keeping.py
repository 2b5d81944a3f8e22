"""What a job keeps: tables, network and offsets as `training.checkpoint` writes them; items, dictionaries, the job.

A snapshot can be read without its job file: it says itself which features, model and log it belongs to.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from nonet.common.errors import InputError
from nonet.recsys.config import JobFile
from nonet.recsys.config_values import checked
from nonet.recsys.features.dictionary import Dictionary
from nonet.recsys.running.parts import build_trainer
from nonet.recsys.table.reshard import reshard
from nonet.recsys.table.snapshot import read_manifest
from nonet.recsys.training import checkpoint
from nonet.recsys.training.trainer import Trainer

ItemIds = dict[str, dict[str, list[int]]]
"""Of each item the ids of its features."""

_ITEMS = "items.msgpack"
_ARMS = "arms"
_TRIES = 3


def is_snapshot(folder: str | Path) -> bool:
    """Whether there is one."""
    return (Path(folder) / checkpoint.MANIFEST).is_file()


def arm_place(folder: str | Path, name: str) -> Path:
    """Where in the folder of a job's snapshot a further arm has its own.

    Args:
        folder: of the job.
        name: of the arm.
    """
    return Path(folder) / _ARMS / name


def arm_places(folder: str | Path) -> list[Path]:
    """The snapshots of further arms that are there, by name."""
    return sorted(place for place in (Path(folder) / _ARMS).glob("*") if is_snapshot(place))


def save(folder: str | Path, job: JobFile, trainer: Trainer, items: ItemIds, *, event_ts_ms: int = 0) -> None:
    """Write a snapshot; the one before stays until it is whole.

    Args:
        folder: made if need be.
        job: that it belongs to.
        trainer: between two steps.
        items: the catalogue.
        event_ts_ms: newest event time learned.
    """
    about = {"job": job.model_dump(mode="json"), "event_ts_ms": event_ts_ms}
    paths = job.features.dictionary_paths(job.dictionaries).values()
    files = {path.name: path.read_bytes() for path in paths if path.exists()}
    checkpoint.save(trainer, Path(folder), about=about, files={_ITEMS: msgspec.msgpack.encode(items), **files})


def bring_back_dictionaries(folder: str | Path, job: JobFile) -> None:
    """Give the exact features of a job the ids that they had in a snapshot.

    Args:
        folder: of the snapshot.
        job: that shall go on from it; it does not run.

    Raises:
        InputError: a dictionary of the job numbers other values, or the snapshot is damaged.
    """
    for path in job.features.dictionary_paths(job.dictionaries).values():
        content = checkpoint.read_file(Path(folder), path.name)
        if content is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            with Dictionary(path) as dictionary:
                dictionary.catch_up(content)


def job_of(folder: str | Path) -> JobFile:
    """The job that a snapshot belongs to.

    Raises:
        InputError: no snapshot of a job.
    """
    about = checkpoint.describe(Path(folder)).get("about", {})
    if "job" not in about:
        raise InputError(f"{folder}: a snapshot without a job; `nonet recsys train` and `up` write those with one")
    return checked(JobFile, about["job"], f"{folder}: job")


def load(folder: str | Path, job: JobFile | None = None) -> tuple[Trainer, ItemIds, int]:
    """A trainer as it was, the items, and the newest event time learned.

    Args:
        folder: of `save`.
        job: how to build the trainer; by default as the snapshot says. Its times to live and ceilings count from now
            on; features, dimensions and optimizers must be those of the snapshot.

    Raises:
        InputError: no snapshot, a damaged one, or one of other features or another model.
    """
    place = Path(folder)
    saved = job_of(place)
    wanted = job or saved
    differs = [name for name in ("segments", "name", "feature_names") if _parts(wanted, name) != _parts(saved, name)]
    if differs or wanted.trainer.model != saved.trainer.model:
        raise InputError(
            f"{folder}: was trained with other features, dimensions, optimizers or another model than the job has; "
            "begin a new snapshot folder, or put the job back"
        )
    trainer = build_trainer(wanted)
    _load(trainer, place, wanted)
    return trainer, _items(place), int(checkpoint.describe(place)["about"].get("event_ts_ms", 0))


def _load(trainer: Trainer, place: Path, job: JobFile) -> None:
    checkpoint.load(trainer, place)
    for config in job.features.tables():
        table = trainer.tables[config.feature_names[0]]
        table.expiry = config.to_expiry(job.features.slots)


def _parts(job: JobFile, name: str) -> list[Any]:
    return [getattr(config, name) for config in job.features.tables()]


def describe(folder: str | Path) -> dict[str, Any]:
    """Numbers of a snapshot as JSON values: keys by table, shards, items, steps, offsets, event time.

    Raises:
        InputError: no snapshot, or a damaged manifest.
    """
    place = Path(folder)
    manifest = checkpoint.describe(place)
    keys: dict[str, int] = {}
    tables = checkpoint.table_places(place)
    for places in tables:
        for one in map(read_manifest, places):
            keys[one["table"]["name"]] = keys.get(one["table"]["name"], 0) + one["num_keys"]
    return {
        "keys": keys,
        "shards": len(tables[0]),
        "items": len(_items(place)),
        "steps": manifest["steps"],
        "offsets": manifest["offsets"],
        "event_ts_ms": int(manifest.get("about", {}).get("event_ts_ms", 0)),
    }


def _items(folder: Path) -> ItemIds:
    return msgspec.msgpack.decode(checkpoint.read_file(folder, _ITEMS) or b"\x80", type=ItemIds)


def copy(source: str | Path, target: str | Path, *, num_shards: int | None = None) -> None:
    """Copy a snapshot with those of its further arms, perhaps into another number of shards, and check the copy.

    Further arms stay whole, in one shard each. A job may write the next one meanwhile; then the copy is of that.

    Args:
        source: a snapshot.
        target: a folder; a snapshot in it is replaced once the copy is whole.
        num_shards: of each table; as they are by default.

    Raises:
        InputError: no snapshot, a damaged one, or the target holds something else.
    """
    here, there = Path(source), Path(target)
    if there.exists() and any(there.iterdir()) and not is_snapshot(there):
        raise InputError(f"{target}: holds something else than a snapshot; name another folder")
    there.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=".tmp-snapshot-", dir=there.parent))
    try:
        _copy_whole(here, beside)
        for arm in arm_places(here):
            copied = beside / _ARMS / arm.name
            copied.mkdir(parents=True)
            _copy_whole(arm, copied)
        if num_shards is not None:
            _reshard(beside, num_shards)
        _swap(beside, there)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _copy_whole(source: Path, target: Path) -> None:
    for attempt in range(_TRIES):
        shutil.rmtree(target)
        target.mkdir()
        try:
            manifest = checkpoint.describe(source)
            shutil.copytree(source / manifest["state"], target / manifest["state"])
            shutil.copy(source / checkpoint.MANIFEST, target / checkpoint.MANIFEST)
            checkpoint.check(target)
            return
        except (InputError, OSError):
            if attempt == _TRIES - 1 or checkpoint.describe(source) == manifest:
                raise  # nobody replaced it meanwhile: it is damaged


def _reshard(folder: Path, num_shards: int) -> None:
    for places in checkpoint.table_places(folder):
        whole = places[0] if places[0].name.startswith("table-") else places[0].parent
        fresh = whole.with_name(f"{whole.name}-fresh")
        reshard(places, num_shards, fresh)
        shutil.rmtree(whole)
        fresh.rename(whole)


def _swap(fresh: Path, target: Path) -> None:
    """Put a folder in the place of another; a crash between leaves the old one beside."""
    fresh.chmod(0o755)
    if not target.exists():
        fresh.rename(target)
        return
    old = target.with_name(f".old-{target.name}-{os.getpid()}")
    target.rename(old)
    fresh.rename(target)
    shutil.rmtree(old)


def export(folder: str | Path, out: str | Path, kind: str) -> list[Path]:
    """Write the tables of a snapshot for others to read: key, time, bias, vector.

    Args:
        folder: of the snapshot.
        out: a folder, made if need be; a file for each table in it.
        kind: "parquet" or "safetensors".

    Returns:
        The files.

    Raises:
        InputError: no snapshot, a damaged one, or an unknown kind.
    """
    from nonet.recsys.table.export import to_parquet, to_safetensors

    writers = {"parquet": to_parquet, "safetensors": to_safetensors}
    if kind not in writers:
        raise InputError(f"unknown format {kind!r} of an export (known: {', '.join(writers)})")
    place = Path(out)
    places = checkpoint.table_places(Path(folder))
    place.mkdir(parents=True, exist_ok=True)
    written = []
    for shards in places:
        table = checkpoint.load_table(shards).to_table()
        written.append(place / f"{table.name}.{kind}")
        writers[kind](table, written[-1])
    return written
