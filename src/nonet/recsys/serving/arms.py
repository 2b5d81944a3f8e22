"""Arms of an experiment: each a model with a replica and an index of its own; users are assigned by hash."""

from __future__ import annotations

import copy
import threading
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np
import xxhash
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.recsys.example import ExampleBatch, Floats, Ints
from nonet.recsys.serving.encoding import Catalogue, Ids
from nonet.recsys.serving.index import ItemIndex
from nonet.recsys.syncing.messages import Blob
from nonet.recsys.syncing.replica import Replica

if TYPE_CHECKING:
    from torch import nn

    from nonet.recsys.training.correction import LogOdds
    from nonet.recsys.training.scoring import Pooling


class Arm:
    """One model that answers, as its replica stands.

    Retrieval takes the model's inner products: the item's row against the sum of the request's vectors (the part of a
    factorisation machine that depends on the item, its bias included). Ranking takes the whole model.

    Args:
        name: of the arm.
        model: torch module, as the trainer has it; a copy is taken.
        replica: its tables; dense parameters are taken from the blob with the arm's name (or `blob`).
        tables: of each feature the name of its table, in the order of the model's input; or one for all.
        catalogue: items.
        pooling: how the vectors of a bag become one.
        blob: name under which the dense parameters are published.
        expansion: of the index.
        correction: of negative sampling, for the stage "serving" with its rate.

    Raises:
        InputError: a feature without a table, or tables of different dimensions.

    >>> from nonet.recsys import DeltaPublisher, FeatureEncoder, Features, InProcessLink, Trainer, preset_table
    >>> catalogue = Catalogue(Features({name: FeatureEncoder(name, n) for n, name in enumerate(("user", "item"))}))
    >>> trainer = Trainer("fm", preset_table("fm", 4, name="ids"), features=("user", "item"))
    >>> arm = Arm("main", trainer.model, Replica({"ids": 5}), catalogue)  # a vector of 4 and a bias
    >>> publisher = DeltaPublisher({"ids": trainer.distinct_tables[0]})
    >>> publisher.attach("main", InProcessLink(arm.replica))
    >>> before, _ = arm.epoch, publisher.publish()
    >>> before, arm.epoch
    (0, 1)
    """

    def __init__(
        self,
        name: str,
        model: nn.Module,
        replica: Replica,
        catalogue: Catalogue,
        *,
        tables: Mapping[str, str] | str = "",
        pooling: Pooling = "sum",
        blob: str = "",
        expansion: int = 768,
        correction: LogOdds | None = None,
    ) -> None:
        from nonet.recsys.training.correction import UNCORRECTED
        from nonet.recsys.training.scoring import Scorer

        self.name, self.replica, self.catalogue = name, replica, catalogue
        self.features = catalogue.features
        by_feature = dict.fromkeys(self.features.encoders, tables) if isinstance(tables, str) else dict(tables)
        missing = [feature for feature in self.features.encoders if feature not in by_feature]
        if missing:
            raise InputError(f"arm {name!r}: the features {missing} have no table")
        own = {feature: replica.table(by_feature[feature]) for feature in self.features.encoders}
        self._scorer = Scorer(copy.deepcopy(model).eval(), own, pooling, correction or UNCORRECTED)
        self._item_table = own[self.features.item].name
        self.index = ItemIndex(self._scorer.dim, expansion=expansion)
        self._blob_name = blob or name
        self._loading = threading.Lock()
        self.refusal = ""
        """Why the newest dense parameters do not fit the model; the last that did go on serving."""
        replica.follow(self._follow)
        replica.follow_dense(self._load)
        self.refresh()

    def refresh(self, items: Sequence[str] | None = None) -> None:
        """Bring items that have come to the catalogue into the index.

        Args:
            items: which; all by default.
        """
        table = self.replica.table(self._item_table)
        fids = self.catalogue.fids() if items is None else self._fids(items)
        with self.replica.hold():  # what a delta tells meanwhile is newer
            here = fids[table.contains(fids)]
            self.index.update(here, table.lookup(here))

    def retrieve(self, request: Ids, count: int) -> list[str]:
        """Items for a request, best first, those that the model has learned about alone."""
        fids, _ = self.index.search(self.query(request), count)
        return self.catalogue.names_of(fids.tolist())

    def query(self, request: Ids) -> NDArray[np.float32]:
        """What an item's row is multiplied by, float32 [dim]."""
        ids = [(feature, fids) for feature, fids in request.items() if fids]
        total = np.zeros(self._scorer.dim, np.float32)
        for feature, fids in ids:
            rows = self._scorer.tables[feature].lookup(np.array(fids, np.int64))
            total += rows.mean(0) if self._scorer.pooling == "mean" else rows.sum(0)
        if self._scorer.needs_bias:
            total[0] = 1.0
        return total

    def rank(self, batch: ExampleBatch) -> Floats:
        """Probabilities [n]."""
        return self._scorer.predict(batch)

    @property
    def epoch(self) -> int:
        """Of the replica."""
        return self.replica.epoch

    def _fids(self, items: Sequence[str]) -> Ints:
        return np.array([self.catalogue.ids_of(item)[self.features.item][0] for item in items], np.int64)

    def _follow(self, table: str, keys: Ints, rows: Floats, gone: Ints) -> None:
        if table != self._item_table:
            return
        named = np.fromiter((self.catalogue.has_fid(key) for key in keys.tolist()), bool, len(keys))
        self.index.update(keys[named], rows[named])
        self.index.erase(gone)

    def _load(self, blob: Blob) -> None:
        if blob.name != self._blob_name:
            return
        import torch

        from nonet.recsys.training.scoring import Scorer

        with self._loading:
            old = self._scorer
            model = copy.deepcopy(old.model)
            try:
                model.load_state_dict({key: torch.from_numpy(array) for key, array in blob.arrays.items()})
            except RuntimeError as error:
                self.refusal = (
                    f"arm {self.name!r}: dense parameters do not fit the model: {' '.join(str(error).split())}"
                )
                return
            # A request that runs keeps the old one: no answer sees half of a version.
            self._scorer, self.refusal = Scorer(model.eval(), old.tables, old.pooling, old.correction), ""


@dataclass(frozen=True)
class Assignment:
    """Users to arms by hash: the same user always gets the same arm.

    Args:
        shares: of each arm, > 0; they need not sum to 1.
        salt: of the experiment: another one mixes anew.

    Raises:
        InputError: no arm, or a share that is not above 0.

    >>> both = Assignment({"a": 1, "b": 3})
    >>> chosen = [both.arm_of(f"u{n}") for n in range(10_000)]
    >>> abs(chosen.count("b") / 10_000 - .75) < .02, both.arm_of("u7") == both.arm_of("u7")
    (True, True)
    """

    shares: Mapping[str, float]
    salt: str = ""

    def __post_init__(self) -> None:
        if not self.shares or not all(0 < share < float("inf") for share in self.shares.values()):
            raise InputError(f"an experiment needs arms with shares above 0, got {dict(self.shares)}")

    def arm_of(self, user: str) -> str:
        """The arm of a user."""
        hashed = xxhash.xxh3_64_intdigest(f"{self.salt}\x1f{user}".encode("utf-8", "surrogatepass"))
        ends = list(accumulate(self.shares.values()))
        return list(self.shares)[bisect_right(ends[:-1], hashed / 2**64 * ends[-1])]
