"""Search order, downloads over a real loopback server, and what happens when they fail."""

from __future__ import annotations

import gzip
import hashlib
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from nonet.common.datasets import DataFile, Dataset, cache_folder, fetch, find_file, is_local, locate, verify
from nonet.common.errors import InputError

BODY = b"line one\nline two\n"


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server on the loopback interface, and the folder that it serves."""
    folder = tmp_path / "site"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", folder
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def _no_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NONET_MIRROR", raising=False)


def dataset(*files: DataFile) -> Dataset:
    return Dataset("family/member", files, "free", "someone", "http://127.0.0.1/")


def plain(url: str = "", sha256: str = "") -> DataFile:
    return DataFile("log", "room/set/a.log", url, sha256=sha256)


def put(path: Path, body: bytes = BODY) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    return path


def test_search_order_is_folder_then_mirror_then_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NONET_MIRROR", str(tmp_path / "mirror"))
    assert find_file(plain()) is None
    cached = put(cache_folder() / "room/set/a.log")
    assert find_file(plain()) == cached
    mirrored = put(tmp_path / "mirror/room/set/a.log.gz", gzip.compress(BODY))
    assert find_file(plain()) == mirrored
    given = put(tmp_path / "mine/a.log")
    assert find_file(plain(), tmp_path / "mine") == given
    assert locate(dataset(plain()), tmp_path / "elsewhere") == {"log": mirrored}
    assert is_local(dataset(plain()))


def test_cache_follows_nonet_home(tmp_path, monkeypatch):
    monkeypatch.setenv("NONET_HOME", str(tmp_path / "h"))
    assert cache_folder() == tmp_path / "h" / "data"


def test_download_lands_in_the_cache_and_is_not_repeated(site):
    url, folder = site
    source = put(folder / "a.log")
    wanted = dataset(plain(f"{url}/a.log", hashlib.sha256(BODY).hexdigest()))
    paths = fetch(wanted)
    assert paths["log"].read_bytes() == BODY
    assert cache_folder() in paths["log"].parents
    source.unlink()
    assert fetch(wanted) == paths


def test_wrong_checksum_is_refused_and_leaves_nothing(site):
    url, folder = site
    put(folder / "a.log", b"something else")
    with pytest.raises(InputError, match="expected checksum"):
        fetch(dataset(plain(f"{url}/a.log", hashlib.sha256(BODY).hexdigest())))
    assert not [p for p in cache_folder().rglob("*") if p.is_file()]


def test_archive_members_are_taken_out_and_the_archive_goes(site):
    url, folder = site
    with zipfile.ZipFile(folder / "S.zip", "w") as archive:
        archive.writestr("S/a.log", BODY)
        archive.writestr("S/a.csv", b"x\n")
        archive.writestr("../evil", b"no")
    files = [
        DataFile(role, f"room/S/a.{end}", f"{url}/S.zip?download=1", f"S/a.{end}")
        for role, end in (("log", "log"), ("labels", "csv"))
    ]
    optional = DataFile("templates", "room/S/t.csv", f"{url}/S.zip?download=1", "S/t.csv", optional=True)
    paths = fetch(dataset(*files, optional))
    assert paths["log"].read_bytes() == BODY and set(paths) == {"log", "labels"}
    assert sorted(p.name for p in cache_folder().rglob("*") if p.is_file()) == ["a.csv", "a.log"]


def test_archive_without_the_member_or_damaged(site):
    url, folder = site
    with zipfile.ZipFile(folder / "S.zip", "w") as archive:
        archive.writestr("S/other", BODY)
    with pytest.raises(InputError, match=r"holds no S/a\.log"):
        fetch(dataset(DataFile("log", "room/S/a.log", f"{url}/S.zip", "S/a.log")))
    put(folder / "T.zip", b"PK\x03\x04 broken")
    with pytest.raises(InputError, match="is damaged"):
        fetch(dataset(DataFile("log", "room/T/a.log", f"{url}/T.zip", "T/a.log")))
    assert not [p for p in cache_folder().rglob("*") if p.is_file()]


def test_offline_is_one_line_that_says_what_to_do(site):
    url, _ = site
    with pytest.raises(InputError, match=r"cannot download .*NONET_MIRROR") as error:
        fetch(dataset(plain(f"{url}/missing.log")))
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=r"a\.log is not in the cache .*; it can be had from http.*; set NONET_MIRROR"):
        fetch(dataset(plain("http://127.0.0.1:1/a.log")), download=False)
    with pytest.raises(InputError, match="has no download address"):
        fetch(dataset(plain()))


def test_verify_tells_the_state_of_every_file():
    digest = hashlib.sha256(BODY).hexdigest()
    whole = dataset(plain(sha256=digest))
    assert [c.state for c in verify(whole)] == ["missing"]
    place = cache_folder() / "room/set/a.log"
    put(place)
    assert [c.state for c in verify(whole)] == ["ok"]
    assert [c.state for c in verify(dataset(plain()))] == ["present"]
    put(place, BODY[:-1])
    assert [c.state for c in verify(whole)] == ["damaged"]
    place.unlink()
    put(place.with_name("a.log.gz"), gzip.compress(BODY))
    assert [c.state for c in verify(whole)] == ["ok"]
    put(place.with_name("a.log.gz"), gzip.compress(BODY * 999)[:-20])
    assert [c.state for c in verify(whole)] == ["damaged"]
