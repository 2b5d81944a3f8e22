"""Documents of a folder or a file, as plain text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nonet.common.errors import InputError, MissingExtraError

MAX_FILE_BYTES = 64 << 20
"""Longer files are refused: a document that is retrieved by chunks is a text, not a dump."""
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*\s*$", re.MULTILINE)
_BLANK_LINES = re.compile(r"\n\s*\n\s*")


@dataclass(frozen=True, slots=True)
class Document:
    """A text with a name.

    Args:
        document_id: what it is called in answers and deletions: its path below the folder, or the `id` of its line.
        title: its first heading, HTML title or file name.
        text: UTF-8 text; paragraphs are parted by blank lines.
    """

    document_id: str
    title: str
    text: str


def read_documents(paths: Iterable[str | Path]) -> Iterator[Document]:
    """Read files, and all files of known kinds in folders (hidden ones left out), in the order of their names.

    Args:
        paths: files (.txt, .md, .html, .pdf, or .jsonl with `text` and optionally `id` and `title`) and folders.

    Raises:
        InputError: a path that does not exist, a file of unknown kind, too large, not UTF-8, or not what
            its name says.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "a.md").write_text("# Budgets\\n\\nA row has one.")
    >>> [(d.document_id, d.title) for d in read_documents([folder])]
    [('a.md', 'Budgets')]
    """
    for given in map(Path, paths):
        if given.is_dir():
            for path in sorted(given.rglob("*")):
                hidden = any(part.startswith(".") for part in path.relative_to(given).parts)
                if path.is_file() and not hidden and path.suffix.lower() in _READERS:
                    yield from _read(path, path.relative_to(given).as_posix())
        elif given.is_file():
            yield from _read(given, given.name)
        else:
            raise InputError(f"{given}: no such file or folder")


def _read(path: Path, name: str) -> Iterator[Document]:
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path}: unknown kind of document; known are {', '.join(KNOWN_KINDS)}")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise InputError(f"{path}: larger than {MAX_FILE_BYTES >> 20} MiB; split it")
    for document in reader(path, name):
        if document.text.strip():
            yield document


def _text_of(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}; convert it first") from error


def _read_text(path: Path, name: str) -> Iterator[Document]:
    yield Document(name, path.stem, _text_of(path))


def _read_markdown(path: Path, name: str) -> Iterator[Document]:
    text = _text_of(path)
    heading = _HEADING.search(text)
    yield Document(name, heading.group(1) if heading else path.stem, text)


def _read_html(path: Path, name: str) -> Iterator[Document]:
    try:
        from bs4 import BeautifulSoup
    except ImportError as error:
        raise MissingExtraError(f"{path}: HTML needs beautifulsoup4: pip install 'nonet[ragcache]'") from error
    soup = BeautifulSoup(_text_of(path), "html.parser")
    title = soup.title.get_text(strip=True) if soup.title else path.stem
    for tag in soup(["script", "style", "head", "nav", "noscript", "template"]):
        tag.decompose()
    yield Document(name, title, _BLANK_LINES.sub("\n\n", soup.get_text("\n")).strip())


def _read_pdf(path: Path, name: str) -> Iterator[Document]:
    try:
        from pypdf import PdfReader
        from pypdf.errors import PyPdfError
    except ImportError as error:
        raise MissingExtraError(f"{path}: PDF needs pypdf: pip install 'nonet[ragcache]'") from error
    try:
        reader = PdfReader(path)
        text = "\n\n".join(page.extract_text() for page in reader.pages)
        title = (reader.metadata and reader.metadata.title) or path.stem
    except (PyPdfError, ValueError, OSError) as error:
        raise InputError(f"{path}: not a readable PDF ({error})") from error
    yield Document(name, str(title), text)


def _read_lines(path: Path, name: str) -> Iterator[Document]:
    for number, line in enumerate(_text_of(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{path}:{number}: not JSON ({error.msg})") from error
        if not isinstance(record, dict) or not isinstance(record.get("text"), str):
            raise InputError(f'{path}:{number}: needs an object with a string "text"')
        own = next((record[key] for key in ("id", "chunk_id", "_id") if key in record), number)
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
