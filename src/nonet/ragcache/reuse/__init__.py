"""What to take over from stored chunks and what to compute: keys, measures, plans, and the choice of rows.

Files: `keys` and `prompt` (segments with keys), `matching` (known chunks in plain prompts), `metrics` (the published
measures), `variants` (describing what was computed), `plan` and `planner` (a request's plan), `modes` (ways to serve
it), `tokens` (which rows), `abstain` and `guard_file` (when not to reuse), `focus` (early stop of repair), `warming`
(what to compute before anybody asks), `calibrating` (which alpha).
"""
