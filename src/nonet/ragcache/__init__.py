"""An inference server that reuses the KV cache of retrieved chunks wherever they stand in the prompt.

Paper: Agarwal et al., "Cache-Craft: Managing Chunk-Caches for Efficient Retrieval-Augmented Generation", SIGMOD 2025.
Retrieved chunks come back in other orders and neighbourhoods, so prefix caches miss; their KV can be reused all the
same when the few rows that the neighbours changed most are computed anew. All other rows are not computed at all.
"""
