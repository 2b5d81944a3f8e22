"""Views: what an operator looks at.

`activity` (one pass over a log) with `timeline` and `period`; `top`, `diff` and `compare`, each with a `_view` that
prints it; `parse_view` and `text_table` for the terminal; `quality` and `compare_worker` for parsers without labels.
"""
