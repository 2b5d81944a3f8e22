"""Documents: every kind, and what cannot be read."""

import json

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
        ("a.pdf", b"no pdf", "not a readable PDF"),
        ("a.jsonl", b'{"text": 3}', "a.jsonl:1"),
        ("a.jsonl", b'{"text": "x"}\n{', "a.jsonl:2: not JSON"),
        ("a.docx", b"x", "unknown kind"),
    ],
)
def test_says_which_file_is_wrong(tmp_path, name, content, says):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=says):
        list(read_documents([path]))


def test_a_path_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        list(read_documents([tmp_path / "gone"]))
