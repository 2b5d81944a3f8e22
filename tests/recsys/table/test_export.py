"""Exports as DuckDB and safetensors read them."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pytest
from safetensors import safe_open

from nonet.common.errors import InputError
from nonet.recsys.table import SGD, Adagrad, EmbeddingTable, Segment
from nonet.recsys.table.export import to_parquet, to_safetensors


def trained() -> EmbeddingTable:
    table = EmbeddingTable(segments=[Segment(1, SGD(), name="bias"), Segment(3, Adagrad())], name="clicks")
    keys = np.array([5, -(2**63), 2**63 - 1, 0])
    table.apply_gradients(keys, np.random.default_rng(0).normal(size=(4, 4)), now_s=77)
    return table


def test_parquet_as_duckdb_reads_it(tmp_path: Path) -> None:
    table = trained()
    to_parquet(table, tmp_path / "t.parquet", with_state=True)
    rows = duckdb.sql(f"select * from '{tmp_path}/t.parquet'")
    assert rows.columns == ["key", "updated_s", "bias", "embedding_1", "embedding_1.state"]
    for key, updated_s, bias, vector, state in rows.fetchall():
        at = np.flatnonzero(table.export().keys == key)[0]
        assert updated_s == 77
        assert [*bias, *vector] == table.lookup([key])[0].tolist()
        assert list(state) == table.export().state[at].tolist()
    assert len(rows.fetchall()) == 4


def test_safetensors(tmp_path: Path) -> None:
    table = trained()
    to_safetensors(table, tmp_path / "t.safetensors")
    with safe_open(tmp_path / "t.safetensors", "np") as file:
        assert set(file.keys()) == {"key", "updated_s", "bias", "embedding_1"}
        assert file.metadata() == {"nonet.table": "clicks"}
        weights = np.concatenate([file.get_tensor("bias"), file.get_tensor("embedding_1")], axis=1)
        assert np.array_equal(weights, table.lookup(file.get_tensor("key")))


def test_an_empty_table_and_a_place_that_cannot_be(tmp_path: Path) -> None:
    to_parquet(EmbeddingTable(2), tmp_path / "e.parquet")
    assert duckdb.sql(f"select count(*) from '{tmp_path}/e.parquet'").fetchall() == [(0,)]
    with pytest.raises(InputError, match="does not exist"):
        to_safetensors(EmbeddingTable(2), tmp_path / "no" / "t")
