"""Data sets by name: where their files are, where they can be had, under which terms.

Rooms register their data sets; nothing is looked for or downloaded before `locate` or `fetch` is called. A file is
searched for in this order: the folder given explicitly; the mirror (`NONET_MIRROR`, read in place); the cache
(`NONET_HOME`, else the system's cache folder); the download into the cache. A file also counts as found when it is
there as `.gz` or `.zst`.
"""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nonet.common.atomic import atomic_path
from nonet.common.errors import InputError
from nonet.common.registry import Registry
from nonet.common.settings import load_settings

_COMPRESSIONS = ("", ".gz", ".zst")
_COPY_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file of a data set.

    Attributes:
        role: what it is within the set, e.g. "log", "labels".
        path: where it lies below the mirror and the cache, uncompressed name, `/` between folders.
        url: address of the file, or of the zip archive that holds it; "" when it cannot be downloaded.
        member: its name inside that archive; "" when `url` is the file itself.
        sha256: checksum of the uncompressed file, hexadecimal; "" when unknown.
        optional: the set can be used without it.
    """

    role: str
    path: str
    url: str = ""
    member: str = ""
    sha256: str = ""
    optional: bool = False

    @property
    def name(self) -> str:
        """The file name without folders."""
        return self.path.rsplit("/", 1)[-1]


@dataclass(frozen=True, slots=True)
class Dataset:
    """A named set of files with its terms.

    Attributes:
        name: `family/member`, e.g. "loghub2/Linux".
        files: its files; roles are distinct.
        licence: the terms in one or two sentences.
        citation: what to cite.
        homepage: where it is published.
    """

    name: str
    files: tuple[DataFile, ...]
    licence: str
    citation: str
    homepage: str


DATASETS: Registry[Dataset] = Registry("data set")


@dataclass(frozen=True, slots=True)
class Check:
    """The state of one file: "ok" (checksum equal), "present" (no checksum known), "missing" or "damaged"."""

    file: DataFile
    path: Path | None
    state: str


def mirror_folder() -> Path | None:
    """The read-only folder of data sets, if one is configured."""
    return load_settings()[0].mirror


def cache_folder() -> Path:
    """The folder that downloads go to; it need not exist yet."""
    home = load_settings()[0].home
    if home is not None:
        return home / "data"
    from platformdirs import user_cache_path

    return user_cache_path("nonet") / "data"


def find_file(file: DataFile, folder: Path | str | None = None) -> Path | None:
    """The first place that has `file`, without downloading; `folder` may hold it by its path or by its bare name."""
    places: list[Path] = []
    if folder is not None:
        places += [Path(folder) / file.path, Path(folder) / file.name]
    places += [root / file.path for root in (mirror_folder(), cache_folder()) if root is not None]
    for place in places:
        for ending in _COMPRESSIONS:
            candidate = place.with_name(place.name + ending)
            if candidate.is_file():
                return candidate
    return None


def locate(dataset: Dataset, folder: Path | str | None = None) -> dict[str, Path]:
    """The files of a set that are at hand, by role; never downloads."""
    found = {file.role: find_file(file, folder) for file in dataset.files}
    return {role: path for role, path in found.items() if path is not None}


def is_local(dataset: Dataset, folder: Path | str | None = None) -> bool:
    """Whether every file that the set needs is at hand."""
    found = locate(dataset, folder)
    return all(file.optional or file.role in found for file in dataset.files)


def fetch(dataset: Dataset, folder: Path | str | None = None, *, download: bool = True) -> dict[str, Path]:
    """The files of a set by role, downloaded into the cache where they are not at hand.

    Args:
        dataset: which set.
        folder: an explicit folder that is searched first.
        download: False never touches the network.

    Raises:
        InputError: a file is nowhere, cannot be downloaded, or arrives damaged; nothing half-written is left.
    """
    found = locate(dataset, folder)
    for file in dataset.files:
        if file.role in found or file.optional:
            continue
        if not download or not file.url:
            raise InputError(f"{dataset.name}: {_not_found(file, folder)}")
        found[file.role] = _download(dataset, file)
    return {**locate(dataset, folder), **found}


def verify(dataset: Dataset, folder: Path | str | None = None) -> list[Check]:
    """Look at every file of a set and compare checksums where they are known; reads each file once."""
    return [_check(file, find_file(file, folder)) for file in dataset.files]


def remove(dataset: Dataset) -> list[Path]:
    """Delete the files of a set from the cache, never from a mirror; returns which."""
    removed = []
    for file in dataset.files:
        for ending in _COMPRESSIONS:
            path = cache_folder() / (file.path + ending)
            if path.is_file():
                path.unlink()
                removed.append(path)
    return removed


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's uncompressed content, hexadecimal."""
    digest = hashlib.sha256()
    for block in _uncompressed(path):
        digest.update(block)
    return digest.hexdigest()


def _check(file: DataFile, path: Path | None) -> Check:
    if path is None:
        return Check(file, None, "missing")
    if not file.sha256:
        return Check(file, path, "present")
    try:
        actual = sha256_of(path)
    except (OSError, EOFError):  # a truncated archive
        return Check(file, path, "damaged")
    return Check(file, path, "ok" if actual == file.sha256 else "damaged")


def _uncompressed(path: Path) -> Iterator[bytes]:
    import pyarrow as pa

    with pa.input_stream(str(path)) as stream:
        while block := stream.read(_COPY_BYTES):
            yield block


def _not_found(file: DataFile, folder: Path | str | None) -> str:
    looked = [str(folder)] if folder is not None else []
    mirror = mirror_folder()
    looked += [f"the mirror {mirror}"] if mirror is not None else []
    looked.append(f"the cache {cache_folder()}")
    hint = f"it can be had from {file.url}" if file.url else "it has no download address"
    return f"{file.name} is not in {', '.join(looked)}; {hint}; set NONET_MIRROR to a folder that holds {file.path}"


def _download(dataset: Dataset, file: DataFile) -> Path:
    """Bring one file into the cache: the file itself, or out of an archive (which goes once its members are out)."""
    target = cache_folder() / file.path
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{dataset.name}: cannot make the cache folder {target.parent}: {error.strerror}") from error
    if not file.member:
        _retrieve(dataset, file.url, target, file.sha256)
        return target
    archive = target.parent / file.url.split("?")[0].rsplit("/", 1)[-1]
    if not archive.is_file():
        _retrieve(dataset, file.url, archive, "")
    try:
        _extract(archive, [f for f in dataset.files if f.url == file.url])
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        archive.unlink(missing_ok=True)
        raise InputError(f"{dataset.name}: {file.url} is damaged ({error}); run the command again") from error
    archive.unlink()
    if not target.is_file():
        raise InputError(f"{dataset.name}: {file.url} holds no {file.member}")
    return target


def _retrieve(dataset: Dataset, url: str, target: Path, sha256: str) -> None:
    import pooch
    from pooch import HTTPDownloader

    pooch.get_logger().setLevel("WARNING")
    known_hash = f"sha256:{sha256}" if sha256 else None
    try:
        # pooch downloads beside the target, checks, and renames.
        pooch.retrieve(url, known_hash, target.name, target.parent, downloader=HTTPDownloader(timeout=60))
    except (OSError, ValueError) as error:
        damaged = isinstance(error, ValueError)
        reason = "the download does not have the expected checksum" if damaged else "no connection"
        detail = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise InputError(
            f"{dataset.name}: cannot download {url}: {reason} ({detail}); "
            f"get it elsewhere and put it into NONET_MIRROR or {target.parent}"
        ) from error


def _extract(archive: Path, files: list[DataFile]) -> None:
    with zipfile.ZipFile(archive) as zipped:
        members = {info.filename: info for info in zipped.infolist()}
        for file in files:
            info = members.get(file.member)
            if info is None:
                continue
            target = cache_folder() / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(target.parent).free
            if info.file_size > free:
                raise InputError(f"{file.name} needs {info.file_size:,} bytes, {target.parent} has {free:,} free")
            with zipped.open(info) as source, atomic_path(target) as beside, beside.open("wb") as sink:
                shutil.copyfileobj(source, sink, _COPY_BYTES)
