"""The ids of the paper's Table 1: the hash trick merges some of them, the table none."""

from __future__ import annotations

import numpy as np
import pytest

from nonet.recsys.features import fid_v2, md5_hash_trick, signatures
from nonet.recsys.table import EmbeddingTable, Zeros


@pytest.mark.parametrize(("num_ids", "after_hashing"), [(162_541, 149_970), (59_047, 57_361)])
def test_no_two_ids_share_a_row(num_ids: int, after_hashing: int) -> None:
    ids = np.arange(num_ids)
    assert len(np.unique(md5_hash_trick(ids))) == after_hashing
    for keys in (ids, fid_v2(5, signatures("user", ids))):
        table = EmbeddingTable(2, initializer=Zeros(), track_touched=False)
        table.upsert(keys, np.stack([ids // 1000, ids % 1000], axis=1))
        table.check_integrity()
        assert len(table) == num_ids
        rows = table.lookup(keys).astype(np.int64)
        assert np.array_equal(1000 * rows[:, 0] + rows[:, 1], ids)
