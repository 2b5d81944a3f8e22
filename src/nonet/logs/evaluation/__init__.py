"""Evaluation: parsers against labelled logs, as the paper does it, at full scale.

In order: `data` (labelled logs) and `twin` (synthetic ones), `compat_header` (the reference's header splitting),
`contestants`, `job`, `worker` and `supervision` (one pair of parser and log, in a process of its own), `logpai_csv`
(what it writes), `metrics` with `slices`, `wildcards`, `rules` and `template_columns` (what is scored), `scorecard`,
`published` (the tables beside ours), `experiment` (all pairs, resumable), `table`, `report` and `view` (what is shown).
"""
