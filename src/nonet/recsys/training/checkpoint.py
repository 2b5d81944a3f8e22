"""Snapshot and restore of a trainer: model, optimizer, tables, and where its source stood.

    manifest.json       version, current generation, features, correction, offsets, checksums (its own, too)
    state-<number>/     dense.safetensors (weights, buffers, optimizer), table-<number>/ (see `table.snapshot`; of a
                        table in shards, table-<number>/shard-<number>/), further files of whoever saves

A generation is written whole before the manifest names it, so a crash or a full disk leaves the one before. What the
random numbers of torch were is not kept: a module that draws some in training (dropout) goes on with others.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
import xxhash
from safetensors import SafetensorError

from nonet.common.atomic import atomic_path, atomic_write
from nonet.common.errors import InputError
from nonet.recsys.features.fid import bucket_owners
from nonet.recsys.table import snapshot as table_snapshot
from nonet.recsys.table.embedding_table import EmbeddingTable
from nonet.recsys.table.reshard import regroup
from nonet.recsys.table.snapshot import Saved, writing

if TYPE_CHECKING:
    from nonet.recsys.training.trainer import Trainer

VERSION = 2
MANIFEST = "manifest.json"
_DENSE = "dense.safetensors"


def save(
    trainer: Trainer, folder: Path, *, about: Mapping[str, Any] | None = None, files: Mapping[str, bytes] | None = None
) -> None:
    """Write everything that training goes on from; `offsets` of the trainer tell where in the source.

    Args:
        trainer: between two steps.
        folder: made if need be; the snapshot in it is replaced as a whole.
        about: JSON values to keep with it, see `describe`.
        files: further contents by name, see `read_file`.

    Raises:
        NonetError: the disk is full; the snapshot before stays.
        OSError: likewise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    number = max((int(old.name[6:]) for old in folder.glob("state-*") if old.name[6:].isdigit()), default=0) + 1
    home = folder / f"state-{number:08d}"
    home.mkdir()
    try:
        body = {**_write_state(trainer, home, files or {}), "about": dict(about or {})}
        with atomic_write(folder / MANIFEST) as file:
            json.dump({**body, "xxh3_128": _checksum_of(body)}, file, indent=1)
    except BaseException:  # on a full disk, what is half written would stay in the way of everything else
        shutil.rmtree(home, ignore_errors=True)
        raise
    for old in folder.glob("state-*"):
        if old != home:
            shutil.rmtree(old)


def _write_state(trainer: Trainer, home: Path, files: Mapping[str, bytes]) -> dict[str, Any]:
    """Write a generation; gives the manifest that names it."""
    tensors = {f"model.{name}": value.contiguous() for name, value in trainer.model.state_dict().items()}
    groups, scalars = _optimizer_state(trainer, tensors)
    with writing(home), atomic_path(home / _DENSE) as beside:
        safetensors.torch.save_file(tensors, beside)
    tables = trainer.distinct_tables
    for at, table in enumerate(tables):
        table.snapshot(home / f"table-{at}", offsets=trainer.offsets)
    for name, content in files.items():
        with atomic_write(home / name, "wb") as file:
            file.write(content)
    places = {id(table): at for at, table in enumerate(tables)}
    return {
        "version": VERSION,
        "state": home.name,
        "dense_xxh3": _checksum(home / _DENSE),
        "features": {name: places[id(table)] for name, table in trainer.tables.items()},
        "correction": _correction(trainer),
        "optimizer_groups": groups,
        "optimizer_scalars": scalars,
        "offsets": dict(trainer.offsets),
        "steps": trainer.steps,
        "files": {name: xxhash.xxh3_128_hexdigest(content) for name, content in files.items()},
    }


def describe(folder: Path) -> dict[str, Any]:
    """The manifest; what was given to `save` as `about` is under this name.

    Raises:
        InputError: no snapshot, or one of another version.
    """
    return _manifest(folder)


def read_file(folder: Path, name: str) -> bytes | None:
    """A further file of a snapshot; None where it has none of this name.

    Raises:
        InputError: no snapshot, or the file is damaged.
    """
    manifest = _manifest(folder)
    if name not in manifest.get("files", {}):
        return None
    place = folder / manifest["state"] / name
    try:
        content = place.read_bytes()
    except OSError as error:
        raise InputError(f"{place}: cannot be read: {error.strerror}") from error
    if xxhash.xxh3_128_hexdigest(content) != manifest["files"][name]:
        raise InputError(f"{place}: damaged, its checksum is not that of the manifest; take another snapshot")
    return content


def table_places(folder: Path) -> list[list[Path]]:
    """Of each table of a snapshot the places of its shards; one place where it is whole.

    Raises:
        InputError: no snapshot, or one of another version.
    """
    manifest = _manifest(folder)
    home = folder / manifest["state"]
    return [_shards(home / f"table-{at}") for at in range(1 + max(manifest["features"].values()))]


def load_table(places: Sequence[Path]) -> Saved:
    """One table from the snapshots of all its shards.

    Raises:
        InputError: a missing or damaged snapshot, or shards that do not fit together.
    """
    shards = [table_snapshot.load(place) for place in places]
    return shards[0] if len(shards) == 1 else next(regroup(shards, bucket_owners(1)))


def _shards(place: Path) -> list[Path]:
    return sorted(place.glob("shard-*")) or [place]


def check(folder: Path) -> None:
    """Read all of a snapshot.

    Raises:
        InputError: names what is missing or damaged.
    """
    manifest = _manifest(folder)
    _dense(folder / manifest["state"] / _DENSE, manifest["dense_xxh3"])
    for places in table_places(folder):
        load_table(places)
    for name in manifest.get("files", {}):
        read_file(folder, name)


def load(trainer: Trainer, folder: Path, *, with_tables: bool = True) -> None:
    """Put a trainer that was built alike into the state of a snapshot; its tables are new objects afterwards.

    Args:
        trainer: whose model has the shape of the one that was saved.
        folder: of `save`.
        with_tables: leave the tables as they are without it; whoever calls puts them back.

    Raises:
        InputError: no snapshot, a damaged one, or one of another model, other features or another correction; the
            trainer is then as it was.
    """
    manifest = _manifest(folder)
    if list(manifest["features"]) != list(trainer.features):
        raise InputError(f"{folder}: has the features {list(manifest['features'])}, not {list(trainer.features)}")
    if manifest["correction"] != _correction(trainer):
        raise InputError(
            f"{folder}: was trained with the log-odds correction {manifest['correction']}, the trainer has "
            f"{_correction(trainer)}; probabilities would be corrected twice or never"
        )
    home = folder / manifest["state"]
    tensors = _dense(home / _DENSE, manifest["dense_xxh3"])
    tables = _tables(folder, manifest) if with_tables else dict(trainer.tables)
    mismatched = [name for name, table in tables.items() if table.dim != trainer.tables[name].dim]
    weights = {name[6:]: value for name, value in tensors.items() if name.startswith("model.")}
    own = {name: value.shape for name, value in trainer.model.state_dict().items()}
    if mismatched or own != {name: value.shape for name, value in weights.items()}:
        raise InputError(f"{folder}: is of a model or of tables of another shape; build the trainer as it was")
    trainer.model.load_state_dict(weights)
    _load_optimizer(trainer, tensors, manifest)
    if with_tables:
        trainer.use_tables(tables)
    trainer.offsets = manifest["offsets"]
    trainer.steps = manifest["steps"]


def _tables(folder: Path, manifest: Mapping[str, Any]) -> dict[str, EmbeddingTable]:
    restored = [load_table(places).to_table() for places in table_places(folder)]
    return {name: restored[at] for name, at in manifest["features"].items()}


def _correction(trainer: Trainer) -> dict[str, Any]:
    return {"stage": trainer.correction.stage, "rate": trainer.correction.rate}


def _optimizer_state(trainer: Trainer, tensors: dict[str, torch.Tensor]) -> tuple[list[Any], dict[str, Any]]:
    """The optimizer's groups and its numbers as JSON values; its tensors go into `tensors`."""
    if trainer.optimizer is None:
        return [], {}
    state = trainer.optimizer.state_dict()
    scalars: dict[str, Any] = {}
    for number, slots in state["state"].items():
        for slot, value in slots.items():
            key = f"optimizer.{number}.{slot}"
            if isinstance(value, torch.Tensor):
                tensors[key] = value.contiguous()
            else:
                scalars[key] = value
    return state["param_groups"], scalars


def _load_optimizer(trainer: Trainer, tensors: dict[str, torch.Tensor], manifest: dict[str, Any]) -> None:
    if trainer.optimizer is None:
        return
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**tensors, **manifest["optimizer_scalars"]}.items():
        if key.startswith("optimizer."):
            _, number, slot = key.split(".", 2)
            state.setdefault(int(number), {})[slot] = value
    groups = [
        {key: tuple(value) if isinstance(value, list) and key != "params" else value for key, value in group.items()}
        for group in manifest["optimizer_groups"]
    ]
    trainer.optimizer.load_state_dict({"state": state, "param_groups": groups})


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: holds no snapshot of a trainer: {error}") from error
    if manifest.get("version") != VERSION or not str(manifest.get("state", "")).startswith("state-"):
        raise InputError(f"{folder / MANIFEST}: version {manifest.get('version')!r}, this program reads {VERSION}")
    if manifest.pop("xxh3_128", None) != _checksum_of(manifest):
        raise InputError(f"{folder / MANIFEST}: damaged: wrong checksum; take another snapshot")
    return manifest


def _dense(path: Path, checksum: str) -> dict[str, torch.Tensor]:
    try:
        if _checksum(path) != checksum:
            raise InputError(f"{path}: damaged, its checksum is not that of the manifest; take another snapshot")
        return safetensors.torch.load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error


def _checksum_of(body: Mapping[str, Any]) -> str:
    return xxhash.xxh3_128_hexdigest(json.dumps(body, sort_keys=True).encode())


def _checksum(path: Path) -> str:
    return xxhash.xxh3_128_hexdigest(path.read_bytes())
