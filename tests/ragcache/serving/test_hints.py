"""What a router is told of a request."""

from hypothesis import given
from hypothesis import strategies as st

from nonet.ragcache.serving.hints import chat_hint, completion_hint
from nonet.ragcache.serving.openai_types import ChatBody, CompletionBody

texts = st.lists(st.text(max_size=30), max_size=6)


def chat(chunks=(), question="why?", tenant="", **more):
    return chat_hint(ChatBody(messages=[{"role": "user", "content": question}], chunks=list(chunks), **more), tenant)


@given(texts, st.randoms())
def test_keys_are_of_texts_whatever_the_order_and_the_names(chunks, random):
    shuffled = random.sample(chunks, len(chunks))
    named = [{"id": str(random.random()), "text": text} for text in shuffled]
    keys = {chunk.key for chunk in chat(chunks).chunks}
    assert keys == {chunk.key for chunk in chat(named, "another question").chunks}
    assert len(keys) == len({text for text in chunks if text})


def test_tenants_never_share_a_key():
    one, other = chat(["a", "b"], tenant="x"), chat(["a", "b"], tenant="y")
    assert not {chunk.key for chunk in one.chunks} & {chunk.key for chunk in other.chunks}
    assert {chunk.num_tokens for chunk in chat(["a" * 4000]).chunks} == {1001}


def test_what_is_computed_in_any_case():
    short, long = chat(["a"], max_tokens=5), chat(["a"], "why? " * 400, max_tokens=5)
    assert long.other_tokens - short.other_tokens == 499
    assert chat(["a"], max_tokens=5, max_completion_tokens=50).other_tokens - short.other_tokens == 45


def test_plain_prompts_share_as_many_blocks_as_they_are_the_same():
    def blocks(prompt):
        return [chunk.key for chunk in completion_hint(CompletionBody(prompt=prompt), "").chunks]

    text = "".join(map(chr, range(97, 123))) * 200
    assert len(blocks(text)) == len(text) // 1024 and blocks("short") == []
    changed = text[:2000] + "!" + text[2001:]
    same = [one == other for one, other in zip(blocks(text), blocks(changed), strict=True)]
    assert same == [True] + [False] * 4
    ids = list(range(2000))
    assert blocks(ids)[:3] == blocks(ids[:900] + [7] * 100)[:3] and blocks(ids)[3] != blocks(ids[:900] + [7] * 130)[3]
    assert blocks("\ud800" * 2000) == blocks("\ud800" * 2000)
    assert set(blocks([text, changed])) == {*blocks(text), *blocks(changed)} and blocks([ids]) == blocks(ids)
    several = completion_hint(CompletionBody(prompt=["a", "b"], max_tokens=7), "")
    assert several.other_tokens == 14


def test_a_conversation_without_chunks_is_routed_by_its_beginning():
    system = {"role": "system", "content": "x" * 3000}
    one, other = (
        chat_hint(ChatBody(messages=[system, {"role": "user", "content": asked}]), "") for asked in ("why?", "when?")
    )
    assert one.chunks[:2] == other.chunks[:2] and len(one.chunks) == 2
