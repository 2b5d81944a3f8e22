"""Chat templates: a system prompt, chunks and a question to the model's prompt, cut where chunks begin and end.

The model's own Jinja template is rendered once, with marks where the chunks and the question stand, and cut there.
Chunks stand at the head of the first user turn, each followed by a blank line, so that a chunk's text, and hence its
tokens, are the same wherever it stands; earlier turns of the conversation come after them.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.sandbox

from nonet.common.errors import InputError
from nonet.ragcache.models.tokenizer import Tokenizer

# For base models, whose files bring no template.
PLAIN_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['content'] }}\n\n{% endfor %}"
    "{% if add_generation_prompt %}Answer:{% endif %}"
)
CHUNK_END = "\n\n"
Tokenise = Callable[[str, Callable[[str, bool], Sequence[int]]], Sequence[int]]


@dataclass(frozen=True, slots=True)
class PromptIds:
    """A prompt as token ids, segment by segment.

    Attributes:
        system: everything before the first chunk.
        chunks: one list a chunk; an empty chunk has none.
        question: everything after the last chunk, to the point where the answer begins.
    """

    system: list[int]
    chunks: tuple[list[int], ...]
    question: list[int]


@dataclass(frozen=True, slots=True)
class PromptText:
    """A rendered prompt in pieces, whose concatenation is the prompt.

    Attributes:
        system_text: everything before the first chunk, marks of the template included.
        chunk_texts: each chunk with its blank line; "" for an empty chunk.
        question_head: what stands between the chunks and the question (earlier turns), mostly "".
        question: as asked, without the space around it.
        question_tail: the template's end, to the point where the answer begins.
    """

    system_text: str
    chunk_texts: tuple[str, ...]
    question_head: str
    question: str
    question_tail: str

    @property
    def question_text(self) -> str:
        """Everything after the last chunk."""
        return self.question_head + self.question + self.question_tail

    @property
    def text(self) -> str:
        """The whole prompt."""
        return self.system_text + "".join(self.chunk_texts) + self.question_text

    def encode(self, tokenizer: Tokenizer, tokenise: Tokenise | None = None) -> PromptIds:
        """Token ids, each segment for itself; turn marks inside chunks and question are read as plain text.

        Args:
            tokenizer: the model's.
            tokenise: takes the question and what encodes a part of it (told whether it is the first), so that parts of
                it may have ids of their own; the whole is one part by default.
        """

        def encode(part: str, _: bool) -> list[int]:
            return tokenizer.encode(part, parse_special=False)

        question = [
            *tokenizer.encode(self.question_head),
            *(tokenise(self.question, encode) if tokenise else encode(self.question, True)),
            *tokenizer.encode(self.question_tail),
        ]
        chunks = tuple(tokenizer.encode(chunk, parse_special=False) for chunk in self.chunk_texts)
        return PromptIds(tokenizer.encode(self.system_text), chunks, question)


class ChatTemplate:
    """A model's chat template.

    Args:
        source: Jinja text; None for PLAIN_TEMPLATE. It runs in a sandbox, since it comes with the model.
        bos_token: text of the token that begins prompts, "" when there is none.
        eos_token: text of the token that ends answers.

    Raises:
        InputError: the template does not parse.

    >>> template = ChatTemplate(None)
    >>> prompt = template.segments("Be brief.", ["Paris is in France.", "Rome is in Italy."], "Where is Rome?")
    >>> prompt.chunk_texts[1], prompt.question_text
    ('Rome is in Italy.\\n\\n', 'Where is Rome?\\n\\nAnswer:')
    """

    def __init__(self, source: str | None, *, bos_token: str = "", eos_token: str = "") -> None:
        self.source = PLAIN_TEMPLATE if source is None else source
        self._tokens = {"bos_token": bos_token, "eos_token": eos_token}
        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse
        if "strftime_now is defined" not in self.source:
            # Templates that can do without the date get none: a prompt that changes every day is computed every day.
            environment.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
        try:
            self._template = environment.from_string(self.source)
        except jinja2.TemplateError as error:
            raise InputError(f"the model's chat template does not parse ({error}); give another one") from error

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
        options: Mapping[str, Any] | None = None,
    ) -> str:
        """The prompt of a conversation, as the model's template writes it.

        Args:
            messages: mappings with "role" and "content".
            add_generation_prompt: end where the assistant's answer begins.
            options: further variables of the template (enable_thinking of Qwen3, ...).

        Raises:
            InputError: the template refuses the messages.
        """
        variables = {"tools": None, "documents": None, **(options or {}), **self._tokens}
        try:
            return self._template.render(
                messages=list(messages), add_generation_prompt=add_generation_prompt, **variables
            )
        except (jinja2.TemplateError, TypeError, ValueError, AttributeError, ArithmeticError, LookupError) as error:
            raise InputError(f"the model's chat template refuses these messages: {error}") from error

    def segments(
        self,
        system: str | None,
        chunks: Sequence[str],
        question: str,
        history: Sequence[Mapping[str, Any]] = (),
        *,
        options: Mapping[str, Any] | None = None,
    ) -> PromptText:
        """The prompt in pieces.

        Args:
            system: system prompt; None leaves it to the template.
            chunks: retrieved texts, in their order in the prompt; space around them is dropped.
            question: the last user turn; space around it is dropped.
            history: earlier turns, mappings with "role" and "content", the first of them the user's. The chunks stand
                at the head of that turn.
            options: further variables of the template.

        Raises:
            InputError: the template refuses the conversation, or changes a user's words.
        """
        if history and history[0].get("role") != "user":
            raise InputError("the conversation must begin with a user's turn after the system prompt")
        chunk_mark, question_mark = _unused_marks(system, history)
        turns = [*({"role": turn["role"], "content": turn["content"]} for turn in history)]
        turns.append({"role": "user", "content": question_mark})
        turns[0] = {"role": "user", "content": chunk_mark + turns[0]["content"]}
        head = [] if system is None else [{"role": "system", "content": system}]
        rendered = self.render([*head, *turns], options=options)
        if rendered.count(chunk_mark) != 1 or rendered.count(question_mark) != 1:
            raise InputError("the model's chat template does not repeat a user's words once, as they are; give another")
        system_text, _, rest = rendered.partition(chunk_mark)
        question_head, _, question_tail = rest.partition(question_mark)
        stripped = [chunk.strip() for chunk in chunks]
        chunk_texts = tuple(chunk + CHUNK_END if chunk else "" for chunk in stripped)
        return PromptText(system_text, chunk_texts, question_head, question.strip(), question_tail)


def _unused_marks(system: str | None, history: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Two marks from the private-use area of Unicode that stand in none of the texts."""
    taken = (system or "") + "".join(str(turn.get("content", "")) for turn in history)
    number = 0
    while (core := f"\ue000{number}\ue001") in taken:
        number += 1
    return f"\ue002{core}", f"\ue003{core}"


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
