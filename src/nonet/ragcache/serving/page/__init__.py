"""The chat page: one file without anything from elsewhere."""

from __future__ import annotations

import json
from importlib import resources

from nonet.ragcache.front.ask import SYSTEM


def page_html(model: str, *, can_retrieve: bool) -> str:
    """The page for a server.

    Args:
        model: name of the model.
        can_retrieve: whether the server has an index of its own; else chunks are pasted into the page.

    >>> "<title>" in page_html("smollm2", can_retrieve=True)
    True
    """
    text = resources.files(__package__).joinpath("index.html").read_text("utf-8")
    # In a script element only "</" can end it; JSON allows to write it as "<\/".
    settings = json.dumps({"model": model, "canRetrieve": can_retrieve, "system": SYSTEM}).replace("</", "<\\/")
    return text.replace("/*SETTINGS*/null", settings)
