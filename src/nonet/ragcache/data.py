"""The data sets of the room in the registry of `nonet.common.datasets`: questions with their retrieved passages.

`xquad/bm25` has 1,190 questions over 240 paragraphs, each with the five best by BM25; `hotpotqa/train100` has 100
questions that need two passages. Nothing is downloaded on import.
"""

from __future__ import annotations

from nonet.common.datasets import DATASETS, DataFile, Dataset

XQUAD = Dataset(
    "xquad/bm25",
    (
        DataFile(
            "questions",
            "ragcache/xquad_bm25_trace.jsonl",
            sha256="afe257b35f80046313f8ae374dc80b8afcdb939c7b25a5b519cf5c99de0b0b87",
        ),
        DataFile(
            "chunks",
            "ragcache/xquad_chunks.jsonl",
            sha256="ad760346305e0cb79f2aa99488706f069101de946b09448b2d3a7a606f57c394",
        ),
    ),
    "CC BY-SA 4.0",
    "Mikel Artetxe et al. On the Cross-lingual Transferability of Monolingual Representations. ACL 2020.",
    "https://github.com/google-deepmind/xquad",
)
HOTPOTQA = Dataset(
    "hotpotqa/train100",
    (
        DataFile(
            "questions",
            "ragcache/hotpotqa_train.json",
            sha256="6c0e2689d03c94b3bb4d5f94ed806ea4f4eb4f46c12132f8e91df774ad5c5a22",
        ),
    ),
    "CC BY-SA 4.0",
    "Zhilin Yang et al. HotpotQA: A Dataset for Diverse, Explainable Multi-hop Question Answering. EMNLP 2018.",
    "https://hotpotqa.github.io",
)

for _dataset in (XQUAD, HOTPOTQA):
    DATASETS.add(_dataset.name, _dataset)
