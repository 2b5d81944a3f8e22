"""From what a request says to the ids that a model reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nonet.common.errors import InputError
from nonet.recsys.example import Bags, ExampleBatch
from nonet.recsys.features.encoder import FeatureEncoder, ids_of_values

Ids = dict[str, list[int]]


@dataclass(frozen=True)
class Features:
    """The features of a model, by who has them: the user of a request, its context, or an item.

    Args:
        encoders: of every feature, in the order of the model's input.
        user: name of the feature that the user's name goes to.
        item: name of the feature that an item's name goes to.
        item_attributes: features that an item carries beside its name, from the catalogue.
        num_dense: numbers of a request.

    Raises:
        InputError: a name without an encoder, or used twice.

    >>> encoders = {name: FeatureEncoder(name, slot) for slot, name in enumerate(("user", "hour", "item"), 1)}
    >>> Features(encoders).context
    ('hour',)
    """

    encoders: Mapping[str, FeatureEncoder]
    user: str = "user"
    item: str = "item"
    item_attributes: tuple[str, ...] = ()
    num_dense: int = 0

    def __post_init__(self) -> None:
        named = [self.user, self.item, *self.item_attributes]
        missing = [name for name in named if name not in self.encoders]
        if missing or len(set(named)) < len(named):
            raise InputError(f"features {named} must be distinct and have encoders; known: {', '.join(self.encoders)}")

    @property
    def context(self) -> tuple[str, ...]:
        """Features that a request may carry beside its user."""
        own = {self.user, self.item, *self.item_attributes}
        return tuple(name for name in self.encoders if name not in own)

    def ids_of(self, values: Mapping[str, Any]) -> Ids:
        """Ids of raw values: one, or a list, by feature.

        Raises:
            InputError: an unknown feature, or a value that has no one text.
        """
        return ids_of_values(self.encoders, values)

    def of_request(self, user: str, context: Mapping[str, Any]) -> Ids:
        """Ids of a request.

        Raises:
            InputError: a feature that is no context.
        """
        foreign = [name for name in context if name not in self.context]
        if foreign:
            known = ", ".join(self.context) or "none"
            raise InputError(f"the context names {foreign}, which no request carries (known: {known})")
        return self.ids_of({self.user: user, **context})

    def batch(self, request: Ids, items: Sequence[Ids], dense: Sequence[float], ts_ms: int) -> ExampleBatch:
        """A row for each item.

        Args:
            request: ids of the request, the same in every row.
            items: ids of each item.
            dense: numbers of the request; missing ones are 0.
            ts_ms: now.

        Raises:
            InputError: too many numbers.
        """
        size = len(items)
        if len(dense) > self.num_dense:
            raise InputError(f"the request has {len(dense)} dense numbers, the model takes {self.num_dense}")
        own = {self.item, *self.item_attributes}
        bags = {
            name: Bags.of([item.get(name, ()) for item in items])
            if name in own
            else _repeated(request.get(name, ()), size)
            for name in self.encoders
        }
        numbers = np.zeros((size, self.num_dense), np.float32)
        numbers[:, : len(dense)] = dense
        ones = np.ones(size, np.float32)
        return ExampleBatch(bags, numbers, np.zeros(size, np.float32), ones, ones, np.full(size, ts_ms, np.int64))


def _repeated(ids: Iterable[int], size: int) -> Bags:
    one = np.array(list(ids), np.int64)
    return Bags(np.tile(one, size), np.arange(size + 1, dtype=np.int64) * len(one))


class Catalogue:
    """The items that can be named in an answer, with their attributes. Adding is allowed while it is read.

    Args:
        features: of the model.

    >>> from nonet.recsys.features.encoder import FeatureEncoder, ids_of_values
    >>> features = Features({name: FeatureEncoder(name, n) for n, name in enumerate(("user", "item", "genre"))},
    ...                     item_attributes=("genre",))
    >>> catalogue = Catalogue(features); catalogue.put("i1", {"genre": ["noir", "crime"]})
    >>> len(catalogue.ids_of("i1")["genre"]), list(catalogue.ids_of("never seen"))
    (2, ['item'])
    """

    def __init__(self, features: Features) -> None:
        self.features = features
        self._ids: dict[str, Ids] = {}
        self._names: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._ids)

    def put(self, item: str, attributes: Mapping[str, Any] | None = None) -> None:
        """Add an item, or change its attributes.

        Raises:
            InputError: an attribute that is none of the model's.
        """
        given = dict(attributes or {})
        foreign = [name for name in given if name not in self.features.item_attributes]
        if foreign:
            raise InputError(f"item {item!r}: {foreign} are no attributes (known: {self.features.item_attributes})")
        self.put_ids(item, self.features.ids_of({self.features.item: item, **given}))

    def put_ids(self, item: str, ids: Ids) -> None:
        """Add an item by its ids, as a feature event has them; those of other features are passed over.

        Raises:
            InputError: none for the item itself.
        """
        if not ids.get(self.features.item):
            raise InputError(f"item {item!r}: its ids lack the feature {self.features.item!r}")
        own = (self.features.item, *self.features.item_attributes)
        self._ids[item] = {name: list(ids.get(name, ())) for name in own}
        self._names[ids[self.features.item][0]] = item

    def items(self) -> dict[str, Ids]:
        """All items with their ids, in the order in which they were added."""
        return dict(self._ids)

    def ids_of(self, item: str) -> Ids:
        """Ids of an item; of one that is not in the catalogue, its name's alone."""
        return self._ids.get(item) or self.features.ids_of({self.features.item: item})

    def __contains__(self, item: object) -> bool:
        return item in self._ids

    def first(self, count: int) -> list[str]:
        """Some items, in the order in which they were added."""
        return [item for item, _ in zip(self._ids, range(count), strict=False)]

    def names_of(self, fids: Iterable[int]) -> list[str]:
        """Names of items by id; ids that are none's are left out."""
        return [self._names[fid] for fid in fids if fid in self._names]

    def fids(self) -> np.ndarray:
        """Ids of all items, int64 [n]."""
        return np.array(list(self._names), np.int64)

    def has_fid(self, fid: int) -> bool:
        """Whether an item has this id."""
        return fid in self._names
