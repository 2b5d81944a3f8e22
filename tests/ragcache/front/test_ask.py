"""Files and folders into an index: what is new, what is gone, what has the same name, what cannot be read."""

import shutil
import sqlite3

import pytest

from nonet.common.errors import InputError
from nonet.ragcache.front.ask import open_library, take_in
from nonet.ragcache.front.index import ChunkIndex


def write(folder, **texts):
    for name, text in texts.items():
        path = folder / f"{name.replace('__', '/')}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.fixture
def index(tmp_path):
    made = ChunkIndex(tmp_path / "index")
    yield made
    made.close()


@pytest.fixture
def taken(index):
    """Take paths in and give what was done."""
    return lambda *paths: take_in(index, paths, str.split, 50)


def texts(index):
    return {chunk.document_id: chunk.text for chunk in index.chunks()}


def test_documents_of_one_name_in_several_folders_are_all_kept_under_names_that_stay(tmp_path, index, taken):
    a = write(tmp_path / "a" / "docs", README="first", other="alone")
    b = write(tmp_path / "b" / "docs", README="second")
    c = write(tmp_path / "c" / "docs", README="third")
    assert taken(a, b, c).added == ("README.md", "other.md", "docs/README.md", "c/docs/README.md")
    assert texts(index) == {
        "README.md": "first",
        "other.md": "alone",
        "docs/README.md": "second",
        "c/docs/README.md": "third",
    }
    for paths in ((a, b, c), (c, b, a), (c,), (b, a / "README.md")):
        again = taken(*paths)
        assert again.unchanged and not (again.added or again.changed or again.removed)
    (a / "README.md").unlink()
    assert taken(a, b, c).removed == ("README.md",)
    assert texts(index) == {"other.md": "alone", "docs/README.md": "second", "c/docs/README.md": "third"}
    assert (index.remove("docs/README.md"), taken(b).added) == (True, ("README.md",))


def test_a_file_that_is_below_two_of_the_folders_is_one_document(tmp_path, index, taken):
    folder = write(tmp_path / "docs", README="outer", sub__README="inner", sub__x="deep")
    taken(folder, folder / "sub")
    assert texts(index) == {"README.md": "outer", "sub/README.md": "inner", "sub/x.md": "deep"}


def test_a_document_whose_file_is_away_is_not_overwritten(tmp_path, index, taken):
    a, b = write(tmp_path / "a", README="first"), write(tmp_path / "b", README="second")
    taken(a)
    away = a.rename(tmp_path / "away")
    assert taken(b).added == ("b/README.md",)
    a.mkdir()
    assert taken(a, b).unchanged == ("b/README.md",)
    assert texts(index) == {"README.md": "first", "b/README.md": "second"}
    a.rmdir()
    away.rename(a)
    done = taken(a, b)
    assert (done.unchanged, done.removed) == (("README.md", "b/README.md"), ())


@pytest.mark.parametrize("runs", [(("sub", "."),), (("sub",), (".",))])
def test_a_document_that_was_taken_in_from_a_folder_below_keeps_its_name(tmp_path, index, taken, runs):
    folder = write(tmp_path / "docs", top="top", sub__x="deep")
    (folder / "sub" / "lines.jsonl").write_text('{"id": "a/b", "text": "line"}')
    for paths in runs:
        done = taken(*(folder / path for path in paths))
    assert texts(index) == {"x.md": "deep", "lines.jsonl:a/b": "line", "top.md": "top"}
    assert {"x.md", "lines.jsonl:a/b"} <= {*done.unchanged} and not (done.changed or done.removed)
    write(folder, x="another")
    assert taken(folder).added == ("docs/x.md",)
    (folder / "sub" / "x.md").unlink()
    assert taken(folder).removed == ("x.md",)


def test_of_a_document_that_an_index_has_twice_one_is_left(tmp_path, index, taken):
    folder = write(tmp_path / "docs", sub__x="deep")
    taken(folder / "sub")
    database = sqlite3.connect(index.folder / "chunks.sqlite")
    with database:
        row = ("sub/x.md", "", "", str(folder / "sub" / "x.md"))
        database.execute("INSERT INTO documents VALUES (?, ?, ?, ?)", row)
    database.close()
    done = taken(folder)
    assert (done.unchanged, done.removed, index.documents()) == (("x.md",), ("sub/x.md",), ["x.md"])


def test_a_folder_that_was_moved_keeps_its_names(tmp_path, index, taken):
    folder = write(tmp_path / "old", a="text", b="more")
    taken(folder)
    moved = folder.rename(tmp_path / "new")
    done = taken(moved)
    assert done.unchanged == ("a.md", "b.md") and not done.added
    (moved / "a.md").unlink()
    assert taken(moved).removed == ("a.md",)


def test_what_is_gone_from_the_named_folders_is_dropped_and_nothing_else(tmp_path, index, taken):
    a, b = write(tmp_path / "a", one="1", two="2", sub__three="3"), write(tmp_path / "b", four="4", five="5")
    (tmp_path / "lines.jsonl").write_text('{"id": 1, "text": "x"}\n{"id": 2, "text": "y"}')
    taken(a, b, tmp_path / "lines.jsonl")
    for path in (a / "one.md", a / "sub" / "three.md", b / "four.md"):
        path.unlink()
    assert taken(a).removed == ("one.md", "sub/three.md")
    (tmp_path / "lines.jsonl").write_text('{"id": 2, "text": "y"}')
    assert taken(tmp_path / "lines.jsonl").removed == ("lines.jsonl:1",)
    assert index.documents() == ["five.md", "four.md", "lines.jsonl:2", "two.md"]
    write(a, two=" ")
    write(a, six="6")
    assert taken(a, b).removed == ("four.md", "two.md")


def test_what_cannot_be_read_keeps_the_documents_that_it_had(tmp_path, index, taken, capsys):
    folder = write(tmp_path / "a", one="1", two="2")
    taken(folder)
    (folder / "one.md").write_bytes(b"caf\xe9")
    done = taken(folder)
    assert (done.skipped, done.removed, done.unchanged) == ((str(folder / "one.md"),), (), ("two.md",))
    assert f"skipped: {folder / 'one.md'}: not UTF-8 at byte 3" in capsys.readouterr().err
    with pytest.raises(InputError, match="not UTF-8"):
        taken(folder / "one.md")
    assert texts(index) == {"one.md": "1", "two.md": "2"}


def test_an_empty_folder_wipes_nothing(tmp_path, index, taken, capsys):
    a, b = write(tmp_path / "a", one="1"), write(tmp_path / "b", two="2")
    taken(a, b)
    shutil.rmtree(a)
    with pytest.raises(InputError, match="no such file"):
        taken(a, b)
    a.mkdir()
    with pytest.raises(InputError, match="no documents in"):
        taken(a)
    assert f"those in the index stay; ingest --remove {a} drops them" in capsys.readouterr().err
    assert taken(a, b).removed == ()
    assert f"{a}: no documents there now; those in the index stay" in capsys.readouterr().err
    assert texts(index) == {"one.md": "1", "two.md": "2"}


@pytest.fixture
def removed(index, monkeypatch, tmp_path):
    """Remove from an index, in the folder of what it has, and give the names."""
    monkeypatch.chdir(tmp_path)
    return lambda *names: take_in(index, [], str.split, remove=names).removed


def test_what_is_gone_for_good_is_removed_by_name_or_path(tmp_path, index, taken, removed):
    a, b = write(tmp_path / "a", one="1", sub__two="2"), write(tmp_path / "b", one="b1", three="3", four="4")
    lines = tmp_path / "lines.jsonl"
    lines.write_text("".join(f'{{"id": "x/{n}", "text": "{n}"}}\n' for n in range(3)))
    taken(a, b, lines)
    shutil.rmtree(a)
    lines.unlink()
    assert removed("lines.jsonl:x/1") == ("lines.jsonl:x/1",)
    assert removed("lines.jsonl", f"{b}/three.md") == ("lines.jsonl:x/0", "lines.jsonl:x/2", "three.md")
    assert index.documents() == ["b/one.md", "four.md", "one.md", "sub/two.md"]
    assert removed("a/", "one.md") == ("one.md", "sub/two.md")
    assert texts(index) == {"b/one.md": "b1", "four.md": "4"}


def test_what_is_a_name_and_a_path_removes_what_has_the_name(tmp_path, index, taken, removed, monkeypatch):
    a, b = write(tmp_path / "a", one="1"), write(tmp_path / "b", one="2")
    taken(a, b)
    monkeypatch.chdir(b)
    assert (removed("one.md"), removed("./one.md")) == (("one.md",), ("b/one.md",))


def test_what_removes_nothing_is_named_and_then_nothing_is_removed(tmp_path, index, taken, removed):
    taken(write(tmp_path / "a", one="1"))
    for name in ("two.md", "on", "b", "", "a/two.md"):
        with pytest.raises(InputError, match=f"'{name}': no document of .*index, nor the path of where any are from"):
            removed("one.md", name)
    with pytest.raises(InputError, match="nothing to do: give files and folders"):
        removed()
    assert texts(index) == {"one.md": "1"}


def test_removal_comes_before_what_is_taken_in(tmp_path, index, taken):
    a, b = write(tmp_path / "a", one="1"), write(tmp_path / "b", one="2", two="2")
    taken(a)
    a.rename(tmp_path / "away")
    done = take_in(index, [b], str.split, remove=[str(a)])
    assert (done.added, done.removed) == (("one.md", "two.md"), ("one.md",))
    (b / "two.md").unlink()
    assert take_in(index, [b], str.split, remove=["one.md"]).removed == ("one.md", "two.md")


def test_asking_a_folder_leaves_out_what_cannot_be_read(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NONET_HOME", str(tmp_path / "home"))
    folder = write(tmp_path / "docs", one="1")
    (folder / "latin.txt").write_bytes(b"caf\xe9")
    index = open_library(folder, str.split).index
    assert texts(index) == {"one.md": "1"} and "latin.txt: not UTF-8" in capsys.readouterr().err
    index.close()
