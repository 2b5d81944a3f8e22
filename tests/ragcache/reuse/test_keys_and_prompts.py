import blake3
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nonet.common.errors import InputError
from nonet.ragcache.reuse.keys import chunk_key
from nonet.ragcache.reuse.prompt import Prompt, Segment, in_order, prefix_before
from tests.ragcache.reuse.parts import make_prompt

TEXT = st.text(max_size=4)
FIELDS = st.fixed_dictionaries({"model": TEXT, "tokenizer": TEXT, "layout": TEXT, "lora": TEXT, "salt": TEXT})
IDS = st.lists(st.integers(0, 5), max_size=4)


@given(IDS, FIELDS, IDS, FIELDS)
def test_keys_are_the_same_exactly_when_everything_is(ids, fields, other_ids, other_fields):
    key, other = chunk_key(ids, **fields), chunk_key(other_ids, **other_fields)
    assert (key == other) == ((ids, fields) == (other_ids, other_fields))
    assert len(key) == 64
    assert key == chunk_key(np.array(ids, np.int32), **fields)


def test_fields_cannot_run_into_each_other():
    same = {"layout": "l"}
    assert chunk_key([1], model="ab", tokenizer="c", **same) != chunk_key([1], model="a", tokenizer="bc", **same)
    assert chunk_key([], model="a", tokenizer="", **same) != chunk_key([], model="", tokenizer="a", **same)


def test_a_key_is_the_hash_that_is_written_down():
    raw = b"".join(len(part).to_bytes(8, "little") + part for part in (b"m", b"t", b"l", b"", "ä".encode()))
    raw += b"".join(one.to_bytes(8, "little") for one in (7, 300))
    assert chunk_key([7, 300], model="m", tokenizer="t", layout="l", salt="ä") == blake3.blake3(raw).hexdigest()


def test_segments_of_rows_and_keys_before_a_chunk():
    prompt = make_prompt(("A", 2), ("E", 0), ("B", 1), system=1, question=1)
    assert prompt.segment_of_row().tolist() == [0, 1, 1, 3, 4]
    assert prefix_before(prompt, 0) == ()
    assert prefix_before(prompt, 2) == ("A",)
    assert [chunk.key for chunk in prompt.chunks] == ["A", "E", "B"]


def test_another_order_moves_ids_and_rows():
    prompt = make_prompt(("A", 2), ("B", 3), system=1, question=1)
    moved = in_order(prompt, prompt.chunks[::-1])
    assert moved.ids.tolist() == [0, 3, 4, 5, 1, 2, 6]
    assert [(one.key, one.start, one.stop) for one in moved.chunks] == [("B", 1, 4), ("A", 4, 6)]


@pytest.mark.parametrize(
    ("sizes", "kinds", "ids"),
    [
        ([(0, 1), (1, 2)], ["system", "chunk"], 2),
        ([(0, 1), (2, 3)], ["system", "question"], 3),
        ([(0, 1), (1, 3)], ["system", "question"], 2),
        ([(0, 1), (1, 1)], ["system", "question"], 1),
        ([(0, 3), (3, 1), (1, 4)], ["system", "chunk", "question"], 4),
        ([], [], 0),
    ],
)
def test_prompts_that_are_none(sizes, kinds, ids):
    segments = tuple(Segment(kind, *size, "k") for kind, size in zip(kinds, sizes, strict=True))
    with pytest.raises(InputError):
        Prompt(np.arange(ids, dtype=np.int64), segments)


def test_ids_of_another_type_are_refused():
    segments = (Segment("system", 0, 1, "s"), Segment("question", 1, 2, ""))
    with pytest.raises(InputError, match="int64"):
        Prompt(np.arange(2, dtype=np.int32), segments)
