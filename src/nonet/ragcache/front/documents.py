"""Documents of a folder or a file, as plain text."""

from __future__ import annotations

import codecs
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from nonet.common.errors import InputError, MissingExtraError

MAX_FILE_BYTES = 64 << 20
"""Longer files are refused: a document that is retrieved by chunks is a text, not a dump."""
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*\s*$", re.MULTILINE)
_BLANK_LINES = re.compile(r"\n\s*\n\s*")
_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),  # begins with UTF-16's
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
"""Byte order marks, and the encodings that they announce."""

OnSkip = Callable[[Path, InputError], None]
"""Told of a file or folder that cannot be read, and why."""


@dataclass(frozen=True, slots=True)
class Document:
    """A text with a name.

    Args:
        document_id: what it is called in answers and deletions: its path below the folder, or the `id` of its line.
        title: its first heading, HTML title or file name.
        text: UTF-8 text; paragraphs are parted by blank lines.
        file: absolute path of where it is from; None for a text that is from no file.
        folder: absolute path of the folder below which `document_id` is its path; given where `file` is.
    """

    document_id: str
    title: str
    text: str
    file: Path | None = None
    folder: Path | None = None

    def ids(self) -> Iterator[str]:
        """What it may be called beside documents of other folders: its id, then with more and more folders before it.

        >>> list(Document("a.md", "", "", Path("/x/docs/a.md"), Path("/x/docs")).ids())
        ['a.md', 'docs/a.md', 'x/docs/a.md', '/x/docs/a.md']
        """
        yield (longer := self.document_id)
        for folder in (self.folder, *self.folder.parents) if self.folder is not None else ():
            yield (longer := f"{folder.name}/{longer}")

    def known_ids(self) -> Iterator[str]:
        """What it may be called already: less of its path, where a folder below was taken in before, or one of `ids`.

        >>> list(Document("sub/a.md", "", "", Path("/docs/sub/a.md"), Path("/docs")).known_ids())
        ['a.md', 'sub/a.md', 'docs/sub/a.md', '/docs/sub/a.md']
        """
        if self.file is not None and self.folder is not None:
            num_folders = len(self.file.relative_to(self.folder).parts) - 1
            parts = self.document_id.split("/", num_folders)  # what follows the name in the file is kept whole
            yield from ("/".join(parts[first:]) for first in range(num_folders, 0, -1))
        yield from self.ids()


def read_documents(paths: Iterable[str | Path], on_skip: OnSkip | None = None) -> Iterator[Document]:
    """Read files, and all files of known kinds in folders (hidden ones left out), in the order of their names.

    Args:
        paths: files (.txt, .md, .html, .pdf, or .jsonl with `text` and optionally `id` and `title`) and folders.
        on_skip: told of what cannot be read below the folders, which is then left out; without it, that is an error.

    Raises:
        InputError: a path that does not exist, a file of unknown kind, too large, in another encoding than it says
            (UTF-8, unless a byte order mark or an HTML page's charset says otherwise), with NUL characters, or not what
            its name says.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "a.md").write_text("# Budgets\\n\\nA row has one.")
    >>> [(d.document_id, d.title) for d in read_documents([folder])]
    [('a.md', 'Budgets')]
    """
    for given in map(Path, paths):
        if given.is_dir():
            for path in _files_below(given, on_skip):
                try:
                    documents = _read(path, path.relative_to(given), given.resolve())
                except InputError as error:
                    if on_skip is None:
                        raise
                    on_skip(path, error)
                else:
                    yield from documents
        elif given.is_file():
            yield from _read(given, Path(given.name), given.parent.resolve())
        else:
            raise InputError(f"{given}: no such file or folder")


def _files_below(folder: Path, on_skip: OnSkip | None) -> list[Path]:
    def fails(error: OSError) -> None:
        problem = InputError(f"{error.filename}: cannot be read ({error.strerror})")
        if on_skip is None or Path(error.filename) == folder:
            raise problem from error
        on_skip(Path(error.filename), problem)

    found: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=fails):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = (Path(place, name) for name in names if not name.startswith("."))
        found += [path for path in paths if path.suffix.lower() in _READERS]
    return sorted(found)


def _read(path: Path, name: Path, folder: Path) -> list[Document]:
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path}: unknown kind of document; known are {', '.join(KNOWN_KINDS)}")
    try:
        str(folder / name).encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{path}: its name is not UTF-8; rename it") from error
    try:
        if not path.is_file():  # a pipe would be waited for
            raise InputError(f"{path}: not a regular file, or one that is gone")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputError(f"{path}: larger than {MAX_FILE_BYTES >> 20} MiB; split it")
        # To the end before any is given away: of a file that is skipped, nothing must have been taken in.
        read = list(reader(path, name.as_posix()))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    return [replace(one, file=folder / name, folder=folder) for one in read if one.text.strip()]


def _text_of(path: Path) -> str:
    return _decoded(path.read_bytes(), path)


def _decoded(content: bytes, path: Path, declared: str | None = None) -> str:
    marked = next((encoding for mark, encoding in _MARKS if content.startswith(mark)), None)
    encoding = marked or declared or "UTF-8"
    try:
        text = content.decode("UTF-8-sig" if encoding == "UTF-8" else encoding)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not {encoding} at byte {error.start}; convert it first") from error
    except (LookupError, ValueError) as error:
        raise InputError(f"{path}: its charset {encoding!r} is not known; convert it to UTF-8") from error
    if "\0" in text:
        raise InputError(f"{path}: has NUL characters; UTF-16 without a byte order mark? convert it to UTF-8")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _read_text(path: Path, name: str) -> Iterator[Document]:
    yield Document(name, path.stem, _text_of(path))


def _read_markdown(path: Path, name: str) -> Iterator[Document]:
    text = _text_of(path)
    heading = _HEADING.search(text)
    yield Document(name, heading.group(1) if heading else path.stem, text)


def _read_html(path: Path, name: str) -> Iterator[Document]:
    try:
        from bs4 import BeautifulSoup
        from bs4.builder import ParserRejectedMarkup
        from bs4.dammit import EncodingDetector
    except ImportError as error:
        raise MissingExtraError(f"{path}: HTML needs beautifulsoup4: pip install 'nonet[ragcache]'") from error
    # Not BeautifulSoup's own reading of bytes: what declares nothing, it guesses with whatever detector is installed.
    content = path.read_bytes()
    declared = EncodingDetector.find_declared_encoding(content, is_html=True)
    if declared is not None and declared.startswith("utf"):
        declared = None  # UTF-8, or else a byte order mark says so; UTF-16 could not be read before it is decoded
    try:
        soup = BeautifulSoup(_decoded(content, path, declared), "html.parser")
    except ParserRejectedMarkup as error:
        raise InputError(f"{path}: not readable as HTML") from error
    title = soup.title.get_text(strip=True) if soup.title else path.stem
    for tag in soup(["script", "style", "head", "nav", "noscript", "template"]):
        tag.decompose()
    yield Document(name, title, _BLANK_LINES.sub("\n\n", soup.get_text("\n")).strip())


def _read_pdf(path: Path, name: str) -> Iterator[Document]:
    try:
        from pypdf import PdfReader
    except ImportError as error:
        raise MissingExtraError(f"{path}: PDF needs pypdf: pip install 'nonet[ragcache]'") from error
    try:
        reader = PdfReader(path)
        text = "\n\n".join(page.extract_text() for page in reader.pages)
        title = (reader.metadata and reader.metadata.title) or path.stem
    except Exception as error:  # damaged files bring pypdf to raise nearly anything, AttributeError and KeyError too
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: not a readable PDF ({reason})") from error
    yield Document(name, str(title), text)


def _read_lines(path: Path, name: str) -> Iterator[Document]:
    numbers: dict[str, int] = {}
    for number, line in enumerate(_text_of(path).split("\n"), start=1):  # texts may hold other line separators
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:  # long numbers and deep nesting, too
            raise InputError(f"{path}:{number}: not JSON ({getattr(error, 'msg', error)})") from error
        if not isinstance(record, dict) or not isinstance(record.get("text"), str):
            raise InputError(f'{path}:{number}: needs an object with a string "text"')
        own = next((record[key] for key in ("id", "chunk_id", "_id") if key in record), number)
        if (first := numbers.setdefault(str(own), number)) != number:
            raise InputError(f"{path}:{number}: has the id {str(own)!r} of line {first}")
        yield Document(f"{name}:{own}", str(record.get("title", own)), record["text"])


_READERS = {
    ".txt": _read_text,
    ".md": _read_markdown,
    ".markdown": _read_markdown,
    ".html": _read_html,
    ".htm": _read_html,
    ".pdf": _read_pdf,
    ".jsonl": _read_lines,
}
KNOWN_KINDS = tuple(_READERS)
"""Endings of the files that are read."""
