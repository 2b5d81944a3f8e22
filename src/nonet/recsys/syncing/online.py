"""Serving rows in the shape of Feast's `get_online_features`, from a replica or a store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError


class RowSource(Protocol):
    """A `Replica` or a `RedisStore`."""

    def fetch(self, table: str, ids: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Rows, and which are there."""
        ...


@dataclass(frozen=True, slots=True)
class OnlineResponse:
    """Columns of entities and features.

    Args:
        columns: of each name a list, one value an entity row; None where the id is unknown.
    """

    columns: Mapping[str, list[Any]]

    def to_dict(self) -> dict[str, list[Any]]:
        """The columns, as Feast's `OnlineResponse.to_dict()`."""
        return {name: list(values) for name, values in self.columns.items()}


def get_online_features(
    source: RowSource,
    features: Sequence[str],
    entity_rows: Sequence[Mapping[str, Any]],
    *,
    ids_of: Mapping[str, Callable[[Sequence[Any]], NDArray[np.int64]]] | None = None,
    entities: Mapping[str, str] | None = None,
) -> OnlineResponse:
    """Embeddings of entities.

    Args:
        source: of rows.
        features: "table:embedding" each.
        entity_rows: of each row its entities by name, the same names in all.
        ids_of: of an entity, from its values to 64-bit ids (`FeatureEncoder.ids`); without, values are ids.
        entities: of each table the entity that it is asked by; needed where a row has several.

    Raises:
        InputError: a feature that is not spelled so, a missing entity, or a value that is no id.

    >>> from nonet.recsys.syncing import Replica
    >>> get_online_features(Replica({"user": 2}), ["user:embedding"], [{"user_id": 5}]).to_dict()
    {'user_id': [5], 'embedding': [None]}
    """
    names = list(entity_rows[0]) if entity_rows else []
    for n, row in enumerate(entity_rows):
        if set(row) != set(names):
            raise InputError(f"entity row {n} has {sorted(row)}, the first has {sorted(names)}; give all the same")
    columns: dict[str, list[Any]] = {name: [row[name] for row in entity_rows] for name in names}
    tables = [_table_of(feature) for feature in features]
    for table in tables:
        entity = (entities or {}).get(table) or (names[0] if len(names) == 1 else "")
        if names and entity not in columns:
            raise InputError(f"table {table!r}: name its entity among {names}: entities={{{table!r}: ...}}")
        rows, here = source.fetch(table, _ids(columns.get(entity, []), (ids_of or {}).get(entity), entity))
        name = "embedding" if len(tables) == 1 else f"{table}__embedding"
        columns[name] = [row.tolist() if known else None for row, known in zip(rows, here, strict=True)]
    return OnlineResponse(columns)


def _table_of(feature: str) -> str:
    table, colon, field = feature.rpartition(":")
    if not colon or field != "embedding" or not table:
        raise InputError(f"feature {feature!r}: write TABLE:embedding")
    return table


def _ids(values: Sequence[Any], encode: Callable[[Sequence[Any]], NDArray[np.int64]] | None, entity: str) -> Any:
    if not values:
        return np.empty(0, np.int64)
    if encode is not None:
        return encode(values)
    try:
        return np.array([_int64(value) for value in values], np.int64)
    except (TypeError, OverflowError) as error:
        raise InputError(f"entity {entity!r}: a value is no 64-bit id ({error}); give ids_of") from error


def _int64(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{value!r}")
    return int(value)
