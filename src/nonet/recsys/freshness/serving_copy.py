"""A copy of a model and its tables that changes only when it is synced: what users of a service would get."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np

from nonet.recsys.example import ExampleBatch, Floats, Ints
from nonet.recsys.table.embedding_table import EmbeddingTable
from nonet.recsys.table.optimizers import SGD
from nonet.recsys.training.scoring import Scorer
from nonet.recsys.training.trainer import Trainer

_NONE = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class SyncCost:
    """What a sync carried.

    Args:
        rows: of the tables, upserts and tombstones.
        sparse_bytes: 8 a tombstone, 8 + 4 dim an upsert.
        dense_bytes: of the dense weights.
    """

    rows: int
    sparse_bytes: int
    dense_bytes: int


class ServingCopy:
    """Follows a trainer at its own pace: keys that were touched wait until its next sync.

    Args:
        trainer: whose state is copied, keys of now at once.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._tables = {id(table): _replica(table) for table in trainer.distinct_tables}
        copies = {name: self._tables[id(table)] for name, table in trainer.tables.items()}
        model = copy.deepcopy(trainer.model)
        self._scorer = Scorer(model, copies, trainer.scorer.pooling, trainer.correction)
        self._upserts = {id(table): table.keys() for table in trainer.distinct_tables}
        self._erased = dict.fromkeys(self._tables, _NONE)
        self.first = self.sync()

    def touch(self, table: EmbeddingTable, upserted: Ints, erased: Ints) -> None:
        """Keys that changed or went since the last call; the newer word on a key counts.

        Args:
            table: of the trainer.
            upserted: keys, each once.
            erased: likewise.
        """
        key = id(table)
        self._upserts[key] = np.union1d(np.setdiff1d(self._upserts[key], erased), upserted)
        self._erased[key] = np.union1d(np.setdiff1d(self._erased[key], upserted), erased)

    def sync(self) -> SyncCost:
        """Take over what waits, as it is now, and the dense weights."""
        rows = sparse_bytes = 0
        for table in self._trainer.distinct_tables:
            own, keys, gone = self._tables[id(table)], self._upserts[id(table)], self._erased[id(table)]
            own.erase(gone)
            own.upsert(keys, table.lookup(keys))
            rows += len(keys) + len(gone)
            sparse_bytes += len(keys) * (8 + 4 * table.dim) + len(gone) * 8
            self._upserts[id(table)] = self._erased[id(table)] = _NONE
        state = self._trainer.model.state_dict()
        self._scorer.model.load_state_dict(state)
        return SyncCost(rows, sparse_bytes, sum(value.nbytes for value in state.values()))

    def predict(self, batch: ExampleBatch) -> Floats:
        """Probabilities [n] by the state of the last sync."""
        return self._scorer.predict(batch)


def _replica(table: EmbeddingTable) -> EmbeddingTable:
    """An empty table of that shape without optimizer state."""
    return EmbeddingTable(table.dim, optimizer=SGD(), name=table.name, track_touched=False)


def pass_on(trainer: Trainer, copies: list[ServingCopy]) -> None:
    """Tell copies which keys the trainer has touched since the last time."""
    for table in trainer.distinct_tables:
        touched = table.take_touched()
        for one in copies:
            one.touch(table, touched.upserted, touched.erased)
