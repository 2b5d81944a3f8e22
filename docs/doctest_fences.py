"""For the documentation site: doctests become code blocks; Markdown would take their prompts for quotations."""

from __future__ import annotations

import textwrap
from typing import Any

import griffe


class DoctestFences(griffe.Extension):
    """Puts every paragraph that starts with a prompt between code fences, before the docstring is parsed."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for every module, class, function and attribute that was loaded."""
        if obj.docstring:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(text: str) -> str:
    """The docstring with its doctests fenced."""
    paragraphs = textwrap.dedent(text).split("\n\n")
    return "\n\n".join(f"```pycon\n{p}\n```" if p.lstrip().startswith(">>>") else p for p in paragraphs)
