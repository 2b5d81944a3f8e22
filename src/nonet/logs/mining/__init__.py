"""Mining: records to templates and exact parameters.

In order: `masks`, `mask_patterns`, `mask_automaton` (masks of the user's), `shape` (the vocabulary), `shape_table`
(distinct shapes with counts: the state, which merges), `clustering` with `tokens`, `families` and `merging` (shapes to
templates), `placement` (template and regions of each shape), `extraction` and `labelling` (parameters of whole
blocks), `crew` (threads), `template`, `lineage`, `state` (on disk) and `miner`, which is what users hold.
"""
