"""From requests to tokens: who is computed when, with which cached chunks, and what was done for each.

Files: `request` (what is asked, what is told), `residency` (variants in pages of the pool), `running` (one request's
way), `scheduler` (continuous batching), `keeping` (new variants for the store), `engine` (the face: `Engine`).
"""
