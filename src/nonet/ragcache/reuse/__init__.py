"""What to take over from stored chunks and what to compute: keys, measures, plans, and the choice of rows.

Files: `keys` and `prompt` (a prompt as segments with keys), `metrics` (the published measures), `variants` (describing
what was computed), `plan` and `planner` (a request's plan), `modes` (ways to serve a request), `tokens` (which rows),
`abstain` (when not to reuse).
"""
