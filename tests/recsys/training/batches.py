"""Small random batches for the tests of training."""

from dataclasses import replace

import numpy as np

from nonet.recsys.example import Bags, ExampleBatch


def random_batch(size=64, *, features=("a", "b"), vocabulary=20, num_dense=0, bags=False, seed=0) -> ExampleBatch:
    """Ids below `vocabulary` with the slot of their feature; with `bags` from none to three a row, with repeats."""
    draw = np.random.default_rng(seed)
    ids = {}
    for slot, name in enumerate(features, 1):
        if bags:
            rows = [draw.integers(0, vocabulary, draw.integers(0, 4)) + (slot << 48) for _ in range(size)]
            ids[name] = Bags.of([row.tolist() for row in rows])
        else:
            ids[name] = Bags.single(draw.integers(0, vocabulary, size) + (slot << 48))
    return ExampleBatch(
        ids,
        draw.normal(size=(size, num_dense)).astype(np.float32),
        draw.integers(0, 2, size).astype(np.float32),
        draw.uniform(0.5, 2, size).astype(np.float32),
        np.ones(size, np.float32),
        np.arange(size, dtype=np.int64) * 1000,
    )


def with_columns(batch: ExampleBatch, **columns) -> ExampleBatch:
    return replace(batch, **{name: np.asarray(column) for name, column in columns.items()})
