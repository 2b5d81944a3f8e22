"""The trainer as a classifier of river, and river's models beside it on the same rows.

Import this only where river is installed.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from nonet.common.errors import InputError, MissingExtraError
from nonet.recsys.example import Bags, ExampleBatch
from nonet.recsys.features.encoder import FeatureEncoder
from nonet.recsys.training.trainer import Trainer

try:
    from river import base
except ImportError as error:
    raise MissingExtraError("the river adapter needs river; install it: pip install river") from error

_KNOWN_IDS = 1 << 16


class RiverClassifier(base.Classifier):
    """Learns example by example behind the interface of river's binary classifiers.

    A feature of ids takes a value (any text, number or boolean) or a list of them; one that is missing is an empty
    bag. A dense feature takes a number; a missing one is 0.

    Args:
        trainer: which learns; its features have the slots 1, 2, ... in their order.
        dense: names of the numbers, in the order of the model's input.

    >>> from nonet.recsys.training.presets import preset_table
    >>> model = RiverClassifier(Trainer("lr", preset_table("lr", 0), features=["user"]))
    >>> for _ in range(20):
    ...     model.learn_one({"user": "u1"}, True)
    >>> model.predict_proba_one({"user": "u1"})[True] > 0.6
    True
    """

    def __init__(self, trainer: Trainer, dense: Sequence[str] = ()) -> None:
        self.trainer = trainer
        self.dense = tuple(dense)
        self._known: dict[tuple[str, Any], int] = {}

    @property
    def _multiclass(self) -> bool:
        return False

    def learn_one(self, x: dict[Hashable, Any], y: bool | str | int) -> None:
        """One step on one example; an example with a number that is not finite is left out.

        Raises:
            InputError: a label other than true, false, 0 and 1.
        """
        if y not in (0, 1):
            raise InputError(f"a binary classifier learns true and false, not {y!r}")
        self.trainer.step(self.to_batch(x, float(y)))

    def predict_proba_one(self, x: dict[Hashable, Any], **kwargs: Any) -> dict[bool | str | int, float]:
        """Probabilities of both answers."""
        p = float(self.trainer.predict(self.to_batch(x))[0])
        return {False: 1 - p, True: p}

    def to_batch(self, x: Mapping[Hashable, Any], label: float = 0.0) -> ExampleBatch:
        """A batch of one row.

        Raises:
            InputError: a dense feature that is no number.
        """
        ids = {name: self._bag(slot, name, x.get(name)) for slot, name in enumerate(self.trainer.features, 1)}
        try:
            dense = np.array([[float(x.get(name, 0)) for name in self.dense]], np.float32).reshape(1, -1)
        except (TypeError, ValueError) as error:
            raise InputError(f"the dense features {list(self.dense)} must be numbers: {error}") from error
        one = np.ones(1, np.float32)
        return ExampleBatch(ids, dense, np.array([label], np.float32), one, one, np.zeros(1, np.int64))

    def _bag(self, slot: int, name: str, value: Any) -> Bags:
        values = value if isinstance(value, list | tuple | set) else () if value is None else (value,)
        ids = np.array([self._id(slot, name, one) for one in values], np.int64)
        return Bags(ids, np.array([0, len(ids)], np.int64))

    def _id(self, slot: int, name: str, value: Any) -> int:
        key = (name, str(value))
        if key not in self._known:
            if len(self._known) >= _KNOWN_IDS:  # ids are a function of name and value: forgetting costs time only
                self._known.clear()
            self._known[key] = int(FeatureEncoder(name, slot).ids([key[1]])[0])
        return self._known[key]
