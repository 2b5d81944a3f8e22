"""Documents: every kind, and what cannot be read."""

import json
import os

import pytest

from nonet.common.errors import InputError
from nonet.ragcache.front.documents import read_documents

PDF = b"""%PDF-1.4
1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj
2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj
3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>endobj
4 0 obj<</Length 44>>stream
BT /F1 12 Tf 10 100 Td (Rows have budgets) Tj ET
endstream endobj
5 0 obj<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>endobj
trailer<</Root 1 0 R/Size 6>>
startxref
0
%%EOF
"""


def test_reads_every_kind_of_a_folder_in_order_and_leaves_hidden_and_unknown_files(tmp_path):
    (tmp_path / "b.txt").write_text("plain text")
    (tmp_path / "a.md").write_text("intro\n\n## The heading ##\n\nbody")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.html").write_text(
        "<html><head><title>T</title><script>no()</script></head><body><p>one</p><p>two &amp; three</p></body></html>"
    )
    (tmp_path / "d.pdf").write_bytes(PDF)
    (tmp_path / "e.jsonl").write_text(json.dumps({"id": 7, "text": "line"}) + "\n\n" + json.dumps({"text": "other"}))
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x.txt").write_text("hidden")
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "image.png").write_bytes(b"\x89PNG")
    found = {document.document_id: document for document in read_documents([tmp_path])}
    assert list(found) == ["a.md", "b.txt", "d.pdf", "e.jsonl:7", "e.jsonl:3", "sub/c.html"]
    assert found["a.md"].title == "The heading"
    assert found["sub/c.html"].title == "T"
    assert found["sub/c.html"].text.split() == ["one", "two", "&", "three"]
    assert "Rows have budgets" in found["d.pdf"].text


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", b"caf\xe9", "not UTF-8 at byte 3"),
        ("a.txt", "café".encode("utf-16")[:-1], "not UTF-16 at byte"),
        ("a.txt", "plain".encode("utf-16-le"), "UTF-16 without a byte order mark"),
        ("a.md", "# plain".encode("utf-16-be"), "UTF-16 without a byte order mark"),
        ("a.html", "<p>plain".encode("utf-16-le"), "UTF-16 without a byte order mark"),
        ("a.html", b'<meta charset="iso-8859-1">a\0b', "has NUL characters"),
        ("a.jsonl", "{}".encode("utf-16-le"), "UTF-16 without a byte order mark"),
        ("a.html", b"caf\xe9", "not UTF-8 at byte 3"),
        ("a.html", b'<meta charset="shift_jis">caf\xe9', "not shift_jis at byte 29"),
        ("a.html", b'<meta charset="klingon">x', "charset 'klingon' is not known"),
        ("a.html", b'<meta charset="undefined">x', "charset 'undefined' is not known"),
        ("a.html", b"</<!--<![<!--]", "not readable as HTML"),
        ("a.pdf", b"no pdf", "not a readable PDF"),
        ("a.pdf", PDF.replace(b"/Length 44", b"/Length 44/Filter/No"), "not a readable PDF"),
        ("a.jsonl", b'{"text": 3}', "a.jsonl:1"),
        ("a.jsonl", b"[" * 100_000, "a.jsonl:1: not JSON"),
        ("a.jsonl", b'{"text": "x", "id": 2}\n{"text": "y"}', "a.jsonl:2: has the id '2' of line 1"),
        ("a.jsonl", b'{"text": "x"}\n{', "a.jsonl:2: not JSON"),
        ("a.docx", b"x", "unknown kind"),
    ],
)
def test_says_which_file_is_wrong(tmp_path, name, content, says):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=says):
        list(read_documents([path]))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_honours_byte_order_marks(tmp_path, encoding):
    mark = "\ufeff" if encoding in ("utf-16-le", "utf-16-be") else ""
    for name in ("a.md", "a.txt", "a.html"):
        (tmp_path / name).write_bytes(f"{mark}# Café\r\nöl".encode(encoding))
    assert {document.text for document in read_documents([tmp_path])} == {"# Café\nöl"}


@pytest.mark.parametrize("encoding", ["utf-8", "iso-8859-1", "windows-1251", "shift_jis", "iso-2022-jp"])
def test_honours_the_charset_of_a_page(tmp_path, encoding):
    text = {"windows-1251": "насос", "shift_jis": "ポンプ", "iso-2022-jp": "ポンプ"}.get(encoding, "Pömpe")
    page = f'<html><head><meta charset="{encoding}"><title>{text}</title></head><body>{text}</body></html>'
    (tmp_path / "a.html").write_bytes(page.encode(encoding))
    (document,) = read_documents([tmp_path])
    assert (document.title, document.text) == (text, text)


def test_a_page_in_utf_8_may_say_utf_16(tmp_path):
    (tmp_path / "a.html").write_text('<meta charset="utf-16">Pömpe', "utf-8")
    assert [document.text for document in read_documents([tmp_path])] == ["Pömpe"]


def test_lines_end_at_line_feeds_alone(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "one\u2028two"}\r\n{"text": "three"}\n', "utf-8")
    found = {document.document_id: document.text for document in read_documents([tmp_path])}
    assert found == {"a.jsonl:1": "one\u2028two", "a.jsonl:2": "three"}


def test_leaves_out_what_cannot_be_read_below_a_folder_and_says_why(tmp_path, monkeypatch):
    (tmp_path / "good.md").write_text("good")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    (tmp_path / "bad.pdf").write_bytes(b"no pdf")
    (tmp_path / "bad.jsonl").write_text('{"text": "first"}\n{')
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_text("x")
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / "x.md").write_text("unseen")
    scandir = os.scandir

    def no_entry(path):
        if os.fspath(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", no_entry)
    said = {}
    found = list(read_documents([tmp_path], lambda path, error: said.update({os.fsencode(path.name): str(error)})))
    assert [document.document_id for document in found] == ["good.md"]
    names = [b"latin.txt", b"bad.pdf", b"bad.jsonl", b"gone.txt", b"pipe.txt", b"caf\xe9.txt", b"closed"]
    assert said.keys() == set(names)
    reasons = ["not UTF-8 at byte 3", "PDF", "bad.jsonl:2: not JSON", "gone", "regular", "its name is not", "denied"]
    assert all(reason in said[name] for name, reason in zip(names, reasons, strict=True))
    with pytest.raises(InputError, match="denied"):
        list(read_documents([tmp_path / "closed"], lambda *_: None))
    with pytest.raises(InputError):
        list(read_documents([tmp_path]))


def test_a_path_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        list(read_documents([tmp_path / "gone"]))
