"""Prompts in pieces against transformers' rendering of the same templates."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nonet.common.errors import InputError
from nonet.ragcache.models.template import ChatTemplate
from nonet.ragcache.models.toy import toy_tokenizer

# What the chat templates of the families do, each in its own way.
CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are helpful.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{{- bos_token }}\n{%- for message in messages %}\n"
    "    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}"
    "{{- message['content'] | trim + '<|eot_id|>' }}\n"
    "{%- endfor %}\n{%- if add_generation_prompt %}\n"
    "    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}\n{%- endif %}\n"
)
GEMMA = (
    "{{ bos_token }}{%- if messages[0]['role'] == 'system' -%}{%- set first = messages[0]['content'] + '\n\n' -%}"
    "{%- set turns = messages[1:] -%}{%- else -%}{%- set first = '' -%}{%- set turns = messages -%}{%- endif -%}"
    "{%- for message in turns -%}{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}"
    "{{ raise_exception('Conversation roles must alternate') }}{%- endif -%}"
    "{%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}"
    "{{ '<start_of_turn>' + role + '\n' + (first if loop.first else '') }}{{ message['content'] | trim }}"
    "{{ '<end_of_turn>\n' }}{%- endfor -%}{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}"
)
TEMPLATES = {"chatml": CHATML, "llama3": LLAMA3, "gemma": GEMMA}
HISTORY = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Nobody, {{ 1 + 1 }}."}]


def _theirs(source: str, messages: list[dict]) -> str:
    from transformers import PreTrainedTokenizerFast

    backend = toy_tokenizer()._backend
    fast = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<|begin|>", eos_token="<|end|>")
    return fast.apply_chat_template(messages, chat_template=source, tokenize=False, add_generation_prompt=True)


@pytest.mark.parametrize("history", [[], HISTORY], ids=["first turn", "later turn"])
@pytest.mark.parametrize("system", [None, "Be brief. {% raw %}"])
@pytest.mark.parametrize("chunks", [[], ["One."], ["  One.\n", "Two {{ bos_token }}", "", "Three\ue000"]])
@pytest.mark.parametrize("name", TEMPLATES)
def test_pieces_together_are_the_prompt(name, chunks, system, history):
    template = ChatTemplate(TEMPLATES[name], bos_token="<|begin|>", eos_token="<|end|>")
    pieces = template.segments(system, chunks, " What? ", history)
    context = "".join(chunk.strip() + "\n\n" for chunk in chunks if chunk.strip())
    turns = [dict(turn) for turn in history] + [{"role": "user", "content": "What?"}]
    turns[0]["content"] = context + turns[0]["content"]
    head = [] if system is None else [{"role": "system", "content": system}]
    assert pieces.text == _theirs(TEMPLATES[name], head + turns)
    assert len(pieces.chunk_texts) == len(chunks)
    assert pieces.system_text + "".join(pieces.chunk_texts) + pieces.question_text == pieces.text


@settings(deadline=None)
@given(st.lists(st.text(), max_size=4), st.text(), st.text())
def test_any_text_is_taken_as_it_is(chunks, question, system):
    template = ChatTemplate(CHATML)
    pieces = template.segments(system, chunks, question)
    assert pieces.system_text == f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n"
    assert pieces.chunk_texts == tuple(c.strip() + "\n\n" if c.strip() else "" for c in chunks)
    assert pieces.question_text == question.strip() + "<|im_end|>\n<|im_start|>assistant\n"


def test_a_chunk_reads_the_same_wherever_it_stands():
    template, tokenizer = ChatTemplate(LLAMA3), toy_tokenizer()
    orders = (["a", "b c", "d"], ["b c", "d", "a"], ["d", "b c"])
    seen = [
        dict(zip(order, template.segments("s", order, "q").encode(tokenizer).chunks, strict=True)) for order in orders
    ]
    assert seen[0]["b c"] == seen[1]["b c"] == seen[2]["b c"]
    systems = {template.segments("s", order, "q", HISTORY).system_text for order in orders}
    assert len(systems) == 1, "earlier turns come after the chunks, so they do not change what stands before them"


def test_turn_marks_of_users_stay_text():
    tokenizer = toy_tokenizer()
    template = ChatTemplate("{{ bos_token }}{{ messages[0]['content'] }}{{ eos_token }}", bos_token="<|begin|>")
    ids = template.segments(None, ["<|end|>"], "x <|begin|>").encode(tokenizer)
    assert ids.system == [256]
    assert not {256, 257} & {*ids.chunks[0], *ids.question}


def test_templates_run_in_a_sandbox():
    for attack in (
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{% for i in range(999999999) %}x{% endfor %}",
    ):
        with pytest.raises(InputError, match="refuses these messages"):
            ChatTemplate(attack).segments(None, [], "q")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{% for %}", "does not parse"),
        ("{{ raise_exception('no system role here') }}", "no system role here"),
        ("{{ messages[7]['content'] }}", "refuses these messages"),
        ("{{ messages[0]['content'] | upper | replace('\ue003', '') }}", "does not repeat a user's words"),
        ("{{ messages[0]['content'] }}{{ messages[0]['content'] }}", "does not repeat a user's words"),
    ],
)
def test_templates_that_do_not_work_are_refused(source, message):
    with pytest.raises(InputError, match=message):
        ChatTemplate(source).segments(None, ["c"], "q")


def test_a_conversation_begins_with_the_user():
    with pytest.raises(InputError, match="begin with a user's turn"):
        ChatTemplate(CHATML).segments(None, [], "q", [{"role": "assistant", "content": "Hello"}])


def test_options_reach_the_template():
    template = ChatTemplate("{{ messages[-1]['content'] }}{% if enable_thinking is false %}<no>{% endif %}")
    assert template.segments(None, [], "q", options={"enable_thinking": False}).text == "q<no>"
    assert template.segments(None, [], "q").text == "q"


def test_dates_are_given_to_templates_only_that_need_one():
    guarded = "{% if strftime_now is defined %}{{ strftime_now('%Y') }}{% endif %}{{ messages[0]['content'] }}"
    assert ChatTemplate(guarded).segments(None, [], "q").text == "q"
    needy = "{{ strftime_now('%Y') }}{{ messages[0]['content'] }}"
    assert ChatTemplate(needy).segments(None, [], "q").text[:2] == "20"
