"""The forward pass over chosen rows: pages of keys and values, sequences that share them, attention, what it shows.

Files: `paging` (the pool), `sequence` (one prompt and its answer in pages), `attention`, `observing` (attention sums by
segment, without an n x n matrix), `forward` (one batch through the layers), `sampling`.
"""
