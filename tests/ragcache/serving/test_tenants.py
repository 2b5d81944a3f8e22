"""Keys of a server and the tenants that they are."""

import pickle
import subprocess
import sys
from itertools import combinations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nonet.common.errors import InputError
from nonet.ragcache.serving.tenants import SHARED, ApiKey, KeyRing, read_keys

salts = st.none() | st.text(st.characters(codec="utf-8"), min_size=1, max_size=4)
words = st.text("abk", min_size=1, max_size=3)
owners = st.none() | st.tuples(words, words | st.just(""))


def tenant(owner, salt):
    if owner is None:
        return KeyRing().tenant(None, salt)
    return KeyRing([ApiKey(*owner)]).tenant(0, salt)


@given(st.lists(st.tuples(owners, salts), min_size=2, max_size=6))
@example([(("a", ""), "bc"), (("ab", ""), "c")])  # the same letters, parted elsewhere
@example([(("k", "a"), "bc"), (("k", "ab"), "c")])
def test_two_requests_share_a_tenant_only_with_the_same_owner_and_salt(asked):
    def identity(owner, salt):
        if owner is not None:
            owner = ("name", owner[1]) if owner[1] else ("key", owner[0])
        return owner, salt

    for one, other in combinations(asked, 2):
        assert (tenant(*one) == tenant(*other)) == (identity(*one) == identity(*other))


def test_a_tenant_does_not_show_its_key_and_is_the_same_in_every_process():
    ring = KeyRing([ApiKey("s3cret-of-search")])
    assert "s3cret" not in ring.tenant(0) + repr(ring)
    assert len(ring.tenant(0)) == 32 and int(ring.tenant(0), 16)
    code = "from nonet.ragcache.serving.tenants import *; print(KeyRing([ApiKey('s3cret-of-search')]).tenant(0))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == ring.tenant(0)
    assert pickle.loads(pickle.dumps(ring)) == ring
    assert KeyRing().tenant_of("") == SHARED == ""


def test_a_file_names_keys_and_comments_are_none(tmp_path):
    file = tmp_path / "keys"
    file.write_text("# who may ask\nsearch  old-key   # until May\nsearch\tnew-key\n\nalone\n  #nobody key\n")
    ring = read_keys(["given", "old-key"], file)
    assert ring.secrets == ("old-key", "new-key", "alone", "given")
    assert [key.name for key in ring.keys] == ["search", "search", "", ""]
    assert ring.tenant_of("old-key") == ring.tenant_of("new-key")
    assert len({ring.tenant_of(secret) for secret in ring.secrets}) == 3
    assert read_keys(["alone"]).tenant_of("alone") == ring.tenant_of("alone")
    assert read_keys([]) == KeyRing()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("# nothing\n\n", "keys: no keys"),
        ("ok\nsearch the key\n", "keys:2: 3 words"),
        ("schl\u00fcssel\n", "keys:1: an API key must be printable ASCII"),
        ("search same\nother same\n", "two names, search and other"),
        (b"\xff", "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_wrong_files_are_refused_without_showing_a_key(tmp_path, text, says):
    file = tmp_path / "keys"
    if text is not None:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=says) as caught:
        read_keys([], file)
    assert "same" not in str(caught.value) and "schl" not in str(caught.value)


def test_wrong_keys_names_and_salts():
    for secret in ("", "two words", "line\n", "\u00e4"):
        with pytest.raises(InputError, match="printable ASCII"):
            ApiKey(secret)
    with pytest.raises(InputError, match="name of an API key"):
        ApiKey("key", "two words")
    ring = KeyRing([ApiKey("key")])
    with pytest.raises(InputError, match="none of those"):
        ring.tenant_of("guess")
    with pytest.raises(InputError, match="has no tenant without one"):
        ring.tenant_of("")
    with pytest.raises(InputError, match="cache_salt must not be empty"):
        ring.tenant(0, "")
