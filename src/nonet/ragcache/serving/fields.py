"""Which fields of a request are done, which may be ignored, and how the others are refused.

An ignored field gives an answer to another question than the one that was asked. So a field that this server does not
do is refused by name unless it has a value that asks for nothing, and so is one that nobody knows; null is the same as
absent everywhere. What is ignored changes no answer.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import Any

from pydantic_core import PydanticCustomError

IGNORED = frozenset(
    {
        "user",
        "metadata",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "prediction",
        "service_tier",
        "parallel_tool_calls",
    }
)
"""Who asks, and hints to speed; any value will do."""

NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "prompt_logprobs": (),
    "logit_bias": ({},),
    "response_format": ({"type": "text"},),
    "best_of": (1,),
    "suffix": ("",),
    "echo": (False,),
    "audio": (),
    "modalities": (["text"],),
    "reasoning_effort": ("none",),
    "verbosity": ("medium",),
    "web_search_options": (),
    "store": (False,),
    "guided_json": (),
    "guided_regex": (),
    "guided_choice": ([],),
    "guided_grammar": (),
    "guided_decoding_backend": (),
    "guided_whitespace_pattern": (),
    "structured_outputs": ({},),
    "use_beam_search": (False,),
    "length_penalty": (1,),
    "include_stop_str_in_output": (False,),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "truncate_prompt_tokens": (),
    "allowed_token_ids": (),
    "bad_words": ([],),
    "logits_processors": ([],),
    "add_generation_prompt": (True,),
    "continue_final_message": (False,),
    "documents": ([],),
    "chat_template": (),
    "chat_template_kwargs": ({},),
    "mm_processor_kwargs": ({},),
    "return_tokens_as_token_ids": (False,),
    "return_token_ids": (False,),
    "priority": (0,),
    "kv_transfer_params": ({},),
    "vllm_xargs": ({},),
    "dimensions": (),
}
"""Fields of OpenAI's API and of vLLM's that this server does not do, with the values (beside null) that ask for
nothing."""

MESSAGE_IGNORED = frozenset({"name", "annotations", "reasoning", "reasoning_content"})
"""What a template does not put into the prompt."""
MESSAGE_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "tool_calls": ([],),
    "function_call": (),
    "refusal": ("",),
    "audio": (),
}


def cleaned(
    body: Any,
    known: Collection[str],
    ignored: Collection[str] = (),
    neutral: Mapping[str, tuple[Any, ...]] | None = None,
) -> Any:
    """An object of a request with only the fields that are done, and none that is null.

    Args:
        body: as it came; what is no object is given back for others to refuse.
        known: fields that are done.
        ignored: fields that may have any value.
        neutral: fields that may have these values.

    Raises:
        PydanticCustomError: another field, which `ctx["field"]` names.

    >>> cleaned({"model": "m", "tools": None, "user": "u", "echo": False}, {"model"}, IGNORED, NEUTRAL)
    {'model': 'm'}
    """
    if not isinstance(body, dict):
        return body
    for name, value in body.items():
        if value is None or name in known or name in ignored:
            continue
        if neutral is None or name not in neutral:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else "leave it out"
            raise refused(name, f"{name} is not a field that is known here; {hint}")
        if not any(_is_same(value, harmless) for harmless in neutral[name]):
            raise refused(name, f"{name} is not supported by this server; leave it out")
    return {name: value for name, value in body.items() if value is not None and name in known}


def refused(field: str, text: str) -> PydanticCustomError:
    """What says that a field cannot be done.

    Args:
        field: its name.
        text: why.
    """
    # A name may hold half a character, which pydantic cannot show.
    field, text = (one.encode("utf-8", "backslashreplace").decode() for one in (field, text))
    return PydanticCustomError("refused", "{text}", {"field": field, "text": text})


def _is_same(value: Any, harmless: Any) -> bool:
    # In Python 0 is False and 1 is True, in JSON they are not.
    return isinstance(value, bool) == isinstance(harmless, bool) and bool(value == harmless)
