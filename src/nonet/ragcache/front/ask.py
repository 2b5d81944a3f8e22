"""Documents into an index: what is new, changed and gone, and where their KV is kept for the next question."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nonet.common.console import note, track
from nonet.common.datasets import cache_folder
from nonet.common.errors import InputError
from nonet.ragcache.front.chunking import Encode
from nonet.ragcache.front.documents import KNOWN_KINDS, read_documents
from nonet.ragcache.front.embedding import Embedder, packaged_model
from nonet.ragcache.front.index import INDEX_FILE, ChunkIndex, Ingested
from nonet.ragcache.models.tokenizer import well_formed
from nonet.ragcache.store.chunk_store import ChunkStore

SYSTEM = "Answer the question from the passages. Be brief."
_KV = "kv"


@dataclass(frozen=True, slots=True)
class Library:
    """An index and where the KV of its chunks is kept.

    Args:
        index: of the documents.
        store: spec of a store beside it.
    """

    index: ChunkIndex
    store: str


def open_library(source: str | Path, encode: Encode, max_tokens: int = 300) -> Library:
    """An index to ask: one that exists, or one made of documents, kept in the cache and brought up to date.

    Args:
        source: a folder made by `ingest`, or documents.
        encode: the model's tokenizer, for the size of chunks.
        max_tokens: of a chunk.

    Raises:
        InputError: no such file or folder, one that cannot be read, or one without documents.
    """
    place = Path(source)
    if not place.exists():
        raise InputError(f"{place}: no such file or folder")
    embedder = Embedder() if packaged_model() is not None else None
    if (place / INDEX_FILE).is_file():
        library = Library(ChunkIndex(place, embedder), beside(place))
        if not len(library.index):
            raise InputError(f"{place}: the index is empty; ingest documents first")
        return library
    name = hashlib.sha256(f"{place.resolve()}\0{max_tokens}".encode()).hexdigest()[:16]
    folder = cache_folder() / "ragcache" / name
    if not (folder / INDEX_FILE).is_file():
        note(f"{place} is asked for the first time: indexing its documents ...")
    index = ChunkIndex(folder, embedder)
    take_in(index, [place], encode, max_tokens)
    return Library(index, beside(folder))


def take_in(
    index: ChunkIndex, paths: Sequence[Path], encode: Encode, max_tokens: int = 300, remove: Sequence[str] = ()
) -> Ingested:
    """Bring an index up to date with files and folders, and drop what the store beside it holds of what is not now.

    Documents whose files are gone from these folders are dropped; those of other folders stay. What cannot be read is
    named on stderr and keeps the documents that it had, and so does a folder without any documents: it may be a disk
    that is not mounted. What is gone for good is dropped by `remove`.

    Args:
        index: to bring up to date.
        paths: files and folders.
        encode: the model's tokenizer, for the size of chunks.
        max_tokens: of a chunk.
        remove: before that, documents by name, and all of a file or folder by its path, be it gone or not. What is both
            is taken as a name.

    Raises:
        InputError: a path that does not exist, one given by name that cannot be read, no documents at all, or nothing
            to `remove` under a name (then nothing is removed).
    """
    if not paths and not remove:
        raise InputError("nothing to do: give files and folders to take in, or --remove what is to be dropped")
    dropped = _drop(index, remove) if remove else ()
    if not paths:
        return Ingested((), (), (), 0, dropped)
    skipped: list[Path] = []

    def skip(path: Path, error: InputError) -> None:
        note(f"skipped: {error}")
        skipped.append(path)

    documents = track(read_documents(paths, skip), f"reading {', '.join(map(str, paths))}")
    done = index.ingest(documents, encode, max_tokens)
    here = {*done.added, *done.changed, *done.unchanged}
    removed = _gone(index, paths, here, skipped)
    if not here:
        raise InputError(f"no documents in {', '.join(map(str, paths))}; known kinds are {', '.join(KNOWN_KINDS)}")
    for name in removed:
        index.remove(name)
    forget(index.folder, [*done.changed, *removed])
    return replace(done, removed=(*dropped, *removed), skipped=tuple(well_formed(str(path)) for path in skipped))


def _drop(index: ChunkIndex, unwanted: Sequence[str]) -> tuple[str, ...]:
    """Drop documents by name or path, and what the store holds of them."""
    names, files = set(index.documents()), index.files()
    found: set[str] = set()
    for one in unwanted:
        meant = [one] if one in names else _below(files, Path(one)) if one else []  # "" would be the working folder
        if not meant:
            raise InputError(f"{one!r}: no document of {index.folder}, nor the path of where any are from")
        found.update(meant)
    dropped = sorted(found)
    forget(index.folder, dropped)  # first: when this is interrupted, the documents are there to be dropped again
    for name in dropped:
        index.remove(name)
    return tuple(dropped)


def _gone(index: ChunkIndex, paths: Sequence[Path], here: set[str], skipped: Sequence[Path]) -> list[str]:
    """Documents that an index has from files and folders, and that are not there any more."""
    files = index.files()
    unknown = [_absolute(path) for path in skipped]
    gone: set[str] = set()
    for path in paths:
        below = _below(files, path)
        if here.isdisjoint(below):
            if below:
                note(f"{path}: no documents there now; those in the index stay; ingest --remove {path} drops them")
            continue
        gone.update(name for name in below if name not in here)
    return [name for name in sorted(gone) if not any(files[name].is_relative_to(place) for place in unknown)]


def _below(files: Mapping[str, Path], path: Path) -> list[str]:
    place = _absolute(path)
    return [name for name, file in files.items() if file.is_relative_to(place)]


def _absolute(path: Path) -> Path:
    """A folder, or a file that may be a link, as documents name theirs."""
    return path.resolve() if path.is_dir() else path.parent.resolve() / path.name


def beside(folder: Path) -> str:
    """The spec of the store that belongs to an index.

    Args:
        folder: of the index.

    >>> beside(Path("index"))
    'ram:2GB,disk:index/kv:20GB'
    """
    return f"ram:2GB,disk:{folder / _KV}:20GB"


def forget(folder: Path, documents: Sequence[str]) -> int:
    """Drop what the store beside an index holds of documents that changed or are gone; how many variants there were.

    Args:
        folder: of the index.
        documents: by name.
    """
    if not documents or not (folder / _KV).is_dir():
        return 0
    store = ChunkStore.from_spec(f"disk:{folder / _KV}")
    try:
        return sum(store.invalidate(document=document) for document in documents)
    finally:
        store.close()
