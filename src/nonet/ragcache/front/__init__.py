"""A small RAG front: documents in, chunks and an index on disk, questions answered with the chunks that were used.

Files: `documents` (text, Markdown, HTML, PDF, JSON lines), `chunking`, `embedding` (MiniLM where it is installed),
`index` (BM25 and vectors over SQLite), `ask` (an index follows its folders, and where its KV is kept).
"""
